"""What owners of cards are mailed of: clusters, hosts, offers that drifted, approval, payouts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django.db import transaction

from billing.contracts.payouts import LineState, RunState
from billing.models import PayoutLine, PayoutRun
from kernel.clock import now
from marketplace.accounts.access import principal_of
from marketplace.catalog import publish
from marketplace.models import Letter, Provider
from marketplace.providers import alerts, review
from provisioner.contracts import ClusterState
from provisioner.models import Cluster, DeviceGroup, NodeShare
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.test_every_operation import Owned
from tests.market import Supply

pytestmark = pytest.mark.django_db


@pytest.fixture
def supply() -> Supply:
    made = market.make_supply(4, 2)
    Letter.objects.all().delete()
    return made


def told() -> list[str]:
    alerts.sweep()
    return sorted(Letter.objects.values_list("event", flat=True))


def shut(supply: Supply, state: ClusterState, minutes: int) -> None:
    Cluster.objects.filter(pk=supply.cluster.pk).update(
        state=state, state_since=now() - timedelta(minutes=minutes), detail="Nothing answers."
    )


def test_a_cluster_that_is_well_is_no_mail(supply: Supply) -> None:
    assert told() == []


@pytest.mark.parametrize(
    "state",
    [ClusterState.UNREACHABLE, ClusterState.CREDENTIAL_REJECTED, ClusterState.TLS_REJECTED],
)
def test_a_cluster_that_cannot_be_used_is_told_after_ten_minutes_once(
    supply: Supply, state: ClusterState
) -> None:
    shut(supply, state, 9)
    assert told() == []
    shut(supply, state, 11)
    assert told() == told() == ["cluster.offline"]
    letter = Letter.objects.get()
    assert letter.organization == supply.owner.principal.org
    assert letter.facts["text"] == "Nothing answers."
    shut(supply, ClusterState.READY, 1)
    assert told() == ["cluster.offline"]
    shut(supply, state, 12)
    assert told() == ["cluster.offline"] * 2, "it fell silent again"


def test_a_failed_check_is_told_once_a_week(supply: Supply) -> None:
    failed = Cluster.objects.filter(pk=supply.cluster.pk)
    monday = datetime(2026, 11, 2, 12, tzinfo=UTC)
    failed.update(preflight_state="failed", preflight_at=monday)
    assert told() == ["cluster.preflight"]
    failed.update(preflight_at=monday + timedelta(days=3))
    assert told() == ["cluster.preflight"]
    failed.update(preflight_at=monday + timedelta(days=7))
    assert told() == ["cluster.preflight"] * 2


def test_cards_that_left_an_offer_are_told_and_new_ones_are_not(supply: Supply) -> None:
    before = {
        field.attname: getattr(supply.group, field.attname) for field in DeviceGroup._meta.fields
    }
    del before["id"]
    DeviceGroup.objects.create(**{**before, "driver": "580.1"})
    publish.sync_offers()
    publish.sync_offers()
    assert told() == ["offer.drifted"]
    assert "but driver 580.1 instead of" in Letter.objects.get().facts["text"]
    assert "offer.drifted" not in {
        letter.event for letter in Letter.objects.exclude(organization=supply.owner.principal.org)
    }


def test_a_host_in_quarantine_is_told_once(supply: Supply) -> None:
    market.quarantined(supply)
    assert told() == told() == ["host.quarantined"]
    assert Letter.objects.get().facts["text"] == "Cards of another model were found."
    NodeShare.objects.update(quarantined_at=None)
    assert told() == ["host.quarantined"]


def test_approval_is_told_the_first_time(supply: Supply) -> None:
    Provider.objects.update(approved_at=None)
    staff = principal_of(people.staff())
    for _again in range(2):
        with transaction.atomic():
            review.approve(
                acting=staff,
                provider_id=supply.provider.public_id,
                ownership="partner",
                networks=[],
                ports=[],
                fee_bps=None,
            )
    assert told() == ["provider.approved"]


def test_payouts_are_told_as_they_end(supply: Supply) -> None:
    run = PayoutRun.objects.create(
        state=RunState.WAITING, actor="platform", total_micro=40_000_000, approvals_needed=0
    )
    line = PayoutLine.objects.create(
        run=run,
        provider_ref=supply.provider.id,
        state=LineState.SENT,
        amount_micro=40_000_000,
        due_micro=40_000_000,
        reserve_micro=0,
        stripe_id="tr_1",
        expected_at=now(),
        sent_at=now(),
    )
    assert told() == []
    PayoutLine.objects.update(state=LineState.PAID, paid_at=now())
    assert told() == told() == ["payout.paid"]
    assert Letter.objects.get().facts["name"] == "40.00 USD"
    PayoutLine.objects.filter(pk=line.pk).update(state=LineState.RETURNED, reason="account closed")
    assert told() == ["payout.failed", "payout.paid"]
    assert Letter.objects.get(event="payout.failed").facts["text"] == "account closed"
    PayoutLine.objects.update(created_at=now() - timedelta(days=31))
    Letter.objects.all().delete()
    assert told() == []


def test_a_statement_is_told_on_the_second_of_the_month_once() -> None:
    theirs = Owned()
    theirs.charge()
    provider = theirs.supply.provider
    owners = {provider.id: provider.organization_id}
    following = now().replace(day=28, hour=12) + timedelta(days=7)
    for day, count in ((1, 0), (2, 1), (3, 1), (5, 1)):
        alerts._statements(owners, following.replace(day=day))
        assert Letter.objects.filter(event="statement.ready").count() == count, day
    letter = Letter.objects.get(event="statement.ready")
    status, _statement = theirs.owner.call("GET", letter.facts["path"])
    assert status == 200
    alerts._statements(owners, (following + timedelta(days=31)).replace(day=2))
    assert Letter.objects.filter(event="statement.ready").count() == 1, "nothing was earned then"
