"""Interruptible rentals make room for orders at the full price that wait.

A pass looks at the orders that wait and at the rentals that could make room for them, and brings
the notices to what is needed: given where cards are missing, withdrawn where nobody waits for them
any more, carried out when their time has come and never before. Nothing says which notice is for
which order, so nothing has to be kept right when an order is cancelled, placed elsewhere or late.

What is kept at the order is the node where room is made for it: cards that come free there are its
own. Otherwise whoever orders in that second would get them, the interrupted renter first of all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q

from kernel.clock import now
from marketplace.models import Offer, Organization, Rental
from marketplace.rentals import notice
from marketplace.rentals.reasons import REASONS, RENTER
from marketplace.rentals.serving import offers_for, request_of
from marketplace.rentals.state import DEGRADED, INTERRUPTING, QUEUED, RUNNING
from marketplace.rentals.stop import halt_for
from marketplace.rentals.victims import Held, Wish, decide
from marketplace.rentals.way_in import needed_by
from marketplace.volumes.later import places
from marketplace.volumes.place import Place
from provisioner import facade as provisioner
from provisioner.contracts import NoCandidate, PlacementRequest

REASON: Final = "outbid"
# From a notice to cards that can be reserved: the notice, the time that a program has to end, the
# rest of a card, and our loops' periods.
READY_AFTER: Final = notice.INTERRUPTION + timedelta(seconds=60)
_ASKED: Final = 1000  # rentals that one pass looks at: more than any pass could need
_LOCK: Final = 0x726F6F6D  # "room": an advisory lock's name, any constant unused elsewhere

# Machines whose cards are well. One on its way up gets no notice: what is not running has nothing
# to save and cannot be warned, and it runs or fails within minutes.
_RUNS: Final = Q(state=RUNNING) | Q(
    state=DEGRADED, reason__in=[code for code, row in REASONS.items() if row.fault == RENTER]
)
_TOLD: Final = Q(interrupt_at__isnull=False) & (
    Q(state__in=(RUNNING, DEGRADED)) | Q(state=INTERRUPTING, reason=REASON)
)


@dataclass(frozen=True)
class _Order:
    """An order that waits: the offers that may serve it, by group, and where its data is."""

    row: Rental
    offers: dict[UUID, Offer]
    place: Place


def make_room(limit: int) -> int:
    """Bring the notices to what the waiting orders need; the number of notices given."""
    with transaction.atomic(durable=True):
        if not _alone():
            return 0
        orders = _orders(limit)
        held = _held([group for order in orders for group in order.offers])
        decision = decide(_wishes(orders, held), held)
        # Orders before rentals, and of those only what nobody else works at: a pass waits for no
        # lock that somebody holds who waits for one of its own.
        _promise(orders, decision.promised)
        at = now()
        for rental in _locked((*decision.keep, *decision.withdraw)):
            _bring(rental, needed=rental.id in decision.keep, at=at)
        given = 0
        for rental in _locked(decision.interrupt):
            if rental.interrupt_at is None:
                notice.give(rental, REASON, at=at + notice.INTERRUPTION)
                given += 1
        return given


def room_after(request: PlacementRequest, limit: int) -> timedelta | None:
    """How long an order would wait in the queue for cards of interruptible rentals, behind those
    that wait; None when they could not make room for it."""
    orders = _orders(limit)
    held = _held([*request.group_ids, *(group for order in orders for group in order.offers)])
    wishes = _wishes(orders, held)
    rooms = provisioner.rooms(request, rentals=list(held)) if held else []
    # Any id that no order has: it is the last in the queue.
    own = Wish(request.tenant_ref, request.tenant_ref, request.gpus, rooms)
    return READY_AFTER if own.id in decide([*wishes, own], held).served else None


def _alone() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [_LOCK])
        return bool(cursor.fetchone()[0])


def _orders(limit: int) -> list[_Order]:
    """Waiting orders at the full price in their turn."""
    if not Rental.objects.filter(_RUNS | _TOLD, interruptible=True).exists():
        return []
    waiting = Rental.objects.filter(state=QUEUED, interruptible=False).exclude(
        organization__state=Organization.State.FROZEN
    )
    found: list[_Order] = []
    known: dict[tuple[UUID, int, str, bool], dict[UUID, Offer]] = {}
    rows = list(waiting.select_related("offer__group").order_by("queued_at", "id")[:limit])
    bound = places([row.id for row in rows])
    for row in rows:
        place = bound.get(row.id, Place())
        if place is None:
            continue
        kind = (row.offer_id, row.gpus, str(row.wanted), needed_by(row))
        try:
            if row.id in bound:
                offers = offers_for(row, place)
            else:
                offers = known[kind] if kind in known else offers_for(row, place)
                known[kind] = offers
        except NoCandidate:
            continue
        found.append(_Order(row, offers, place))
    return found


def _held(groups: Sequence[UUID]) -> dict[UUID, Held]:
    """Rentals in these groups that could make room, the youngest; and all that have a notice."""
    rows = Rental.objects.filter(interruptible=True)
    near = rows.filter(_RUNS, offer__group_id__in=set(groups)) if groups else rows.none()
    columns = ("id", "organization_id", "instance_ref", "interrupt_at")
    listed = [
        *rows.filter(_TOLD).values_list(*columns),
        *near.filter(interrupt_at=None).order_by("-instance_ref").values_list(*columns)[:_ASKED],
    ]
    return {row[0]: Held(*row) for row in listed}


def _wishes(orders: Sequence[_Order], held: Mapping[UUID, Held]) -> list[Wish]:
    if not held:
        return []
    wishes = []
    for order in orders:
        row, request = order.row, request_of(order.row, order.offers, order.place)
        rooms = provisioner.rooms(request, rentals=list(held))
        wishes.append(Wish(row.id, row.organization_id, row.gpus, rooms, row.promised_node))
    return wishes


def _promise(orders: Sequence[_Order], promised: Mapping[UUID, UUID]) -> None:
    for order in (one.row for one in orders):
        node = promised.get(order.id)
        if node is not None and node != order.promised_node:
            Rental.objects.filter(id=order.id, state=QUEUED).update(promised_node=node)
    stale = Rental.objects.filter(state=QUEUED, promised_node__isnull=False)
    stale.exclude(id__in=promised).update(promised_node=None)


def _locked(ids: Sequence[UUID]) -> list[Rental]:
    """Those that are still as they were decided on and that nobody else works at just now; the
    next pass, in seconds, sees to the others."""
    if not ids:
        return []
    rows = Rental.objects.select_for_update(skip_locked=True, of=("self",))
    found = {row.id: row for row in rows.filter(_RUNS | _TOLD, id__in=ids, interruptible=True)}
    return [found[key] for key in ids if key in found]


def _bring(rental: Rental, *, needed: bool, at: datetime) -> None:
    """A rental that has its notice: withdrawn, carried out, or shown again after trouble."""
    until = rental.interrupt_at
    if until is None:
        return
    if not needed:
        if not notice.withdraw(rental, REASON, text="No order needs its cards any more."):
            rental.interrupt_at = None  # trouble hides it
            rental.save(update_fields=["interrupt_at"])
            provisioner.set_notice(rental_ref=rental.id, at=None)
    elif until <= at:
        halt_for(rental, REASON)
    elif rental.state == RUNNING:
        notice.give(rental, REASON, at=until)
