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

_EPOCH, _SECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(seconds=1)
Rows = Callable[[str], list[tuple[Any, ...]]]
Objects = Callable[[str], list[dict[str, Any]]]


@dataclass
class Truth:
    """One rental as it was: its price, whose it is, and when its cards were proven ready."""

    org: UUID
    provider: UUID
    gpus: int
    price: int
    share: int
    proven: list[tuple[datetime, datetime]] = field(default_factory=list)

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


@dataclass
class Found:
    """What the two counts say. error_micro: the sum of all differences in the ledger."""

    charges: int = 0
    error_micro: int = 0
    stripe_diff_minor: int = 0
    overrun_micro: int = 0
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
    used = _usage(found, truths, rows)
    _accounts(found, truths, rows, objects, used, rich)
    _stripe(found, rows, objects)
    _meters(found, truths, objects)
    return found


def _usage(found: Found, truths: dict[UUID, Truth], rows: Rows) -> dict[UUID, int]:
    """Each rental: its charge, its provider's share, its seconds. What nobody could pay, by org."""
    lines: dict[UUID, list[tuple[Any, ...]]] = defaultdict(list)
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
    return dict(
        rows("SELECT org_ref, sum(overrun_micro)::bigint FROM billing_rentalmeter GROUP BY 1")
    )


def _accounts(
    found: Found,
    truths: dict[UUID, Truth],
    rows: Rows,
    objects: Objects,
    used: dict[UUID, int],
    rich: set[UUID],
) -> None:
    """Every account against what it must hold: money that came, less what was used."""
    sums: dict[tuple[str, UUID | None], int] = {
        (kind, owner): int(micro)
        for kind, owner, micro in rows(
            "SELECT a.kind, a.owner_ref, sum(p.amount_micro) FROM billing_account a"
            " JOIN billing_posting p ON p.account_id = a.id GROUP BY 1, 2"
        )
    }
    customers = {one["id"]: UUID(one["metadata"]["gpuyard_org"]) for one in objects("customer")}
    came: dict[UUID, int] = defaultdict(int)
    for one in objects("payment_intent"):
        if one["status"] == "succeeded":
            came[customers[one["customer"]]] += one["amount_received"]
    charged: dict[UUID, int] = defaultdict(int)
    earned: dict[UUID, int] = defaultdict(int)
    for truth in truths.values():
        charged[truth.org] += truth.charge
        earned[truth.provider] += truth.earned
    for org in set(customers.values()):
        has = sum(sums.get((kind, org), 0) for kind in ("tenant", "tenant_hold", "invoice_ar"))
        overrun = used.get(org, 0)
        found.ledger(f"money of {org}", came[org] * 10_000 - charged[org] + overrun, has)
        if org in rich:
            found.ledger(f"what {org} could not pay", 0, overrun)
        found.overrun_micro += overrun
    for provider, micro in earned.items():
        kinds = ("provider_pending", "provider_due")
        found.ledger(f"shares of {provider}", micro, sum(sums.get((k, provider), 0) for k in kinds))
    overrun = sum(used.values())
    revenue = sum(charged.values()) - sum(earned.values())
    found.ledger("revenue", revenue, sums.get(("revenue", None), 0))
    found.ledger("platform cost", -overrun, sums.get(("platform_cost", None), 0))
    found.ledger("all postings", 0, sum(sums.values()))


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
