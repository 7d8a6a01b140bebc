"""The platform's clock: PostgreSQL's, read through the SQL function app_now().

Python's clock and the start of a transaction are never the base of a charge or a hold: hosts
drift, transactions wait. Use :func:`now` in Python and :class:`AppNow` inside queries.
"""

from __future__ import annotations

from datetime import UTC, datetime

from django.db import connection
from django.db.models import DateTimeField, Func
from django.utils.deconstruct import deconstructible


@deconstructible(path="kernel.clock.AppNow")
class AppNow(Func):
    """``app_now()`` as an ORM expression, for guarded updates and defaults."""

    function = "app_now"
    template = "%(function)s()"
    output_field = DateTimeField()


def now() -> datetime:
    """The database's present time, aware, in UTC."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT app_now()")
        row = cursor.fetchone()
    moment: datetime = row[0]
    return moment.astimezone(UTC)


def floor_second(moment: datetime) -> datetime:
    """The whole second at or before ``moment``: the end of a billable window rounds down."""
    return moment.replace(microsecond=0)


def ceil_second(moment: datetime) -> datetime:
    """The whole second at or after ``moment``: the start of a billable window rounds up."""
    floored = floor_second(moment)
    if floored == moment:
        return floored
    return datetime.fromtimestamp(int(floored.timestamp()) + 1, tz=moment.tzinfo)


def hour_of(moment: datetime) -> datetime:
    """The start of the clock hour (UTC) that holds ``moment``."""
    return moment.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
