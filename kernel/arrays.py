"""Columns of rows as PostgreSQL array literals: how thousands of rows cross a door.

What one area's statement selects and another's writes need not become Python objects in between:
an id alone costs microseconds to read and again to write. A literal is cast where it is used, as in
``unnest(%s::uuid[], %s::timestamptz[])``, and columns that belong together have equal lengths.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NewType
from uuid import UUID

Array = NewType("Array", str)


def array(values: Iterable[UUID | datetime | int]) -> Array:
    """Values of Python as such a literal; none of them needs quoting, times keep their zone."""
    texts = (one.isoformat() if isinstance(one, datetime) else str(one) for one in values)
    return Array("{" + ",".join(texts) + "}")
