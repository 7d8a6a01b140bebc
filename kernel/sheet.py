"""CSV that a spreadsheet shows and never runs.

A cell that begins like a formula is run by Excel, LibreOffice and Google Sheets when the file is
opened. Whatever people or clusters wrote gets an apostrophe in front then, which those programs
read as "this is text". Numbers are ours and stay as they are: a negative amount is no formula.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable
from datetime import datetime

from kernel.text import rfc3339

Cell = str | int | datetime | None

_NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")


def cell(value: Cell) -> str:
    """One cell: None is empty, a time RFC 3339, a text harmless."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        return rfc3339(value)
    text = str(value)
    if text.lstrip(" ").startswith(_FORMULA) and not _NUMBER.fullmatch(text):
        return f"'{text}"
    return text


def lines(rows: Iterable[Iterable[Cell]], *, chunk: int = 500) -> Iterable[str]:
    """``rows`` as RFC 4180 text, some hundred lines at a time: no more is ever in memory."""
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    count = 0
    for count, row in enumerate(rows, start=1):
        writer.writerow([cell(value) for value in row])
        if count % chunk == 0:
            yield buffer.getvalue()
            buffer.seek(0)
            buffer.truncate()
    if count % chunk:
        yield buffer.getvalue()
