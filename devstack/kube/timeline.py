"""Runs many small lives on a few threads: each life is a generator that says how long it rests.

A life yields seconds, or None to rest until it is woken. One thread at a time runs a life; a
wake-up that comes while it runs is not lost.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
import traceback
from collections.abc import Callable, Generator
from typing import Any

Steps = Generator[float | None, None, None]


class Life:
    """One generator on a timeline. `replace` gives it another future, such as its end."""

    def __init__(self, timeline: Timeline, steps: Steps) -> None:
        self._timeline = timeline
        self._steps = steps
        self._next: Callable[[], Steps] | None = None
        self._version = 0  # raised at each (re)scheduling: older entries on the heap are void
        self._running = False
        self._woken = False
        self._ended = False

    def wake(self) -> None:
        """Run the next step now instead of when its rest is over."""
        self._timeline._wake(self)

    def replace(self, steps: Callable[[], Steps]) -> None:
        """Drop what is left of the life after the present step and go on with `steps()`."""
        self._timeline._replace(self, steps)


class Timeline:
    """`workers` threads, daemons: they hold nothing that must be finished."""

    def __init__(self, workers: int, on_bug: Callable[[str], Any]) -> None:
        self._heap: list[tuple[float, int, int, Life]] = []
        self._order = itertools.count()
        self._changed = threading.Condition()
        self._on_bug = on_bug
        self._stopped = False
        for number in range(workers):
            threading.Thread(target=self._work, name=f"timeline-{number}", daemon=True).start()

    def begin(self, steps: Steps) -> Life:
        """A new life whose first step runs at once."""
        life = Life(self, steps)
        with self._changed:
            self._schedule(life, 0.0)
        return life

    def stop(self) -> None:
        """End the threads after their present steps; lives rest for ever."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    def _schedule(self, life: Life, rest_s: float) -> None:
        life._version += 1
        entry = (time.monotonic() + rest_s, next(self._order), life._version, life)
        heapq.heappush(self._heap, entry)
        self._changed.notify()

    def _wake(self, life: Life) -> None:
        with self._changed:
            if life._running:
                life._woken = True
            elif not life._ended:
                self._schedule(life, 0.0)

    def _replace(self, life: Life, steps: Callable[[], Steps]) -> None:
        with self._changed:
            life._next = steps
            if life._running:
                life._woken = True
            else:
                life._ended = False
                self._schedule(life, 0.0)

    def _work(self) -> None:
        while (life := self._take()) is not None:
            rest, ended = self._step(life)
            with self._changed:
                life._running = False
                replaced = life._next is not None
                if (life._woken and not ended) or replaced:
                    self._schedule(life, 0.0)
                elif ended:
                    life._ended = True
                elif rest is not None:
                    self._schedule(life, rest)
                life._woken = False

    def _take(self) -> Life | None:
        """The next life that is due, waiting for it; None when the timeline was stopped."""
        with self._changed:
            while not self._stopped:
                if not self._heap:
                    self._changed.wait()
                    continue
                due, _, version, life = self._heap[0]
                if version != life._version or life._running:
                    heapq.heappop(self._heap)
                    continue
                rest = due - time.monotonic()
                if rest > 0:
                    self._changed.wait(rest)
                    continue
                heapq.heappop(self._heap)
                life._running = True
                if life._next is not None:
                    life._steps.close()
                    life._steps, life._next = life._next(), None
                return life
        return None

    def _step(self, life: Life) -> tuple[float | None, bool]:
        """Run one step; (rest, whether the life is over)."""
        try:
            return next(life._steps), False
        except StopIteration:
            return None, True
        except Exception:  # noqa: BLE001 - a bug in one pod's life must not stop all the others
            self._on_bug(traceback.format_exc())
            return None, True
