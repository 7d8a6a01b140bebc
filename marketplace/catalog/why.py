"""Why an offer is shown and rented, or is not: every reason with what its owner can do. PURE.

Reasons are facts about the offer as it stands. Nobody counts how often people look for something
like it, so nothing is said about that.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final

from kernel.money import CURRENCY, format_micro
from kernel.text import rfc3339


class Effect(StrEnum):
    """What a reason does to an offer."""

    HIDES = "hides"  # it is not in the catalogue
    FULL = "full"  # it is there, and no order fits just now
    NARROWS = "narrows"  # some orders pass it by
    RANKS = "ranks"  # others stand before it


@dataclass(frozen=True)
class Reason:
    code: str
    effect: Effect
    text: str


@dataclass(frozen=True)
class Facts:
    """An offer as it stands. ``unsold``: (node, why) of those not sold. ``cheaper``: offers that
    take an order of one such card now at a lower price."""

    provider_state: str
    offer_state: str
    price_micro_h: int
    switched_off: bool
    cluster: str
    cluster_state: str
    cluster_detail: str
    preflight: str
    preflight_sells: bool
    at: datetime
    ends_at: datetime | None
    opens_at: datetime | None
    closes_at: datetime | None
    is_open: bool
    maintenance_from: datetime | None
    slots_total: int
    slots_free: int
    largest_block: int
    min_gpus: int
    unsold: Sequence[tuple[str, str]]
    has_gateway: bool
    has_relay: bool
    storage: str
    storage_reason: str
    interruptible: bool
    cheaper: int
    comparable: int
    p90_micro: int | None
    reliability_bp: int | None
    sample: int
    least_sample: int


_STATES: Final = {
    "draft": ("draft", "It is a draft. Give it a price and it goes on sale."),
    "paused": ("paused", "You paused it. Set its state to active to let it again."),
    "ended": (
        "ended",
        "You ended it, which is final.",
    ),
}
_CLUSTERS: Final = {
    "connecting": "is being connected: wait for its first list of nodes",
    "unreachable": "gives no usable answer: see that its API server or agent can be reached",
    "credential_rejected": "refuses its token: give another one",
    "tls_rejected": "shows a certificate of another CA: give the CA that signed it",
    "draining": "is leaving: you asked that it takes no new rentals",
    "retired": "is retired, which is final",
}


def reasons(facts: Facts) -> list[Reason]:
    """All of them, what hides the offer first. Without any, it is shown and nobody passes it by."""
    return [*_hidden(facts), *_full(facts), *_narrow(facts), *_ranked(facts)]


def _hidden(facts: Facts) -> Iterator[Reason]:
    hides = Effect.HIDES
    if facts.provider_state != "approved":
        yield Reason(
            "provider_not_approved",
            hides,
            f"Your organization is {facts.provider_state} as a provider. Staff decide about that.",
        )
    if facts.offer_state in _STATES:
        code, text = _STATES[facts.offer_state]
        yield Reason(code, hides, text)
    if facts.switched_off:
        text = "We take no new rentals there for the moment. There is nothing to do for you."
        yield Reason("stopped_by_us", hides, text)
    if facts.cluster_state != "ready":
        wrong = _CLUSTERS.get(facts.cluster_state, f"is {facts.cluster_state}")
        said = f" {facts.cluster_detail}" if facts.cluster_detail else ""
        yield Reason("cluster_not_ready", hides, f"The cluster {facts.cluster} {wrong}.{said}")
    if not facts.preflight_sells:
        yield Reason(
            "preflight",
            hides,
            f"The preflight of {facts.cluster} is {facts.preflight}. Its page says for each rule "
            "what was found and what to do.",
        )
    if not facts.is_open:
        yield _closed(facts)


def _closed(facts: Facts) -> Reason:
    hides = Effect.HIDES
    if facts.ends_at is not None and facts.ends_at <= facts.at:
        return Reason("end_date", hides, "Its end date has come. Name a later one, or none.")
    if facts.maintenance_from is not None and facts.maintenance_from <= facts.at:
        text = "The cluster is taken down by a maintenance of yours. Withdraw it when it is over."
        return Reason("maintenance", hides, text)
    if facts.opens_at is not None and facts.opens_at > facts.at:
        text = (
            f"It is for rent again from {rfc3339(facts.opens_at)}. Longer windows show it longer."
        )
        return Reason("outside_windows", hides, text)
    text = "Its time is over in some minutes, too few to start anything. See windows and end date."
    return Reason("closing", hides, text)


def _full(facts: Facts) -> Iterator[Reason]:
    unsold = ", ".join(f"{node} ({why})" for node, why in facts.unsold[:5])
    if not facts.slots_total:
        text = "No node offers such cards now. Look at the nodes of the cluster."
        yield Reason("no_cards", Effect.FULL, text)
    elif not facts.largest_block:
        rented = facts.slots_total - facts.slots_free
        if rented == facts.slots_total and not facts.unsold:
            text = f"All {facts.slots_total} cards are rented or held. There is nothing to do."
            yield Reason("rented_out", Effect.FULL, text)
        else:
            text = "None of its cards is free on a node that is sold."
            yield Reason("none_free", Effect.FULL, text)
    elif facts.largest_block < facts.min_gpus:
        yield Reason(
            "min_gpus",
            Effect.FULL,
            f"An order takes {facts.min_gpus} cards at least, and one node has "
            f"{facts.largest_block} free at most. Lower min_gpus to let the rest.",
        )
    if facts.unsold:
        text = f"Nodes that are not sold: {unsold}. The page of the cluster says what to do."
        yield Reason("nodes_unsold", Effect.NARROWS if facts.largest_block else Effect.FULL, text)


def _narrow(facts: Facts) -> Iterator[Reason]:
    narrows = Effect.NARROWS
    if facts.has_gateway and not facts.has_relay:
        text = "Nobody can get in by SSH, terminal or ports. Run the relay in the cluster."
        yield Reason("no_way_in", narrows, text)
    if facts.storage == "none":
        said = f" {facts.storage_reason}" if facts.storage_reason else ""
        text = f"It has no storage, so orders with a volume pass it by.{said}"
        yield Reason("no_storage", narrows, text)
    if facts.closes_at is not None:
        text = f"It is for rent until {rfc3339(facts.closes_at)}: orders without an end pass it by."
        yield Reason("until", narrows, text)
    if facts.min_gpus > 1:
        text = f"Orders of fewer than {facts.min_gpus} cards pass it by."
        yield Reason("only_large_orders", narrows, text)
    if not facts.interruptible:
        text = "It has no interruptible price, so orders that may be interrupted pass it by."
        yield Reason("not_interruptible", narrows, text)
    if facts.reliability_bp is None:
        yield Reason(
            "no_reliability",
            narrows,
            f"{facts.sample} of the {facts.least_sample} placements that a figure for reliability "
            "takes: who asks for one passes it by. It comes with rentals.",
        )


def _ranked(facts: Facts) -> Iterator[Reason]:
    if facts.price_micro_h and facts.cheaper:
        yield Reason(
            "cheaper_offers",
            Effect.RANKS,
            f"{facts.cheaper} of {facts.comparable} offers that take an order of one such card now "
            "are cheaper, and the catalogue shows those first.",
        )
    if facts.p90_micro is not None and facts.price_micro_h > facts.p90_micro:
        yield Reason(
            "above_market",
            Effect.RANKS,
            f"Nine tenths of the market ask {format_micro(facts.p90_micro)} {CURRENCY} or less.",
        )
    if facts.reliability_bp is not None and facts.reliability_bp < 9500:
        yield Reason(
            "reliability",
            Effect.RANKS,
            "More than one placement in twenty failed by the host: see the causes.",
        )
