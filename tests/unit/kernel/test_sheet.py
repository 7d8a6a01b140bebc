"""CSV: what a spreadsheet would run is text, and numbers stay numbers."""

from __future__ import annotations

import csv
import io

import pytest

from kernel.sheet import cell, lines


@pytest.mark.parametrize(
    "text",
    [
        "=1+1",
        "+1",
        "-cmd|' /C calc'!A0",
        "@SUM(A1)",
        "\t=1",
        "\r=1",
        "  =1",
        "-0.5.1",
        "--1",
        "＝1",
    ],
)
def test_a_formula_becomes_text(text: str) -> None:
    assert cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["-0.500000", "12", "0.1", "a=b", "", "2026-01-01"])
def test_what_is_no_formula_stays(text: str) -> None:
    assert cell(text) == text


def test_lines_come_in_pieces_and_hold_every_row() -> None:
    rows = [[str(number), 'a "quoted", cell\nof two lines', None] for number in range(7)]
    pieces = list(lines(rows, chunk=3))
    assert len(pieces) == 3
    read = list(csv.reader(io.StringIO("".join(pieces))))
    assert [row[0] for row in read] == [str(number) for number in range(7)]
    assert read[0][1:] == ['a "quoted", cell\nof two lines', ""]
