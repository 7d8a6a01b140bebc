"""R1 to R7 over books that agree with Stripe, and with one row corrupted on purpose: exactly that
one is named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from billing import facade
from billing.contracts.reconciliation import BreakView
from billing.facade import reconciliation, refunds
from billing.metering.mirror import collect
from billing.models import CreditNote, Dispute, Invoice, Refund, TopUp
from billing.stripe_gateway import client
from billing.stripe_gateway.client import call
from billing.stripe_gateway.reconcile import nightly, reconcile
from devstack.stripe.control import Control
from kernel.clock import hour_of, now
from kernel.errors import VendorError
from tests.area.billing.conftest import USD, corrupt, limit, open_org, rent, start, use, window
from tests.area.billing.stripe import (  # noqa: F401  (fixtures)
    receive,
    save_card,
    send,
    stripe_account,
    stripe_simulator,
    topup,
)

H100 = "nvidia-h100-80gb-sxm"
pytestmark = pytest.mark.django_db(transaction=True)


def set_clock(text: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [text])


def pass_hours(hours: int) -> None:
    """Our clock goes on; what happened at Stripe until now is then old enough to compare."""
    set_clock((now() + timedelta(hours=hours)).isoformat())


@dataclass
class World:
    stripe: Control
    org: UUID
    rental: UUID


@pytest.fixture
def world(stripe: Control, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A prepaid organization with two top-ups, a post-paid one with a paid invoice, use mirrored
    to a meter: every kind of thing that there is to compare."""
    monkeypatch.setattr(client, "_limiter", client.Limiter(10_000.0))
    org, later = open_org("Prepaid"), open_org("Post-paid")
    card = save_card(stripe, org)
    save_card(stripe, later)
    page = topup(org, 40 * USD)
    send()
    url = facade.topup(org_ref=org, topup_id=page).checkout_url
    assert url is not None
    stripe.pay_page(url)
    receive()
    topup(org, 25 * USD, method=card)
    limit(later, 100 * USD)
    hour = hour_of(now()) - timedelta(hours=2)
    rental = rent(org)
    start(rental, hour)
    use(window(rental, hour, 3600), window(rental, hour + timedelta(hours=1), 100))
    use(window(rent(later, price_micro_h=1_234_567), hour, 3599))
    with transaction.atomic():
        facade.close_period(org_ref=later, actor="test")
    collect()
    send()
    receive()
    _returns(org, save_card(stripe, org, "4000000000000259"))
    assert TopUp.objects.filter(state="succeeded").count() == 3
    assert Invoice.objects.get().state == "paid"
    pass_hours(26)  # pages say that they ended when they expired at the latest: a day later
    yield World(stripe, org, rental)
    set_clock("")


def _returns(org: UUID, contested: UUID) -> None:
    """Money that goes back in each way that there is: a refund, a credit note, a dispute."""
    invoice = Invoice.objects.get()
    with transaction.atomic():
        refunds.order_refund(
            org_ref=org, amount_micro=5 * USD, reason="asked", ordered_by="staff", by_renter=False
        )
        refunds.order_credit_note(
            invoice_id=invoice.id, amount_micro=USD, reason="Too slow", ordered_by="staff"
        )
    topup(org, 20 * USD, method=contested)
    send()
    receive()
    assert Refund.objects.get().state == CreditNote.objects.get().state == "succeeded"
    assert Dispute.objects.get().state == "needs_response"


def found() -> list[tuple[str, str]]:
    """What a full run finds: check and subject."""
    reconcile(full=True)
    return [(one.name, one.subject) for one in standing()]


def standing() -> list[BreakView]:
    return reconciliation.breaks(state="open")


def test_books_that_agree_have_no_break(world: World) -> None:
    assert found() == []
    assert reconciliation.reconciled().stripe_to is not None
    assert not reconciliation.payouts_blocked()


PAID = "SELECT id FROM billing_payment ORDER BY id LIMIT 1"
UNBALANCED = (
    "SELECT 'txn:' || txn_id FROM billing_posting GROUP BY txn_id HAVING sum(amount_micro) <> 0"
)
Corruption = tuple[str, str, str, str]  # table, statement, check, how to find the subject


def account(kind: str) -> str:
    return f"(SELECT max(id::text)::uuid FROM billing_account WHERE kind = '{kind}')"


def leg(kind: str) -> str:
    return (
        "(SELECT min(p.id) FROM billing_posting p JOIN billing_account a ON a.id = p.account_id"
        f" WHERE a.kind = '{kind}')"
    )


def shift(kind: str, micro: int) -> Corruption:
    """One leg on an account of that kind is other than it was posted."""
    change = f"UPDATE billing_posting SET amount_micro = amount_micro + {micro} WHERE id = "
    return "billing_posting", change + leg(kind), "transaction_balanced", UNBALANCED


