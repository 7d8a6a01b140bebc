"""The rarer choices of an order, volumes with it, waiting for cards, and money that is missing."""

from __future__ import annotations

import re
from typing import Any

import pytest

from marketplace.catalog.templates import load_curated
from marketplace.models import Project, Rental, RentalVolume
from provisioner.inventory.summary import refresh
from tests import market
from tests.area.marketplace_portal.test_rent import order
from tests.area.marketplace_portal.visitors import Visitor, ids, visitor_of


@pytest.fixture
def stored(transactional_db: None) -> market.Supply:
    """Cards in a cluster with storage at 0.10 USD per GiB and month."""
    load_curated()
    supply = market.make_supply(4, storage="cluster")
    supply.datacenter.disk_price_micro_gib_month = market.USD // 10
    supply.datacenter.save()
    return supply


def quoted(visitor: Visitor, supply: market.Supply, **fields: str) -> Any:
    path = f"/offers/{supply.offer.public_id}/quote"
    return visitor.post(path, {"gpus": "1", "disk_gib": "50", **fields}, htmx=True)


def quote_in(piece: Any) -> str:
    found = re.search(r'name="quote" value="([^"]+)"', piece.text)
    assert found, piece.text
    return found[1]


def more(page: Any) -> bool:
    """Whether the rarer choices are unfolded."""
    found = re.search(r'<details class="panel more" id="more"( open)?>', page.text)
    assert found
    return bool(found[1])


def test_rarer_choices_are_folded_away_until_one_says_something(
    renter: Visitor, supply: market.Supply
) -> None:
    path = f"/offers/{supply.offer.public_id}"
    assert not more(renter.get(path))
    assert more(renter.get(f"{path}?idle_stop=30"))
    refused = order(renter, supply, labels="no equals sign")
    assert refused.status_code == 422
    assert more(refused)
    assert "Write each label as name=value." in refused.text
    assert not Rental.objects.exists()


def test_all_of_them_reach_the_rental(renter: Visitor, supply: market.Supply) -> None:
    project = Project.objects.create(organization=renter.person.principal.org, name="Vision")
    answer = order(
        *(renter, supply),
        idle_stop="30",
        failover="on",
        project=project.public_id,
        labels="team=vision, run=42",
        queue="3600",
    )
    assert answer.status_code == 303
    rental = Rental.objects.get()
    assert rental.labels == {"team": "vision", "run": "42"}
    assert (rental.idle_stop_minutes, rental.failover, rental.project) == (30, True, project)
    assert rental.state == "provisioning", "there was a card: nothing waits"


def test_a_foreign_project_cannot_be_chosen(renter: Visitor, supply: market.Supply) -> None:
    theirs = Project.objects.create(organization=supply.owner.principal.org, name="Theirs")
    assert order(renter, supply, project=theirs.public_id).status_code == 422
    assert not Rental.objects.exists()


def test_a_new_volume_is_in_the_price_and_in_the_machine(stored: market.Supply) -> None:
    renter = visitor_of(market.make_renter())
    without = quoted(renter, stored)
    piece = quoted(renter, stored, volume="new", volume_gib="730")
    assert "$2.00" in without.text
    assert "$2.10" in piece.text, "730 GiB at 0.10 a month of 730 hours"
    assert "$50.40" in piece.text, "a day running"
    assert "$2.40" in piece.text, "a day stopped"
    assert quoted(renter, stored, volume="new").status_code == 422
    page = renter.get(f"/offers/{stored.offer.public_id}")
    fields = {"quote": quote_in(piece), "ssh": "none", "volume": "new", "volume_gib": "730"}
    path = f"/offers/{stored.offer.public_id}/rent"
    answer = renter.send(page, path, **fields, mount="/models")
    assert answer.status_code == 303, answer.text
    mounted = RentalVolume.objects.get()
    assert (mounted.mount, mounted.volume.size_gib) == ("/models", 730)


