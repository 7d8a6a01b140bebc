"""One worker per lane: a lock of the database session that a killed worker cannot keep.

It bounds how many workers a loop may take, and never stands in for a fence on the rows themselves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection


@contextmanager
def lane(name: str) -> Iterator[bool]:
    """True while this worker alone holds the lane ``name``; False when another one does."""
    number = zlib.crc32(f"gpuyard:{name}".encode())
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [number])
        row = cursor.fetchone()
    if not (row and row[0]):
        yield False
        return
    try:
        yield True
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [number])
