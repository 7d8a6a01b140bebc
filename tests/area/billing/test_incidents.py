"""Credits of incidents: by the formula, once, never for a second that was given back before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import IntegrityError, transaction
from django.db.models import Sum

from billing import facade
from billing.contracts.incidents import IncidentPart, IncidentTerms
from billing.facade import incidents
from billing.facade import payouts as payouts_door
from billing.models import IncidentCredit, Posting, Transaction, TransactionKind
from billing.reconciliation.ledger import OF_THE_LEDGER, differences
from kernel.ids import new_id
from tests.area.billing.conftest import DAY, USD, credit, open_org, rent, start, taxed, use, window

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
At = Callable[[datetime], None]


def terms(**changes: Any) -> IncidentTerms:
    values: dict[str, Any] = {
        "incident_ref": new_id(),
        "title": "Slow disks",
        "from_at": DAY,
        "to_at": DAY + 3 * HOUR,
        "percent": 50,
        "by_provider": False,
    }
    return IncidentTerms(**(values | changes))


def part(rental: UUID, begin: timedelta, end: timedelta) -> IncidentPart:
    return IncidentPart(rental, ((DAY + begin, DAY + end),))


def give(what: IncidentTerms, *parts: IncidentPart) -> dict[UUID, int]:
    with transaction.atomic():
        return incidents.credit(terms=what, parts=parts)


def booked(account: str) -> int:
    legs = Posting.objects.filter(account__kind=account, txn__kind=TransactionKind.INCIDENT_CREDIT)
    return legs.aggregate(total=Sum("amount_micro"))["total"] or 0


@pytest.fixture
def used(at: At) -> tuple[UUID, UUID]:
    """An organization and its rental at 4 USD an hour, of which 3.40 are its owner's, that ran
    from midnight to three."""
    org = open_org()
    credit(org, 50 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + 3 * HOUR)
    use(*(window(rental, DAY + n * HOUR, 3600) for n in range(3)))
    return org, rental


def test_by_the_formula_and_at_the_platforms_cost(used: tuple[UUID, UUID]) -> None:
    org, rental = used
    before = facade.balance(org_ref=org).available_micro
    what = terms()
    (seen,) = incidents.quote(terms=what, parts=[part(rental, 10 * MINUTE, 100 * MINUTE)])
    assert (seen.affected_seconds, seen.credited_seconds, seen.seconds) == (5400, 0, 5400)
    assert not IncidentCredit.objects.exists()
    # 4 USD x 1.5 h x 50 %
    assert give(what, part(rental, 10 * MINUTE, 100 * MINUTE)) == {rental: 3 * USD}
    assert seen.amount_micro == 3 * USD
    assert facade.balance(org_ref=org).available_micro == before + 3 * USD
    assert (booked("tenant"), booked("platform_cost")) == (3 * USD, -3 * USD)
    assert booked("provider_pending") == 0
    newest = facade.transactions(org_ref=org, limit=1)[0]
    assert (newest.kind, newest.text) == ("incident_credit", "Credit for an incident: Slow disks")
    assert facade.books().balanced
    (shown,) = incidents.credits_of(rental_ref=rental)
    assert (shown.amount_micro, shown.seconds, shown.percent) == (3 * USD, 5400, 50)


def test_once_per_incident_and_rental(used: tuple[UUID, UUID]) -> None:
    _, rental = used
    what, stretch = terms(), part(rental, 0 * HOUR, HOUR)
    assert give(what, stretch) == give(what, stretch) == {rental: 2 * USD}
    assert booked("tenant") == 2 * USD
    row = IncidentCredit.objects.get()
    other = Transaction.objects.exclude(id=row.txn_id).first()
    assert other is not None
    again = IncidentCredit.objects.filter(pk=row.pk).values().get()
    again |= {"id": new_id(), "txn_id": other.id}
    with pytest.raises(IntegrityError, match="billing_incident_once"), transaction.atomic():
        IncidentCredit.objects.create(**again)


def test_what_was_given_back_before_is_left_out(used: tuple[UUID, UUID]) -> None:
    _, rental = used
    with transaction.atomic():
        facade.outage(
            case_ref=new_id(),
            rental_ref=rental,
            from_at=DAY + 30 * MINUTE + timedelta(milliseconds=300),
            to_at=DAY + 60 * MINUTE + timedelta(milliseconds=300),
            by_provider=False,
        )
    (seen,) = incidents.quote(terms=terms(), parts=[part(rental, 0 * HOUR, 2 * HOUR)])
    # Of 7,200 s 1,800 were credited; they touch 1,801.
    assert (seen.credited_seconds, seen.seconds) == (1801, 5399)
    assert seen.amount_micro == 4 * USD * 5399 * 50 // 360_000
    assert give(terms(), part(rental, 0 * HOUR, HOUR)) == {rental: USD}
    # Another incident of the same time gives nothing for the hour that this one gave back.
    (other,) = incidents.quote(terms=terms(), parts=[part(rental, 0 * HOUR, 2 * HOUR)])
    assert other.seconds == 3599
    inside = part(rental, 40 * MINUTE, 60 * MINUTE)
    assert give(terms(), inside) == {rental: 0}


def test_at_most_a_day_and_never_more_than_was_paid(at: At) -> None:
    org = open_org()
    credit(org, 200 * USD)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + 30 * HOUR)
    use(*(window(rental, DAY + n * HOUR, 3600) for n in range(30)))
    whole = terms(to_at=DAY + 30 * HOUR, percent=100)
    (seen,) = incidents.quote(terms=whole, parts=[part(rental, 0 * HOUR, 30 * HOUR)])
    assert (seen.affected_seconds, seen.seconds) == (108_000, 86_400)
    assert seen.amount_micro == 96 * USD
    short = rent(org)
    start(short, DAY + 30 * HOUR)
    at(DAY + 31 * HOUR)
    use(window(short, DAY + 30 * HOUR, 1800))
    late = terms(from_at=DAY + 30 * HOUR, to_at=DAY + 31 * HOUR, percent=100)
    assert give(late, part(short, 30 * HOUR, 31 * HOUR)) == {short: 2 * USD}


def test_a_host_bears_what_it_earned_the_day_before_and_no_more(used: tuple[UUID, UUID]) -> None:
    _, rental = used
    # Before 1:00 its owner earned 3.40; two hours of it at 100 % are 8.
    host = terms(from_at=DAY + HOUR, percent=100, by_provider=True)
    (seen,) = incidents.quote(terms=host, parts=[part(rental, HOUR, 3 * HOUR)])
    assert (seen.amount_micro, seen.provider_micro) == (8 * USD, 3_400_000)
    give(host, part(rental, HOUR, 2 * HOUR))
    assert (booked("provider_pending"), booked("platform_cost")) == (-3_400_000, -600_000)
    again = terms(from_at=DAY + HOUR, percent=100, by_provider=True)
    (rest,) = incidents.quote(terms=again, parts=[part(rental, HOUR, 3 * HOUR)])
    assert (rest.amount_micro, rest.provider_micro) == (4 * USD, 0)
    txn = Transaction.objects.get(kind=TransactionKind.INCIDENT_CREDIT)
    assert txn.linked is not None
    owner = seen.provider_ref
    assert payouts_door.statement(provider_ref=owner, month=DAY.date()).credits_micro == -3_400_000
    assert facade.books().balanced
    checks = (*OF_THE_LEDGER, "provider_shares")  # R1 and R7 of the night
    assert [found for name in checks for found in differences(name)] == []


def test_several_at_once_are_in_one_transaction_or_not_at_all(used: tuple[UUID, UUID]) -> None:
    org, rental = used
    other = rent(org)
    what = terms()
    parts = [part(rental, 0 * HOUR, HOUR), part(other, 0 * HOUR, HOUR)]
    with transaction.atomic():
        assert incidents.credit(terms=what, parts=parts) == {rental: 2 * USD, other: 0}
        transaction.set_rollback(True)  # the worker dies
    assert (booked("tenant"), IncidentCredit.objects.count()) == (0, 0)
    # The other was never charged: nothing was paid that could be given back.
    assert give(what, *parts) == {rental: 2 * USD, other: 0}
    assert IncidentCredit.objects.count() == 1


def test_its_tax_goes_back_with_it(at: At, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "use"
    org = open_org()
    credit(org, 50 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + 2 * HOUR)
    use(*(window(rental, DAY + n * HOUR, 3600) for n in range(2)))
    what = terms(to_at=DAY + 2 * HOUR, percent=100)
    assert give(what, part(rental, 0 * HOUR, HOUR)) == {rental: 4 * USD}
    assert (booked("tenant"), booked("tax_payable")) == (4_760_000, -760_000)
    assert give(terms(percent=100), part(rental, 0 * HOUR, 2 * HOUR)) == {rental: 4 * USD}
    assert booked("tax_payable") == -1_520_000
    assert facade.books().balanced
