"""Windows of use as values, and as the columns that cross the doors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db import connection

from billing.contracts import UsageWindows
from kernel.arrays import Array, array
from provisioner import facade as provisioner
from provisioner.contracts import Chargeable


@dataclass(frozen=True)
class Window:
    rental_ref: UUID
    source_ref: UUID
    from_at: datetime
    to_at: datetime


def columns(windows: Iterable[Window]) -> UsageWindows:
    rows = list(windows)
    return UsageWindows(
        rental_refs=array(row.rental_ref for row in rows),
        source_refs=array(row.source_ref for row in rows),
        from_at=array(row.from_at for row in rows),
        to_at=array(row.to_at for row in rows),
    )


def rows_of(found: Chargeable) -> list[Window]:
    if not found.count:
        return []
    given: list[Array] = [found.rental_refs, found.interval_ids, found.from_at, found.to_at]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT * FROM unnest(%s::uuid[], %s::uuid[], %s::timestamptz[], %s::timestamptz[])",
            given,
        )
        rows = [Window(*row) for row in cursor.fetchall()]
    assert len(rows) == found.count
    return rows


def ack(found: Chargeable) -> None:
    provisioner.ack_charged(interval_ids=found.interval_ids, to_at=found.to_at)
