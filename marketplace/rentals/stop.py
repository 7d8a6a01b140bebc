"""End a rental: the wish is stored, the meter stops at the request, the loop does the rest.

Terminate is idempotent and legal from every state. It is acknowledged when this commits; that time
is stop_ack_at, and no second after it is ever charged.
"""

from __future__ import annotations

from datetime import datetime

from billing import facade as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible
from marketplace.models import Rental
from marketplace.rentals.reasons import REASONS, actor_of, sentence
from marketplace.rentals.state import ENDING, FAILED, LEGAL, TERMINATED, TERMINATING, actions
from marketplace.rentals.timeline import move
from provisioner import facade as provisioner
from provisioner.contracts import Fault


def terminate(*, acting: Principal, rental_id: str, expected_version: int | None = None) -> Rental:
    """End for good; joins the caller's transaction. Repeating it changes nothing.

    Raises NotFound, Refusal version_conflict.
    """
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    if rental.state not in ENDING:
        end(rental, reason="terminated_by_user", actor="renter", at=now())
        audit.record(
            acting=acting,
            action="rental.terminate",
            object=rental.public_id,
            organization_ref=rental.organization_id,
        )
    return rental


def act(
    *, acting: Principal, rental_id: str, action: str, expected_version: int | None = None
) -> Rental:
    """One of the contract's actions; raises NotFound, invalid_transition, version_conflict."""
    if action == "terminate":
        return terminate(acting=acting, rental_id=rental_id, expected_version=expected_version)
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    legal = rental.state in LEGAL[action]
    why = (
        f"{action} is not available on this platform yet"
        if legal
        else f"{action} is not possible while the rental is {rental.state}"
    )
    raise Refusal(
        "invalid_transition",
        f"{why[0].upper()}{why[1:]}. Nothing was changed; see actions for what can be done.",
        state=rental.state,
        actions=actions(rental.state),
    )


def end(rental: Rental, *, reason: str, actor: str, at: datetime) -> None:
    """Move the locked rental to terminating and stop its meter, in the caller's transaction."""
    failed = rental.state == FAILED
    rental.desired_state = Rental.Desired.TERMINATED
    rental.stop_ack_at = at
    move(rental, TERMINATING, at=at, reason=reason, actor=actor, text=sentence(reason))
    if failed:
        # Its absence was observed when it failed: nothing is left to wait for.
        rental.ended_at = at
        move(rental, TERMINATED, at=at, reason=reason, actor=actor, text="Nothing is left of it.")
        return
    provisioner.request_end(rental_ref=rental.id, reason=reason, fault=Fault(_fault(reason)))
    billing.meter_stopped(rental_ref=rental.id)
    wake_on_commit("provisioner.instances")


def _fault(reason: str) -> str:
    return REASONS[reason].fault


def end_for(rental: Rental, reason: str) -> None:
    """The same for an end that nobody asked for: end_date, funds, contract_end."""
    end(rental, reason=reason, actor=actor_of(reason, _fault(reason)), at=now())
    audit.record(
        acting="platform",
        action=f"rental.end.{reason}",
        object=rental.public_id,
        organization_ref=rental.organization_id,
    )


def lock_visible(acting: Principal, rental_id: str) -> Rental:
    """The caller's rental with its row lock; raises NotFound."""
    return get_visible(Rental.objects.select_for_update(of=("self",)), acting, rental_id)


def check_version(rental: Rental, expected: int | None) -> None:
    """Raise version_conflict (412) when If-Match named another version."""
    if expected is not None and expected != rental.version:
        raise Refusal(
            "version_conflict",
            "The rental changed since you read it. Nothing was done. Read it again and decide.",
            version=rental.version,
        )
