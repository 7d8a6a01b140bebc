"""The map of the portal: every place is a page, and an address belongs to the closest place."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from django.urls import resolve

from marketplace.accounts.access import STAFF, Principal
from marketplace.http.portal.places import _areas, navigation
from marketplace.models import Organization, User

EVERYBODY = Principal(User(id=uuid4()), Organization(id=uuid4()), frozenset({STAFF}))


def where(path: str) -> str | None:
    place = navigation(path, EVERYBODY, is_provider=True)["place"]
    return place.url if place else None


def test_every_place_is_a_page_once() -> None:
    areas = _areas(EVERYBODY, is_provider=True)
    places = [place.url for area in areas for group in area.groups for place in group.places]
    assert len(places) > 20
    assert len(places) == len(set(places))
    for url in places:
        resolve(url)
    icons = (Path(__file__).parents[2] / "static" / "img" / "icons.svg").read_text()
    for area in areas:
        for group in area.groups:
            for place in group.places:
                assert f'id="{place.icon}"' in icons, place


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/", "/"),
        ("/offers/ofr_1", "/"),
        ("/billing", "/billing"),
        ("/billing/invoices/inv_1", "/billing/invoices"),
        ("/billing/topups/top_1", "/billing"),
        ("/charges/chg_1", "/rentals"),
        ("/provider/payouts", "/provider/payouts"),
        ("/provider/statements/2026-11", "/provider/payouts"),
        ("/provider/clusters/clu_1/preflight", "/provider"),
        ("/staff/", "/staff/"),
        ("/staff/books", "/staff/books"),
        ("/settings", None),
        ("/rentalsomething", None),
    ],
)
def test_an_address_belongs_to_the_closest_place(path: str, place: str | None) -> None:
    assert where(path) == place


def test_nobody_is_shown_what_is_not_theirs() -> None:
    renter = Principal(User(id=uuid4()), Organization(id=uuid4()), frozenset())
    assert navigation("/", None, is_provider=False)["areas"] == []
    shown = navigation("/staff/", renter, is_provider=False)
    assert [each["area"].name for each in shown["areas"]] == ["rent"]
    assert shown["place"] is None
