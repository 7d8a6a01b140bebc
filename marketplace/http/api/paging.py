"""Cursors: an opaque text that holds the ordering values of the last row shown.

Pages follow the values, not offsets, so a cursor stays valid after inserts and deletes and no row
is shown twice or skipped.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from django.core.exceptions import FieldDoesNotExist, ValidationError
from django.db.models import Field, Model, Q, QuerySet

from kernel.errors import Refusal

M = TypeVar("M", bound=Model)
T = TypeVar("T")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200


def bad_cursor() -> Refusal:
    return Refusal(
        "invalid_cursor",
        "The cursor was not made by this list. Start without one and follow next_cursor.",
    )


def parse_limit(text: str | None) -> int:
    """1 to 200, default 50; Refusal invalid_filter otherwise."""
    if text is None:
        return DEFAULT_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 5 and 1 <= int(text) <= MAX_LIMIT):
        raise Refusal(
            "invalid_filter",
            f"limit must be a whole number from 1 to {MAX_LIMIT}.",
            filter="limit",
        )
    return int(text)


def encode_cursor(values: Sequence[object]) -> str:
    raw = json.dumps([None if value is None else str(value) for value in values])
    return base64.urlsafe_b64encode(raw.encode()).rstrip(b"=").decode()


def decode_cursor(text: str, count: int) -> list[str]:
    """The ``count`` texts in a cursor; Refusal invalid_cursor for anything else."""
    try:
        raw = base64.b64decode(
            text.encode() + b"=" * (-len(text) % 4), altchars=b"-_", validate=True
        )
        values = json.loads(raw)
    except (ValueError, binascii.Error, RecursionError) as error:
        raise bad_cursor() from error
    well_formed = isinstance(values, list) and len(values) == count
    if not well_formed or not all(
        isinstance(value, str) and value and "\0" not in value for value in values
    ):
        raise bad_cursor()
    return list(values)


def keyset_page(
    queryset: QuerySet[M], *, order: Sequence[str], cursor: str | None, limit: int
) -> tuple[list[M], str | None]:
    """One page and the cursor of the next.

    order: field or annotation names, ``-`` for descending, none of them nullable, the last unique.
    """
    names = [name.lstrip("-") for name in order]
    if cursor:
        texts = decode_cursor(cursor, len(names))
        values = [_python(queryset, name, text) for name, text in zip(names, texts, strict=True)]
        queryset = queryset.filter(_after(order, values))
    rows = list(queryset.order_by(*order)[: limit + 1])
    if len(rows) <= limit:
        return rows, None
    rows = rows[:limit]
    return rows, encode_cursor([getattr(rows[-1], name) for name in names])


def listed_page(
    items: Sequence[T],
    *,
    key: Callable[[T], str],
    cursor: str | None,
    limit: int,
    descending: bool = False,
) -> tuple[list[T], str | None]:
    """The same over a short list in memory, ordered by a unique text ``key``."""
    ordered = sorted(items, key=key, reverse=descending)
    if cursor:
        (last,) = decode_cursor(cursor, 1)
        ordered = [
            item for item in ordered if (key(item) < last if descending else key(item) > last)
        ]
    page = ordered[:limit]
    return page, encode_cursor([key(page[-1])]) if len(ordered) > limit else None


def _after(order: Sequence[str], values: Sequence[Any]) -> Q:
    """Rows behind the given values: (a > x) or (a = x and b > y) or …"""
    result, equal = Q(pk__in=[]), Q()
    for name, value in zip(order, values, strict=True):
        field = name.lstrip("-")
        beyond = "lt" if name.startswith("-") else "gt"
        result |= equal & Q(**{f"{field}__{beyond}": value})
        equal &= Q(**{field: value})
    return result


def _python(queryset: QuerySet[Any], name: str, text: str) -> Any:
    annotation = queryset.query.annotations.get(name)
    try:
        field: Field[Any, Any] = (
            annotation.output_field if annotation else queryset.model._meta.get_field(name)
        )
        return field.to_python(text)
    except (ValidationError, FieldDoesNotExist, ValueError) as error:
        raise bad_cursor() from error
