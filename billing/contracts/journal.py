"""The journal: months of the ledger as an accountant reads them. Micro-units of USD."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class TrialLine:
    """One account in a month. balance_micro: debit less credit, positive on the debit side."""

    code: str
    name: str
    debit_micro: int
    credit_micro: int

    @property
    def balance_micro(self) -> int:
        return self.debit_micro - self.credit_micro


@dataclass(frozen=True)
class MonthView:
    """state: open; closing, once it was locked and until its digest is known; locked."""

    month: date  # its first day
    state: str
    transactions: int | None  # None in lists
    lines: tuple[TrialLine, ...]
    locked_by: str | None
    locked_at: datetime | None
    digest: str | None  # SHA-256 of the journal's CSV, hexadecimal

    @property
    def debit_micro(self) -> int:
        return sum(line.debit_micro for line in self.lines)

    @property
    def credit_micro(self) -> int:
        return sum(line.credit_micro for line in self.lines)

    @property
    def balance_micro(self) -> int:
        """Zero, or the books are broken."""
        return self.debit_micro - self.credit_micro
