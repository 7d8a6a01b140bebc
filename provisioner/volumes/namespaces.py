"""Binding a namespace of a cluster's pool to a tenant, for its pods and its volumes."""

from __future__ import annotations

from uuid import UUID

from django.db import connection

# Two first orders of one tenant in one cluster must agree on one namespace: they queue here.
# After a restore of the database a namespace that looks free may hold the pods of a tenant whom we
# forgot, and two tenants must not share one: none is bound until staff released the brake.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"
_BIND = """
UPDATE provisioner_namespace SET tenant_ref = %(tenant)s, bound_at = app_now() WHERE id = coalesce(
  (SELECT id FROM provisioner_namespace
   WHERE cluster_id = %(cluster)s AND tenant_ref = %(tenant)s AND usable),
  (SELECT id FROM provisioner_namespace
   WHERE cluster_id = %(cluster)s AND tenant_ref IS NULL AND usable
     AND NOT EXISTS (SELECT 1 FROM provisioner_namespace
                     WHERE cluster_id = %(cluster)s AND tenant_ref = %(tenant)s)
     AND NOT EXISTS (SELECT 1 FROM provisioner_brake
                     WHERE cluster_id IS NULL AND released_at IS NULL)
   ORDER BY name LIMIT 1 FOR UPDATE SKIP LOCKED)
) RETURNING id, name
"""


def bind(*, cluster: UUID, tenant: UUID) -> tuple[UUID, str] | None:
    """(id, name) of the tenant's namespace there, bound now if it was not; None when the pool is
    exhausted. In a transaction, which keeps the row locked."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [f"{cluster}/{tenant}"])
        cursor.execute(_BIND, {"cluster": cluster, "tenant": tenant})
        row: tuple[UUID, str] | None = cursor.fetchone()
    return row
