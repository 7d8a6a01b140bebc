"""The year counted again, from what was proven and from what is at Stripe, in exact arithmetic.

It shares no line with the product: seconds are whole numbers, prices fractions, and what the
product did is read from the auditors' views (docs/facts.md) and from the simulator's store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from math import ceil, floor
from typing import Any
from uuid import UUID

_DAY = timedelta(days=1)
_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)


def _seconds(moment: datetime) -> Fraction:
    """Since 1970, exactly."""
    return Fraction((moment - _EPOCH) // timedelta(microseconds=1), 10**6)


Rows = Callable[[str], list[tuple[Any, ...]]]
Lines = dict[UUID, list[tuple[Any, ...]]]
Objects = Callable[[str], list[dict[str, Any]]]


@dataclass(frozen=True)
class Lost:
    """A time in which a rental's host was lost. by_provider: it is its owner's fault."""

    begin: datetime
    end: datetime
    by_provider: bool


@dataclass
class Truth:
    """One rental as it was: its price, whose it is, and when its cards were proven ready."""

    org: UUID
    provider: UUID
    gpus: int
    price: int
    share: int
    proven: list[tuple[datetime, datetime]] = field(default_factory=list)
    lost: list[Lost] = field(default_factory=list)

    @property
    def seconds(self) -> int:
        """Whole seconds: from the first full one to the last."""
        return sum(
            max(0, (to - _EPOCH) // _SECOND + (_EPOCH - begin) // _SECOND)
            for begin, to in self.proven
        )

    @property
    def charge(self) -> int:
        return floor(Fraction(self.price * self.seconds, 3600))

    @property
    def earned(self) -> int:
        return floor(Fraction(self.share * self.seconds, 3600))

    @property
    def credit(self) -> int:
        """For lost hosts: the price of the time, at most of a day each."""
        return sum(self._credit_of(lost) for lost in self.lost)

    def borne(self, lines: list[tuple[Any, ...]]) -> int:
        """The owner's part of that: at most what the rental brought it in the day before, less
        what it bore in that day. ``lines``: begin, end and the owner's share of each charge."""
        given: list[tuple[datetime, int]] = []
        for lost in self.lost:
            since = lost.begin - _DAY
            able = -sum(micro for begin, micro in given if begin > since)
            for begin, end, _, share, *_ in lines:
                inside = min(end, _seconds(lost.begin)) - max(begin, _seconds(since))
                able += floor(share * inside / (end - begin)) if inside > 0 else 0
            part = min(self._credit_of(lost), max(able, 0)) if lost.by_provider else 0
            given.append((lost.begin, part))
        return sum(part for _, part in given)

    def _credit_of(self, lost: Lost) -> int:
        return floor(Fraction(self.price * int(min(lost.end - lost.begin, _DAY) / _SECOND), 3600))


@dataclass
class Found:
    """What the two counts say. error_micro: the sum of all differences in the ledger."""

    charges: int = 0
    error_micro: int = 0
    stripe_diff_minor: int = 0
    overrun_micro: int = 0
    credited_micro: int = 0
    borne_micro: int = 0
    refunds: int = 0
    paid_out_minor: int = 0
    problems: list[str] = field(default_factory=list)

    def ledger(self, what: str, expected: int, found: int) -> None:
        if expected != found:
            self.error_micro += abs(expected - found)
            self.problems.append(f"{what}: {expected} expected, {found} in the ledger")

    def stripe(self, what: str, there: int, here_micro: int) -> None:
        difference = abs(Fraction(here_micro, 10_000) - there)
        if difference:
            self.stripe_diff_minor += ceil(difference)
            self.problems.append(f"{what}: {there} cents at Stripe, {here_micro} micro-units here")


def recount(truths: dict[UUID, Truth], rows: Rows, objects: Objects, rich: set[UUID]) -> Found:
    """Compare. ``rich``: organizations that always had the money for what they used."""
    found = Found()
    lines = _usage(found, truths, rows)
    _accounts(found, truths, lines, rows, objects, rich)
    _stripe(found, rows, objects)
    _meters(found, truths, objects)
    return found


