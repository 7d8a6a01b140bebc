"""The door for the desk of staff: what waits for a person, and strangers in clusters.

What waits is told as how many and since when the oldest does: one query each.
"""

from __future__ import annotations

from datetime import datetime

from provisioner.contracts.desk import FailingView, StockView, StrangerView
from provisioner.instances import brakes as _brakes
from provisioner.instances import strangers as _strangers
from provisioner.inventory import stock as _stock
from provisioner.preflight import failing as _preflights

Waiting = tuple[int, datetime | None]


def brakes() -> Waiting:
    """Mass brakes that hold something."""
    return _brakes.waiting()


def failed_preflights() -> Waiting:
    """Clusters that the published rules keep from sale."""
    return _preflights.waiting()


def failing(*, limit: int) -> list[FailingView]:
    """Their rules that fail, the longest failing first."""
    return _preflights.failing(limit=limit)


def unknown() -> Waiting:
    """Pods and volumes with our label that name nothing we know, and are there still."""
    return _strangers.waiting()


def strangers(*, limit: int) -> list[StrangerView]:
    """The same one by one with those that are gone since, oldest first."""
    return _strangers.strangers(limit=limit)


def stock(*, since: datetime) -> list[StockView]:
    """Every group's cards now, and how long they were there since then. Two queries."""
    return _stock.stock(since=since)
