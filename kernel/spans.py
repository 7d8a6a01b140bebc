"""Stretches of time: merged, cut, and counted in whole seconds. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

Span = tuple[datetime, datetime]
_ALMOST = timedelta(seconds=1, microseconds=-1)


def merged(spans: Iterable[Span]) -> list[Span]:
    """The same time in order, without overlap or empty stretches; what touches becomes one."""
    found: list[Span] = []
    for begin, end in sorted(span for span in spans if span[0] < span[1]):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((begin, end))
    return found


def overlap(some: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What lies in both."""
    rest = merged(others)
    return merged(
        (max(begin, other[0]), min(end, other[1]))
        for begin, end in merged(some)
        for other in rest
        if other[0] < end and begin < other[1]
    )


def less(some: Iterable[Span], others: Iterable[Span]) -> list[Span]:
    """What lies in the first and not in the second."""
    left = merged(some)
    for begin, end in merged(others):
        cut: list[Span] = []
        for span in left:
            cut += [(span[0], min(span[1], begin)), (max(span[0], end), span[1])]
        left = merged(cut)
    return left


def whole(spans: Iterable[Span]) -> list[Span]:
    """The whole seconds inside each."""
    return merged(
        ((begin + _ALMOST).replace(microsecond=0), end.replace(microsecond=0))
        for begin, end in merged(spans)
    )


def seconds(spans: Sequence[Span]) -> int:
    """How long they are together; they do not overlap."""
    return sum(int((end - begin).total_seconds()) for begin, end in spans)


def stored(spans: Iterable[Span]) -> list[list[str]]:
    """As JSON keeps them."""
    return [[begin.isoformat(), end.isoformat()] for begin, end in spans]


def read(rows: Iterable[Sequence[str]]) -> list[Span]:
    """Back from JSON."""
    return [(datetime.fromisoformat(row[0]), datetime.fromisoformat(row[1])) for row in rows]
