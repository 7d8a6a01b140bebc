"""The thread that runs the controllers of simulated clusters while servers serve them."""

from __future__ import annotations

import threading
import time
import traceback

from devstack.kube.sim.controllers import Controllers


class Driver:
    """One thread for any number of clusters: each runs when it has something to do."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._due: dict[Controllers, float] = {}
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="controllers", daemon=True)
        self._thread.start()

    def add(self, controllers: Controllers) -> None:
        def wake() -> None:
            with self._changed:
                if controllers in self._due:
                    self._due[controllers] = 0.0
                    self._changed.notify()

        with self._changed:
            self._due[controllers] = 0.0
        controllers.wake = wake
        wake()

    def remove(self, controllers: Controllers) -> None:
        with self._changed:
            self._due.pop(controllers, None)

    def stop(self) -> None:
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while (found := self._next()) is not None:
            try:
                wait = found.run_due()
            except Exception:  # noqa: BLE001 - a bug in one cluster must not stop all the others
                traceback.print_exc()
                wait = 1.0
            with self._changed:
                if found in self._due and wait is not None:
                    due = time.monotonic() + wait
                    self._due[found] = min(self._due[found], due)

    def _next(self) -> Controllers | None:
        """Wait for the first that is due; None at the end. Nothing is due again until woken."""
        with self._changed:
            while not self._stopped:
                now = time.monotonic()
                first = min(self._due, key=self._due.__getitem__, default=None)
                if first is not None and self._due[first] <= now:
                    self._due[first] = float("inf")
                    return first
                wait = None if first is None else self._due[first] - now
                self._changed.wait(None if wait == float("inf") else wait)
        return None
