"""An owner's pages: what needs it, a cluster card by card, offers with market and floor."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.accounts import switches
from marketplace.models import AuditEntry, Offer
from marketplace.providers import card_costs
from marketplace.providers.economics import Inputs
from provisioner.models import Cluster, Node, NodeShare, Slot
from tests import market
from tests.area.marketplace_portal.visitors import Visitor


def queries(provider: Visitor, path: str) -> tuple[int, Any]:
    """How many statements the page takes, and the page."""
    switches.forget()
    with CaptureQueriesContext(connection) as captured:
        page = provider.get(path)
    assert page.status_code == 200
    return len(captured), page


@pytest.fixture
def path(supply: market.Supply) -> str:
    return f"/provider/clusters/{public('cluster', supply.cluster.pk)}"


def rent(supply: market.Supply, gpus: int = 1) -> None:
    renter = market.make_renter()
    status, rental = renter.call("POST", "/rentals", market.order(supply.offer, gpus))
    assert status == 202, rental


# --- the home -------------------------------------------------------------------------------------


def test_what_needs_the_owner_comes_first_with_where_to_see_to_it(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    page = provider.get("/provider").text
    assert "You have no payout account" in page
    assert "0 / 6" in page
    market.quarantined(supply)
    Cluster.objects.update(state="unreachable", detail="It does not answer: <b>look</b>.")
    page = provider.get("/provider").text
    order = ("takes no new rentals", "in quarantine", "You have no payout account")
    places = [page.index(text) for text in order]
    assert places == sorted(places)
    assert "&lt;b&gt;look&lt;/b&gt;" in page
    assert f'href="{path}#nodes"' in page
    assert 'href="/provider/payouts#account"' in page


def test_the_home_takes_as_many_statements_for_many_clusters_as_for_one(
    provider: Visitor, supply: market.Supply
) -> None:
    one, _page = queries(provider, "/provider")
    for _ in range(4):
        market.make_supply(1, owner=supply.owner, region="us-east")
    many, page = queries(provider, "/provider")
    assert page.text.count('class="table__main"') == 5
    assert many == one


def test_only_an_owner_has_a_home_of_cards(renter: Visitor, path: str) -> None:
    assert "Offer your spare cards" in renter.get("/provider").text
    for foreign in (path, f"{path}/drain", "/provider/offers", "/provider/reliability"):
        assert renter.get(foreign).status_code == 404


# --- a cluster ------------------------------------------------------------------------------------


def test_each_card_says_how_it_stands(provider: Visitor, supply: market.Supply, path: str) -> None:
    rent(supply, 2)
    Slot.objects.filter(pk=Slot.objects.filter(state="free")[0].pk).update(state="dirty")
    page = provider.get(path).text
    assert page.count("rented since") == 2
    assert page.count('<i class="slot slot--dirty" title') == 1
    assert page.count('<i class="slot slot--free" title') == 3
    market.quarantined(supply)
    page = provider.get(path).text
    assert "Cards of another model were found." in page
    assert "in quarantine since" in page


def test_a_node_is_cordoned_and_put_back_from_the_page(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    rent(supply)
    node = Node.objects.filter(shares__slots__state="held").first()
    assert node is not None
    at = f"{path}/nodes/{public('node', node.pk)}"
    page = provider.get(path).text
    assert "The 1 card that is rented goes on to its end." in page
    assert f'formaction="{at}/cordon"' in page
    for _ in range(2):
        assert provider.post(f"{at}/cordon")["Location"] == path
    page = provider.get(path).text
    assert f"{node.name} takes no new rentals" in page
    assert "cordoned by you since" in page
    assert page.count("rented since") == 1, "what runs there goes on"
    assert provider.post(f"{at}/uncordon").status_code == 303
    node.refresh_from_db()
    assert node.cordoned_at is None
    assert AuditEntry.objects.filter(action="node.cordon").exists()
    assert provider.post(f"{at}/explode").status_code == 404
    assert provider.post(f"{at}/release").status_code == 422, "it is in no quarantine"


def test_a_node_is_released_from_quarantine(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    _cluster, node = market.quarantined(supply).split(" ")
    assert provider.post(f"{path}/nodes/{node}/release").status_code == 303
    assert not NodeShare.objects.filter(quarantined_at__isnull=False).exists()


def test_nobody_acts_on_anothers_node(renter: Visitor, supply: market.Supply, path: str) -> None:
    node = Node.objects.filter(cluster=supply.cluster)[0]
    for action in ("cordon", "uncordon", "release"):
        answer = renter.post(f"{path}/nodes/{public('node', node.pk)}/{action}")
        assert answer.status_code == 404
    assert renter.post(f"{path}/token", {"token": "x"}).status_code == 404
    assert renter.post(f"{path}/drain").status_code == 404
    assert not Node.objects.filter(cordoned_at__isnull=False).exists()


def test_the_token_is_replaced_and_never_shown(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    page = provider.get(path)
    assert provider.send(page, f"{path}/token", token="").status_code == 422
    assert provider.send(page, f"{path}/token", token="fresh.token").status_code == 303
    assert bytes(Cluster.objects.get(pk=supply.cluster.pk).token_sealed) != b""
    assert "fresh.token" not in provider.get(path).text
    assert AuditEntry.objects.filter(action="cluster.replace_token").count() == 1


def test_a_cluster_is_drained_after_the_consequences(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    asked = provider.get(f"{path}/drain")
    assert "goes on to its end and is paid as agreed" in asked.text
    assert Cluster.objects.get().drain_requested_at is None
    assert provider.send(asked, f"{path}/drain")["Location"] == path
    assert Cluster.objects.get().drain_requested_at is not None
    page = provider.get(path).text
    assert f'href="{path}/drain"' not in page


def test_two_hundred_nodes_of_eight_cards_are_light(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    market.add_credit(supply.owner.org, 1000 * market.USD)  # without it the frame asks once more
    few, _page = queries(provider, path)
    nodes = Node.objects.bulk_create(
        Node(cluster=supply.cluster, name=f"rack-{number:03d}", uid=new_id().hex, ready=True,
             sellable=True, listed_at=now())
        for number in range(200)
    )  # fmt: skip
    shares = NodeShare.objects.bulk_create(
        NodeShare(node=node, group=supply.group, resource_name="nvidia.com/gpu", slots_total=8)
        for node in nodes
    )
    Slot.objects.bulk_create(
        Slot(share=share, number=card) for share in shares for card in range(8)
    )
    count, page = queries(provider, path)
    assert count == few
    assert count <= 12
    assert len(page.content) < 150_000
    assert "rack-047" in page.text, "two nodes of the market and 48 of these"
    assert "rack-048" not in page.text
    assert "rack-048" in provider.get(f"{path}?page=2").text
    assert provider.get(f"{path}?page=99").status_code == 200
    for bad in ("0", "-1", "x", "1e9", "9" * 30, "²"):
        assert provider.get(f"{path}?page={bad}").status_code == 404


def test_cards_that_are_not_sold_say_why(
    provider: Visitor, supply: market.Supply, path: str
) -> None:
    first, second, third, fourth = Slot.objects.order_by("share__node__name", "number")[:4]
    for slot, state, reason in (
        (first, "cordoned", Slot.PROBED),
        (second, "cordoned", "occupied_by_owner"),
        (third, "cordoned", Slot.GONE),
    ):
        Slot.objects.filter(pk=slot.pk).update(state=state, reason=reason)
    page = provider.get(path).text
    for seat in ("measured", "occupied"):
        assert page.count(f'<i class="slot slot--{seat}" title') == 1
    assert page.count('<i class="slot slot--free" title') == 3, "one seat is there no longer"
    NodeShare.objects.filter(pk=fourth.share_id).update(sellable=False)
    Node.objects.filter(shares=fourth.share_id).update(detail="The node is <i>not ready</i>.")
    page = provider.get(path).text
    assert 'slot slot--off" title' in page
    assert "The node is &lt;i&gt;not ready&lt;/i&gt;." in page
    assert "0 / 5" in provider.get("/provider").text


# --- offers ---------------------------------------------------------------------------------------


FIGURES = Inputs(
    purchase_micro=20_000_000_000,
    watts_load=Decimal(1000),
    watts_idle=Decimal(100),
    kwh_micro=1_000_000,
    utilisation=Decimal("0.7"),
)


def test_a_price_below_the_floor_is_said_and_allowed(
    provider: Visitor, supply: market.Supply
) -> None:
    with transaction.atomic():
        card_costs.save(acting=supply.owner.principal, accelerator=market.H100, given=FIGURES)
    rent(supply, 2)
    path = f"/provider/offers/{supply.offer.public_id}/price"
    page = provider.get(f"{path}?price=1.00")
    assert "Below your floor price" in page.text
    assert "1 rental with 2 GPUs at $2.00" in page.text
    assert "$2.00 → $1.00" in page.text
    assert provider.send(page, path).status_code == 303
    listed = provider.get("/provider/offers").text
    assert "price is below it" in listed
    assert "loses money against standing idle" in provider.get("/provider").text
    assert "Below your floor price" not in provider.get(f"{path}?price=9").text


def test_the_market_stands_beside_own_prices(provider: Visitor, supply: market.Supply) -> None:
    assert "–</span>" in provider.get("/provider/offers").text
    for price in (1, 3, 5):
        market.make_supply(1, price=price * market.USD)
    assert "$1.00 – $5.00" in provider.get("/provider/offers").text


def test_two_hundred_offers_take_as_many_statements_as_one(
    provider: Visitor, supply: market.Supply
) -> None:
    market.add_credit(supply.owner.org, 1000 * market.USD)  # without it the frame asks once more
    few, _page = queries(provider, "/provider/offers")
    market.make_supply(1, owner=supply.owner, price=None, accelerator="nvidia-rtx-4090")
    many, page = queries(provider, "/provider/offers")
    assert "RTX 4090" in page.text
    assert few == many <= 12
    assert Offer.objects.count() == 2
    only = provider.get("/provider/offers?state=draft").text
    assert "RTX 4090" in only
    assert f'id="price-{supply.offer.public_id}"' not in only


# --- reliability ----------------------------------------------------------------------------------


def test_before_the_first_placement_nothing_is_claimed(
    provider: Visitor, supply: market.Supply
) -> None:
    page = provider.get("/provider/reliability").text
    assert "from 10 on" in page
    assert supply.cluster.name in page
    assert page.count("None in 30 days.") == 2
