"""Charts: what a page hands to the chart component, and how its figures read as text.

A chart is drawn by a script from figures in the page; the table under it (latest, lowest and
highest of each line) says the same without one, and to a screen reader. What was not measured is
None and drawn as a gap, never as zero.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal

from marketplace.http.portal.words import Text

# As many colours as tokens.css has for lines; further ones are dashed, then they repeat.
_COLOURS: Final = 4
_STYLES: Final = 2 * _COLOURS
MISSING: Final = "–"
# Dollars: prices per hour are below it, sums above it are read in cents. static/js/chart.js too.
_MOST_EXACT: Final = 100

Unit = Literal["", "%", "GiB", "°C", "$", "$/h"]


@dataclass(frozen=True)
class Line:
    """One line of a chart: a value, or None where there is none, for each moment or place."""

    label: Text
    values: Sequence[float | None]
    dashed: bool = False


@dataclass(frozen=True)
class Chart:
    """``at``: the moments of time along the bottom, or numbers if ``across`` names them, rising.

    id: of the element, unique on the page. most: the upper end of the scale where it is known, such
    as 100 for a share. kind: steps hold a value until the next; bars stand for a stretch each.
    """

    id: str
    title: Text
    at: Sequence[datetime] | Sequence[float]
    lines: Sequence[Line]
    unit: Unit = ""
    kind: Literal["line", "steps", "bars"] = "line"
    note: Text = ""
    across: Text = ""
    most: float | None = None
    none: Text = ""  # what to say when there is nothing to draw
    # Whole days are days in UTC, whatever the reader's zone: sums of a day are cut there.
    daily: bool = field(default=False, kw_only=True)

    def __post_init__(self) -> None:
        for line in self.lines:
            if len(line.values) != len(self.at):
                raise ValueError(f"{self.id}: {len(line.values)} values for {len(self.at)} places")

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to draw at all."""
        return all(value is None for line in self.lines for value in line.values)

    def data(self) -> dict[str, Any]:
        """What the script draws, as JSON."""
        return {
            "at": [_place(each) for each in self.at],
            "lines": [
                {"label": str(line.label), "values": list(line.values), "style": style}
                | ({"dashed": True} if line.dashed else {})
                for style, line in self._styled()
            ],
            "unit": self.unit,
            "kind": self.kind,
            "across": str(self.across),
            "daily": self.daily,
            "most": self.most,
        }

    def rows(self) -> list[dict[str, Any]]:
        """Each line with its latest, lowest and highest value as text."""
        return [
            {
                "label": line.label,
                "style": style,
                "latest": self._text(line, lambda known: known[-1]),
                "lowest": self._text(line, min),
                "highest": self._text(line, max),
            }
            for style, line in self._styled()
        ]

    def _styled(self) -> list[tuple[int, Line]]:
        return [(n % _STYLES + 1, line) for n, line in enumerate(self.lines)]

    def _text(self, line: Line, pick: Callable[[list[float]], float]) -> str:
        known = [value for value in line.values if value is not None]
        return spelled(pick(known), self.unit) if known else MISSING


def spelled(value: float, unit: Unit) -> str:
    """A value with its unit: ``$1.25``, ``43 %``, ``17.5 GiB``."""
    if unit in ("$", "$/h"):
        exact = abs(value) < _MOST_EXACT
        text = f"{abs(value):,.4f}".rstrip("0") if exact else f"{abs(value):,.2f}"
        whole, _dot, places = text.partition(".")
        return f"{'−' if value < 0 else ''}${whole}.{places.ljust(2, '0')}"
    text = f"{value:,.1f}".removesuffix(".0")
    return f"{text} {unit}".rstrip()


def _place(each: datetime | float) -> float:
    return each.timestamp() if isinstance(each, datetime) else each
