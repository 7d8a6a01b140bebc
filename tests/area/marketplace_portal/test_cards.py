"""The pages of card types: what is on sale of each and where, and how price and stock went."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from marketplace.accounts import switches
from marketplace.catalog import history
from provisioner.models import DeviceGroup
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, ids

CARD = f"/cards/{market.H100}"


def test_the_list_begins_with_what_is_free(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/cards")
    free = [row["slug"] for row in page.context["free"]]
    assert free == [market.H100]
    assert f'href="{CARD}"' in page.text
    rest = {row["slug"] for row in page.context["rest"]}
    assert "ascend-910b" in rest
    assert market.PART not in rest, "parts that nobody offers are left out"


def test_a_card_says_what_it_is_and_where_it_can_be_had(
    stranger: Visitor, supply: market.Supply
) -> None:
    other = market.make_supply(
        8, region="us-east", country="US", ownership="owned", price=3 * market.USD
    )
    DeviceGroup.objects.filter(pk=other.group.pk).update(score=131.0, disk_read_mib_s=2100.0)
    page = stranger.get(CARD)
    assert "NVIDIA H100 80GB SXM" in page.text
    assert ids("ofr", page.text) == [supply.offer.public_id, other.offer.public_id]
    view = page.context["view"]
    assert (view.free, view.total, view.largest_block, view.offers) == (14, 14, 8, 2)
    assert (view.lowest_micro, view.median_micro) == (2 * market.USD, 2 * market.USD)
    places = [(row.region, row.ownership, row.free, row.lowest_micro) for row in view.places]
    assert places == [
        ("eu-central", "partner", 6, 2 * market.USD),
        ("us-east", "owned", 8, 3 * market.USD),
    ]
    assert "131" in page.text
    assert "2,100 MiB/s" in page.text
    slugs = {template.slug for template in view.templates}
    assert {"ubuntu", "pytorch"} <= slugs
    assert f"/cards/{market.PART}" in page.text, "parts of it are named"


def test_templates_are_those_that_run_on_it(stranger: Visitor, supply: market.Supply) -> None:
    view = stranger.get("/cards/ascend-910b").context["view"]
    slugs = {template.slug for template in view.templates}
    assert "ubuntu" in slugs
    assert "pytorch" not in slugs


def test_a_card_that_nobody_offers_has_a_page(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/cards/amd-mi300x")
    assert page.status_code == 200
    assert "Nobody offers this card now" in page.text
    assert "Nothing measured yet." in page.text, "the charts are empty, not zero"
    assert stranger.get("/cards/no-such-card").status_code == 404


def test_charts_show_what_was_sampled(stranger: Visitor, supply: market.Supply) -> None:
    history.record()
    page = stranger.get(f"{CARD}?days=7")
    prices, stock = page.context["prices"].data(), page.context["stock"].data()
    assert len(prices["at"]) == 7
    assert [line["values"][-1] for line in prices["lines"]] == [2.0, 2.0, None]
    assert prices["lines"][0]["values"][0] is None
    assert [line["values"][-1] for line in stock["lines"]] == [6, 6]
    assert "$2.00" in page.text
    for odd in ("8", "x", "-1"):
        assert stranger.get(f"{CARD}?days={odd}").context["days"] == 30


def test_a_page_costs_the_same_however_much_is_on_sale(
    stranger: Visitor, renter: Visitor, supply: market.Supply
) -> None:
    def queries(visitor: Visitor, path: str) -> int:
        switches.forget()
        with CaptureQueriesContext(connection) as captured:
            assert visitor.get(path).status_code == 200
        return len(captured)

    cases = [(stranger, "/cards"), (stranger, CARD), (renter, "/cards"), (renter, CARD)]
    one = [queries(*case) for case in cases]
    for number in range(6):
        market.make_supply(1, region=f"region-{number}")
    assert [queries(*case) for case in cases] == one
    assert max(one[:2]) <= 9, "a stranger"
    assert max(one[2:]) <= 14, "and what the frame asks about whoever is signed in"


def test_only_a_strangers_page_may_be_kept_for_a_moment(
    stranger: Visitor, renter: Visitor, supply: market.Supply
) -> None:
    def rule(visitor: Visitor) -> Any:
        return visitor.get(CARD)["Cache-Control"]

    assert rule(renter) == "no-store"
    assert "private" in rule(stranger)
    assert "max-age=60" in rule(stranger)
