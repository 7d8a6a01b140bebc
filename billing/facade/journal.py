"""Billing's door to the journal: months, their export, their lock."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

from billing.contracts.journal import MonthView
from billing.ledger import months as _months
from kernel.sheet import Cell


def parse_month(text: str) -> date:
    """``2026-10`` -> its first day; ValueError for anything else."""
    return _months.parse_month(text)


def months() -> list[MonthView]:
    """Months from the first transaction to now with their locks, newest first; no sums."""
    return _months.listed()


def month(first_day: date) -> MonthView:
    """The trial balance of a month; NotFound for one that the ledger does not have."""
    return _months.month(first_day)


def journal_rows(first_day: date) -> Iterator[list[Cell]]:
    """A month's journal, line by line, names of the columns first."""
    return _months.rows(first_day)


def lock_month(first_day: date, *, actor: str) -> MonthView:
    """In a transaction: nothing dated in the month can be posted any more, by anybody.

    Refusal("invalid_transition") before a day after its end, before an earlier open month, and for
    one that is locked.
    """
    return _months.lock_month(first_day, actor=actor)
