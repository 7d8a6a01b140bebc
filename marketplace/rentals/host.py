"""What an owner does about who is on its cards: look, announce maintenance, stop at once, report.

An owner sees of a rental what concerns its hardware and its pay, and nothing of who rents or what
runs. Whatever is stopped here is stopped at the request: its renter is not charged, and the owner
not paid, from that second on. All actions join the caller's transaction.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, parse, public
from kernel.money import CURRENCY, format_micro
from kernel.text import clean, rfc3339
from kernel.wake import wake_on_commit
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.phrases import Said, phrase
from marketplace.catalog.opening import renew_cluster
from marketplace.catalog.tiers import NOTICE
from marketplace.models import AbuseReport, Maintenance, Offer, Rental
from marketplace.providers import onboard
from marketplace.rentals import abuse
from marketplace.rentals.state import HOLDS_CARDS, LEGAL
from marketplace.rentals.stop import halt_all
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState, NodeView
from provisioner.contracts.supply import Occupant
from provisioner.facade import supply

MAINTENANCE, ABUSE = "maintenance", "abuse"
REASONS: Final = (MAINTENANCE, ABUSE)
_OPEN_LIMIT: Final = 100  # maintenance of one owner that is not over: each costs every pass a query


@dataclass(frozen=True)
class Asked:
    """A maintenance as its owner asks for it. node: of the cluster, None for all of it; ends_at
    None: until it is withdrawn."""

    cluster: str
    node: str | None
    starts_at: datetime
    ends_at: datetime | None
    note: str


def rentals_there(acting: Principal) -> list[dict[str, Any]]:
    """Every machine on the acting owner's cards, oldest first, as its owner sees it."""
    clusters = [cluster.id for cluster in onboard.clusters(acting)]
    there = supply.occupants(cluster_ids=clusters)
    rentals = Rental.objects.in_bulk([each.rental_ref for each in there])
    return [
        _described(each, rentals[each.rental_ref]) for each in there if each.rental_ref in rentals
    ]


def _described(each: Occupant, rental: Rental) -> dict[str, Any]:
    return {
        "id": rental.public_id,
        "cluster": public("cluster", each.cluster_id),
        "node": public("node", each.node_id),
        "node_name": each.node,
        "accelerator": each.accelerator,
        "gpus": each.gpus,
        "state": rental.state,
        "interruptible": rental.interruptible,
        "earned_per_hour": format_micro(rental.provider_micro_h),
        "currency": CURRENCY,
        "placed_at": rfc3339(each.created_at),
        "ready_at": rfc3339(each.ready_at),
        "expires_at": rfc3339(rental.expires_at),
        "contract_ends_at": rfc3339(rental.contract_ends_at),
        "maintenance_at": rfc3339(rental.maintenance_at),
        "actions": ["stop-now"] if rental.state in LEGAL["stop"] else [],
    }


@dataclass(frozen=True)
class PriceThere:
    """Rentals of one offer that were placed at one price per GPU and hour, and keep it."""

    price_micro_h: int
    rentals: int
    gpus: int


