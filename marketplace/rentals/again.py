"""Start a stopped rental, retry a failed one, restart a running one, move its end date.

Starting and retrying reserve cards in the caller's transaction, like renting: the answer is
provisioning, queued where the renter allows it, or a refusal with nothing changed.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from billing import facade as billing
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.sealed import CannotOpen
from kernel.text import rfc3339
from marketplace.accounts import audit, switches
from marketplace.accounts.access import Principal
from marketplace.catalog.relax import offer_taken
from marketplace.models import Rental
from marketplace.rentals import abuse, notice, tenure
from marketplace.rentals.order import end_mistakes
from marketplace.rentals.place import enqueue, give_cards
from marketplace.rentals.reasons import sentence
from marketplace.rentals.serving import alike
from marketplace.rentals.state import STARTING
from marketplace.rentals.stop import check_legal, check_version, illegal, lock_visible
from marketplace.rentals.timeline import move
from marketplace.rentals.way_in import needed_by
from marketplace.volumes.later import Unmountable, places
from provisioner import facade as provisioner
from provisioner.contracts import Fault, NoCandidate

_REASONS = {"start": "started_by_user", "retry": "retried"}


def start(
    *,
    acting: Principal,
    rental_id: str,
    action: str,
    queue_seconds: int | None = None,
    expected_version: int | None = None,
) -> Rental:
    """``start`` a stopped or ``retry`` a failed rental; joins the caller's transaction.

    Raises NotFound, version_conflict, invalid_transition, account_frozen, insufficient_funds,
    spend_rate_limit, quota_exceeded, read_only, volume_in_use, offer_taken with alternatives.
    """
    acting.require_verified()
    acting.require_unfrozen()
    switches.refuse_rentals()
    rental = _lock(acting, rental_id, expected_version)
    check_legal(rental, action)
    if rental.leaving:
        raise illegal(
            rental,
            f"{action} must wait: the last machine was not observed gone yet, and two machines of "
            "one rental must never run at the same time",
        )
    _check_end(rental)
    abuse.check(rental)
    rental.attempts, rental.tried_nodes = 0, None
    rental.queue_seconds = queue_seconds
    try:
        give_cards(rental, reason=_REASONS[action], actor="renter")
    except CannotOpen as error:
        raise illegal(rental, "what this rental ran cannot be read any more") from error
    except Unmountable as error:
        raise illegal(rental, f"it cannot run again as it was: {error}") from error
    except NoCandidate:
        if queue_seconds is None:
            raise _taken(rental) from None
        rental.desired_state = Rental.Desired.RUNNING
        rental.stop_ack_at = None
        enqueue(rental, actor="renter", text="No cards are free now; it waits in the queue.")
    _record(acting, f"rental.{action}", rental)
    return rental


def restart(*, acting: Principal, rental_id: str, expected_version: int | None = None) -> Rental:
    """End what runs and start it again on the very same cards; joins the caller's transaction.

    The meter stops at the request and opens again with the next proof. Raises NotFound,
    version_conflict, invalid_transition.
    """
    rental = _lock(acting, rental_id, expected_version)
    check_legal(rental, "restart")
    successor = provisioner.request_restart(
        rental_ref=rental.id, reason="restarted_by_user", fault=Fault.NONE
    )
    if successor is None:
        raise illegal(rental, "restart is not possible: the machine is on its way out already")
    billing.meter_stopped(rental_ref=rental.id)
    rental.instance_ref = successor
    move(
        rental,
        STARTING,
        at=now(),
        reason="restarted_by_user",
        actor="renter",
        text=sentence("restarted_by_user"),
    )
    _record(acting, "rental.restart", rental)
    return rental


def extend(
    *,
    acting: Principal,
    rental_id: str,
    expires_at: datetime | None = None,
    hours: Decimal | None = None,
    expected_version: int | None = None,
) -> Rental:
    """Move the end date: to ``expires_at``, or by ``hours``; joins the caller's transaction.

    A notice of the end date is withdrawn. Raises NotFound, version_conflict, invalid_transition,
    InvalidRequest unless exactly one is given and leads to a legal end that is later.
    """
    rental = _lock(acting, rental_id, expected_version)
    check_legal(rental, "extend")
    if (expires_at is None) == (hours is None):
        raise InvalidRequest({"expires_at": ["give exactly one of expires_at and hours"]})
    end = expires_at
    if hours is not None:
        if rental.expires_at is None:
            raise InvalidRequest({"hours": ["the rental has no end that could be moved by hours"]})
        end = rental.expires_at + timedelta(seconds=int(hours * 3600))
    mistakes = [*end_mistakes(end), *tenure.mistakes(rental, end)]
    if mistakes:
        raise InvalidRequest({field: [message] for field, message in mistakes})
    rental.expires_at = end
    rental.version += 1
    rental.save(update_fields=["expires_at", "version"])
    notice.withdraw(rental, "end_date", text="The end date was moved.")
    _record(acting, "rental.extend", rental, {"expires_at": rfc3339(end)})
    return rental


def _taken(rental: Rental) -> Refusal:
    """Cards elsewhere are no alternative for a rental whose data is here."""
    place = places([rental.id]).get(rental.id)
    if place is not None:
        return place.taken()
    ssh = needed_by(rental)
    if ssh and not alike(rental, ssh=True).exists() and alike(rental, ssh=False).exists():
        return illegal(
            rental,
            "nobody could get in to it: the owner of its data centre has not set up a way in yet. "
            "Take its ssh_keys and ports away with PATCH to start it without, or rent elsewhere",
        )
    return offer_taken(rental.offer, rental.gpus, ssh=ssh)


def _check_end(rental: Rental) -> None:
    if rental.expires_at is not None and rental.expires_at <= now():
        raise illegal(rental, "its end date has passed: extend it first")


def _lock(acting: Principal, rental_id: str, expected_version: int | None) -> Rental:
    rental = lock_visible(acting, rental_id)
    check_version(rental, expected_version)
    return rental


def _record(
    acting: Principal, action: str, rental: Rental, details: dict[str, object] | None = None
) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=rental.public_id,
        organization_ref=rental.organization_id,
        details=details,
    )
