"""Earnings per card in the browser, and why an offer is rented or not."""

from __future__ import annotations

import json
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from marketplace.models import Provider
from marketplace.rentals import charge as charging
from provisioner.inventory import record
from provisioner.models import Instance, ReadyInterval, Slot
from tests.area.marketplace_portal.visitors import Visitor, visitor_of
from tests.area.marketplace_rentals.test_reliability import ended
from tests.market import Supply, make_renter, make_supply, order

USD = 1_000_000


@pytest.fixture
def supply(transactional_db: None) -> Supply:
    supply = make_supply(2, price=2 * USD)
    Provider.objects.update(fee_bps=0)
    return supply


@pytest.fixture
def provider(supply: Supply) -> Visitor:
    return visitor_of(supply.owner)


def used(supply: Supply) -> None:
    """A proven hour that ended just now, charged."""
    renter = make_renter()
    assert renter.call("POST", "/rentals", order(supply.offer))[0] == 202
    row = Instance.objects.latest("created_at")
    until = now().replace(microsecond=0)
    since = until - timedelta(hours=1)
    Slot.objects.update(created_at=since)
    ReadyInterval.objects.create(
        instance=row, cluster=row.cluster, rental_ref=row.rental_ref, gpus=row.gpus,
        pod_uid="uid", opened_at=since, closed_at=until, close_reason="stopped_by_user",
        good_until=until, final=True, charged_to=since,
    )  # fmt: skip
    assert charging.charge()


def test_the_page_shows_the_money_of_the_days_and_of_each_card(
    provider: Visitor, supply: Supply
) -> None:
    used(supply)
    page = provider.get("/provider/earnings?days=7")
    assert page.status_code == 200
    assert page.text.count("2.00") >= 2, "in sum and for the card; an hour may be of two days"
    assert "card 0" in page.text
    assert "1 idle card<" in page.text, "the other one"
    values = json.loads(re.findall(r'"values": (\[[^]]+\])', page.text)[0])
    assert len(values) == 7, "days on which nothing was there are on the line as well"
    assert values[:5] == [0] * 5
    assert sum(values) == pytest.approx(2)
    # One of two cards for an hour of the hour and some seconds that they were there.
    assert re.search(r"(50|49\.\d+) %", page.text)
    assert 'href="/provider/payouts#account"' in page.text, "what is earned needs a place to go"
    assert f'href="/provider/offers/{supply.offer.public_id}/visibility"' in page.text


def test_before_the_first_rental_it_is_a_page_of_nothing(provider: Visitor) -> None:
    page = provider.get("/provider/earnings")
    assert page.status_code == 200
    assert "data-chart" not in page.text


@pytest.mark.parametrize("days", ["0", "8", "-7", "x", "", "30; DROP"])
def test_a_span_that_is_not_offered_is_no_page(provider: Visitor, days: str) -> None:
    assert provider.get(f"/provider/earnings?days={days}").status_code == 404


def test_start_success_and_causes_are_on_it(provider: Visitor, supply: Supply) -> None:
    ended(supply, 9)
    ended(supply, 1, reason="host_rejected", fault=None, started=False)
    record.refresh()
    page = provider.get("/provider/earnings")
    assert page.text.count("90 %") == 2, "started, and kept"
    assert "1 × The host had no room although it offered it." in page.text


def test_more_offers_cost_no_more_statements(provider: Visitor, supply: Supply) -> None:
    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            assert provider.get("/provider/earnings").status_code == 200
        return len(captured)

    statements()
    few = statements()
    for _ in range(3):
        make_supply(1, owner=supply.owner)
    assert statements() == few


def test_why_says_what_stands_against_it(provider: Visitor, supply: Supply) -> None:
    path = f"/provider/offers/{supply.offer.public_id}/visibility"
    shown = provider.get(path)
    assert "It is in the catalogue, and orders fit now." in shown.text
    assert "no_storage" in shown.text
    supply.owner.call("PATCH", f"/provider/offers/{supply.offer.public_id}", {"state": "paused"})
    hidden = provider.get(path)
    assert "It is not in the catalogue." in hidden.text
    assert "Set its state to active" in hidden.text
    other = visitor_of(make_renter("Other"))
    assert other.get(path).status_code == 404


def test_the_pages_lead_to_each_other(provider: Visitor) -> None:
    assert 'href="/provider/earnings"' in provider.get("/provider").text
    assert "why it is rented, or not" in provider.get("/provider/offers").text
    assert 'href="/provider/earnings"' in provider.get("/provider/payouts").text
