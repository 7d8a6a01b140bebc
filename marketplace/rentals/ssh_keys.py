"""Whose keys open a rental's machine: changed while it runs, without a restart.

The machine itself trusts the gateway alone (docs/access.md), so what changes here is a list that
the gateway asks for: a new key opens at once, and one that is taken away closes its connections
within five seconds.
"""

from __future__ import annotations

from collections.abc import Sequence

from marketplace.accounts import audit, ssh_keys
from marketplace.accounts.access import Principal
from marketplace.models import Rental
from marketplace.rentals.state import ENDING
from provisioner.facade import access


def give(rental: Rental, lines: Sequence[str]) -> None:
    """Exactly these canonical lines from now on. The caller holds the rental's lock, and saves."""
    rental.ssh_keys = list(lines)
    rental.ssh = bool(lines)
    access.let_in(rental_ref=rental.pk, keys=lines)


def delete_key(*, acting: Principal, key_id: str) -> None:
    """Forget a key of the organization, and let nobody in with it any more: whoever deletes the key
    of a lost laptop means everywhere. Joins the caller's transaction."""
    line = ssh_keys.forget_key(acting=acting, key_id=key_id)
    rows = Rental.objects.select_for_update().filter(
        organization=acting.org, ssh_keys__contains=[line]
    )
    for rental in rows.exclude(state__in=ENDING).order_by("pk"):
        give(rental, [each for each in rental.ssh_keys if each != line])
        rental.version += 1
        rental.save(update_fields=["ssh_keys", "ssh", "version"])
        audit.record(
            acting=acting,
            action="rental.change",
            object=rental.public_id,
            organization_ref=rental.organization_id,
            details={"ssh_keys": len(rental.ssh_keys)},
        )
