"""Nightly reconciliation as it crosses the door: checks, differences, breaks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from uuid import UUID

MICRO: Final = "micro"  # millionths of a US dollar


@dataclass(frozen=True)
class Check:
    """One named check of a rule. text: what must hold, a sentence for people."""

    rule: str
    text: str


CHECKS: Final[dict[str, Check]] = {
    "transaction_balanced": Check("R1", "Every transaction sums to zero"),
    "balance_stored": Check("R1", "Stored balances are the sums of their postings"),
    "balance_floor": Check("R1", "No balance is under its floor"),
    "hold_covered": Check("R1", "Holds are what rentals hold"),
    "hold_lasts": Check("R1", "A running rental is paid for as long as its hold pays"),
    "receivable_stored": Check("R1", "Receivables are the invoices that are not paid"),
    "usage_proven": Check("R2", "Charged are the proven seconds, at the price agreed"),
    "cash_movements": Check("R3", "Each movement at Stripe is booked, each booking is there"),
    "stripe_objects": Check("R4", "Objects at Stripe end as they end here, with the same amount"),
    "cash_total": Check("R5", "Cash is what Stripe says that we have"),
    "meter_seconds": Check("R6", "Stripe's meters count the seconds that were charged"),
    "payout_booked": Check("R7", "Each payout is booked as its state says, for who gets it"),
    "provider_shares": Check("R7", "Shares less what was taken back are pending, due or paid"),
}


@dataclass(frozen=True)
class Difference:
    """One thing that differs. ``name``: of its check; ``subject``: always the same for the same.

    amount: found less expected, in ``unit``. about: names of what it is connected with; a total
    that is wrong by exactly what an earlier difference about the same says is not told again.
    """

    name: str
    subject: str
    expected: str
    found: str
    text: str
    amount: int | None = None
    unit: str = MICRO
    about: frozenset[str] = frozenset()


@dataclass(frozen=True)
class BreakView:
    """A difference with its age, and who looks after it. owner, note, resolved_by: "" for none."""

    id: UUID
    rule: str
    name: str
    subject: str
    expected: str
    found: str
    text: str
    amount: int | None
    unit: str
    owner: str
    note: str
    first_seen_at: datetime
    last_seen_at: datetime
    resolved_at: datetime | None
    resolved_by: str

    @property
    def state(self) -> str:
        return "open" if self.resolved_at is None else "resolved"


@dataclass(frozen=True)
class UsedView:
    """What was charged for a rental in [begins, until).

    windows: as [from, to) of whole seconds, merged, in order. wrong: what of it is not as the
    price says, "" when all is.
    """

    rental_ref: UUID
    provider_ref: UUID
    begins: datetime
    windows: tuple[tuple[datetime, datetime], ...]
    wrong: str


@dataclass(frozen=True)
class CoverageView:
    """R8: what we have at Stripe against all that is owed. A figure to watch, not a break."""

    cash_micro: int
    tenants_micro: int
    providers_micro: int
    tax_micro: int

    @property
    def short_micro(self) -> int:
        """What would be missing if everybody wanted theirs now; 0 when nothing."""
        owed = self.tenants_micro + self.providers_micro + self.tax_micro
        return max(0, owed - self.cash_micro)


@dataclass(frozen=True)
class ReconciledView:
    """When both sides were last compared, and up to which moment; None: never."""

    books_to: datetime | None
    usage_to: datetime | None
    stripe_to: datetime | None


@dataclass(frozen=True)
class LegView:
    """One posting. owner: the organization or provider, None for the platform's accounts. number
    and name: of the account in the chart of accounts."""

    account: str
    number: str
    name: str
    owner: UUID | None
    amount_micro: int


@dataclass(frozen=True)
class TracedView:
    """A transaction down to its cause and Stripe's object; ``stripe_id`` "" where there is none."""

    id: UUID
    kind: str
    at: datetime
    cause_type: str
    cause_id: UUID
    linked: UUID | None
    legs: tuple[LegView, ...]
    stripe_id: str
