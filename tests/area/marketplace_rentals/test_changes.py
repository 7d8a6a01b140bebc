"""What a page watches: a version that moves with everything that the page shows of states."""

from __future__ import annotations

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from kernel.clock import now
from kernel.ids import new_id
from marketplace.catalog.templates import load_curated
from marketplace.models import Rental
from marketplace.rentals.changes import OVER, versions
from marketplace.rentals.timeline import move
from tests import market

pytestmark = pytest.mark.django_db(transaction=True)


def step(rental: Rental, state: str) -> None:
    with transaction.atomic():
        if state == "terminated":
            rental.ended_at = now()
        move(rental, state, at=now(), reason="admin", actor="admin", text="x")


def test_every_move_is_a_new_version_of_the_rental_and_of_its_team() -> None:
    load_curated()
    supply, renter = market.make_supply(4), market.make_renter()
    status, made = renter.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202, made
    rental, team = Rental.objects.get(), renter.org
    seen = [versions([rental.id, team])]
    for state in ("terminating", "terminated"):
        step(rental, state)
        seen.append(versions([rental.id, team]))
    assert len({each[rental.id] for each in seen}) == 3
    assert len({each[team] for each in seen}) == 3
    Rental.objects.update(settled_at=now())
    assert versions([rental.id])[rental.id] == OVER


def test_any_number_of_subjects_are_two_queries() -> None:
    with CaptureQueriesContext(connection) as asked:
        found = versions([new_id() for _ in range(300)])
    assert len(asked) == 2
    assert set(found.values()) == {"0.0"}
