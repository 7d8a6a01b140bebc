"""Stop or end a rental: the wish is stored, the meter stops at the request, the loop does the rest.

Both are acknowledged when their transaction commits; that time is stop_ack_at, and no second after
it is charged until the rental is started again. Terminate is idempotent and legal from every
state. A lock forbids both to the rental's people, never to its end date or an empty balance.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from billing import facade as billing
from kernel.clock import now
from kernel.errors import Refusal
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible
from marketplace.accounts.phrases import Said
from marketplace.models import Rental
from marketplace.rentals.reasons import REASONS, actor_of, sentence
from marketplace.rentals.state import (
    ENDING,
    IDLE,
    LEGAL,
    STOPPED,
    STOPPING,
    TERMINATED,
    TERMINATING,
    actions_of,
)
from marketplace.rentals.timeline import move
from provisioner import facade as provisioner
from provisioner.contracts import Fault


def terminate(*, acting: Principal, rental_id: str, expected_version: int | None = None) -> Rental:
    """End for good; joins the caller's transaction. Repeating it changes nothing.

    Raises NotFound, Refusal version_conflict, locked.
    """
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    if rental.state not in ENDING:
        check_lock(rental)
        end(rental, reason="terminated_by_user", actor="renter", at=now())
        _record(acting, "rental.terminate", rental)
    return rental


def stop(*, acting: Principal, rental_id: str, expected_version: int | None = None) -> Rental:
    """Give the cards back and keep the rental; joins the caller's transaction.

    A stopped or stopping rental is left as it is. Raises NotFound, Refusal version_conflict,
    locked, invalid_transition.
    """
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    if rental.state in (STOPPING, STOPPED):
        return rental
    check_lock(rental)
    check_legal(rental, "stop")
    halt(rental, reason="stopped_by_user", actor="renter", at=now())
    _record(acting, "rental.stop", rental)
    return rental


def halt(rental: Rental, *, reason: str, actor: str, at: datetime, text: Said = "") -> None:
    """Move the locked rental, which has a machine, to stopping; in the caller's transaction."""
    _halt(rental, reason=reason, actor=actor, at=at, text=text)
    billing.meter_stopped(rental_ref=rental.id)


def _halt(
    rental: Rental,
    *,
    reason: str,
    actor: str,
    at: datetime,
    text: Said,
    without_notice: bool = False,
) -> None:
    rental.desired_state = Rental.Desired.STOPPED
    rental.stop_ack_at = at
    rental.interrupt_at = None
    move(rental, STOPPING, at=at, reason=reason, actor=actor, text=text or sentence(reason))
    _let_go(rental, reason, without_notice=without_notice)


def end(rental: Rental, *, reason: str, actor: str, at: datetime) -> None:
    """Move the locked rental to terminating and stop its meter, in the caller's transaction."""
    idle = rental.state in IDLE
    rental.desired_state = Rental.Desired.TERMINATED
    rental.stop_ack_at = at
    rental.interrupt_at = None
    rental.queued_at = None
    move(rental, TERMINATING, at=at, reason=reason, actor=actor, text=sentence(reason))
    left = False
    if rental.leaving or not idle:
        left = _let_go(rental, reason)
        billing.meter_stopped(rental_ref=rental.id)
    if idle and not left:
        # Its absence was observed when it stopped, its lease ran out, or it never had a machine.
        rental.leaving = False
        rental.ended_at = at
        move(rental, TERMINATED, at=at, reason=reason, actor=actor, text="Nothing is left of it.")
        wake_on_commit("marketplace.charge")


def _let_go(rental: Rental, reason: str, *, without_notice: bool = False) -> bool:
    """Its machine shall end; False without one that may still run."""
    fault = Fault(_fault(reason))
    ending = provisioner.request_end(
        rental_ref=rental.id,
        reason=reason,
        fault=fault,
        without_notice=without_notice,
        asked_at=rental.stop_ack_at,
    )
    if ending is not None and ending != rental.instance_ref:
        # A restart was under way and is called off: the machine that ends is the old one.
        rental.instance_ref = ending
        rental.save(update_fields=["instance_ref"])
    wake_on_commit("provisioner.instances")
    return ending is not None


def _fault(reason: str) -> str:
    return REASONS[reason].fault


def end_for(rental: Rental, reason: str) -> None:
    """The same for an end that nobody asked for: end_date, funds_grace_over, contract_end."""
    end(rental, reason=reason, actor=actor_of(reason, _fault(reason)), at=now())
    _record("platform", f"rental.end.{reason}", rental)


def halt_for(rental: Rental, reason: str, *, text: Said = "") -> None:
    """Stop for a reason that nobody asked for: funds, budget, idle. Stopping is not deleting.

    text: instead of the reason's own sentence."""
    halt(rental, reason=reason, actor=actor_of(reason, _fault(reason)), at=now(), text=text)
    _record("platform", f"rental.stop.{reason}", rental)


def halt_all(
    rentals: Sequence[Rental],
    reason: str,
    *,
    text: Said = "",
    actor: str | None = None,
    without_notice: bool = False,
) -> None:
    """:func:`halt_for` for many locked rentals, which are given in the order of their ids.

    without_notice: the host owed one, which its reliability is to show."""
    who = actor or actor_of(reason, _fault(reason))
    for rental in rentals:
        _halt(rental, reason=reason, actor=who, at=now(), text=text, without_notice=without_notice)
        _record("platform", f"rental.stop.{reason}", rental)
    billing.meters_stopped(rental_refs=[rental.id for rental in rentals])


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


def check_lock(rental: Rental) -> None:
    """Raise locked (423) when the rental's people protected it from being stopped or ended."""
    if rental.locked:
        raise Refusal(
            "locked",
            "The rental is locked against being stopped or ended. Nothing was changed. Take the "
            'lock off first, with PATCH {"lock": false}.',
        )


def check_legal(rental: Rental, action: str) -> None:
    """Raise invalid_transition (409), with the legal actions, when this one is not legal now."""
    if rental.state not in LEGAL[action]:
        raise illegal(rental, f"{action} is not possible while the rental is {rental.state}")


def illegal(rental: Rental, why: str) -> Refusal:
    """409 for an action that is not legal now, with those that are."""
    return Refusal(
        "invalid_transition",
        f"{why[0].upper()}{why[1:]}. Nothing was changed; see actions for what can be done.",
        state=rental.state,
        actions=actions_of(rental),
    )


def _record(acting: Principal | str, action: str, rental: Rental) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=rental.public_id,
        organization_ref=rental.organization_id,
    )
