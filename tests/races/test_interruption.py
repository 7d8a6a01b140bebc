"""Orders and passes at once: as many interruptible rentals get a notice as cards are missing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.models import Rental
from marketplace.rentals.place import place
from tests.market import USD, make_renter, make_supply, order
from tests.races.test_last_card import at_once, rent_call

pytestmark = pytest.mark.django_db(transaction=True)


def test_orders_that_race_interrupt_no_more_than_they_need():
    supply = make_supply(8, interruptible=USD)
    cheap = make_renter("Cheap")
    for _ in range(8):
        assert cheap.call("POST", "/rentals", order(supply.offer, 1, interruptible=True))[0] == 202
    Rental.objects.update(state="running", reason="ready")
    payers = [make_renter(f"Payer {number}") for number in range(3)]
    body = order(supply.offer, 1, queue={"deadline_seconds": 600})
    calls: list[Callable[[], Any]] = [rent_call(payer, body) for payer in payers]
    calls += [place] * 6
    answers = at_once(calls)
    assert [answer[0] for answer in answers[:3]] == [202] * 3
    assert not [answer for answer in answers[3:] if isinstance(answer, Exception)]
    answers = at_once([place] * 6)
    assert not [answer for answer in answers if isinstance(answer, Exception)]
    told = Rental.objects.filter(state="interrupting")
    assert set(told.values_list("reason", flat=True)) == {"outbid"}
    assert told.count() == 3
    waiting = Rental.objects.filter(state="queued")
    assert waiting.count() == 3
    assert None not in set(waiting.values_list("promised_node", flat=True))