def store(kind: str) -> Corruption:
    change = "UPDATE billing_account SET balance_micro = balance_micro + 5 WHERE id = "
    subject = f"SELECT 'account:' || {account(kind)}"
    return "billing_account", change + account(kind), "balance_stored", subject


def held(change: str, name: str) -> Corruption:
    running = "WHERE running_since IS NOT NULL"
    return (
        "billing_rentalmeter",
        f"UPDATE billing_rentalmeter SET {change} {running}",
        name,
        f"SELECT 'rental:' || rental_ref FROM billing_rentalmeter {running}",
    )


def there(table: str, change: str, kind: str, which: str = "true") -> Corruption:
    """A row that has its object at Stripe."""
    return (
        table,
        f"UPDATE {table} SET {change} WHERE {which}",
        "stripe_objects",
        f"SELECT '{kind}:' || stripe_id FROM billing_kept WHERE {which}",
    )


PAGE = "method_id IS NULL"
CORRUPTIONS = {
    "a posting on cash": shift("stripe_cash", -10_000),
    "a posting of a tenant": shift("tenant", 1),
    "a posting of a hold": shift("tenant_hold", 1),
    "a posting of a provider": shift("provider_pending", 7),
    "a posting of a receivable": shift("invoice_ar", -10_000),
    "a stored balance": store("tenant"),
    "a stored hold": store("tenant_hold"),
    "what a rental holds": held("held_micro = held_micro + 3600000000", "hold_covered"),
    "how long a hold lasts": held("paid_until = paid_until + interval '1 day'", "hold_lasts"),
    "what is receivable": (
        "billing_account",
        "UPDATE billing_account SET receivable_micro = 5 WHERE credit_limit_micro > 0",
        "receivable_stored",
        "SELECT 'account:' || id FROM billing_account WHERE credit_limit_micro > 0",
    ),
    "a payment's amount": there(
        "billing_payment", "amount_minor = amount_minor + 1", "payment_intent", f"id = ({PAID})"
    ),
    "a top-up's state": there("billing_topup", "state = 'failed'", "checkout.session", PAGE),
    "a top-up's amount": there("billing_topup", "amount_micro = 5000000", "checkout.session", PAGE),
    "an invoice's total": there("billing_invoice", "total_minor = total_minor + 1", "invoice"),
    "an invoice's state": there("billing_invoice", "state = 'void'", "invoice"),
    "a refund's amount": there("billing_refund", "amount_minor = 499", "refund"),
    "a refund's state": there("billing_refund", "state = 'failed'", "refund"),
    "a credit note's amount": there(
        "billing_creditnote", "amount_micro = amount_micro + 10000", "credit_note"
    ),
    "a credit note's state": there("billing_creditnote", "state = 'pending'", "credit_note"),
    "a dispute's state": there(
        "billing_dispute", "state = 'lost', closed_at = app_now()", "dispute"
    ),
    "a customer": there("billing_customer", "stripe_id = NULL", "customer", "name = 'Prepaid'"),
    "a meter event": (
        "billing_meterbatch",
        "UPDATE billing_meterbatch SET gpu_seconds = gpu_seconds + 1 WHERE id ="
        " (SELECT id FROM billing_meterbatch ORDER BY id LIMIT 1)",
        "meter_seconds",
        "SELECT 'batch:' || id FROM billing_meterbatch ORDER BY id LIMIT 1",
    ),
    "where a provider's share went": (
        "billing_posting",
        f"UPDATE billing_posting SET account_id = {account('revenue')}"
        f" WHERE id = {leg('provider_pending')}",
        "provider_shares",
        "SELECT 'provider:' || m.provider_ref FROM billing_usageline u"
        " JOIN billing_rentalmeter m USING (rental_ref) WHERE NOT EXISTS ("
        "   SELECT FROM billing_posting p JOIN billing_account a ON a.id = p.account_id"
        "    WHERE p.txn_id = u.txn_id AND a.kind = 'provider_pending')",
    ),
}


@pytest.fixture
def kept() -> Iterator[None]:
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS billing_kept")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE IF EXISTS billing_kept")


def test_one_corrupted_row_is_named_and_nothing_else(world: World, kept: None) -> None:
    """One after the other over the same books; each is mended before the next."""
    assert found() == []
    for what, (table, statement, name, subject) in CORRUPTIONS.items():
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE IF EXISTS billing_kept")
            cursor.execute(f"CREATE TABLE billing_kept AS TABLE {table}")
        corrupt(table, statement)
        with connection.cursor() as cursor:
            cursor.execute(subject)
            (wanted,) = cursor.fetchone()
        assert found() == [(name, wanted)], what
        _mend(table)
    assert found() == [], "all mended"


