"""Names that derive from an instance's id. PURE: a repeated create meets its own object."""

from __future__ import annotations

from uuid import UUID

from kernel.ids import public

# The field under which an instance's secrets are sealed; part of what they are bound to.
SECRETS = "secrets"


def pod_name_of(instance_id: UUID) -> str:
    """The pod's name."""
    return "gy-" + public("instance", instance_id).removeprefix("ins_")
