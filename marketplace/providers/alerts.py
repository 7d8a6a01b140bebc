"""What owners of cards are mailed of without having looked: a loop compares and tells once.

It looks at the present state and remembers nothing itself: a fact is told once by its cause
(accounts/letters.py), so a run that crashed is simply run again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Final
from uuid import UUID

from billing.contracts.payouts import LineState
from billing.facade import payouts as billing
from kernel.clock import now
from kernel.errors import NotFound
from kernel.ids import public
from kernel.money import format_micro
from kernel.turns import turns
from marketplace.accounts import letters
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import Provider
from provisioner import facade as provisioner
from provisioner.contracts import ClusterState, ClusterView
from provisioner.contracts.preflight import PreflightState
from provisioner.facade import quarantine

# A restart of an API server, or of a network, is over before this and needs nobody.
OFFLINE_AFTER: Final = timedelta(minutes=10)
# Longer than a bank takes, and as long as letters are remembered.
_PAYOUTS: Final = timedelta(days=30)

# The last hour of a month is charged within its first; later days are for when we were away.
_STATEMENT_DAYS: Final = (2, 3, 4)

_SHUT: Final = {
    ClusterState.UNREACHABLE,
    ClusterState.CREDENTIAL_REJECTED,
    ClusterState.TLS_REJECTED,
}


def sweep() -> None:
    """Tell of clusters, hosts and payouts, where something is new."""
    present = now()
    owners = dict(Provider.objects.values_list("id", "organization_id"))
    if not owners:
        return
    clusters = [one for one in provisioner.cluster_health() if one.provider_ref in owners]
    with turns("alerts") as turn:
        with turn(_clusters):
            _clusters(clusters, owners, present)
        with turn(_hosts):
            _hosts({one.id: owners[one.provider_ref] for one in clusters})
        with turn(_payouts):
            _payouts(owners, present)
        with turn(_statements):
            _statements(owners, present)


def _clusters(clusters: Iterable[ClusterView], owners: dict[UUID, UUID], present: datetime) -> None:
    for one in clusters:
        organization, name = owners[one.provider_ref], public("cluster", one.id)
        facts = {
            "name": one.name,
            "text": one.detail,
            "path": f"/provider/clusters/{name}/preflight",
        }
        if one.state in _SHUT and one.state_since <= present - OFFLINE_AFTER:
            letters.tell(
                organization,
                "cluster.offline",
                cause=f"{name}:{one.state_since.isoformat()}",
                facts={**facts, "at": phrase("since {at}", at=letters.moment(one.state_since))},
            )
        elif one.preflight == PreflightState.FAILED and one.preflight_at is not None:
            # It is looked at anew every so often: one mail a week while it fails.
            year, week, _day = one.preflight_at.isocalendar()
            letters.tell(
                organization,
                "cluster.preflight",
                cause=f"{name}:{year}-{week}",
                facts={**facts, "at": letters.moment(one.preflight_at), "text": _sells(one)},
            )


def _sells(one: ClusterView) -> Said:
    if one.preflight_sells:
        return phrase("It takes new rentals all the same, for now.")
    return phrase("It takes no new rentals until the failed rules are put right.")


def _hosts(owners: dict[UUID, UUID]) -> None:
    for host in quarantine.quarantined():
        if host.cluster_id in owners:
            letters.tell(
                owners[host.cluster_id],
                "host.quarantined",
                cause=f"{public('node', host.node_id)}:{host.at.isoformat()}",
                facts={
                    "name": host.name,
                    "text": host.text,
                    "at": letters.moment(host.at),
                    "path": "/provider",
                },
            )


def _statements(owners: dict[UUID, UUID], present: datetime) -> None:
    """Of the month before, once its last hours are charged."""
    if present.day not in _STATEMENT_DAYS:
        return
    month = (present.replace(day=1) - timedelta(days=1)).date().replace(day=1)
    cause = f"{month:%Y-%m}"
    told = set(letters.told("statement.ready", cause))
    for provider in billing.earners(since=datetime(month.year, month.month, 1, tzinfo=UTC)):
        if provider not in owners or owners[provider] in told:
            continue
        try:
            billing.statement(provider_ref=provider, month=month)
        except NotFound:
            continue  # its first share is of this month
        letters.tell(
            owners[provider],
            "statement.ready",
            cause=cause,
            facts={"name": _month(month), "path": f"/provider/statements/{cause}"},
        )


def _month(month: date) -> Said:
    return phrase("{month} {year}", month=phrase(f"{month:%B}"), year=month.year)


def _payouts(owners: dict[UUID, UUID], present: datetime) -> None:
    for one in billing.ended(since=present - _PAYOUTS):
        if one.provider_ref not in owners:
            continue
        event = "payout.paid" if one.state == LineState.PAID else "payout.failed"
        at = one.paid_at if one.state == LineState.PAID else one.sent_at
        letters.tell(
            owners[one.provider_ref],
            event,
            cause=public("payout", one.id),
            facts={
                "name": f"{format_micro(one.amount_micro, places=2)} {one.currency}",
                "text": one.reason,
                "at": letters.moment(at) if at else "",
                "path": "/provider/payouts",
            },
        )
