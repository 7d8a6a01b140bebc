"""Meters of disks: rated and paid like cards, on lines of their own, and never stopped."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection, transaction

from billing import facade
from billing.contracts.meters import MeterKind
from billing.metering import mirror
from billing.metering.usage import OVERRUN
from billing.models import MeterBatch, Transaction
from kernel.ids import new_id
from tests.area.billing.conftest import DAY, USD, credit, limit, open_org, rent, start, use, window

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
LABEL = "Volume at 0.1000 USD per GiB-month"


def disk(org, gib=500, **changes):
    price = gib * 100_000 // 730
    terms = {"gpus": gib, "price_micro_h": price, "provider_micro_h": price * 85 // 100}
    return rent(
        org,
        **(terms | {"accelerator": LABEL, "description": "data, 500 GiB"} | changes),
        kind=MeterKind.DISK,
    )


def rows(statement):
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return cursor.fetchall()


def test_a_disk_is_a_line_of_its_own_in_ledger_facts_and_statement(at):
    org = open_org()
    credit(org, 20 * USD)
    card, data = rent(org), disk(org)
    start(card, DAY)
    start(data, DAY)
    at(DAY + HOUR)
    assert use(window(card, DAY, 3600), window(data, DAY, 3600)) == 2
    price = 500 * 100_000 // 730
    kinds = Transaction.objects.filter(kind__in=["usage", "disk_usage"])
    assert sorted(kinds.values_list("kind", "cause_type")) == [
        ("disk_usage", "disk_usage"),
        ("usage", "usage"),
    ]
    assert rows("SELECT rental_id, amount_micro FROM facts.usage") == [(card, 4 * USD)]
    assert rows(
        "SELECT rental_id, disk_gib, amount_micro, provider_micro + fee_micro FROM facts.disk_usage"
    ) == [(data, 500, price, price)]
    amounts = {row.kind: row for row in facade.transactions(org_ref=org, limit=10)}
    assert amounts["disk_usage"].amount_micro == -price
    assert amounts["disk_usage"].text.startswith("data, 500 GiB: 3600 s")
    assert facade.balance(org_ref=org).burn_micro_h == 4 * USD + price
    assert facade.books().balanced


def test_what_nobody_pays_for_a_disk_is_ours_and_stops_or_alarms_nothing(at):
    org, owner = open_org(), new_id()
    credit(org, 5 * USD)
    data = disk(org, price_micro_h=4 * USD, provider_micro_h=3 * USD, provider_ref=owner)
    start(data, DAY)
    at(DAY + 3 * HOUR)
    alarmed = OVERRUN._value.get()
    use(*(window(data, DAY + number * HOUR, 3600) for number in range(3)))
    assert OVERRUN._value.get() == alarmed
    view = facade.balance(org_ref=org)
    assert (view.available_micro, view.held_micro) == (0, 0)
    assert facade.spent(rental_refs=[data]) == {data: 5 * USD}
    assert facade.earnings(provider_ref=owner).pending_micro == 9 * USD
    (cost,) = rows(
        "SELECT sum(e.amount_micro) FROM facts.entry e JOIN facts.account a USING (account_id)"
        " WHERE a.kind = 'platform_cost'"
    )[0]
    assert cost == -7 * USD
    assert facade.exhausted(limit=10) == []
    assert facade.running_out(within=timedelta(hours=72), limit=10) == {}

    credit(org, 5 * USD)  # what comes later pays what comes later
    at(DAY + 4 * HOUR)
    use(window(data, DAY + 3 * HOUR, 3600))
    assert facade.spent(rental_refs=[data]) == {data: 9 * USD}
    assert facade.books().balanced


def test_a_disk_that_runs_shortens_how_long_the_money_of_rentals_lasts(at):
    org = open_org()
    credit(org, 20 * USD)
    card, data = rent(org), disk(org, price_micro_h=USD, provider_micro_h=0)
    at(DAY)
    start(card, DAY)
    assert facade.lasting(rental_refs=[card])[org].ends_at == DAY + timedelta(hours=4, minutes=45)
    start(data, DAY)
    assert facade.lasting(rental_refs=[card])[org].ends_at == DAY + 4 * HOUR


def test_the_mirror_at_stripe_knows_cards_only(at):
    org = open_org()
    credit(org, 20 * USD)
    card, data = rent(org), disk(org)
    at(DAY + HOUR)
    use(window(card, DAY, 3600), window(data, DAY, 3600))
    assert mirror.collect() == 1
    assert MeterBatch.objects.get().gpu_seconds == 2 * 3600
    assert mirror.collect() == 0


def test_an_invoice_names_disks_by_the_price_of_a_gib_whatever_their_sizes(at):
    org = open_org()
    limit(org, 100 * USD)
    card, data, more = rent(org), disk(org), disk(org, gib=7)
    at(DAY + HOUR)
    use(*(window(meter, DAY, 3600) for meter in (card, data, more)))
    with transaction.atomic():
        invoice = facade.close_period(org_ref=org, actor="test")
    disks, cards = invoice.lines
    assert disks.text == f"{LABEL}: 507.000000 GiB-hours"
    assert disks.amount_micro == 500 * 100_000 // 730 + 7 * 100_000 // 730
    assert cards.text.endswith("2.000000 GPU-hours at 2.0000 USD")
    assert invoice.total_minor == (4 * USD + disks.amount_micro) // 10_000
