"""Changing a rental from its page, and its certificate."""

from __future__ import annotations

from datetime import timedelta

from marketplace.models import Rental
from tests import market
from tests.area.marketplace_portal.test_rent import rented
from tests.area.marketplace_portal.visitors import Visitor


def test_what_is_sent_is_changed_and_the_rest_stays(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    before = rental.expires_at
    assert before is not None
    url = f"/rentals/{rental.public_id}/edit"
    page = renter.get(url)
    wished = {"name": "night run", "idle_stop": "60", "labels": "team=vision\na=b", "lock": "on"}
    answer = renter.send(page, url, **wished, later="8")
    assert answer.status_code == 303, answer.text
    rental.refresh_from_db()
    assert rental.name == "night run"
    assert rental.expires_at == before + timedelta(hours=8)
    assert rental.idle_stop_minutes == 60
    assert rental.labels == {"team": "vision", "a": "b"}
    assert rental.locked
    version, price = rental.version, rental.price_micro_h
    assert renter.send(renter.get(url), url, **wished, later="").status_code == 303
    rental.refresh_from_db()
    assert (rental.version, rental.price_micro_h) == (version, price), "nothing differed"


def test_bad_input_names_its_field_and_changes_nothing(
    renter: Visitor, supply: market.Supply
) -> None:
    rental = rented(renter, supply)
    url = f"/rentals/{rental.public_id}/edit"
    for changed, said in (
        ({"labels": "no sign"}, "is no label"),
        ({"name": ""}, "required"),
        ({"idle_stop": "7"}, "valid choice"),
        ({"later": "9999"}, "valid choice"),
    ):
        answer = renter.send(renter.get(url), url, **changed)
        assert answer.status_code == 422
        assert said in answer.text
    after = Rental.objects.get()
    assert (after.version, after.name) == (rental.version, rental.name)


def test_the_certificate_of_what_never_ran_says_so(renter: Visitor, supply: market.Supply) -> None:
    rental = rented(renter, supply)
    assert "Nothing was measured" in renter.get(f"/rentals/{rental.public_id}/certificate").text
