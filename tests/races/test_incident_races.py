"""An incident's credit against itself, another incident and an outage's credit at once: no second
of a rental is given back twice, and nobody waits for each other in a circle."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.models import Sum

from billing import facade
from billing.contracts.incidents import IncidentPart, IncidentTerms
from billing.facade import incidents
from billing.models import IncidentCredit, OutageCase
from kernel.clock import hour_of, now
from kernel.ids import new_id
from tests.area.billing.conftest import USD, credit, open_org, rent, start, use, window
from tests.races.test_billing_races import at_once

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)


def test_no_second_is_given_back_twice():
    begin = hour_of(now()) - 3 * HOUR
    rentals = []
    for _ in range(3):
        org = open_org()
        credit(org, 50 * USD)
        rentals.append(rent(org))
        start(rentals[-1], begin)
        use(window(rentals[-1], begin, 3600), window(rentals[-1], begin + HOUR, 3600))
    names, case = [new_id(), new_id()], new_id()

    def give(number: int) -> str:
        if number % 6 == 5:
            with transaction.atomic():
                facade.outage(
                    case_ref=case,
                    rental_ref=rentals[0],
                    from_at=begin + 2 * HOUR,
                    to_at=begin + 2 * HOUR + timedelta(minutes=10),
                    by_provider=False,
                )
            return "outage"
        terms = IncidentTerms(
            names[number % 2], "Slow disks", begin, begin + 2 * HOUR, 100, by_provider=False
        )
        order = rentals if number % 3 else rentals[::-1]
        with transaction.atomic():
            parts = [IncidentPart(ref, ((begin, begin + 2 * HOUR),)) for ref in order]
            incidents.credit(terms=terms, parts=parts)
        return "incident"

    outcomes = at_once(24, give)
    assert set(map(str, outcomes)) == {"incident", "outage"}, outcomes
    # Two incidents of the same two hours at 4 USD: one of them gave it all, the other nothing.
    for ref in rentals:
        total = IncidentCredit.objects.filter(meter=ref).aggregate(sum=Sum("amount_micro"))
        assert total["sum"] == 8 * USD
        assert IncidentCredit.objects.filter(meter=ref).count() == 1
    assert OutageCase.objects.get().seconds == 600
    assert facade.books().balanced