def prices_there(acting: Principal, offer_id: str) -> list[PriceThere]:
    """What those pay who rent an own offer now, the most first: a new price is none of theirs.
    NotFound."""
    offer = get_visible(Offer, acting, offer_id)
    alive = Rental.objects.filter(offer=offer, state__in=HOLDS_CARDS)
    found: dict[int, list[int]] = defaultdict(list)
    for gpus, total in alive.values_list("gpus", "price_micro_h"):
        found[total // gpus].append(gpus)
    rows = [PriceThere(price, len(gpus), sum(gpus)) for price, gpus in found.items()]
    return sorted(rows, key=lambda row: (-row.gpus, row.price_micro_h))


def announce(*, acting: Principal, asked: Asked) -> Maintenance:
    """Take a cluster, or a node of it, down for a time. Who is there is told, and stopped then.

    Raises NotFound, InvalidRequest (starts_at, ends_at), invalid_transition for a retired cluster.
    """
    cluster = onboard.own_cluster(acting, asked.cluster)
    if cluster.state == ClusterState.RETIRED:
        raise Refusal(
            "invalid_transition",
            "The cluster is retired: nothing of ours runs there, so nothing has to be announced.",
            state=cluster.state.value,
            actions=[],
        )
    node = _node(cluster.id, asked.node)
    node_id = node.id if node else None
    there = supply.occupants(cluster_ids=[cluster.id], node_id=node_id)
    _check_times(asked, occupied=any(not each.ending for each in there))
    return _open(acting, cluster.id, node, asked, reason=MAINTENANCE, urgent=False)


def one(acting: Principal, maintenance_id: str) -> Maintenance:
    """An own one; NotFound."""
    return get_visible(Maintenance, acting, maintenance_id)


def withdraw(*, acting: Principal, maintenance_id: str) -> Maintenance:
    """Call it off, or end it before its time; the cards are for rent again. Repeating is harmless.
    NotFound."""
    rows = Maintenance.objects.select_for_update(of=("self",))
    row = get_visible(rows, acting, maintenance_id)
    if row.withdrawn_at is None and not is_over(row):
        row.withdrawn_at = now()
        row.version += 1
        row.save(update_fields=["withdrawn_at", "version"])
        onboard.record(acting, "maintenance.withdraw", row.public_id)
        renew_cluster(row.cluster_ref)
        wake_on_commit("marketplace.taken_back")
    return row


def stop_rental(*, acting: Principal, rental_id: str, reason: str, text: str) -> Rental:
    """Stop one rental on own cards at once. For abuse: staff look at it, and it is not started
    again before they decided. A rental that stops already is left as it is.

    Raises NotFound for a rental that is not on own cards, InvalidRequest (reason, text).
    """
    _check_reason(reason, text)
    cluster = _where(acting, rental_id)
    rental = Rental.objects.select_for_update(of=("self",)).get(id=parse("rental", rental_id))
    if rental.state not in LEGAL["stop"]:
        return rental
    if reason == ABUSE:
        abuse.store(acting, text, rental=rental, cluster_ref=cluster, stopped=True)
    _stop([rental], reason, text)
    onboard.record(acting, "rental.stop_now", rental_id, {"reason": reason})
    return rental


def stop_cluster(*, acting: Principal, cluster_id: str, reason: str, text: str) -> Maintenance:
    """Stop everything in an own cluster at once and let nobody in until the maintenance that this
    opens is withdrawn. Raises NotFound, InvalidRequest (reason, text)."""
    _check_reason(reason, text)
    cluster = onboard.own_cluster(acting, cluster_id)
    asked = Asked(cluster_id, None, now(), None, text if reason == MAINTENANCE else "")
    row = _open(acting, cluster.id, None, asked, reason=reason, urgent=True)
    if reason == ABUSE:
        abuse.store(acting, text, rental=None, cluster_ref=cluster.id, stopped=True)
    there = supply.occupants(cluster_ids=[cluster.id])
    rows = Rental.objects.filter(
        id__in=[each.rental_ref for each in there], state__in=LEGAL["stop"]
    )
    found = list(rows.select_for_update(of=("self",)).order_by("id"))
    _stop(found, reason, asked.note)
    return row


def require_there(acting: Principal, rental_id: str) -> None:
    """NotFound unless it is on own cards now."""
    _where(acting, rental_id)


def report(*, acting: Principal, rental_id: str, text: str) -> AbuseReport:
    """Report what a rental on own cards does, without stopping it. NotFound, InvalidRequest."""
    _check_reason(ABUSE, text)
    cluster = _where(acting, rental_id)
    rental = Rental.objects.get(id=parse("rental", rental_id))
    return abuse.store(acting, text, rental=rental, cluster_ref=cluster, stopped=False)


def state_of(row: Maintenance) -> str:
    """announced, under_way, over or withdrawn."""
    if row.withdrawn_at is not None:
        return "withdrawn"
    if is_over(row):
        return "over"
    return "announced" if row.starts_at > now() else "under_way"


def is_over(row: Maintenance) -> bool:
    return row.ends_at is not None and row.ends_at <= now()


def _open(
    acting: Principal,
    cluster_id: UUID,
    node: NodeView | None,
    asked: Asked,
    *,
    reason: str,
    urgent: bool,
) -> Maintenance:
    own = visible(Maintenance, acting).filter(withdrawn_at=None).order_by("-id")[: _OPEN_LIMIT + 1]
    if sum(not is_over(row) for row in own) > _OPEN_LIMIT:
        raise InvalidRequest({"cluster": [f"there are {_OPEN_LIMIT} announced: withdraw some"]})
    row = Maintenance.objects.create(
        provider=onboard.own_provider(acting),
        cluster_ref=cluster_id,
        node_ref=node.id if node else None,
        node_name=node.name if node else "",
        starts_at=asked.starts_at,
        ends_at=asked.ends_at,
        urgent=urgent,
        reason=reason,
        note=clean(asked.note, limit=300),
    )
    details = {"cluster": public("cluster", cluster_id), "starts_at": rfc3339(asked.starts_at)}
    onboard.record(acting, "maintenance.open", row.public_id, {**details, "urgent": urgent})
    renew_cluster(cluster_id)
    wake_on_commit("marketplace.taken_back")
    return row


def _check_times(asked: Asked, *, occupied: bool) -> None:
    errors: dict[str, list[str]] = {}
    at = now()
    if asked.starts_at <= at:
        errors["starts_at"] = ["a time to come; what must stop at once: POST stop-now"]
    elif occupied and asked.starts_at < at + NOTICE:
        hours = int(NOTICE.total_seconds()) // 3600
        errors["starts_at"] = [
            f"rentals are there, and they are told {hours} hours before: {rfc3339(at + NOTICE)} at "
            "the earliest. What must stop at once: POST stop-now"
        ]
    if asked.ends_at is not None and asked.ends_at <= asked.starts_at:
        errors["ends_at"] = ["later than starts_at, or null until it is withdrawn"]
    if errors:
        raise InvalidRequest(errors)


def _node(cluster_id: UUID, node_id: str | None) -> NodeView | None:
    if node_id is None:
        return None
    try:
        wanted = parse("node", node_id)
    except BadId as error:
        raise NotFound("node") from error
    found = [each for each in provisioner.nodes(cluster_id=cluster_id) if each.id == wanted]
    if not found:
        raise NotFound("node")
    return found[0]


def _check_reason(reason: str, text: str) -> None:
    errors = {}
    if reason not in REASONS:
        errors["reason"] = [f"one of {', '.join(REASONS)}"]
    if reason == ABUSE and not clean(text):
        errors["text"] = ["say what happens: staff decide by it"]
    if errors:
        raise InvalidRequest(errors)


def _where(acting: Principal, rental_id: str) -> UUID:
    """The own cluster that has the rental's machine now; NotFound for any other rental."""
    try:
        wanted = parse("rental", rental_id)
    except BadId as error:
        raise NotFound("rental") from error
    clusters = [cluster.id for cluster in onboard.clusters(acting)]
    there: Sequence[Occupant] = supply.occupants(cluster_ids=clusters)
    for each in there:
        if each.rental_ref == wanted:
            return each.cluster_id
    raise NotFound("rental")


def _stop(rentals: Sequence[Rental], reason: str, text: str) -> None:
    said = _said(reason, text)
    halt_all(rentals, reason, text=said, actor="host", without_notice=reason == MAINTENANCE)


def _said(reason: str, text: str) -> Said:
    if reason == ABUSE:
        return phrase(
            "The owner of the cards stopped it at once and reports abuse. Nothing is charged from "
            "then on, and what is on volumes is kept. Staff look at it; write to support if this "
            "is wrong."
        )
    note = clean(text, limit=300)
    return [
        phrase(
            "The owner of the cards had to stop it at once, without the notice that is due. "
            "Nothing is charged from then on, and what is on volumes is kept."
        ),
        phrase("The owner says: {note}", note=note) if note else "",
    ]
