"""The pages of volumes: made, looked at, renamed, enlarged, deleted after a confirmation."""

from __future__ import annotations

import pytest

from kernel.clock import now
from kernel.ids import parse
from marketplace.models import AuditEntry, Volume
from provisioner.models import Volume as Row
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, ids, visitor_of


@pytest.fixture
def place(supply: market.Supply) -> str:
    """A data centre with storage, beside the one without."""
    return market.make_supply(1, storage="cluster").datacenter.public_id


def made(renter: Visitor, place: str) -> str:
    page = renter.get("/volumes")
    fields = {"name": "data", "size_gib": "10", "datacenter": place}
    answer = renter.send(page, "/volumes", **fields)
    assert answer.status_code == 303
    again = renter.send(page, "/volumes", **fields)
    assert again["Location"] == answer["Location"], "the same form counts once"
    (identifier,) = ids("vol", renter.get("/volumes").text)
    assert answer["Location"] == f"/volumes/{identifier}"
    return identifier


def test_a_volume_is_made_and_deleted_only_after_a_confirmation(renter, place) -> None:
    volume = made(renter, place)
    page = renter.get(f"/volumes/{volume}")
    assert "10 GiB" in page.text
    asked = renter.get(f"/volumes/{volume}/delete")
    assert "for good" in asked.text
    bare = renter.post(f"/volumes/{volume}/delete")
    assert bare.status_code == 409
    assert Volume.objects.get().removed_at is None
    done = renter.send(asked, f"/volumes/{volume}/delete")
    assert (done.status_code, done["Location"]) == (303, f"/volumes/{volume}")
    assert "Being deleted" in renter.get(f"/volumes/{volume}").text
    assert ids("vol", renter.get("/volumes").text) == []


def test_it_is_renamed_and_grows_and_says_why_it_cannot(renter, place) -> None:
    volume = made(renter, place)
    page = renter.get(f"/volumes/{volume}")
    renamed = renter.send(page, f"/volumes/{volume}", name="models")
    assert renamed.status_code == 303
    early = renter.send(page, f"/volumes/{volume}", name="models", size_gib="20")
    assert early.status_code == 409
    assert "used it for the first time" in early.text
    Row.objects.filter(pk=parse("volume", volume)).update(
        state="available", bound_gib=10, bound_at=now()
    )
    smaller = renter.send(page, f"/volumes/{volume}", name="models", size_gib="5")
    assert smaller.status_code == 422
    assert "only grow" in smaller.text
    assert renter.send(page, f"/volumes/{volume}", name="models", size_gib="20").status_code == 303
    assert Row.objects.get().state == "resizing"


def test_names_are_text_and_strangers_see_nothing(renter, place) -> None:
    page = renter.get("/volumes")
    name = "<script>alert(1)</script>"
    answer = renter.send(page, "/volumes", name=name, size_gib="1", datacenter=place)
    assert name not in renter.get(answer["Location"]).text
    other = visitor_of(market.make_renter("Other"))
    for path in ("", "/delete"):
        assert other.get(answer["Location"] + path).status_code == 404
        assert other.post(answer["Location"] + path).status_code == 404


def test_without_storage_anywhere_the_page_says_so(renter: Visitor) -> None:
    page = renter.get("/volumes")
    assert page.status_code == 200
    assert "No data centre offers storage" in page.text


def test_an_owner_prices_disks_for_volumes_made_from_now_on(supply: market.Supply) -> None:
    owner, place = visitor_of(supply.owner), supply.datacenter
    path = f"/provider/datacenters/{place.public_id}/disk-price"
    page = owner.get("/provider/offers")
    for wrong in ("much", "-1", "1000000"):
        refused = owner.send(page, path, price=wrong)
        assert (refused.status_code, "The price was not changed" in refused.text) == (422, True)
    assert owner.send(page, path, price="0.1250").status_code == 303
    place.refresh_from_db()
    assert place.disk_price_micro_gib_month == 125_000
    assert "$0.125" in owner.get("/provider/offers").text
    entry = AuditEntry.objects.get(action="datacenter.disk_price")
    assert entry.details["to"] == "0.1250"
    assert entry.details["for_volumes_made_from"].endswith("Z")
    other = visitor_of(market.make_supply(1).owner)
    assert other.post(path, {"price": "1"}).status_code == 404
