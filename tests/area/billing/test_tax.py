"""Tax on use in the ledger: refused while unknown, held, ticked, given back, never past a floor."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.meters import MeterKind
from billing.contracts.tax import Exempt, TaxAddress, TaxId, TaxPoint
from billing.facade import tax as door
from billing.ledger.accounts import account, lock_purse
from billing.ledger.post import Entry, post
from billing.models import (
    AccountKind,
    CauseType,
    RentalMeter,
    StripeCall,
    TaxRate,
    TransactionKind,
    UsageLine,
)
from billing.reconciliation.reads import coverage
from billing.reconciliation.usage import used
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import new_id
from tests.area.billing.conftest import (
    DAY,
    USD,
    corrupt,
    credit,
    end,
    limit,
    open_org,
    owed_tax,
    rent,
    start,
    taxed,
    use,
    window,
)

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
BERLIN = TaxAddress(country="DE", postal_code="10115")


@pytest.fixture(autouse=True)
def on_use(settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "use"


def given_back(rental: UUID, begin: datetime, until: datetime, by_provider: bool) -> int:
    with transaction.atomic():
        return facade.credit(rental_ref=rental, from_at=begin, to_at=until, by_provider=by_provider)


def lose(org: UUID, micro: int) -> None:
    """Take exactly this much of the balance away."""
    with transaction.atomic():
        purse = lock_purse(org)
        legs = ((purse.tenant, -micro), (account(AccountKind.REVENUE), micro))
        post([Entry(TransactionKind.ADJUSTMENT, CauseType.ADJUSTMENT, new_id(), legs)])


def spendable(org: UUID) -> int:
    return facade.balance(org_ref=org).spendable_micro


def test_without_a_rate_nothing_is_rented_and_the_sentence_says_what_to_do(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    with pytest.raises(InvalidRequest, match="not known where you are") as nowhere:
        rent(org)
    assert "/billing/tax" in nowhere.value.extra["errors"]["billing_address"][0]
    with transaction.atomic():
        view = door.set_tax_profile(org_ref=org, address=BERLIN, actor="owner")
    assert (view.ppm, view.point) == (None, TaxPoint.USE)
    with pytest.raises(InvalidRequest, match="is being asked for"):
        rent(org)
    with pytest.raises(InvalidRequest), transaction.atomic():
        facade.check_affordable(org_ref=org, price_micro_h=USD)
    TaxRate.objects.update(failure="no such address")
    with pytest.raises(InvalidRequest, match="no such address"):
        rent(org, kind=MeterKind.DISK)
    assert not RentalMeter.objects.exists()
    assert spendable(org) == 100 * USD


def test_a_profile_is_checked_and_each_change_asks_anew(at: Any) -> None:
    at(DAY)
    org = open_org()
    for address, ids, field in (
        (TaxAddress("de"), (), "country"),
        (TaxAddress("US"), (), "postal_code"),
        (BERLIN, (TaxId("EU VAT", "1"),), "tax_ids"),
        (BERLIN, (TaxId("eu_vat", "DE1"),) * 2, "tax_ids"),
    ):
        with pytest.raises(InvalidRequest) as wrong, transaction.atomic():
            door.set_tax_profile(org_ref=org, address=address, tax_ids=ids, actor="owner")
        assert field in wrong.value.extra["errors"]
    for exempt in (Exempt.REVERSE, None):
        with transaction.atomic():
            view = door.set_tax_profile(
                org_ref=org,
                address=BERLIN,
                tax_ids=[TaxId("eu_vat", "DE1")],
                exempt=exempt,
                actor="owner",
            )
        assert (view.exempt, view.tax_ids) == (Exempt.REVERSE, (TaxId("eu_vat", "DE1"),))
    kinds = list(StripeCall.objects.filter(org_ref=org).values_list("kind", flat=True))
    assert sorted(kinds) == ["customer", *["customer_tax"] * 2, *["tax_rate"] * 2]


def test_an_old_rate_is_used_and_asked_for_again(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    taxed(org, 190_000)
    at(DAY + timedelta(days=8))
    for _ in range(3):
        assert RentalMeter.objects.get(pk=rent(org)).tax_ppm == 190_000
    assert StripeCall.objects.filter(kind="tax_rate").count() == 1


def test_hold_tick_and_end_add_up_to_the_gross(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    assert facade.balance(org_ref=org).held_micro == 4_760_000
    start(rental, DAY)
    meter = RentalMeter.objects.get(pk=rental)
    assert (meter.tax_point, meter.tax_ppm, meter.paid_until) == ("use", 190_000, DAY + HOUR)
    at(DAY + HOUR)
    use(window(rental, DAY, 3600))
    view = facade.balance(org_ref=org)
    assert view.held_micro == 5_950_000  # 75 minutes with their tax
    assert view.burn_micro_h == 4_760_000
    assert RentalMeter.objects.get(pk=rental).paid_until == DAY + 2 * HOUR + timedelta(minutes=15)
    end(rental)
    assert spendable(org) == 100 * USD - 4_760_000
    [line] = UsageLine.objects.all()
    assert (line.amount_micro, line.tax_micro) == (4 * USD, 760_000)
    assert owed_tax() == coverage().tax_micro == 760_000
    assert facade.books().balanced


def test_the_rate_stays_the_rentals_own_and_zero_writes_no_leg(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    taxed(org, 0, "reverse_charge")
    rental = rent(org)
    start(rental, DAY)
    taxed(org, 190_000)
    at(DAY + HOUR)
    use(window(rental, DAY, 3600))
    assert owed_tax() == 0
    assert spendable(org) == 91 * USD
    profile = door.tax_profile(org_ref=org)
    assert (profile.ppm, profile.reason) == (190_000, "standard_rated")


@pytest.mark.parametrize("seed", range(6))
def test_ticked_once_hourly_or_at_every_moment_the_tax_is_the_same(at: Any, seed: int) -> None:
    rng = random.Random(seed)
    price, ppm = rng.randrange(1, 5 * USD), rng.randrange(1, 400_000)
    at(DAY + 4 * HOUR)
    org = open_org()
    credit(org, 1000 * USD)
    taxed(org, ppm)
    once, often = rent(org, price_micro_h=price), rent(org, price_micro_h=price)
    for hour in range(3):
        use(window(once, DAY + hour * HOUR, 3600))
        marks = [0, *sorted(rng.sample(range(1, 3600), 12)), 3600]
        for first, last in pairwise(marks):
            use(window(often, DAY + hour * HOUR + timedelta(seconds=first), last - first))
    sums = [
        sum(UsageLine.objects.filter(meter=key).values_list("tax_micro", flat=True))
        for key in (once, often)
    ]
    assert sums == [price * 3 * ppm // 1_000_000] * 2
    views = used([once, often], since=DAY, until=DAY + 3 * HOUR)
    assert [view.wrong for view in views] == ["", ""]


@pytest.mark.parametrize("funds", [0, 1, 2, 3, 999_999, 1_190_000, 1_190_001])
@pytest.mark.parametrize("post_paid", [False, True])
def test_no_second_and_no_tax_passes_the_floor(at: Any, funds: int, post_paid: bool) -> None:
    """A tick an hour late, with almost nothing left: the rest is the platform's, and untaxed."""
    at(DAY)
    org = open_org()
    first = 4_760_000
    if post_paid:
        limit(org, first + funds)
    else:
        credit(org, 10 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    start(rental, DAY)
    if not post_paid:
        lose(org, 10 * USD - first - funds)
    at(DAY + 3 * HOUR)
    use(*(window(rental, DAY + hour * HOUR, 3600) for hour in range(3)))
    meter = RentalMeter.objects.get(pk=rental)
    paid = meter.charged_micro - meter.overrun_micro
    assert owed_tax() == paid * 190_000 // 1_000_000
    # Not one micro-unit more fits: the next would need its tax as well.
    assert paid + owed_tax() <= first + funds < paid + 1 + (paid + 1) * 190_000 // 1_000_000
    assert spendable(org) >= 0
    assert facade.books().balanced
    with pytest.raises(Refusal, match=r"hour costs 4\.76"):
        rent(org)


@pytest.mark.parametrize("by_provider", [False, True])
def test_all_of_it_given_back_is_all_of_it(at: Any, by_provider: bool) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    taxed(org, 88_750)
    rental = rent(org, price_micro_h=3_333_333)
    start(rental, DAY)
    for part in range(6):
        begin = DAY + part * timedelta(minutes=20)
        at(begin + timedelta(minutes=20))
        use(window(rental, begin, 1200))
    assert owed_tax() == 6_666_666 * 88_750 // 1_000_000
    for part in range(6):
        begin = DAY + part * timedelta(minutes=20)
        assert given_back(rental, begin, begin + timedelta(minutes=20), by_provider) > 0
        assert owed_tax() >= 0
    end(rental)
    assert owed_tax() == 0
    assert spendable(org) == 100 * USD
    assert facade.books().balanced


def test_an_interruption_gives_no_more_tax_back_than_was_paid(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 100 * USD)
    taxed(org, 500_000)
    rental = rent(org, price_micro_h=3_600_000)
    start(rental, DAY)
    at(DAY + timedelta(seconds=60))
    use(window(rental, DAY, 60))
    assert owed_tax() == 30_000
    case, before = new_id(), facade.balance(org_ref=org)
    for seconds, back in ((40, 20_000), (90, 30_000), (600, 30_000)):
        with transaction.atomic():
            facade.outage(
                case_ref=case,
                rental_ref=rental,
                from_at=DAY + timedelta(seconds=60),
                to_at=DAY + timedelta(seconds=60 + seconds),
                by_provider=False,
            )
        assert owed_tax() == 30_000 - back
        view = facade.balance(org_ref=org)
        assert view.available_micro - before.available_micro == seconds * 1000 + back
    assert facade.books().balanced


def test_a_disk_is_taxed_and_what_nobody_pays_of_it_is_not(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 5 * USD)
    taxed(org, 200_000)
    disk = rent(org, price_micro_h=2 * USD, kind=MeterKind.DISK)
    start(disk, DAY)
    at(DAY + 3 * HOUR)
    use(*(window(disk, DAY + hour * HOUR, 3600) for hour in range(3)))
    meter = RentalMeter.objects.get(pk=disk)
    assert meter.charged_micro - meter.overrun_micro == 4_166_667
    assert owed_tax() == 833_333
    assert spendable(org) == 0


def test_a_wrong_tax_on_a_line_is_one_difference(at: Any) -> None:
    at(DAY)
    org = open_org()
    credit(org, 50 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + 2 * HOUR)
    use(*(window(rental, DAY + hour * HOUR, 3600) for hour in range(2)))
    corrupt("billing_usageline", "UPDATE billing_usageline SET tax_micro = 1 WHERE seq = 2")
    [view] = used([rental], since=DAY, until=now())
    assert view.wrong == "charge 2 has another tax than its rate says"


def test_costs_keep_net_and_tax_apart_and_add_up(at: Any) -> None:
    from billing.contracts.usage import CostKey
    from billing.ledger.costs import pages, totals

    at(DAY)
    org = open_org()
    credit(org, 50 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    start(rental, DAY)
    at(DAY + HOUR)
    use(window(rental, DAY, 3600))
    at(DAY + HOUR + timedelta(minutes=1))
    given_back(rental, DAY + HOUR / 2, DAY + HOUR, False)
    rows = [r for page in pages(org_ref=org, from_at=DAY, to_at=DAY + 9 * HOUR) for r in page]
    assert [(row.kind, row.cost_micro, row.tax_micro) for row in rows] == [
        ("usage", 4 * USD, 760_000),
        ("outage_credit", -2 * USD, -380_000),
    ]
    [total] = totals(org_ref=org, from_at=DAY, to_at=DAY + 9 * HOUR, by=CostKey.RENTAL)
    assert (total.usage_micro, total.credit_micro, total.tax_micro) == (4 * USD, -2 * USD, 380_000)


def test_where_tax_is_off_nobody_is_asked_where_he_is(at: Any, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "none"
    at(DAY)
    org = open_org()
    credit(org, 50 * USD)
    rental = rent(org)
    assert RentalMeter.objects.get(pk=rental).tax_point == "none"
    with transaction.atomic():
        door.set_tax_profile(org_ref=org, address=BERLIN, actor="owner")
    assert not TaxRate.objects.exists()


def test_who_pays_by_invoice_is_taxed_on_use_where_others_are_at_the_topup(
    at: Any, settings: Any
) -> None:
    settings.GPUYARD_TAX_POINT = "topup"
    at(DAY)
    prepaid, post_paid = open_org(), open_org()
    credit(prepaid, 50 * USD)
    limit(post_paid, 50 * USD)
    for org in (prepaid, post_paid):
        taxed(org, 190_000)
    points = [RentalMeter.objects.get(pk=rent(org)) for org in (prepaid, post_paid)]
    assert [(one.tax_point, one.tax_ppm) for one in points] == [("topup", 0), ("use", 190_000)]


def test_a_limit_is_refused_while_something_runs_that_taxed_credit_pays(
    at: Any, settings: Any
) -> None:
    settings.GPUYARD_TAX_POINT = "topup"
    at(DAY)
    org = open_org()
    credit(org, 50 * USD)
    taxed(org, 190_000)
    rental = rent(org)
    with pytest.raises(InvalidRequest, match="credit_limit"):
        limit(org, 10 * USD)
    end(rental)
    limit(org, 10 * USD)
    assert door.tax_profile(org_ref=org).point == TaxPoint.USE
