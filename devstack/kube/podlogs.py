"""Logs of simulated containers: what was written when, read as a kubelet gives it out.

A log keeps its last 10 MiB, as the container runtime's rotation does. Readers may be many and wait
for more; a container's end ends them.
"""

from __future__ import annotations

import datetime
import itertools
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence

from devstack.kube.faults import Order

# What a kubelet keeps of one container by default.
_MOST_BYTES = 10 * 1024 * 1024
# Followers look at least this often whether their client has left.
_LOOK_S = 1.0
# Lines written in one step when an order wants them all at once.
_AT_ONCE = 1000
_NANO = 1_000_000_000


class ContainerLog:
    """One run of one container. Lines may be any bytes without a line feed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._lines: deque[tuple[int, bytes]] = deque()
        self._bytes = 0
        self._dropped = 0
        self._ended = False

    def write(self, *lines: bytes) -> None:
        with self._changed:
            for line in lines:
                self._lines.append((time.time_ns(), line))
                self._bytes += len(line)
            while self._bytes > _MOST_BYTES:
                self._bytes -= len(self._lines.popleft()[1])
                self._dropped += 1
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._ended

    def end(self) -> None:
        """The container ended: nothing is written any more."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def read(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since_ns: int = 0,
        timestamps: bool = False,
    ) -> Iterator[bytes]:
        """The log in pieces; empty pieces while a follower waits, so that it can notice a client
        that left."""
        with self._changed:
            at = self._dropped
            if tail is not None:
                at = max(at, self._dropped + len(self._lines) - tail)
        while True:
            with self._changed:
                at = max(at, self._dropped)
                fresh = list(itertools.islice(self._lines, at - self._dropped, None))
                over = not fresh and (self._ended or not follow)
                if not fresh and not over:
                    self._changed.wait(_LOOK_S)
            at += len(fresh)
            yield b"".join(
                (_stamp(when) if timestamps else b"") + line + b"\n"
                for when, line in fresh
                if when >= since_ns
            )
            if over:
                return


class PodLogs:
    """The logs of one pod's main containers: of each its last two runs, the present one last."""

    def __init__(self) -> None:
        self.printed = 0  # the id of the last order that was carried out
        self._runs: dict[str, list[ContainerLog]] = {}

    def begin(self, container: str, cards: Sequence[str]) -> None:
        """A run begins; the program says which cards it sees."""
        log = ContainerLog()
        self._runs[container] = [*self._runs.get(container, [])[-1:], log]
        log.write(f"{container} started; cards: {', '.join(cards) or 'none'}".encode())

    def end(self, last_words: str) -> None:
        """All present runs end, each with these words."""
        for *_, log in self._runs.values():
            if not log.ended:
                log.write(last_words.encode())
                log.end()

    def of(self, container: str, *, previous: bool) -> ContainerLog | None:
        """The log of the present or last run, or the one that the kubelet calls the previous:
        the run before, and between two runs the one that ended."""
        runs = self._runs.get(container, [])
        wanted = 2 if previous and not (runs and runs[-1].ended) else 1
        return runs[-wanted] if len(runs) >= wanted else None

    def printing(self, order: Order) -> Iterator[float]:
        """Write what the order says; yields the seconds to rest between the pieces."""
        self.printed = order.id
        pace, lines = order.params["per_second"], order.params["lines"]
        step = 1 if pace else _AT_ONCE
        for first in range(0, lines, step):
            for number in range(first, min(first + step, lines)):
                text = bytes.fromhex(order.params["hex"]) or _numbered(order, number)
                for *_, log in self._runs.values():
                    log.write(*text.split(b"\n"))
            yield 1 / pace if pace else 0.0


def _numbered(order: Order, number: int) -> bytes:
    text: str = order.params["text"]
    return text.replace("{n}", str(number)).encode()


def _stamp(nanos: int) -> bytes:
    second = datetime.datetime.fromtimestamp(nanos // _NANO, tz=datetime.UTC)
    # Trailing zeros are left out, as Go's RFC3339Nano does.
    fraction = f".{nanos % _NANO:09d}".rstrip("0").rstrip(".")
    return f"{second:%Y-%m-%dT%H:%M:%S}{fraction}Z ".encode()
