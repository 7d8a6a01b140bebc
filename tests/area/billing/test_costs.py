"""What use cost, read from the ledger: it adds up to it, row by row and in groups."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction

from billing import facade
from billing.contracts.meters import MeterKind
from billing.contracts.usage import CostCategory, CostKey
from billing.facade import usage
from billing.ledger import costs
from billing.models import Account, Posting, TransactionKind
from billing.models.account import STORED
from tests.area.billing.conftest import (
    DAY,
    USD,
    credit,
    end,
    open_org,
    rent,
    start,
    stop,
    use,
    window,
)

pytestmark = pytest.mark.django_db
HOUR = timedelta(hours=1)
LATER = DAY + timedelta(days=2)


def rows(org, begins=DAY, ends=LATER):
    pages = usage.cost_pages(org_ref=org, from_at=begins, to_at=ends)
    return [row for page in pages for row in page]


def had(org) -> int:
    """What the organization paid in, less what it has: what everything cost, by the ledger."""
    own = Account.objects.filter(owner_ref=org, kind__in=STORED).values("id")
    legs = Posting.objects.filter(account__in=own)
    paid = sum(leg.amount_micro for leg in legs.filter(txn__kind=TransactionKind.TOPUP))
    return paid - sum(leg.amount_micro for leg in legs)


@pytest.fixture
def used(at):
    """Two rentals with three hours of use, one of which nobody could pay, and an outage credit."""
    at(DAY)
    org = open_org()
    credit(org, 10 * USD)
    other = open_org("Other")
    credit(other, 50 * USD)
    first = rent(org)
    second = rent(org, gpus=1, price_micro_h=1_000_001, accelerator="nvidia-rtx-4090")
    foreign = rent(other)
    for rental in (first, second, foreign):
        start(rental, DAY)
    at(DAY + 3 * HOUR)
    use(*(window(first, DAY + n * HOUR, 3600) for n in range(3)), window(second, DAY, 1234))
    use(window(foreign, DAY, 60))
    with transaction.atomic():
        given = facade.credit(
            rental_ref=first, from_at=DAY + HOUR, to_at=DAY + 2 * HOUR, by_provider=False
        )
    assert given
    for rental in (first, second):
        stop(rental)
        end(rental)
    return org, first, second


def test_rows_add_up_to_what_the_ledger_took(used):
    org, first, second = used
    found = rows(org)
    assert sum(row.cost_micro + row.tax_micro for row in found) == had(org)
    by_kind = {row.kind for row in found}
    assert by_kind == {"usage", "outage_credit"}
    assert [row.seq for row in found if row.rental_ref == first and row.seq] == [1, 2, 3]
    given = next(row for row in found if row.category is CostCategory.CREDIT)
    assert given.cost_micro < 0
    assert given.rental_ref == first
    assert given.accelerator == "nvidia-h100-80gb-sxm"
    spent = facade.spent(rental_refs=[first, second])
    for rental in (first, second):
        assert sum(row.cost_micro for row in found if row.rental_ref == rental) == spent[rental]


def test_what_nobody_could_pay_is_listed_at_its_price_and_costs_nothing(used):
    org, *_ = used
    unpaid = [row for row in rows(org) if row.cost_micro != row.list_micro]
    assert unpaid, "the third hour outran the money"
    assert all(0 <= row.cost_micro < row.list_micro for row in unpaid)


@pytest.mark.parametrize("by", list(CostKey))
def test_groups_add_up_to_the_rows(used, by):
    org, *_ = used
    found = rows(org)
    sums = usage.cost_totals(org_ref=org, from_at=DAY, to_at=LATER, by=by)
    assert sum(one.usage_micro + one.credit_micro for one in sums) == had(org)
    assert sum(one.gpu_seconds for one in sums) == sum(
        row.seconds * row.gpus for row in found if row.seconds
    )
    assert len(sums) == {CostKey.RENTAL: 2, CostKey.ACCELERATOR: 2, CostKey.DAY: 1}[by]


def test_windows_meet_without_gap_or_overlap(used):
    org, *_ = used
    middle = DAY + HOUR
    assert len(rows(org, DAY, middle)) + len(rows(org, middle, LATER)) == len(rows(org))


def test_pages_of_any_size_give_the_same_rows_in_the_same_order(used, monkeypatch):
    org, *_ = used
    whole = rows(org)
    monkeypatch.setattr(costs, "PAGE", 1)
    assert rows(org) == whole


def test_a_page_is_one_query(used, django_assert_num_queries):
    org, *_ = used
    with django_assert_num_queries(2 + 4):  # accounts; a page of each kind and the end of each
        rows(org)


def test_a_disk_is_use_without_a_rental(used, at):
    org, *_ = used
    credit(org, 10 * USD)
    disk = rent(org, kind=MeterKind.DISK, gpus=100, price_micro_h=20_000, accelerator="disk")
    start(disk, DAY)
    use(window(disk, DAY, 3600))
    (row,) = [row for row in rows(org) if row.kind == "disk_usage"]
    assert (row.rental_ref, row.meter_ref, row.gpus) == (None, disk, 100)
    assert (row.category, row.cost_micro) == (CostCategory.USAGE, 20_000)
    sums = usage.cost_totals(org_ref=org, from_at=DAY, to_at=LATER, by=CostKey.RENTAL)
    (rest,) = [one for one in sums if one.key is None]
    assert (rest.usage_micro, rest.gpu_seconds) == (20_000, 0)


def test_every_kind_of_transaction_is_a_cost_or_none():
    assert set(costs.CATEGORIES) == set(TransactionKind)
