"""What a chart says: as figures for the script and as a table without it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from marketplace.http.portal.charts import Chart, Line, Unit, spelled

START = datetime(2026, 3, 1, tzinfo=UTC)
AT = [START + timedelta(hours=n) for n in range(3)]


def test_silence_is_null_to_the_script_and_left_out_of_the_table() -> None:
    chart = Chart("use", "Use", AT, [Line("GPU 0", [10.0, None, 30.0])], unit="%")
    data = chart.data()
    assert data["at"] == [START.timestamp() + 3600 * n for n in range(3)]
    assert data["lines"][0]["values"] == [10.0, None, 30.0]
    assert chart.rows() == [
        {"label": "GPU 0", "style": 1, "latest": "30 %", "lowest": "10 %", "highest": "30 %"}
    ]


def test_a_line_that_was_never_measured_is_dashes_never_zero() -> None:
    chart = Chart("use", "Use", AT, [Line("GPU 0", [None] * 3)], unit="%")
    assert chart.is_empty
    assert set(chart.rows()[0].values()) == {"GPU 0", 1, "–"}
    assert not Chart("use", "Use", AT, [Line("GPU 0", [None, 0.0, None])]).is_empty


def test_more_lines_than_colours_are_dashed_and_none_is_lost() -> None:
    chart = Chart("use", "Use", AT, [Line(f"GPU {n}", [1.0] * 3) for n in range(10)])
    assert [row["style"] for row in chart.rows()] == [1, 2, 3, 4, 5, 6, 7, 8, 1, 2]


def test_values_without_a_place_are_refused() -> None:
    with pytest.raises(ValueError, match="2 values for 3 places"):
        Chart("use", "Use", AT, [Line("GPU 0", [1.0, 2.0])])


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (1.25, "$", "$1.25"),
        (0.0001, "$/h", "$0.0001"),
        (-3.0, "$", "−$3.00"),
        (3067.9676, "$", "$3,067.97"),
        (43.0, "%", "43 %"),
        (17.46, "GiB", "17.5 GiB"),
        (1234.0, "", "1,234"),
    ],
)
def test_values_read_with_their_unit(value: float, unit: Unit, text: str) -> None:
    assert spelled(value, unit) == text
