"""Everything known of one rental, in the order of time, each line with where it is written.

Read through the doors. Texts that others wrote (events, proofs, notes) are cleaned; orders,
environments and secrets are not among what is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from billing import facade as billing
from kernel.ids import public
from kernel.money import format_micro
from kernel.text import clean, rfc3339
from marketplace.accounts import audit, idempotency
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Rental, RentalEvent
from provisioner import facade as provisioner

_DETAIL: Final = 600


@dataclass(frozen=True)
class Fact:
    """One thing known: when, from which record, what."""

    at: datetime
    source: str  # rental, event, instance, instance_event, slot, interval, usage, hold, audit, key
    id: str
    text: str


def explain(rental_id: str, *, acting: Principal | None = None) -> list[Fact]:
    """All facts about a rental of any organization. acting: staff, or None for the command line.

    Raises NotFound; insufficient_scope unless staff.
    """
    if acting is not None:
        acting.require(STAFF)
    rental = find(Rental.objects.select_related("organization", "offer__provider"), rental_id)
    facts = [fact for source in _SOURCES for fact in source(rental)]
    # The sort is stable: of one moment, the sources stand in the order of cause and effect.
    return sorted(facts, key=lambda fact: fact.at)


def _said(*parts: object) -> str:
    return clean(" ".join(str(part) for part in parts if part not in ("", None)), limit=_DETAIL)


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, default=str) if value else ""


def _key(rental: Rental) -> Iterator[Fact]:
    if rental.idempotency_key:
        used = idempotency.used_at(
            organization_ref=rental.organization_id, key=rental.idempotency_key
        )
        told = "kept" if used else "forgotten by now"
        text = _said("Idempotency-Key", rental.idempotency_key, f"({told})")
        yield Fact(used or rental.created_at, "key", "", text)


def _order(rental: Rental) -> Iterator[Fact]:
    price = f"{format_micro(rental.price_micro_h)} {rental.currency}/h"
    ordered = _said(
        f"ordered by {public('user', rental.created_by_id)} of {rental.organization.public_id}:",
        f"{rental.gpus} x {rental.accelerator}, {price}, offer {rental.offer.public_id} of",
        f"{rental.offer.provider.public_id}, image {rental.image}",
    )
    yield Fact(rental.created_at, "rental", rental.public_id, ordered)


def _course(rental: Rental) -> Iterator[Fact]:
    name = rental.public_id
    reached = (
        (rental.queued_at, "waits for cards since"),
        (rental.ready_at, "first proven ready"),
        (rental.stop_ack_at, "end acknowledged: the meter stops here"),
        (rental.ended_at, "ended"),
        (rental.settled_at, "settled: every proven second charged, the hold given back"),
    )
    for at, text in reached:
        if at is not None:
            yield Fact(at, "rental", name, text)
    wish = f"is {rental.state} ({rental.reason}), wanted {rental.desired_state}"
    more = [f"version {rental.version}"]
    if rental.expires_at is not None:
        more.append(f"ends {rfc3339(rental.expires_at)}")
    if rental.locked:
        more.append("locked")
    if rental.failover:
        more.append("failover allowed")
    yield Fact(rental.state_since, "rental", name, _said(f"{wish};", ", ".join(more)))


def _events(rental: Rental) -> Iterator[Fact]:
    for event in RentalEvent.objects.filter(rental=rental).order_by("seq"):
        head = f"#{event.seq} {event.state} ({event.reason}, {event.actor}):"
        text = _said(head, event.text, _json(event.evidence))
        yield Fact(event.at, "event", public("event", event.id), text)


def _instances(rental: Rental) -> Iterator[Fact]:
    for view in reversed(provisioner.instances(rental_ref=rental.id)):
        where = f"on {view.node}, cluster {public('cluster', view.cluster_id)}"
        pod = f"pod {view.namespace}/{view.pod_name} {view.pod_uid or 'not seen'}"
        text = _said(f"placed {where}, {pod}; is {view.state} ({view.reason})")
        yield Fact(view.created_at, "instance", public("instance", view.id), text)


def _instance_events(rental: Rental) -> Iterator[Fact]:
    for event in provisioner.instance_events(rental_ref=rental.id):
        head = f"#{event.seq} {event.state} ({event.reason}, fault {event.fault}):"
        text = _said(head, event.text, _json(event.evidence))
        yield Fact(event.at, "instance_event", public("instance", event.instance_id), text)


def _slots(rental: Rental) -> Iterator[Fact]:
    for hold in provisioner.slot_holds(rental_ref=rental.id):
        name, seat = public("slot", hold.slot_id), f"seat {hold.number} of {hold.node}"
        yield Fact(hold.from_at, "slot", name, _said("held:", seat))
        if hold.to_at is not None:
            yield Fact(hold.to_at, "slot", name, _said("given back:", seat))


def _intervals(rental: Rental) -> Iterator[Fact]:
    for view in provisioner.intervals(rental_ref=rental.id):
        name = str(view.interval_id)
        opened = _said(f"meter opened for {view.gpus} GPUs, pod {view.pod_uid}", _json(view.proof))
        yield Fact(view.opened_at, "interval", name, opened)
        charged = f"charged to {rfc3339(view.charged_to)}"
        if view.closed_at is None:
            yield Fact(view.charged_to, "interval", name, f"open, {charged}")
        else:
            settled = "settled" if view.settled else "not settled"
            good = f"proven until {rfc3339(view.good_until)}"
            text = _said(f"meter closed ({view.close_reason}); {good}, {charged}, {settled}")
            yield Fact(view.closed_at, "interval", name, text)


def _usage(rental: Rental) -> Iterator[Fact]:
    for line in billing.charges(rental_ref=rental.id):
        text = (
            f"#{line.seq} {line.seconds} s from {rfc3339(line.from_at)}: "
            f"{format_micro(line.amount_micro)}, owner {format_micro(line.provider_micro)}; "
            f"transaction {public('transaction', line.txn_id)}, interval {line.source_ref}"
        )
        yield Fact(line.to_at, "usage", public("charge", line.id), text)


def _money(rental: Rental) -> Iterator[Fact]:
    for view in billing.hold_moves(rental_ref=rental.id):
        text = f"{view.kind} {format_micro(view.amount_micro)}"
        yield Fact(view.at, "hold", public("transaction", view.txn_id), text)


def _audit(rental: Rental) -> Iterator[Fact]:
    found = audit.about(object=rental.public_id, organization_ref=rental.organization_id)
    for entry in found:
        text = _said(f"{entry.action} by {entry.actor}", _json(entry.details))
        yield Fact(entry.ts, "audit", str(entry.id), text)


# In the order of cause and effect.
_SOURCES: Final[tuple[Callable[[Rental], Iterator[Fact]], ...]] = (
    _key,
    _order,
    _audit,
    _slots,
    _instances,
    _money,
    _instance_events,
    _intervals,
    _events,
    _usage,
    _course,
)
