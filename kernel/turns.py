"""Rows of a loop, each in a turn of its own: one that fails keeps no other from its turn.

Without it a single row that nobody thought of stands in front of everybody's: nobody is stopped for
want of money, nobody gets cards, no mail goes out, until a person finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import TypeVar

import structlog
from django.db import InterfaceError, OperationalError, connection

log = structlog.get_logger(__name__)

Row = TypeVar("Row")
Outcome = TypeVar("Outcome")
Turn = Callable[[object], AbstractContextManager[None]]


@contextmanager
def turns(loop: str) -> Iterator[Turn]:
    """``with turns("settle") as turn: for row in rows: with turn(row): ...``

    What a turn raises is logged as ``settle_failed`` with its row; the first of it is raised when
    all had their turn, so that the loop counts as failed. Where the database is gone there are no
    further turns. Each turn brings its own transaction: an open one around them would be lost.
    """
    failures: list[Exception] = []

    @contextmanager
    def turn(row: object) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if _is_cut_off(error):
                raise
            log.error(f"{loop}_failed", row=_name(row), exc_info=error)
            failures.append(error)

    yield turn
    if failures:
        raise failures[0]


def each(loop: str, rows: Iterable[Row], work: Callable[[Row], Outcome]) -> list[Outcome]:
    """What ``work`` gives for the rows, each in its own turn; raises like ``turns``."""
    done: list[Outcome] = []
    with turns(loop) as turn:
        for row in rows:
            with turn(row):
                done.append(work(row))
    return done


def in_turn(loop: str, *steps: Callable[[], object]) -> None:
    """Steps of one task that do not build on each other; raises like ``turns``."""
    each(loop, steps, lambda step: step())


def _is_cut_off(error: Exception) -> bool:
    """Told apart from a lock or a deadline of one row, which leave the connection as it is."""
    made = connection.connection
    lost = isinstance(error, OperationalError | InterfaceError)
    return lost and (made is None or bool(made.closed))


def _name(row: object) -> str:
    """What finds the row again, and nothing that may be secret or a person's."""
    if callable(row):
        return f"{row.__module__}.{getattr(row, '__qualname__', '')}"
    if isinstance(row, tuple | list):
        return ", ".join(map(_name, row[:20]))
    return str(getattr(row, "id", row))
