"""Cards for rentals that exist: started again, tried on another host, or waiting in the queue.

A rental keeps its owner, data centre and price for life: it is placed on the same kind of card
there. One that waits and never had cards takes the first offer that fits what was asked, never
dearer than the price it was shown. The queue is served in its order for each kind of order: who
asked first for the same cards gets them first; another order may pass where this one finds none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import structlog
from django.db import transaction

from billing import facade as billing
from kernel.clock import AppNow, now
from kernel.errors import Refusal
from kernel.ids import new_id
from kernel.sealed import CannotOpen
from kernel.turns import Turn, each, turns
from kernel.wake import wake_on_commit
from marketplace.accounts import switches
from marketplace.accounts.phrases import Said, phrase
from marketplace.catalog.needs import MIB_PER_GIB
from marketplace.catalog.opening import contract_end
from marketplace.catalog.quote import candidates, disk_for, price_of
from marketplace.models import Offer, Organization, Rental
from marketplace.rentals import ports, tenure, way_in
from marketplace.rentals.limits import check_limits
from marketplace.rentals.reasons import actor_of, sentence
from marketplace.rentals.room import make_room
from marketplace.rentals.sealed_order import open_order
from marketplace.rentals.serving import offers_for, promised, query_of, request_of
from marketplace.rentals.state import FAILED, PROVISIONING, QUEUED, REQUESTED, WAITING
from marketplace.rentals.terms import terms_of
from marketplace.rentals.timeline import move
from marketplace.volumes.later import HAS_VOLUMES, Unmountable, again, places
from marketplace.volumes.place import Place
from provisioner import facade as provisioner
from provisioner.contracts import NoCandidate

log = structlog.get_logger(__name__)

# Rentals per pass. A pass over a long queue costs a plan per kind of order, and the next follows.
_BATCH: Final = 200
_READ: Final = (
    *("id", "offer_id", "gpus", "interruptible", "wanted", "state", "promised_node"),
    *("ssh_keys", "ports"),
)
# Why one that waits fails when it is refused: everything else is a limit of its organization.
_CODES: Final = {"insufficient_funds": "funds", "budget_exceeded": "budget"}


def place(limit: int = _BATCH) -> int:
    """Give cards to those who wait; how many got some. None while no new rentals are taken: they
    wait on, each until its own deadline."""
    if switches.holds_queue():
        _give_up_late()
        return 0
    placed = 0
    with turns("place") as turn:
        placed += _place_all(limit, turn)
        with turn(_give_up_late):
            _give_up_late()
        with turn(make_room):
            make_room(limit)
    return placed


def _place_all(limit: int, turn: Turn) -> int:
    # Orders at the full price first: others would only have to make room for them again.
    waiting = Rental.objects.filter(state__in=WAITING).order_by("interruptible", "queued_at", "id")
    # What a frozen organization ordered waits with it.
    waiting = waiting.exclude(organization__state=Organization.State.FROZEN)
    waiting = waiting.annotate(is_tied=HAS_VOLUMES)
    placed, empty = 0, set[Any]()
    for row in list(waiting.only(*_READ)[:limit]):
        entered = way_in.needed_by(row)
        kind = (row.offer_id, row.gpus, row.interruptible, str(row.wanted), entered)
        # What found nothing for one in this pass finds nothing for the next of its kind. Those
        # that avoid a host, were promised one, or must go where their data is, ask a question of
        # their own.
        alone = row.state != QUEUED or row.is_tied or row.promised_node is not None
        if not alone and kind in empty:
            continue
        with turn(row):
            outcome = _place_one(row.id)
            placed += outcome is True
            if outcome is False and not alone:
                empty.add(kind)
    return placed


def _place_one(rental_id: UUID) -> bool | None:
    """True with cards, False without, None when somebody else has the rental."""
    with transaction.atomic(durable=True):
        rental = (
            Rental.objects.select_for_update(skip_locked=True, of=("self",))
            .select_related("offer__group", "offer__datacenter", "organization", "quote")
            .filter(id=rental_id, state__in=WAITING)
            .first()
        )
        if rental is None:
            return None
        reason = "placed" if rental.state == QUEUED else "retried"
        try:
            with transaction.atomic():
                give_cards(rental, reason=reason, actor="platform")
            return True
        except NoCandidate:
            _no_room(rental)
        except Refusal as refusal:
            if refusal.slug == "volume_in_use":
                _no_room(rental)  # its data is with another, who gives it back as cards come back
            else:  # money or limits changed while it waited; the renter reads which
                _fail(rental, _CODES.get(refusal.slug, "no_capacity"), refusal.detail)
        except Unmountable as error:
            _fail(rental, "config_error", f"It cannot run again as it was: {error}.")
        except CannotOpen:
            log.error("order_cannot_be_opened", rental=rental.public_id)
            _fail(rental, "config_error", "")
        return False


def give_cards(rental: Rental, *, reason: str, actor: str) -> None:
    """Reserve cards for the locked rental, hold its hour and move it to provisioning.

    In a transaction. Raises NoCandidate, sealed.CannotOpen, Unmountable, and Refusal volume_in_use,
    insufficient_funds, spend_rate_limit, quota_exceeded: the caller rolls back then.
    """
    if rental.order_sealed is None:
        raise CannotOpen("the rental was made before orders were kept")
    wanted = again(rental.id)
    offers = offers_for(rental, wanted.place)
    barred = promised(besides=rental)
    if not wanted.place.cluster_ids:
        barred += tenure.kept_off(until=tenure.end_of(rental))
    plan = provisioner.plan(request_of(rental, offers, wanted.place, barred=barred))
    if not plan.candidates:
        raise NoCandidate
    view = provisioner.reserve(
        plan=plan,
        instance_id=new_id(),
        rental_ref=rental.id,
        tenant_ref=rental.organization_id,
        order=replace(open_order(rental.id, bytes(rental.order_sealed)), volumes=wanted.mounts),
        gpus=rental.gpus,
        disk_mib=rental.disk_gib * MIB_PER_GIB,
    )
    ports.publish(rental)
    if rental.wanted is not None:
        _settle_on(rental, offers[view.group_id], rental.wanted)
    rental.offer = offers[view.group_id]
    rental.contract_ends_at = contract_end(rental.offer)
    rental.maintenance_at = None  # of the last host
    rental.instance_ref = view.id
    rental.desired_state = Rental.Desired.RUNNING
    rental.stop_ack_at = rental.settled_at = rental.queued_at = rental.queue_until = None
    rental.promised_node = None
    rental.attempts += 1
    text = sentence(reason) + way_in.caveat(rental, rental.offer)
    move(rental, PROVISIONING, at=now(), reason=reason, actor=actor, text=text)
    billing.hold(
        org_ref=rental.organization_id, rental_ref=rental.id, terms=terms_of(rental, rental.offer)
    )
    # Behind the account's lock: what others of the organization committed is visible now.
    check_limits(rental)
    wake_on_commit("provisioner.instances")


def enqueue(rental: Rental, *, actor: str, text: str) -> None:
    """Let the locked rental wait for cards, as long as its renter allowed. Nothing stays held for
    it once its last second is charged."""
    present = now()
    rental.queued_at = present
    rental.queue_until = present + timedelta(seconds=rental.queue_seconds or 0)
    move(rental, QUEUED, at=present, reason="no_capacity", actor=actor, text=text)
    wake_on_commit("marketplace.charge")


def _settle_on(rental: Rental, offer: Offer, wanted: Mapping[str, Any]) -> None:
    """The first placement of one that waited fixes its price, its disk and its end."""
    if rental.quote is None:
        price = price_of(offer, rental.gpus, interruptible=rental.interruptible)
        rental.price_micro_h = price.total_micro_h
        rental.provider_micro_h = price.provider_micro_h
        rental.disk_gib = disk_for([offer], rental.gpus, wanted["disk_gib"])
    if wanted["max_seconds"] is not None:
        rental.expires_at = now() + timedelta(seconds=wanted["max_seconds"])
    rental.wanted = None


def _no_room(rental: Rental) -> None:
    """What waits waits on; what lost its host waits if its renter allowed that, else it fails."""
    if rental.state != REQUESTED:
        return
    if rental.queue_seconds is None:
        said = [phrase("No other host has room now."), phrase(sentence(rental.reason))]
        _fail(rental, rental.reason, said)
    else:
        text = "No other host has room now; it waits in the queue."
        enqueue(rental, actor="platform", text=text)


def _fail(rental: Rental, reason: str, text: Said) -> None:
    rental.queued_at = None
    at, said = now(), text or sentence(reason)
    move(rental, FAILED, at=at, reason=reason, actor=actor_of(reason, "none"), text=said)
    wake_on_commit("marketplace.charge")


def _give_up_late(limit: int = _BATCH) -> None:
    """Those whose deadline passed leave the queue."""
    late = Rental.objects.filter(state=QUEUED, queue_until__lte=AppNow()).order_by("queue_until")
    each("late", list(late.values_list("id", flat=True)[:limit]), _give_up)


def _give_up(rental_id: UUID) -> None:
    with transaction.atomic(durable=True):
        rows = Rental.objects.select_for_update(skip_locked=True)
        rental = rows.filter(id=rental_id, state=QUEUED, queue_until__lte=AppNow()).first()
        if rental is not None:
            _fail(rental, _why_late(rental), "")


def _why_late(rental: Rental) -> str:
    """Whether the price was in the way or there were no cards at any price."""
    if rental.wanted is None or rental.wanted["requirement"] is None:
        return "queue_deadline"
    query = replace(query_of(rental.wanted), max_price=None)
    query = replace(query, ssh=way_in.needed_by(rental) or query.ssh)
    place = places([rental.id]).get(rental.id, Place())
    if place is None:
        return "queue_deadline"
    dearer = place.among(candidates(query, rental.wanted["needs"])).exists()
    return "price_above_cap" if dearer else "queue_deadline"
