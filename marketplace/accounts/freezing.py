"""Freeze an organization, which then may look and stop and spend nothing, and let it go again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from uuid import UUID

from billing.contracts.disputes import DisputeState
from billing.facade import disputes
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Organization

DISPUTE: Final = "dispute"
_WHY: Final = "a payment is contested at its bank"
# Of the newest disputes: nobody contests more payments than these within one freeze.
_LOOKED_AT: Final = 50


@dataclass(frozen=True)
class Frozen:
    """For the notice on every page: what its people can not do, and because of what.

    contested_micro: what banks contest now; taken_micro: what they took back since the freeze. With
    neither, staff froze it, or are to let it go; ``reason`` is theirs.
    """

    contested_micro: int
    taken_micro: int
    reason: str


def standing(org: Organization) -> Frozen | None:
    """Why an organization is frozen; None, without a query, when it is not."""
    if org.state != Organization.State.FROZEN:
        return None
    contested = taken = 0
    if org.frozen_for == DISPUTE:
        for row in disputes.disputes(org_ref=org.id, limit=_LOOKED_AT):
            if row.closed_at is None:
                contested += row.amount_micro
            elif row.state == DisputeState.LOST and row.closed_at >= (org.frozen_at or now()):
                taken += row.amount_micro
    return Frozen(contested, taken, org.reason)


def freeze_disputed(org_ref: UUID) -> bool:
    """In a transaction: freeze for an open dispute; False when it is frozen, or not here."""
    org = Organization.objects.select_for_update().filter(id=org_ref).first()
    if org is None or org.state == Organization.State.FROZEN:
        return False
    org.state, org.reason = Organization.State.FROZEN, _WHY
    org.frozen_for, org.frozen_at = DISPUTE, now()
    _save(org, "organization.freeze", "platform")
    return True


def freeze(*, acting: Principal, organization_id: str, reason: str) -> Organization:
    """In a transaction: staff freeze it, until staff let it go. It rents, starts and tops up
    nothing more; what runs goes on until its money ends. Its people read the reason.

    InvalidRequest without a reason; NotFound; Refusal invalid_transition when it is frozen.
    """
    acting.require(STAFF)
    said = clean(reason, limit=200)
    if not said:
        raise InvalidRequest({"reason": ["say why: its people read it"]})
    org = find(Organization.objects.select_for_update(), organization_id)
    if org.state == Organization.State.FROZEN:
        raise Refusal("invalid_transition", "It is frozen already.", state=org.state, actions=[])
    org.state, org.reason = Organization.State.FROZEN, said
    org.frozen_for, org.frozen_at = "", now()
    _save(org, "organization.freeze", acting)
    return org


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
