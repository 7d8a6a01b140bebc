"""The catalogue: filters in the URL, none dropped, and what helps when nothing matches."""

from __future__ import annotations

from typing import Any

from provisioner.inventory.summary import refresh
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, ids, read


def test_offers_are_shown_with_their_prices(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/")
    assert ids("ofr", page.text) == [supply.offer.public_id]
    assert "NVIDIA H100 80GB SXM" in page.text
    assert "$2.00" in page.text
    assert "6 GPUs" in page.text


def test_the_all_in_price_follows_the_asked_cards(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/?gpus=4")
    assert "All-in price for 4 GPUs" in page.text
    assert "$8.00" in page.text
    assert f"/offers/{supply.offer.public_id}?gpus=4" in page.text


def test_an_unknown_filter_is_refused_by_name(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/?acelerator=h100")
    assert page.status_code == 400
    assert "accelerator" in page.text
    assert ids("ofr", page.text) == []


def test_a_bad_value_is_refused_also_for_a_piece(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/?gpus=0", htmx=True)
    assert page.status_code == 400
    assert 'data-slug="invalid_filter"' in page.text
    assert "<html" not in page.text


def test_blank_fields_of_the_form_are_no_filters(stranger: Visitor, supply: market.Supply) -> None:
    answer = stranger.get("/?accelerator=&gpus=2&region=")
    assert (answer.status_code, answer["Location"]) == (303, "/?gpus=2")
    piece = stranger.get("/?accelerator=&gpus=2&region=", htmx=True)
    assert piece["HX-Push-Url"] == "/?gpus=2"
    assert ids("ofr", piece.text) == [supply.offer.public_id]


def test_filters_without_a_field_survive_the_form(stranger: Visitor, supply: market.Supply) -> None:
    page = stranger.get("/?vendor=nvidia&accelerator=ascend-910b&accelerator=" + market.H100)
    fields = read(page.text).forms[0]["fields"]
    assert fields["vendor"] == "nvidia"
    assert page.text.count(f'name="accelerator" value="{market.H100}"') == 1


def test_no_match_names_changes_that_lead_to_offers(
    stranger: Visitor, supply: market.Supply
) -> None:
    page = stranger.get(f"/?accelerator={market.H100}&gpus=5")
    assert "No offer matches" in page.text
    assert ids("ofr", page.text) == []
    nearer = f"/?accelerator={market.H100}&amp;gpus=4"
    assert nearer in page.text
    assert ids("ofr", stranger.get(nearer.replace("&amp;", "&")).text)


def test_pages_follow_each_other(stranger: Visitor, supply: market.Supply) -> None:
    for _ in range(50):
        market.make_supply(1)
    first = stranger.get("/")
    assert len(ids("ofr", first.text)) == 50
    more = first.context["more_query"]
    second = stranger.get(f"/?{more}")
    assert len(ids("ofr", second.text)) == 1
    assert not set(ids("ofr", first.text)) & set(ids("ofr", second.text))


def test_hostile_names_stay_text(stranger: Visitor, supply: market.Supply) -> None:
    offer = supply.offer
    offer.region = '"><script>x'
    offer.save()
    page = stranger.get("/")
    assert "<script>x" not in page.text
    assert "&lt;script&gt;x" in page.text


def test_a_way_in_is_told_filtered_by_and_named_when_it_excludes_all(
    stranger: Visitor, supply: market.Supply, settings: Any
) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    offer = supply.offer.public_id
    assert "no way in" in stranger.get("/").text
    none = stranger.get("/?ssh=true")
    assert ids("ofr", none.text) == []
    assert "Way in: None" in none.text
    assert 'href="/?ssh=false"' in none.text
    assert ids("ofr", stranger.get("/?ssh=false").text) == [offer]
    market.give_relay(supply.cluster)
    refresh()
    found = stranger.get("/?ssh=true")
    assert ids("ofr", found.text) == [offer]
    assert "SSH and ports" in found.text.split('id="results"')[1]
    assert stranger.get("/?ssh=yes").status_code == 400


def test_parts_of_cards_are_shown_as_parts_to_who_asks(
    stranger: Visitor, supply: market.Supply
) -> None:
    part = market.make_supply(7, accelerator=market.PART, sharing_mode="partition", price=500_000)
    assert ids("ofr", stranger.get("/").text) == [supply.offer.public_id]
    page = stranger.get(f"/?accelerator={market.PART}")
    assert ids("ofr", page.text) == [part.offer.public_id]
    assert "NVIDIA H100 80GB SXM MIG 1g.10gb" in page.text
    assert "part of a card" in page.text
    assert "7 parts" in page.text
    one = stranger.get(f"/offers/{part.offer.public_id}")
    assert "a part of a card (1g.10gb) cut off in hardware" in one.text
    assert "7 of 7 parts of GPUs free" in one.text
    assert "fp-" in one.text
    whole = stranger.get(f"/offers/{supply.offer.public_id}")
    assert "whole cards" in whole.text
    # The list of cards names kinds of parts that somebody has, and no other.
    choices = stranger.get("/").text
    assert market.PART in choices
    assert "nvidia-a30-mig-1g.6gb" not in choices