def _mend(table: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
            " AND NOT attisdropped AND attgenerated = ''",
            [table],
        )
        columns = [row[0] for row in cursor.fetchall()]
    pairs = ", ".join(f"{column} = k.{column}" for column in columns)
    key = "rental_ref" if table.endswith("meter") else columns[0]
    corrupt(table, f"UPDATE {table} t SET {pairs} FROM billing_kept k WHERE k.{key} = t.{key}")


def test_what_happened_at_stripe_alone_is_named(world: World) -> None:
    """Money that came there without us, and seconds that somebody else sent to a meter."""
    assert found() == []
    customer = world.stripe.objects("customer")[0]["id"]
    method = world.stripe.objects("payment_method")[0]["id"]
    set_clock("")
    params: Any = {
        "amount": 700,
        "currency": "usd",
        "customer": customer,
        "payment_method": method,
        "confirm": True,
        "off_session": True,
    }
    key: Any = {"idempotency_key": "by hand"}
    made = call(lambda one: one.v1.payment_intents.create(params, key))
    event: Any = {
        "event_name": world.stripe.objects("billing.meter")[0]["event_name"],
        "payload": {"stripe_customer_id": customer, "value": "7"},
    }
    again: Any = {"idempotency_key": "by hand too"}
    call(lambda one: one.v1.billing.meter_events.create(event, again))
    assert found() == [], "nothing younger than an hour is compared"
    pass_hours(26)
    assert sorted(found()) == [
        ("cash_movements", f"stripe:{made.id}"),
        ("meter_seconds", f"meter:{world.org}/{H100}"),
    ]


def test_a_night_finds_by_the_total_what_is_older_than_it_reads(world: World) -> None:
    """R5: an old transaction of ours that took cash, and that no window of a nightly run shows."""
    assert found() == []
    corrupt(
        "billing_posting",
        f"UPDATE billing_posting SET account_id = {account('stripe_cash')}"
        f" WHERE id = {leg('revenue')}",
    )
    pass_hours(24)
    reconcile()
    assert [(one.name, one.subject) for one in standing()] == [("cash_total", "cash")]
    ((name, subject),) = found()
    assert (name, subject[:4]) == ("cash_movements", "txn:"), "a full run names the row"
    reconcile()
    assert [one.subject for one in standing()] == [subject], "and a night looks at it again"


def test_a_break_keeps_its_age_and_holds_payouts_back_after_three_days(world: World) -> None:
    corrupt("billing_invoice", "UPDATE billing_invoice SET total_minor = total_minor + 1")
    reconcile()
    (first,) = standing()
    assert (first.expected, first.unit) == (str(int(first.found) - 1), "cents")
    pass_hours(71)
    reconcile()
    (again,) = standing()
    assert (again.id, again.first_seen_at) == (first.id, first.first_seen_at)
    assert again.last_seen_at > first.last_seen_at
    assert not reconciliation.payouts_blocked()
    pass_hours(2)
    assert reconciliation.payouts_blocked()
    with transaction.atomic():
        reconciliation.resolve_break(break_id=first.id, by="staff:1", note="looks fine to me")
    assert not reconciliation.payouts_blocked()
    reconcile()
    (opened,) = standing()
    assert (opened.id, opened.first_seen_at) == (first.id, first.first_seen_at)
    assert reconciliation.payouts_blocked(), "saying so does not make it go away"
    corrupt("billing_invoice", "UPDATE billing_invoice SET total_minor = total_minor - 1")
    reconcile()
    assert standing() == []
    assert not reconciliation.payouts_blocked()


def test_a_night_reads_of_stripe_only_what_is_new(world: World) -> None:
    assert found() == []
    pass_hours(24)
    before = len(world.stripe.requests())
    nightly()
    asked = [one["path"] for one in world.stripe.requests()[before:]]
    # Eight lists of objects, balance transactions old and new and to the bank, and the balance.
    assert len(asked) == 13, asked
    nightly()
    assert len(world.stripe.requests()) == before + len(asked), "once a night is enough"


def test_without_stripe_the_ledger_is_compared_all_the_same(world: World) -> None:
    corrupt(
        "billing_account",
        f"UPDATE billing_account SET receivable_micro = 5 WHERE id = {account('tenant')}",
    )
    world.stripe.down("cut")
    with pytest.raises(VendorError):
        reconcile()
    assert [one.name for one in standing()] == ["receivable_stored"]
    assert reconciliation.reconciled().stripe_to is None
    nightly()  # a loop does not fail for it
    world.stripe.down(None)
    nightly()
    assert reconciliation.reconciled().stripe_to is not None