def test_a_volume_of_the_place_is_offered_and_mounted(
    stored: market.Supply, supply: market.Supply
) -> None:
    renter = visitor_of(market.make_renter())
    body = {"name": "weights", "size_gib": 5, "datacenter": stored.datacenter.public_id}
    volume = renter.person.call("POST", "/volumes", body)[1]["id"]
    page = renter.get(f"/offers/{stored.offer.public_id}")
    assert "weights" in page.text
    elsewhere = renter.get(f"/offers/{supply.offer.public_id}")
    assert "weights" not in elsewhere.text
    assert 'id="storage"' not in elsewhere.text, "no storage, no choice"
    quote = quote_in(quoted(renter, stored, volume=volume))
    path = f"/offers/{stored.offer.public_id}/rent"
    answer = renter.send(page, path, quote=quote, ssh="none", volume=volume)
    assert answer.status_code == 303, answer.text
    assert RentalVolume.objects.get().volume.public_id == volume
    assert "weights" not in renter.get(f"/offers/{stored.offer.public_id}").text, "it is in use"


def test_without_a_free_card_the_order_can_wait(renter: Visitor, supply: market.Supply) -> None:
    body = market.order(supply.offer, 4)
    assert market.make_renter().call("POST", "/rentals", body)[0] == 202
    refresh()
    piece = quoted(renter, supply, gpus="4")
    assert piece.status_code == 409
    assert "No card is free for this order now" in piece.text
    assert "$2.00" in piece.text
    assert 'name="quote"' not in piece.text
    page = renter.get(f"/offers/{supply.offer.public_id}?gpus=4")
    path = f"/offers/{supply.offer.public_id}/rent"
    fields = {"ssh": "none", "wait": "true", "wait_for": "28800", "gpus": "4"}
    answer = renter.send(page, path, **fields)
    assert answer.status_code == 303, answer.text
    rental = Rental.objects.get(organization=renter.person.org)
    assert (rental.state, rental.gpus) == ("queued", 4)
    assert rental.queue_until is not None
    assert rental.queued_at is not None
    assert (rental.queue_until - rental.queued_at).total_seconds() == 28800
    assert rental.wanted is not None
    wanted = rental.wanted["requirement"]
    assert (wanted["max_price"], wanted["region"]) == ("2.0000", "eu-central")
    assert "Queued" in renter.get(answer["Location"]).text


def test_an_offer_that_left_the_market_is_not_waited_for(
    renter: Visitor, supply: market.Supply
) -> None:
    offer = supply.offer
    offer.state = "paused"
    offer.save()
    piece = quoted(renter, supply)
    assert piece.status_code == 409
    assert "Wait for a card" not in piece.text


def test_a_new_volume_does_not_wait(stored: market.Supply) -> None:
    renter = visitor_of(market.make_renter())
    page = renter.get(f"/offers/{stored.offer.public_id}")
    fields = {"ssh": "none", "wait": "true", "volume": "new", "volume_gib": "5"}
    answer = renter.send(page, f"/offers/{stored.offer.public_id}/rent", **fields)
    assert answer.status_code == 422
    assert "A new volume cannot wait with the order." in answer.text
    assert not Rental.objects.exists()


def test_missing_money_is_named_with_a_way_back_to_this_order(supply: market.Supply) -> None:
    poor = visitor_of(market.make_renter(credit=market.USD // 2))
    shape = {"gpus": "2", "name": "trial", "idle_stop": "60", "public_key": "ssh-ed25519 AAAA"}
    piece = quoted(poor, supply, **shape)
    assert piece.status_code == 200
    assert "$3.50 is missing for the first hour" in piece.text
    assert 'href="/billing?amount=5.00#top-up"' in piece.text, "no less can be topped up"
    assert 'value="5.00"' in poor.get("/billing?amount=5.00").text
    odd = poor.get("/billing?amount=xxxxxxxxx")
    assert not re.search(r'name="amount" value="x', odd.text)
    back = poor.client.session["order"]
    assert "ssh-ed25519" not in back
    page = poor.get(back)
    assert page.context["form"]["name"].value() == "trial"
    assert page.context["chosen_gpus"] == 2
    assert more(page)
    assert ids("ofr", back) == [supply.offer.public_id]
    rich = visitor_of(market.make_renter())
    assert "is missing" not in quoted(rich, supply, **shape).text
