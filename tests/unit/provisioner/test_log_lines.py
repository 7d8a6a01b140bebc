"""Hostile logs become bounded, harmless lines, and a reader's position survives any cut."""

from __future__ import annotations

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernel.text import clean_line
from provisioner.instances.loglines import (
    MAX_LINE,
    Position,
    Splitter,
    Stamped,
    as_text,
    from_text,
    lines_of,
    parse,
)


def stamp(second: int, fraction: str = "", text: str = "x") -> bytes:
    return f"2026-11-01T10:00:{second:02d}{fraction}Z {text}".encode()


def test_the_time_is_read_to_the_nanosecond() -> None:
    short, long = parse(stamp(1, ".1")), parse(stamp(1, ".100000001"))
    assert short.nanos is not None
    assert long.nanos == short.nanos + 1, "trailing zeros are left out by the kubelet"
    assert long.line.at == "2026-11-01T10:00:01.100000Z"
    assert parse(b"2026-11-01T12:00:01.1+02:00 x") == short


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no time",
        b"2026-02-31T10:00:00Z x",
        b"2026-11-01T10:00:00 x",
        b"9999-12-31T23:59:59-14:00 x",
        b"\xff",
    ],
)
def test_a_line_without_a_time_stays_a_line(raw: bytes) -> None:
    assert parse(raw).nanos is None
    assert parse(raw).line.at is None


def test_a_line_of_any_length_costs_its_limit() -> None:
    tracemalloc.start()
    splitter, lines = Splitter(), []
    for _ in range(160):  # ten megabytes in one line
        lines += splitter.feed(b"A" * 65_536)
    lines += splitter.feed(b"\nnext\n")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [len(stamped.line.text) for stamped in lines] == [MAX_LINE, 4]
    assert lines[0].line.text.endswith("…")
    assert peak < 2_000_000


@given(st.binary(max_size=400), st.integers(0, 2**32))
def test_pieces_of_any_size_give_the_same_lines(raw: bytes, seed: int) -> None:
    cuts = random.Random(seed)
    splitter, found, rest = Splitter(), [], raw
    while rest:
        size = cuts.randint(1, len(rest))
        found += splitter.feed(rest[:size])
        rest = rest[size:]
    assert found + splitter.finish() == lines_of(raw)


@given(st.binary(max_size=400))
def test_whatever_comes_out_is_harmless(raw: bytes) -> None:
    for stamped in lines_of(raw):
        text = stamped.line.text
        assert text == clean_line(text, limit=MAX_LINE), "cleaning twice changes nothing"
        assert not any(ord(letter) < 32 and letter != "\t" for letter in text)
        text.encode()  # what PostgreSQL and JSON can hold


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07text", "text"),
        ("10%\r20%\r", "10% 20%"),
        ("a\x00b\x9b31mc", "a b 31mc"),
        ("user\u202etxt.exe", "usertxt.exe"),
        ("\ttabs  and   spaces stay", "\ttabs  and   spaces stay"),
        ("a\u2028b", "a b"),
    ],
)
def test_terminal_codes_and_reversals_are_gone(hostile: str, shown: str) -> None:
    assert clean_line(hostile, limit=100) == shown


@given(
    st.lists(st.tuples(st.none() | st.just("2026-11-01T10:00:01Z"), st.text("ab -<\t", max_size=9)))
)
def test_a_stored_log_is_read_back_as_it_was(rows: list[tuple[str | None, str]]) -> None:
    lines = [parse(f"{at or ''} {text}".strip().encode()).line for at, text in rows]
    assert from_text(as_text(lines)) == lines


def read(position: Position, lines: list[Stamped]) -> list[str]:
    return [stamped.line.text for stamped in lines if position.is_new(stamped)]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=30), st.data())
def test_resuming_anywhere_shows_every_line_once(gaps: list[int], data: st.DataObject) -> None:
    """Times may be equal, several to a second; the kubelet gives all of the last second again."""
    at, rows = 0, []
    for number, gap in enumerate(gaps):
        at += gap
        rows.append(parse(stamp(at // 4 % 60, f".{at % 4}", str(number))))
    cut = data.draw(st.integers(0, len(rows)))
    first = Position()
    before = read(first, rows[:cut])
    resumed = Position.read(first.ident)
    second = 0 if resumed.nanos is None else resumed.nanos // 10**9
    given_again = [row for row in rows if (row.nanos or 0) // 10**9 >= second]
    assert before + read(resumed, given_again) == [str(number) for number in range(len(gaps))]


def test_the_same_holds_without_leaving() -> None:
    rows = [parse(stamp(1, ".5", str(n))) for n in range(5)]
    position = Position()
    assert len(read(position, rows[:3])) == 3
    position.rewind()
    assert read(position, rows) == ["3", "4"]


@pytest.mark.parametrize("ident", ["", "x", "1-", "-1", "1-x", "9" * 40 + "-1", "1-2-3", "١-1"])
def test_a_made_up_position_is_the_beginning(ident: str) -> None:
    position = Position.read(ident)
    assert position.nanos is None
    assert read(position, [parse(stamp(1))]) == ["x"]
