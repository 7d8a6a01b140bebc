"""GET /provider/offers/{id}/visibility: the facts as the catalogue and the planner have them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from kernel.text import rfc3339
from marketplace.models import Offer, Provider
from provisioner.inventory import record
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, GroupChange, NodeShare, Slot
from tests.area.marketplace_rentals.test_life import Clock, World, clock, world
from tests.area.marketplace_rentals.test_reliability import ended
from tests.market import USD, Supply, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db
__all__ = ["Clock", "clock", "world"]  # fixtures


def seen(supply: Supply) -> Any:
    status, shown = supply.owner.call(
        "GET", f"/provider/offers/{supply.offer.public_id}/visibility"
    )
    assert status == 200, shown
    return shown


def codes(shown: Any, effect: str) -> set[str]:
    return {reason["code"] for reason in shown["reasons"] if reason["effect"] == effect}


def listed(supply: Supply) -> bool:
    rows = public_get("/offers?limit=200")[1]["items"]
    return supply.offer.public_id in {row["id"] for row in rows}


def test_a_new_offer_is_shown_and_says_who_passes_it_by() -> None:
    supply = make_supply(2, 4)
    shown = seen(supply)
    assert (shown["shown"], shown["rentable"], listed(supply)) == (True, True, True)
    assert (shown["gpus_total"], shown["gpus_available"], shown["largest_block"]) == (6, 6, 4)
    assert codes(shown, "hides") | codes(shown, "full") == set()
    assert codes(shown, "narrows") == {"no_storage", "not_interruptible", "no_reliability"}
    assert shown["placements"] == []
    assert shown["reliability"] == {
        "value": None, "sample": 0, "least_sample": 10, "started": 0, "kept": 0,
        "failures": [], "uncounted": [],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda s: Offer.objects.filter(pk=s.offer.pk).update(state="paused"), "paused"),
        (lambda s: Provider.objects.update(state="suspended"), "provider_not_approved"),
        (lambda s: _cluster(s, state="unreachable"), "cluster_not_ready"),
        (lambda s: _cluster(s, preflight_passed=False), "preflight"),
        (lambda s: Offer.objects.filter(pk=s.offer.pk).update(ends_at=now(), closes_at=now()),
         "end_date"),
    ],
)  # fmt: skip
def test_what_takes_it_off_the_catalogue_is_named(change: Any, code: str) -> None:
    supply = make_supply(2)
    change(supply)
    shown = seen(supply)
    assert (shown["shown"], shown["rentable"], listed(supply)) == (False, False, False)
    assert code in codes(shown, "hides")


def _cluster(supply: Supply, **values: Any) -> None:
    Cluster.objects.filter(pk=supply.cluster.pk).update(**values)
    GroupChange.objects.create(group=supply.group)
    refresh()


def test_the_whole_cluster_in_maintenance_and_a_draft() -> None:
    draft = make_supply(1, price=None)
    assert codes(seen(draft), "hides") == {"draft"}
    supply = make_supply(1)
    path = "/provider/clusters/{}/stop-now"
    cluster = seen(supply) and supply.owner.call("GET", "/provider/clusters")[1]["items"][0]["id"]
    assert supply.owner.call("POST", path.format(cluster), {"reason": "maintenance"})[0] == 202
    assert codes(seen(supply), "hides") == {"maintenance"}


def test_windows_say_when_it_opens() -> None:
    supply = make_supply(1)
    opens = now() + timedelta(hours=3)
    Offer.objects.filter(pk=supply.offer.pk).update(
        opens_at=opens, closes_at=opens + timedelta(hours=2)
    )
    shown = seen(supply)
    assert codes(shown, "hides") == {"outside_windows"}
    assert any(rfc3339(opens) in reason["text"] for reason in shown["reasons"])


def test_rented_out_is_full_and_not_hidden() -> None:
    supply = make_supply(1)
    assert make_renter().call("POST", "/rentals", order(supply.offer))[0] == 202
    refresh()
    shown = seen(supply)
    assert (shown["shown"], shown["rentable"]) == (True, False)
    assert codes(shown, "full") == {"rented_out"}
    (placed,) = shown["placements"]
    assert (placed["state"], placed["verdict"], placed["cause"]) == ("reserved", None, None)


def test_a_node_that_is_not_sold_is_named() -> None:
    supply = make_supply(2, 2)
    share = NodeShare.objects.filter(group=supply.group).first()
    assert share is not None
    NodeShare.objects.filter(pk=share.pk).update(sellable=False)
    type(share.node).objects.filter(pk=share.node_id).update(reason="cordoned", sellable=False)
    GroupChange.objects.create(group=supply.group)
    refresh()
    shown = seen(supply)
    assert "nodes_unsold" in codes(shown, "narrows")
    assert any(share.node.name in reason["text"] for reason in shown["reasons"])


def test_its_place_is_that_of_the_catalogue() -> None:
    prices = [3 * USD, USD, 2 * USD, 2 * USD, 2 * USD]
    supplies = [make_supply(1, price=price) for price in prices]
    make_supply(4, price=1, min_gpus=4)  # takes no order of one card
    full = make_supply(1, price=USD // 2)
    Slot.objects.filter(share__group=full.group).update(state="held")
    NodeShare.objects.filter(group=full.group).update(slots_free=0)
    GroupChange.objects.create(group=full.group)
    refresh()
    rows = public_get("/offers?gpus=1&order=price")[1]["items"]
    order_of = {row["id"]: number for number, row in enumerate(rows, 1)}
    for supply in supplies:
        place = seen(supply)["price"]
        assert place["position"] == order_of[supply.offer.public_id]
        assert place["comparable"] == 4
    place = seen(supplies[3])["price"]
    assert (place["cheaper"], place["equal"]) == (1, 2)
    assert place["market"]["median"] == "2.0000"
    assert seen(full)["price"]["position"] is None
    assert "cheaper_offers" in codes(seen(supplies[0]), "ranks")


def test_how_its_placements_ended_and_nothing_of_who_rented() -> None:
    supply = make_supply(2)
    ended(supply, 9, reason="funds", fault=None)
    ended(supply, 1, reason="host_rejected", fault=None, started=False)
    ended(supply, 2, reason="image_auth", fault=None, started=False)
    record.refresh()
    shown = seen(supply)
    kept = shown["reliability"]
    assert (kept["value"], kept["sample"], kept["started"], kept["kept"]) == (0.9, 10, 9, 9)
    assert [(cause["code"], cause["count"]) for cause in kept["failures"]] == [("host_rejected", 1)]
    assert [(cause["code"], cause["count"]) for cause in kept["uncounted"]] == [("renter", 2)]
    assert len(shown["placements"]) == 10
    assert {place["cause"] for place in shown["placements"]} >= {"renter", "host_rejected"}
    assert not {"funds", "image_auth"} & {place["cause"] for place in shown["placements"]}
    assert "reliability" in codes(shown, "ranks")


def test_a_strangers_offer_is_not_there_and_filters_are_refused(world: World) -> None:
    path = f"/provider/offers/{world.supply.offer.public_id}/visibility"
    assert make_supply(1).owner.call("GET", path)[0] == 404
    assert world.renter.call("GET", path)[0] == 404
    assert world.supply.owner.call("GET", f"{path}?days=3")[0] == 400


def test_it_takes_as_many_statements_for_a_busy_offer_as_for_a_new_one() -> None:
    supply = make_supply(2)

    def statements() -> int:
        with CaptureQueriesContext(connection) as captured:
            seen(supply)
        return len(captured)

    statements()
    few = statements()
    ended(supply, 12)
    for _ in range(4):
        make_supply(1)
    assert statements() == few
