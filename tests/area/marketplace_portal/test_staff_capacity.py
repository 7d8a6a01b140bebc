"""Capacity for staff: cards by what they do, how full they are, and orders that found none."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from marketplace.accounts.access import Principal, principal_of
from marketplace.models import IdempotencyKey, UnmetDemand, User
from marketplace.rentals import capacity, unmet
from provisioner.models import Node, NodeShare, Slot
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.marketplace_portal.test_pages import rent
from tests.area.marketplace_portal.test_reports import charged
from tests.area.marketplace_portal.test_returns import member
from tests.area.marketplace_portal.visitors import Visitor


@pytest.fixture(autouse=True)
def fresh_tally(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unmet, "_tally", unmet.Tally())
    # A second that ends when a test says so, however slow the machine is.
    monkeypatch.setattr(unmet, "_EVERY_S", 3600.0)


@pytest.fixture
def ann(transactional_db: None) -> Visitor:
    return member("ann")


def acting() -> Principal:
    return principal_of(User.objects.get(email="ann@example.com"))


def refused(renter: Visitor, supply: market.Supply, **requirement: Any) -> None:
    body = market.order(supply.offer)
    body.pop("quote", None)
    body["requirement"] = {"accelerator": [market.H100], "gpus": 8, **requirement}
    status, answer = renter.person.call("POST", "/rentals", body)
    assert (status, answer["type"]) == (409, "/problems/no_capacity"), answer


def test_cards_are_counted_by_what_they_do(
    renter: Visitor, supply: market.Supply, ann: Visitor
) -> None:
    rental = rent(renter, supply)
    free = list(Slot.objects.filter(state="free").order_by("share__slots_total", "number"))
    Slot.objects.filter(pk=free[0].pk).update(state="cordoned")
    Slot.objects.filter(pk=free[1].pk).update(state="dirty")
    Slot.objects.update(created_at=now() - timedelta(minutes=10))
    charged(rental)
    (card,) = capacity.capacity(acting=acting()).cards
    stock = card.everywhere
    assert (stock.total, stock.held, stock.cordoned, stock.dirty) == (6, 1, 1, 1)
    assert (stock.free, stock.off_sale) == (3, 0)
    assert stock.busy == Decimal("0.2")
    assert card.used is not None
    assert Decimal("0.016") <= card.used <= Decimal("0.0167"), "a minute of six times ten"
    assert card.margin is not None
    assert card.margin.partner.use.gpu_seconds == 60
    page = ann.get("/staff/capacity").text
    assert "largest order: 1" in page
    assert "20 %" in page


def test_a_node_off_sale_and_one_that_left(supply: market.Supply, ann: Visitor) -> None:
    small = NodeShare.objects.get(slots_total=2)
    NodeShare.objects.filter(pk=small.pk).update(sellable=False)
    (card,) = capacity.capacity(acting=acting()).cards
    assert (card.everywhere.free, card.everywhere.off_sale) == (4, 2)
    Node.objects.filter(pk=small.node_id).update(missing_since=now())
    (card,) = capacity.capacity(acting=acting()).cards
    assert (card.everywhere.total, card.everywhere.off_sale) == (4, 0)


def test_regions_stand_apart_and_scattered_cards_are_told(
    renter: Visitor, supply: market.Supply, ann: Visitor
) -> None:
    market.make_supply(8, region="us-east")
    refused(renter, supply, gpus=9)
    (card,) = capacity.capacity(acting=acting()).cards
    assert card.largest == 16, "nine cards are counted as up to sixteen"
    assert [one.region for one in card.regions] == ["eu-central", "us-east"]
    assert [one.scattered for one in card.regions] == [Decimal("0.3333"), 0]
    assert "us-east" in ann.get("/staff/capacity").text


def test_an_order_in_vain_is_counted_and_leaves_nothing_else(
    renter: Visitor, supply: market.Supply, ann: Visitor
) -> None:
    refused(renter, supply)
    refused(renter, supply)
    row = UnmetDemand.objects.get()
    assert (row.reason, row.accelerator, row.region) == ("no_capacity", market.H100, "")
    assert (row.gpus, row.orders) == (8, 1), "the second waits in memory for its second to end"
    unmet._tally._written = float("-inf")
    refused(renter, supply)
    row.refresh_from_db()
    assert row.orders == 3
    assert IdempotencyKey.objects.count() == 0
    page = ann.get("/staff/capacity").text
    assert "Wanted in vain" in page
    assert "no card fits that is free" in page
    UnmetDemand.objects.update(hour=now() - unmet.KEPT - timedelta(hours=1))
    assert unmet.forget() == 1


def test_a_region_that_nobody_has_is_elsewhere(renter: Visitor, supply: market.Supply) -> None:
    for region in ("venus", "x" * 30, "mars"):
        unmet._tally._written = float("-inf")
        refused(renter, supply, region=region)
    row = UnmetDemand.objects.get()
    assert (row.region, row.orders) == (unmet.ELSEWHERE, 3)


def test_a_row_that_somebody_holds_keeps_no_order_waiting(
    renter: Visitor, supply: market.Supply
) -> None:
    refused(renter, supply)
    unmet._tally._written = float("-inf")
    other = connection.copy()
    try:
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute("UPDATE marketplace_unmetdemand SET orders = orders")
            refused(renter, supply)  # answered, although the row is held until it is
            cursor.execute("ROLLBACK")
    finally:
        other.close()
    assert UnmetDemand.objects.get().orders == 1
    unmet._tally._written = float("-inf")
    refused(renter, supply)
    assert UnmetDemand.objects.get().orders == 3, "the one that could not be written came along"


def test_a_failing_database_does_not_change_the_refusal(
    renter: Visitor, supply: market.Supply, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(counts: object) -> None:
        raise OperationalError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(unmet, "_write", fail)
        refused(renter, supply)
    assert UnmetDemand.objects.count() == 0


def test_the_page_costs_the_same_for_many_groups(
    renter: Visitor, supply: market.Supply, ann: Visitor
) -> None:
    def queries(run: Callable[[], object]) -> int:
        with CaptureQueriesContext(connection) as captured:
            run()
        return len(captured)

    someone = acting()
    one = queries(lambda: capacity.capacity(acting=someone))
    for _ in range(3):
        market.make_supply(2, accelerator="nvidia-rtx-4090")
    assert queries(lambda: capacity.capacity(acting=someone)) == one <= 12


def test_capacity_over_the_api(renter: Visitor, supply: market.Supply) -> None:
    market.make_supply(1, accelerator="nvidia-rtx-4090")
    charged(rent(renter, supply))
    refused(renter, supply)
    answer = people.api_of(people.staff()).get("staff/capacity")
    assert answer.status_code == 200, answer.content
    found = {card["accelerator"]: card for card in answer.data["cards"]}
    card = found[market.H100]
    assert (card["everywhere"]["total"], card["everywhere"]["held"]) == (6, 1)
    assert card["regions"][0]["region"] == "eu-central"
    assert card["partner"]["gpu_seconds"] == 60
    assert found["nvidia-rtx-4090"]["partner"] is None
    assert answer.data["unmet"][0]["gpus"] == 8
