"""Close a period: every charge not yet invoiced becomes an invoice, fixed to the second.

Amounts are the ledger's. Lines are whole cents that add up to the whole cents of the sum; the part
of a cent that is left stays in the tenant account and goes on the next invoice.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from fractions import Fraction
from itertools import groupby
from typing import NamedTuple
from uuid import UUID

from django.db import connection
from django.db.models import F

from billing.contracts import InvoiceView
from billing.contracts.meters import MeterKind
from billing.contracts.tax import TaxPoint
from billing.invoicing.given_back import GivenBack, given_back
from billing.invoicing.reads import view
from billing.ledger.accounts import lock_purse
from billing.models import (
    CallKind,
    Invoice,
    InvoiceCredit,
    InvoiceLine,
    InvoiceSpan,
    RentalMeter,
)
from billing.payments.intents import intend
from billing.payments.tax import invoiced_as
from billing.payments.tenants import find_customer
from billing.rating.rounding import hours_text, split_minor
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.money import CURRENCY, MICRO_PER_MINOR, format_micro

# Stripe takes no charge below 50 cents in USD; a smaller sum waits for the next period.
SMALLEST_MINOR = 50


class _Use(NamedTuple):
    """Use of one meter that is on no invoice yet: its lines first..last."""

    rental_ref: UUID
    kind: str
    accelerator: str
    gpus: int
    price_micro_h: int
    first: int
    last: int
    seconds: int
    amount_micro: int
    tax_ppm: int
    tax_micro: int
    from_at: datetime

    @property
    def group(self) -> tuple[str, str, Fraction, int]:
        """Card type, price of one GPU for an hour and tax rate: what makes a line. What a disk
        costs is said by the GiB and month, of which its hourly prices are roundings."""
        if self.kind == MeterKind.DISK:
            return self.kind, self.accelerator, Fraction(0), self.tax_ppm
        return self.kind, self.accelerator, Fraction(self.price_micro_h, self.gpus), self.tax_ppm


@dataclass(frozen=True)
class _Line:
    kind: str
    accelerator: str
    unit: Fraction
    tax_ppm: int
    uses: tuple[_Use, ...]

    @property
    def gpu_seconds(self) -> int:
        return sum(use.seconds * use.gpus for use in self.uses)

    @property
    def amount_micro(self) -> int:
        return sum(use.amount_micro for use in self.uses)

    @property
    def tax_micro(self) -> int:
        return sum(use.tax_micro for use in self.uses)

    @property
    def text(self) -> str:
        if self.kind == MeterKind.DISK:
            return f"{self.accelerator}: {hours_text(self.gpu_seconds)} GiB-hours"
        about = "" if self.unit.denominator == 1 else "about "
        price = f"{about}{format_micro(round(self.unit))} {CURRENCY}"
        return f"{self.accelerator}: {hours_text(self.gpu_seconds)} GPU-hours at {price}"


def close_period(*, org_ref: UUID, actor: str, up_to: datetime | None = None) -> InvoiceView:
    """Invoice what was charged until ``up_to`` (default: now) and is on no invoice yet.

    Refusal("invalid_transition") when that is less than Stripe's smallest charge or when the
    organization pays in advance; nothing is stored then. Two closes at once give one invoice.
    """
    present = now()
    if up_to is not None and up_to > present:
        raise InvalidRequest({"up_to": ["not in the future"]})
    customer = find_customer(org_ref)
    meters = list(
        RentalMeter.objects.select_for_update()
        .filter(org_ref=org_ref, invoiced_seq__lt=F("next_seq") - 1)
        .order_by("rental_ref")
    )
    since = customer.postpaid_since
    if not lock_purse(org_ref).credit_limit_micro or since is None:
        raise _nothing("The organization has no credit limit: it pays in advance.")
    lines = _lines(_uses(meters, up_to or present))
    credits = given_back(org_ref, since, up_to or present)
    last = Invoice.objects.filter(org_ref=org_ref).order_by("-id").first()
    carried = last.carried_micro if last else 0
    tax = sum(line.tax_micro for line in lines) - sum(one.tax_micro for one in credits)
    net = sum(line.amount_micro for line in lines) - sum(one.net_micro for one in credits)
    exact = carried + net + tax
    if exact // MICRO_PER_MINOR < SMALLEST_MINOR:
        raise _nothing("Less than 0.50 USD is open; it waits for the next period.")
    firsts = (use.from_at for line in lines for use in line.uses)
    begins = last.period_to if last else min(firsts, default=since)
    profile, reason = invoiced_as(org_ref)
    invoice = Invoice.objects.create(
        org_ref=org_ref,
        currency=CURRENCY,
        period_from=begins,
        period_to=up_to or present,
        total_minor=exact // MICRO_PER_MINOR,
        tax_micro=tax,
        tax_profile=profile,
        tax_reason=reason if any(use.tax_point == TaxPoint.USE for use in meters) else "",
        carried_in_micro=carried,
        carried_micro=exact % MICRO_PER_MINOR,
        actor=actor[:100],
    )
    _store_lines(invoice, lines, credits)
    _mark(meters, lines)
    key = f"inv:{invoice.id}:create"
    intend(CallKind.INVOICE_CREATE, key=key, subject=invoice.id, org_ref=org_ref)
    invoice.refresh_from_db(fields=["created_at"])
    return view(invoice)


def _uses(meters: Sequence[RentalMeter], up_to: datetime) -> list[_Use]:
    """One row per rental with charges in the period; what the platform bore is left out.

    A rental's lines are taken in the order of their numbers up to the first that ends later, so
    that an invoice always covers one span of them.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT m.rental_ref, m.kind, m.accelerator, m.gpus, m.price_micro_h,
                   min(u.seq), max(u.seq), sum(u.seconds)::bigint,
                   sum(u.amount_micro - u.overrun_micro)::bigint,
                   m.tax_ppm, sum(u.tax_micro)::bigint,
                   min(u.from_at)
              FROM billing_rentalmeter m
              JOIN billing_usageline u ON u.rental_ref = m.rental_ref AND u.seq > m.invoiced_seq
             WHERE m.rental_ref = ANY(%s)
               AND u.seq < coalesce((
                     SELECT min(x.seq) FROM billing_usageline x
                      WHERE x.rental_ref = m.rental_ref AND x.seq > m.invoiced_seq
                        AND x.to_at > %s), m.next_seq)
             GROUP BY m.rental_ref
            """,
            [[meter.rental_ref for meter in meters], up_to],
        )
        return [_Use(*row) for row in cursor.fetchall()]


def _lines(uses: Iterable[_Use]) -> list[_Line]:
    ordered = sorted(uses, key=lambda use: (use.group, use.rental_ref))
    return [
        _Line(kind, accelerator, unit, tax_ppm, tuple(group))
        for (kind, accelerator, unit, tax_ppm), group in groupby(ordered, key=lambda use: use.group)
    ]


def _store_lines(invoice: Invoice, lines: Sequence[_Line], credits: Sequence[GivenBack]) -> None:
    """Net and tax of each line in whole cents, such that all of them add up to the total's."""
    given = [(-one.net_micro, -one.tax_micro) for one in credits]
    parts = [*((line.amount_micro, line.tax_micro) for line in lines), *given]
    exact = [amount for pair in parts for amount in pair]
    cents = split_minor(invoice.carried_in_micro, exact, MICRO_PER_MINOR)
    pairs = list(zip(cents[::2], cents[1::2], strict=True))
    rows = [
        InvoiceLine(
            invoice=invoice,
            position=position,
            accelerator=line.accelerator,
            text=line.text[:300],
            gpu_seconds=line.gpu_seconds,
            quantity=hours_text(line.gpu_seconds),
            amount_micro=line.amount_micro,
            amount_minor=net,
            tax_ppm=line.tax_ppm,
            tax_micro=line.tax_micro,
            tax_minor=tax,
        )
        for position, (line, (net, tax)) in enumerate(zip(lines, pairs, strict=False), start=1)
    ]
    InvoiceLine.objects.bulk_create(rows)
    for position, one in enumerate(credits, start=len(rows)):
        _store_credits(invoice, one, position=position + 1, cents=pairs[position])
    InvoiceSpan.objects.bulk_create(
        InvoiceSpan(line=row, meter_id=use.rental_ref, first_seq=use.first, last_seq=use.last)
        for row, line in zip(rows, lines, strict=True)
        for use in line.uses
    )


def _store_credits(
    invoice: Invoice, credits: GivenBack, *, position: int, cents: tuple[int, int]
) -> None:
    line = InvoiceLine.objects.create(
        invoice=invoice,
        position=position,
        text="Credits for interruptions and corrections",
        gpu_seconds=0,
        quantity=hours_text(0),
        amount_micro=-credits.net_micro,
        amount_minor=cents[0],
        tax_ppm=credits.tax_ppm,
        tax_micro=-credits.tax_micro,
        tax_minor=cents[1],
    )
    InvoiceCredit.objects.bulk_create(
        InvoiceCredit(txn_id=txn, line=line, amount_micro=amount)
        for txn, amount in credits.amounts.items()
    )


def _mark(meters: Sequence[RentalMeter], lines: Sequence[_Line]) -> None:
    upto = {use.rental_ref: use.last for line in lines for use in line.uses}
    covered = [meter for meter in meters if meter.rental_ref in upto]
    for meter in covered:
        meter.invoiced_seq = upto[meter.rental_ref]
    RentalMeter.objects.bulk_update(covered, ["invoiced_seq"], batch_size=1000)


def _nothing(why: str) -> Refusal:
    return Refusal("invalid_transition", why, state="nothing_to_invoice", actions=[])
