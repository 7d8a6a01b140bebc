"""Following one instance's log, in a thread of its own: reading, re-opening, knowing the end.

A container's log ends with the container, a connection whenever it likes, and a quiet log looks
like a dead one. So each time a read ends the instance's row is asked what became of it, and reading
begins again behind the last line seen, until the instance ends or the reader leaves.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from kernel.errors import VendorError
from kernel.retry import backoff
from provisioner.contracts import LogLine
from provisioner.instances.loglines import Position, Splitter, Stamped
from provisioner.kube.api import ClusterApi
from provisioner.kube.errors import code_of
from provisioner.kube.manifests import MAIN
from provisioner.kube.transport import Cut
from provisioner.models import Cluster
from provisioner.streams.pipe import Pipe
from provisioner.streams.place import Place

# A quiet log is opened again after this: dead connections are found and the row is looked at.
# Shorter asks clusters for nothing, longer shows the end of a machine late when its host is gone.
SILENCE = 30.0
# A stream ends after this and the client comes back with a new grant, whose rights were checked
# again. Longer keeps the log open to somebody who has lost access.
STREAM_SECONDS = 300.0
# Bytes per second that one stream reads. A screen shows a hundredth of it; without a limit one
# program that prints in a loop keeps a core of ours and its cluster's network busy. What is over
# the rate is late, not lost.
RATE = 256 * 1024
# Between two reads of a log that ended although its instance did not: the program restarts.
PAUSE_FIRST, PAUSE_LONGEST = 0.25, 10.0

Connect = Callable[[Cluster], ClusterApi]


@dataclass(frozen=True)
class Lines:
    """New lines with the position behind each, "" for a line without a time."""

    lines: tuple[tuple[str, LogLine], ...]


@dataclass(frozen=True)
class Notice:
    """Something about the log that is not in it. code: waiting, interrupted."""

    code: str
    text: str


@dataclass(frozen=True)
class Over:
    """Nothing follows. code: ended (the machine), again (come back with a new grant)."""

    code: str


Item = Lines | Notice | Over

_WAITING = Notice("waiting", "The program has not started yet; its log follows when it does.")
# To a renter. What exactly is wrong with the cluster is its owner's to read, on its page.
CANNOT_READ = (
    "The host does not hand the log out just now. That is not your fault and says nothing about"
    " your program."
)


class Follower:
    """One stream's thread: ``run`` until the instance ends, the time is over or ``cut`` is made."""

    def __init__(
        self,
        *,
        pipe: Pipe[Item],
        cut: Cut,
        look: Callable[[], Place | None],
        connect: Connect,
        tail: int,
        position: Position,
        seconds: float = STREAM_SECONDS,
    ) -> None:
        self._pipe = pipe
        self._cut = cut
        self._look = look
        self._connect = connect
        self._tail: int | None = tail
        self._position = position
        self._ends = time.monotonic() + seconds
        self._fruitless = 0
        self._said: Notice | None = None

    def run(self) -> None:
        while not self._cut.made:
            place = self._look()
            if place is None:
                self._pipe.put(Over("ended"))
                return
            self._read(place)
            # Asked for before reading: a last read after it has brought the last lines.
            if place.ending or time.monotonic() >= self._ends:
                self._pipe.put(Over("ended" if place.ending else "again"))
                return
            self._cut.wait(min(self._pause(), max(0.0, self._ends - time.monotonic())))
        # Cut from here and not by the client: this process ends, and the client finds another.
        self._pipe.put(Over("again"))

    def _read(self, place: Place) -> None:
        """One read of the log, however it ends; a failure becomes a notice, once."""
        if not place.created:
            if not place.ending:
                self._notice(_WAITING)
            return
        splitter = Splitter()
        try:
            for piece in self._open(place):
                began = time.monotonic()
                if not self._show(splitter.feed(piece)):
                    return
                spent = time.monotonic() - began
                self._cut.wait(max(0.0, len(piece) / RATE - spent))
        except VendorError as error:
            code = code_of(error)
            if code in ("invalid", "not_found"):  # no container of that name runs or ran
                if not place.ending:
                    self._notice(_WAITING)
            elif code not in ("timeout", "broken"):  # those are what silence looks like
                self._notice(Notice("interrupted", f"{CANNOT_READ} We keep trying."))
            return
        # A read that we ended ourselves may have ended inside a line, which is then read again.
        if not self._cut.made and time.monotonic() < self._ends:
            self._show(splitter.finish())

    def _open(self, place: Place) -> Iterator[bytes]:
        self._position.rewind()
        since = self._position.nanos
        return self._connect(place.cluster).follow_log(
            place.namespace,
            place.pod_name,
            container=MAIN,
            tail_lines=self._tail if since is None else None,
            since=None if since is None else datetime.fromtimestamp(since // 10**9, tz=UTC),
            silence=SILENCE,
            seconds=max(0.1, self._ends - time.monotonic()),
            cut=self._cut,
        )

    def _show(self, lines: list[Stamped]) -> bool:
        """Hand on what is new; False when nobody reads any more."""
        fresh = []
        for stamped in lines:
            if self._position.is_new(stamped):
                ident = self._position.ident if stamped.nanos is not None else ""
                fresh.append((ident, stamped.line))
        if not fresh:
            return not self._cut.made
        self._fruitless, self._said = 0, None
        return self._pipe.put(Lines(tuple(fresh)))

    def _notice(self, notice: Notice) -> None:
        if notice != self._said:
            self._said = notice
            self._pipe.put(notice)

    def _pause(self) -> float:
        self._fruitless += 1
        return backoff(
            self._fruitless - 1,
            base=PAUSE_FIRST,
            cap=PAUSE_LONGEST,
            fraction=random.random(),  # noqa: S311  (spreads retries, guards nothing)
        )
