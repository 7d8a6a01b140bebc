"""Where simulated clusters take their time from: the wall, or a test's hand."""

from __future__ import annotations

import datetime
from typing import Protocol


class Clock(Protocol):
    """`now` in UTC."""

    def now(self) -> datetime.datetime: ...


class WallClock:
    """This machine's clock."""

    def now(self) -> datetime.datetime:
        return datetime.datetime.now(datetime.UTC)


class ManualClock:
    """Virtual time: stands still until it is moved."""

    def __init__(self, start: datetime.datetime) -> None:
        self._now = start

    def now(self) -> datetime.datetime:
        return self._now

    def advance(self, seconds: float) -> None:
        self._now += datetime.timedelta(seconds=seconds)


def stamp(moment: datetime.datetime) -> str:
    """In whole seconds, as the API server stores times."""
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def parsed(text: str) -> datetime.datetime:
    """The moment of a stamp, whole seconds or micro seconds. Raises ValueError."""
    return datetime.datetime.fromisoformat(text)
