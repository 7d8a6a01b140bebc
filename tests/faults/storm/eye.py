"""An independent watch: what the clusters' stores hold against what the rows promise.

Reads the stores in memory, where no ordered fault reaches, and the database with a connection of
its own, ten times a second. No code of the product is asked.

- orphan: a pod whose instance's end was acknowledged (asked for or decided), or whose instance is
  gone. Counted from that moment, or from the pod's creation if that came later, until the pod is
  gone; the graceful stop is inside the figure.
- ghost: a rental that says `running` while the pod of its instance is not in the store. Counted
  from the first look that finds it so until the first that does not.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from uuid import UUID

import psycopg

from kernel.ids import public
from tests.sites import LABEL, Site

EVERY = 0.1
_ENDED = """
SELECT id, least(end_requested_at, gone_at) FROM provisioner_instance
WHERE end_requested_at IS NOT NULL OR state = 'gone'
"""
_RUNNING = """
SELECT r.id, i.pod_uid FROM marketplace_rental r
JOIN provisioner_instance i ON i.id = r.instance_ref WHERE r.state = 'running'
"""


@dataclass
class Seen:
    """Seconds by pod UID and by rental: the longest stretch of each."""

    orphans: dict[str, float] = field(default_factory=dict)
    ghosts: dict[str, float] = field(default_factory=dict)
    looks: int = 0


class Eye:
    """Looks from ``start`` to ``stop``; ``seen`` is complete after the latter."""

    def __init__(self, sites: list[Site], database_url: str) -> None:
        self.seen = Seen()
        self._sites = sites
        self._url = database_url
        self._since: dict[str, float] = {}
        self._problem: Exception | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="eye", daemon=True)

    def start(self) -> Eye:
        self._thread.start()
        return self

    def stop(self) -> Seen:
        """Raises what ended it early: an eye that was closed has seen nothing."""
        self._stop.set()
        self._thread.join()
        if self._problem is not None:
            raise self._problem
        return self.seen

    def _run(self) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True) as database:
                while not self._stop.wait(EVERY):
                    self._look(database)
        except Exception as problem:  # noqa: BLE001  raised by stop, in the test's own thread
            self._problem = problem

    def _look(self, database: psycopg.Connection) -> None:
        # Rows first: what a rental promised must be there afterwards, or the promise was withdrawn
        # in between, which the next look shows.
        running: dict[UUID, str] = dict(database.execute(_RUNNING).fetchall())
        ended = {public("instance", key): at for key, at in database.execute(_ENDED)}
        now, pods = datetime.now(UTC), {}
        for site in self._sites:
            for pod in site.pods():
                uid, born = pod.metadata["uid"], pod.metadata["creationTimestamp"]
                pods[uid] = pod
                since = ended.get(pod.metadata["labels"][LABEL])
                if since is not None:
                    begun = max(since, datetime.fromisoformat(born))
                    self._longer(self.seen.orphans, uid, (now - begun).total_seconds())
        self._ghosts({str(key): uid for key, uid in running.items() if uid not in pods})
        self.seen.looks += 1

    def _ghosts(self, present: dict[str, str]) -> None:
        now = time.monotonic()
        self._since = {key: self._since.get(key, now) for key in present}
        for key, since in self._since.items():
            self._longer(self.seen.ghosts, key, now - since)

    @staticmethod
    def _longer(figures: dict[str, float], key: str, seconds: float) -> None:
        figures[key] = max(figures.get(key, 0.0), seconds)


def longest(figures: dict[str, float]) -> float:
    return max(figures.values(), default=0.0)
