"""Long lists in pages by number: the first is 1, and the number stands in the address.

For lists that a person leafs through and that hardly change meanwhile; lists that grow at their
head have cursors (components/pager.html).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

from django.db.models import Count, Model, QuerySet, Window
from django.http import HttpRequest

from kernel.errors import NotFound

Row = TypeVar("Row", bound=Model)

# Beyond it the database would count more rows away than any list here has.
_MOST = 10_000


def page_number(request: HttpRequest) -> int:
    """The page that the address names; NotFound for one that cannot be."""
    text = request.GET.get("page", "1")
    if not (text.isascii() and text.isdigit() and 0 < int(text[:6]) <= _MOST and len(text) <= 6):
        raise NotFound("page")
    return int(text)


def leaf(rows: QuerySet[Row], number: int, size: int) -> tuple[list[Row], int]:
    """(the rows of one page, how many there are in all), in one query; no rows past the end."""
    found = list(rows.annotate(in_all=Window(Count("*")))[(number - 1) * size : number * size])
    if not found and number > 1:
        return [], rows.count()
    return found, found[0].in_all if found else 0  # type: ignore[attr-defined]


@dataclass(frozen=True)
class Pages:
    """Where a page stands in its list, for components/pages.html."""

    number: int
    size: int
    total: int

    @property
    def first(self) -> int:
        return (self.number - 1) * self.size + 1

    @property
    def last(self) -> int:
        return min(self.number * self.size, self.total)

    @property
    def before(self) -> int | None:
        return self.number - 1 if self.number > 1 else None

    @property
    def after(self) -> int | None:
        return self.number + 1 if self.last < self.total else None
