"""Freeze an organization, which then may look and stop and spend nothing, and let it go again."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Organization

DISPUTE: Final = "dispute"
_WHY: Final = "a payment is contested at its bank"


def freeze_disputed(org_ref: UUID) -> bool:
    """In a transaction: freeze for an open dispute; False when it is frozen, or not here."""
    org = Organization.objects.select_for_update().filter(id=org_ref).first()
    if org is None or org.state == Organization.State.FROZEN:
        return False
    org.state, org.reason = Organization.State.FROZEN, _WHY
    org.frozen_for, org.frozen_at = DISPUTE, now()
    _save(org, "organization.freeze", "platform")
    return True


def thaw(org: Organization, *, acting: Principal | str) -> None:
    """In a transaction: the locked organization may spend again."""
    org.state, org.reason = Organization.State.ACTIVE, ""
    org.frozen_for, org.frozen_at = "", None
    _save(org, "organization.unfreeze", acting)


def unfreeze(*, acting: Principal, organization_id: str) -> Organization:
    """In a transaction: staff let it go, as after a lost dispute that was settled otherwise.

    Refusal invalid_transition when it is not frozen. While a dispute is open the loop freezes anew.
    """
    acting.require(STAFF)
    org = find(Organization.objects.select_for_update(), organization_id)
    if org.state != Organization.State.FROZEN:
        raise Refusal("invalid_transition", "It is not frozen.", state=org.state, actions=[])
    thaw(org, acting=acting)
    return org


def _save(org: Organization, action: str, acting: Principal | str) -> None:
    org.version += 1
    org.save(update_fields=["state", "reason", "frozen_for", "frozen_at", "version"])
    audit.record(
        acting=acting,
        action=action,
        object=org.public_id,
        organization_ref=org.id,
        details={"reason": org.reason},
    )
