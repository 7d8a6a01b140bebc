"""A small year: exact to the micro-unit, equal to Stripe to the cent, nothing left to explain."""

from __future__ import annotations

import os

import pytest

from tests.year.plan import SPRING
from tests.year.play import play

RENTALS = 60
SEED = os.environ.get("YEAR_SEED") or os.urandom(4).hex()


@pytest.mark.django_db(transaction=True)
def test_a_small_year_is_exact(capsys: pytest.CaptureFixture[str]) -> None:
    report = play(RENTALS, SEED, SPRING)
    with capsys.disabled():
        print(f"\nyear: {report.as_json()}")
    assert report.problems == []
    assert report.right
    assert report.charges > RENTALS
