"""One action on several rentals: consequences first, each its own transaction, nothing foreign."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from marketplace.models import Rental
from marketplace.rentals.timeline import move
from tests import market
from tests.area.marketplace_portal.test_rent import order
from tests.area.marketplace_portal.visitors import Visitor, visitor_of


@pytest.fixture
def three(renter: Visitor, supply: market.Supply) -> list[Rental]:
    for _ in range(3):
        order(renter, supply)
    return list(Rental.objects.order_by("id"))


def ids(rentals: list[Rental]) -> str:
    return "&".join(f"rental={rental.public_id}" for rental in rentals)


def test_the_list_offers_to_choose(renter: Visitor, three: list[Rental]) -> None:
    page = renter.get("/rentals")
    assert page.text.count('name="rental"') == 3
    assert 'data-live="/rentals/changes"' in page.text


def test_what_it_does_is_said_before_and_done_after(renter: Visitor, three: list[Rental]) -> None:
    page = renter.get(f"/rentals/bulk?action=terminate&{ids(three[:2])}")
    assert "Terminate 2 rentals?" in page.text
    assert not Rental.objects.filter(state="terminating").exists(), "asking does nothing"
    fields = {"action": "terminate", "rental": [row.public_id for row in three[:2]]}
    answer = renter.post("/rentals/bulk", fields)
    assert answer.status_code == 303
    states = dict(Rental.objects.values_list("id", "state"))
    assert [states[row.id] == "terminating" for row in three] == [True, True, False]


def test_one_that_may_not_is_left_and_keeps_no_other(renter: Visitor, three: list[Rental]) -> None:
    Rental.objects.filter(id=three[0].id).update(locked=True)
    fields = {"action": "terminate", "rental": [row.public_id for row in three]}
    renter.post("/rentals/bulk", fields)
    three[0].refresh_from_db()
    assert three[0].state != "terminating"
    assert Rental.objects.filter(state="terminating").count() == 2
    assert three[0].public_id in renter.get("/rentals").text


def test_states_that_do_not_allow_it_are_named(renter: Visitor, three: list[Rental]) -> None:
    with transaction.atomic():
        move(three[0], "terminating", at=now(), reason="admin", actor="admin", text="x")
    page = renter.get(f"/rentals/bulk?action=stop&{ids(three)}")
    assert "Stop 2 rentals?" in page.text
    assert "Left as they are" in page.text


def test_bad_wishes_are_refused(renter: Visitor, three: list[Rental]) -> None:
    assert renter.get(f"/rentals/bulk?action=delete&{ids(three)}").status_code == 400
    assert renter.get("/rentals/bulk?action=stop").status_code == 303
    assert renter.get("/rentals/bulk?action=stop&rental=ren_made-up").status_code == 404


def test_a_foreign_rental_is_not_touched(three: list[Rental]) -> None:
    other = visitor_of(market.make_renter("Other"))
    assert other.get(f"/rentals/bulk?action=terminate&{ids(three)}").status_code == 404
    fields = {"action": "terminate", "rental": [three[0].public_id]}
    other.post("/rentals/bulk", fields)
    assert not Rental.objects.filter(state="terminating").exists()


def test_the_list_takes_as_many_queries_for_three_as_for_one(
    renter: Visitor, three: list[Rental]
) -> None:
    with CaptureQueriesContext(connection) as of_three:
        renter.get("/rentals")
    Rental.objects.filter(id__in=[row.id for row in three[1:]]).update(
        organization_id=market.make_renter("Else").org
    )
    with CaptureQueriesContext(connection) as of_one:
        renter.get("/rentals")
    assert len(of_three) == len(of_one)
    assert len(of_three) <= 12, [row["sql"][:120] for row in of_three.captured_queries]
