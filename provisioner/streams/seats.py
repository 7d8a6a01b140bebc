"""How many streams one process serves at a time, and how many of them one organization."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from prometheus_client import Gauge

OPEN = Gauge("gpuyard_streams_open", "Streams that this process serves now")

# A stream is a thread and a connection to a cluster's API server, which has limits of its own.
# More processes serve more; below some dozens one team's dashboards fill a process.
MOST = 200
# A person looks at a few machines; a team's scripts at some more. Without a limit one organization
# takes the places of all others.
MOST_OF_ONE = 20


class Full(Exception):
    """No place left; the message says whose limit it is."""


class Seats:
    """Counted in the event loop's thread alone, so it needs no lock."""

    def __init__(self, most: int = MOST, most_of_one: int = MOST_OF_ONE) -> None:
        self._most = most
        self._most_of_one = most_of_one
        self._taken: Counter[UUID] = Counter()

    @contextmanager
    def take(self, owner: UUID) -> Iterator[None]:
        """One place for the length of the block; raises Full."""
        if self._taken[owner] >= self._most_of_one:
            raise Full(
                f"Your organization has {self._most_of_one} streams open, which is the limit. "
                "Close one and try again."
            )
        if self._taken.total() >= self._most:
            raise Full("All streams of this server are in use. Try again in a moment.")
        self._taken[owner] += 1
        OPEN.inc()
        try:
            yield
        finally:
            self._taken[owner] -= 1
            if not self._taken[owner]:
                del self._taken[owner]
            OPEN.dec()
