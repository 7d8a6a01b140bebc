"""The catalogue: filters in the URL, none dropped, and what helps when nothing matches."""

from __future__ import annotations

import re
from typing import Any

from marketplace.http.portal.catalogue import ROWS
from provisioner.inventory.summary import refresh
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, ids, read, visitor_of


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
    page = stranger.get("/?country=DE&accelerator=ascend-910b&accelerator=" + market.H100)
    fields = read(page.text).forms[0]["fields"]
    assert fields["country"] == "DE"
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
    for _ in range(ROWS):
        market.make_supply(1)
    first = stranger.get("/")
    assert len(ids("ofr", first.text)) == ROWS
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


def counted(page: Any, name: str) -> dict[str, int]:
    """The counts beside a filter's choices, as the page says them."""
    chosen = re.search(rf'<select[^>]* name="{name}".*?</select>', page.text, re.DOTALL)
    assert chosen
    found = re.findall(r'<option value="([^"]*)"[^>]*>[^<]*\((\d+)\)</option>', chosen[0])
    return {value: int(number) for value, number in found}


def test_each_choice_says_how_many_offers_it_would_give(
    stranger: Visitor, supply: market.Supply
) -> None:
    market.make_supply(8, region="us-east", country="US", ownership="owned", price=3 * market.USD)
    market.make_supply(1, region="us-east", accelerator="ascend-910b")
    page = stranger.get("/")
    assert counted(page, "region") == {"": 3, "eu-central": 1, "us-east": 2}
    assert counted(page, "vendor") == {"": 3, "huawei": 1, "nvidia": 2}
    page = stranger.get("/?region=us-east&gpus=2")
    assert counted(page, "ownership") == {"": 1, "owned": 1, "partner": 0}
    assert counted(page, "region") == {"": 2, "eu-central": 1, "us-east": 1}, "its own is left out"
    assert counted(page, "accelerator")[market.H100] == 1
    piece = stranger.get("/?region=us-east&gpus=2", htmx=True)
    assert counted(piece, "ownership") == {"": 1, "owned": 1, "partner": 0}
    assert 'id="facets" hx-swap-oob="true"' in piece.text


def test_a_row_says_what_a_month_costs_and_what_sets_it_apart(
    stranger: Visitor, supply: market.Supply
) -> None:
    assert "lowest price" not in stranger.get("/").text, "of one there is no lowest"
    dear = market.make_supply(8, region="us-east", price=3 * market.USD)
    page = stranger.get("/?gpus=2")
    assert "about $2,920.00 a month" in page.text
    rows = {row["id"]: [str(mark) for mark in row["marks"]] for row in page.context["offers"]}
    assert rows == {
        supply.offer.public_id: ["lowest price"],
        dear.offer.public_id: ["most free in one machine"],
    }
    assert "Why here" in page.text
    assert "Ranked by price, lowest first" in page.text


def test_offers_are_compared_by_their_address(stranger: Visitor, supply: market.Supply) -> None:
    other = market.make_supply(8, region="us-east", price=3 * market.USD)
    ids_ = [supply.offer.public_id, other.offer.public_id]
    page = stranger.get(f"/compare?offer={ids_[0]}&offer={ids_[1]}&gpus=2")
    assert ids("ofr", page.text) == ids_
    assert "$2,920.00" in page.text
    rows = {str(row["label"]): row for row in page.context["rows"]}
    assert rows["Region"]["differs"]
    assert not rows["Isolation"]["differs"]
    assert [cell["best"] for cell in rows["Per GPU and hour"]["cells"]] == [True, False]
    assert [cell["best"] for cell in rows["In one machine at most"]["cells"]] == [False, True]
    assert not any(cell["best"] for cell in rows["Memory per card"]["cells"]), "both have as much"


def test_a_comparison_says_what_is_gone_and_what_does_not_fit(
    stranger: Visitor, supply: market.Supply
) -> None:
    draft = market.make_supply(1, price=None).offer.public_id
    page = stranger.get(f"/compare?offer={supply.offer.public_id}&offer={draft}&offer=<b>x")
    assert page.status_code == 200
    assert "2 offers of this comparison are not there any more" in page.text
    assert "<b>x" not in page.text
    assert ids("ofr", page.text).count(supply.offer.public_id) == 1
    many = [market.make_supply(1).offer.public_id for _ in range(5)]
    page = stranger.get("/compare?" + "&".join(f"offer={one}" for one in many))
    assert "1 more were left out" in page.text
    assert [offer["id"] for offer in page.context["offers"]] == many[:4]
    assert "Nothing to compare yet" in stranger.get("/compare").text


def test_a_search_is_saved_where_it_found_nothing(
    stranger: Visitor, renter: Visitor, supply: market.Supply
) -> None:
    empty = "/?gpus=8"
    assert "Tell me when one is free" not in stranger.get(empty).text
    page = renter.get(empty)
    assert "Tell me when one is free" in page.text
    saved = renter.send(page, "/searches", name="eight together", notify="on")
    assert (saved.status_code, saved["Location"]) == (303, "/searches")
    again = renter.send(page, "/searches", name="eight together", notify="on")
    assert again["Location"] == "/searches"
    found = renter.get("/searches")
    assert [search.query for search in found.context["searches"]] == ["gpus=8"], "counted once"
    assert 'href="/?gpus=8"' in found.text
    assert renter.person.principal.user.email in found.text
    refused = renter.send(found, "/searches", name="x", query="gpus=none")
    assert refused.status_code == 422
    (one,) = ids("sav", found.text)
    other = visitor_of(market.make_renter())
    assert other.post(f"/searches/{one}/delete").status_code == 404
    assert renter.send(found, f"/searches/{one}/delete")["Location"] == "/searches"
    assert ids("sav", renter.get("/searches").text) == []
