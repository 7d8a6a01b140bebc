"""What staff do about the mass brake, and what is unknown after a restore of the database.

Actions join the caller's transaction and leave an audit row.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from billing import facade as billing
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal
from provisioner import facade as provisioner
from provisioner.contracts import BrakeView


def brakes() -> list[BrakeView]:
    """Open ones and those of the last thirty days, newest first."""
    return provisioner.brakes()


def release(*, acting: Principal | str, brake_id: str, note: str) -> BrakeView:
    """Let go of a brake. ``acting`` is a member of staff, or "console" for the command line.

    NotFound; InvalidRequest without a note; Refusal invalid_transition when it is released.
    """
    if isinstance(acting, Principal):
        acting.require(STAFF)
    try:
        key = parse("brake", brake_id)
    except BadId as error:
        raise NotFound("brake") from error
    by = acting.staff_actor if isinstance(acting, Principal) else acting
    view = provisioner.release_brake(brake_id=key, by=by, note=note)
    audit.record(
        acting=acting,
        action="brake.release",
        object=public("brake", view.id),
        organization_ref=None,
        details={"cause": view.cause, "wanted": view.wanted, "note": view.note},
    )
    return view


@dataclass(frozen=True)
class Restored:
    """What was done at once after a restore. intents: wait for a look at Stripe before they go."""

    brake: BrakeView
    intents: int


def mark_restored(*, backup_at: datetime) -> Restored:
    """Say that the database is as old as ``backup_at``: nothing is ended, deleted or sent unseen.

    Repeating it while the mark stands changes nothing. InvalidRequest for a time to come.
    """
    known = {view.id for view in provisioner.brakes()}
    brake = provisioner.mark_restored(backup_at=backup_at)
    intents = billing.look_before_sending()
    if brake.id not in known:
        audit.record(
            acting="console",
            action="database.restored",
            object=public("brake", brake.id),
            organization_ref=None,
            details={"backup_at": backup_at.isoformat()},
        )
    return Restored(brake, intents)
