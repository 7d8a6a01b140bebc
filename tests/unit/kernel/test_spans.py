"""Stretches of time, against counting their seconds one by one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from kernel import spans
from kernel.spans import Span

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def at(second: float) -> datetime:
    return NOON + timedelta(seconds=second)


def span(begin: float, end: float) -> Span:
    return at(begin), at(end)


STRETCHES = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=6)


def counted(pairs: list[tuple[int, int]]) -> set[int]:
    return {second for begin, end in pairs for second in range(begin, end)}


def seconds_of(found: list[Span]) -> set[int]:
    return {
        second
        for begin, end in found
        for second in range(int((begin - NOON).total_seconds()), int((end - NOON).total_seconds()))
    }


@given(STRETCHES, STRETCHES)
def test_they_are_what_counting_gives(some: list[tuple[int, int]], others: list[tuple[int, int]]):
    one, two = [span(*pair) for pair in some], [span(*pair) for pair in others]
    first, second = counted(some), counted(others)
    assert seconds_of(spans.merged(one)) == first
    assert seconds_of(spans.overlap(one, two)) == first & second
    assert seconds_of(spans.less(one, two)) == first - second
    assert spans.seconds(spans.merged(one)) == len(first)
    merged = spans.merged(one)
    assert all(merged[n][1] < merged[n + 1][0] for n in range(len(merged) - 1))


def test_only_whole_seconds_count() -> None:
    assert spans.whole([span(0.3, 2.9)]) == [span(1, 2)]
    assert spans.whole([span(1, 2)]) == [span(1, 2)]
    assert spans.whole([span(0.3, 0.9)]) == []


def test_as_json_and_back() -> None:
    found = [span(0, 1.5), span(3, 4)]
    assert spans.read(spans.stored(found)) == found