def _usage(found: Found, truths: dict[UUID, Truth], rows: Rows) -> Lines:
    """Each rental: its charge, its provider's share, its seconds; its lines."""
    lines: Lines = defaultdict(list)
    for row in rows(
        "SELECT rental_id, extract(epoch FROM from_ts)::bigint, extract(epoch FROM to_ts)::bigint,"
        " amount_micro, provider_micro, fee_micro FROM facts.usage ORDER BY rental_id, from_ts"
    ):
        lines[row[0]].append(row[1:])
        found.charges += 1
    for ref in lines.keys() - truths.keys():
        found.ledger(f"rental {ref}, which nobody rented", 0, sum(row[2] for row in lines[ref]))
    for ref, truth in truths.items():
        mine = lines.get(ref, [])
        found.ledger(f"charge of {ref}", truth.charge, sum(row[2] for row in mine))
        found.ledger(f"share of {ref}", truth.earned, sum(row[3] for row in mine))
        found.ledger(f"seconds of {ref}", truth.seconds, sum(row[1] - row[0] for row in mine))
        fees = sum(row[4] for row in mine)
        found.ledger(f"fee of {ref}", truth.charge - truth.earned, fees)
        for one, other in pairwise(mine):
            if other[0] < one[1]:
                found.ledger(f"{ref} is charged twice", 0, other[2])
        if any(row[0] // 3600 != (row[1] - 1) // 3600 for row in mine):
            found.ledger(f"{ref} has a line over two hours", 0, 1)
    return lines


def _accounts(
    found: Found,
    truths: dict[UUID, Truth],
    lines: Lines,
    rows: Rows,
    objects: Objects,
    rich: set[UUID],
) -> None:
    """Every account against what it must hold: money that came, less what was used and went."""
    unpaid: dict[UUID, int] = dict(
        rows("SELECT org_ref, sum(overrun_micro)::bigint FROM billing_rentalmeter GROUP BY 1")
    )
    sums: dict[tuple[str, UUID | None], int] = {
        (kind, owner): int(micro)
        for kind, owner, micro in rows(
            "SELECT a.kind, a.owner_ref, sum(p.amount_micro) FROM billing_account a"
            " JOIN billing_posting p ON p.account_id = a.id GROUP BY 1, 2"
        )
    }
    customers = {one["id"]: UUID(one["metadata"]["gpuyard_org"]) for one in objects("customer")}
    came: dict[UUID, int] = defaultdict(int)
    payers: dict[str, UUID] = {}
    for one in objects("payment_intent"):
        payers[one["id"]] = customers[one["customer"]]
        if one["status"] == "succeeded":
            came[payers[one["id"]]] += one["amount_received"]
    for one in objects("refund"):
        came[payers[one["payment_intent"]]] -= one["amount"]
        found.refunds += 1
    charged: dict[UUID, int] = defaultdict(int)
    earned: dict[UUID, int] = defaultdict(int)
    for ref, truth in truths.items():
        borne = truth.borne(lines.get(ref, []))
        charged[truth.org] += truth.charge - truth.credit
        earned[truth.provider] += truth.earned - borne
        found.credited_micro += truth.credit
        found.borne_micro += borne
    for org in set(customers.values()):
        has = sum(sums.get((kind, org), 0) for kind in ("tenant", "tenant_hold", "invoice_ar"))
        overrun = unpaid.get(org, 0)
        found.ledger(f"money of {org}", came[org] * 10_000 - charged[org] + overrun, has)
        if org in rich:
            found.ledger(f"what {org} could not pay", 0, overrun)
        found.overrun_micro += overrun
    sent = _sent(objects)
    for provider, micro in earned.items():
        kinds = ("provider_pending", "provider_due")
        has = sum(sums.get((kind, provider), 0) for kind in kinds)
        found.ledger(f"shares of {provider}", micro - sent[provider] * 10_000, has)
    found.paid_out_minor = sum(sent.values())
    found.ledger("payouts under way", 0, sums.get(("provider_clearing", None), 0))
    cost = found.overrun_micro + found.credited_micro - found.borne_micro
    revenue = sum(truth.charge - truth.earned for truth in truths.values())
    found.ledger("revenue", revenue, sums.get(("revenue", None), 0))
    found.ledger("platform cost", -cost, sums.get(("platform_cost", None), 0))
    found.ledger("all postings", 0, sum(sums.values()))


def _sent(objects: Objects) -> dict[UUID, int]:
    """Cents that providers were sent, by provider, less what was taken back."""
    theirs = {
        one["id"]: one["metadata"].get("gpuyard_provider") for one in objects("v2.core.account")
    }
    sent: dict[UUID, int] = defaultdict(int)
    for one in objects("transfer"):
        sent[UUID(theirs[one["destination"]])] += one["amount"] - one["amount_reversed"]
    return sent


def _stripe(found: Found, rows: Rows, objects: Objects) -> None:
    """Cash and fees, every payment and every invoice, to the cent."""
    moved = objects("balance_transaction")
    ((cash, fees),) = rows(
        "SELECT coalesce(-sum(amount_micro) FILTER (WHERE kind = 'stripe_cash'), 0)::bigint,"
        " coalesce(-sum(amount_micro) FILTER (WHERE kind = 'stripe_fees'), 0)::bigint"
        " FROM billing_posting p JOIN billing_account a ON a.id = p.account_id"
    )
    found.stripe("cash", sum(one["net"] for one in moved), cash)
    found.stripe("fees", sum(one["fee"] for one in moved), fees)
    here = {
        key: (amount, state)
        for key, amount, state in rows("SELECT stripe_id, amount_minor, state FROM facts.payment")
    }
    for one in objects("payment_intent"):
        if one["status"] == "succeeded":
            amount, state = here.pop(one["id"], (0, "absent"))
            found.stripe(
                f"{one['id']} ({state})",
                one["amount_received"],
                amount * 10_000 if state == "succeeded" else 0,
            )
    for key, (amount, state) in here.items():
        found.stripe(f"{key}, not paid there", 0, amount * 10_000 if state == "succeeded" else 0)
    invoices: dict[str, int] = dict(
        rows("SELECT stripe_id, total_minor FROM billing_invoice WHERE state IN ('open', 'paid')")
    )
    for one in objects("invoice"):
        if one["status"] in ("open", "paid"):
            there, mine = one["total"], invoices.pop(one["id"], 0)
            found.stripe(f"invoice {one['id']}", there, mine * 10_000)
    for key, total in invoices.items():
        found.stripe(f"invoice {key}, not there", 0, total * 10_000)


def _meters(found: Found, truths: dict[UUID, Truth], objects: Objects) -> None:
    """The seconds that Stripe's meters count, all in all, are the seconds of all cards."""
    there = sum(int(one["event"]["payload"]["value"]) for one in objects("billing.meter_event"))
    found.ledger(
        "GPU-seconds at Stripe", sum(one.seconds * one.gpus for one in truths.values()), there
    )
