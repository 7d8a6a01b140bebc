"""What needs an owner of cards, most urgent first, each with what to do. PURE: facts in, needs out.

A need is shown while it is so and goes away by itself: nothing stores it, and nobody ticks it off.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final
from uuid import UUID

from billing.contracts.payouts import AccountState
from kernel.ids import public
from provisioner.contracts import ClusterState, ClusterView, ReaperState
from provisioner.contracts.fleet import Quarantined
from provisioner.contracts.preflight import PreflightState

# Renters are told 48 hours before; from then on its owner should have it in view as well.
SOON: Final = timedelta(hours=48)
_OFFLINE: Final = (
    ClusterState.UNREACHABLE,
    ClusterState.CREDENTIAL_REJECTED,
    ClusterState.TLS_REJECTED,
)
_REAPERS: Final = {
    ReaperState.MISSING: "has never reported, so machines would outlive their lease while we are "
    "away. Apply reaper.yaml of the provider bundle.",
    ReaperState.SILENT: "has fallen silent, so machines would outlive their lease while we are "
    "away. Look at the deployment gpuyard-reaper in gpuyard-system.",
    ReaperState.OUTDATED: "is an old version. Apply reaper.yaml of the provider bundle again.",
}
_ACCOUNTS: Final = {
    None: "You have no payout account, so what you earn waits. Open one; it takes some minutes.",
    AccountState.ONBOARDING: "Stripe still asks for details before it takes your money in. "
    "Go on there.",
    AccountState.RESTRICTED: "Stripe has stopped your payout account until it is told more.",
    AccountState.FAILED: "Stripe did not open your payout account. Read why, and try again.",
}


class Urgency(StrEnum):
    NOW = "now"  # cards do not earn, or money does not arrive
    SOON = "soon"  # nothing is lost yet


@dataclass(frozen=True)
class Need:
    """``about``: the public id of the cluster or maintenance concerned; "" where it is the owner's
    or of several offers. ``at``: since when, or when it begins. ``count``: of what it is about."""

    code: str
    urgency: Urgency
    text: str
    about: str = ""
    at: datetime | None = None
    count: int = 1


@dataclass(frozen=True)
class Planned:
    """A maintenance that is not over."""

    id: str
    where: str
    starts_at: datetime
    ends_at: datetime | None


@dataclass(frozen=True)
class Facts:
    """provider_state: applied, approved, suspended. drafts: offers without a price; below_floor:
    those on sale for less than their floor price. account: None where there is none."""

    at: datetime
    provider_state: str
    provider_reason: str
    has_place: bool
    has_gateway: bool
    clusters: tuple[ClusterView, ...]
    quarantined: tuple[Quarantined, ...]
    planned: tuple[Planned, ...]
    drafts: int
    below_floor: int
    account: AccountState | None


def needs(facts: Facts) -> list[Need]:
    """In the order in which to see to them."""
    found = list(_needs(facts))
    return sorted(found, key=lambda need: need.urgency != Urgency.NOW)  # stable within each


def _needs(facts: Facts) -> Iterator[Need]:
    yield from _owner(facts)
    live = [one for one in facts.clusters if one.state != ClusterState.RETIRED]
    for cluster in live:
        yield from _cluster(cluster, has_gateway=facts.has_gateway)
    yield from _nodes(facts.quarantined, {one.id: one.name for one in live})
    yield from _offers(facts)
    if facts.account in _ACCOUNTS and facts.clusters:
        stopped = facts.account in (AccountState.RESTRICTED, AccountState.FAILED)
        urgency = Urgency.NOW if stopped else Urgency.SOON
        yield Need("payout_account", urgency, _ACCOUNTS[facts.account])
    yield from _maintenance(facts.planned, facts.at)


def _owner(facts: Facts) -> Iterator[Need]:
    if facts.provider_state == "suspended":
        why = facts.provider_reason or "Write to support."
        yield Need("suspended", Urgency.NOW, f"You are suspended: no new rentals. {why}")
    elif facts.provider_state == "applied":
        yield Need(
            "not_approved",
            Urgency.SOON,
            "Our staff look at your application. You can name your data centre meanwhile.",
        )
    elif not facts.clusters:
        what = "Add your first cluster" if facts.has_place else "Name your data centre"
        yield Need("no_cluster", Urgency.NOW, f"{what}, and your cards can earn.")


def _cluster(cluster: ClusterView, *, has_gateway: bool) -> Iterator[Need]:
    name, about = cluster.name, public("cluster", cluster.id)
    if cluster.state in _OFFLINE:
        text = f"{name} takes no new rentals. {cluster.detail}".strip()
        yield Need("cluster_offline", Urgency.NOW, text, about, cluster.state_since)
        return  # what else is wrong there cannot be seen now, or comes from this
    if cluster.state == ClusterState.DRAINING:
        return
    if cluster.preflight == PreflightState.FAILED:
        text = f"{name} breaks a rule, so it takes no new rentals. What to do is in its preflight."
        yield Need("preflight_failed", Urgency.NOW, text, about)
    if said := _REAPERS.get(cluster.reaper_state):
        yield Need("reaper", Urgency.SOON, f"The reaper of {name} {said}", about)
    if has_gateway and cluster.relay_seen_at is None and cluster.last_observed_at is not None:
        text = (
            f"Nobody gets in to machines in {name}: no relay was ever seen there, so orders with "
            "SSH keys go elsewhere. Apply relay.yaml with the values of its page."
        )
        yield Need("relay", Urgency.SOON, text, about)


def _nodes(found: Iterable[Quarantined], names: dict[UUID, str]) -> Iterator[Need]:
    """One for each cluster, however many of its nodes."""
    together: dict[UUID, list[str]] = {}
    for one in found:
        together.setdefault(one.cluster_id, []).append(one.node)
    for cluster, nodes in together.items():
        if cluster not in names:
            continue
        which = f"{nodes[0]} is" if len(nodes) == 1 else f"{len(nodes)} nodes are"
        text = (
            f"{which} in quarantine in {names[cluster]}: other cards were found than the labels "
            "say. Put it right, then release it."
        )
        about = public("cluster", cluster)
        yield Need("quarantined", Urgency.NOW, text, about, count=len(nodes))


def _offers(facts: Facts) -> Iterator[Need]:
    if facts.drafts:
        which = "An offer has" if facts.drafts == 1 else f"{facts.drafts} offers have"
        text = f"{which} no price, so nobody can rent those cards. Set one."
        yield Need("no_price", Urgency.NOW, text, count=facts.drafts)
    if facts.below_floor:
        which = "An offer asks" if facts.below_floor == 1 else f"{facts.below_floor} offers ask"
        text = (
            f"{which} less than the floor price of your own figures: each rented hour loses "
            "money against standing idle."
        )
        yield Need("below_floor", Urgency.SOON, text, count=facts.below_floor)


def _maintenance(planned: Iterable[Planned], at: datetime) -> Iterator[Need]:
    for one in planned:
        if one.starts_at <= at:
            text = f"{one.where} is under maintenance{'' if one.ends_at else ' until you end it'}."
        elif one.starts_at <= at + SOON:
            text = f"Maintenance of {one.where} begins soon."
        else:
            continue
        yield Need("maintenance", Urgency.SOON, text, one.id, one.starts_at)
