"""Calls to many clusters at once, with a bound per cluster: a dead one cannot take all threads.

Threads only call; whoever collects the results writes them to the database, so no thread holds a
connection of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import Generic, TypeVar
from uuid import UUID

import structlog

from kernel.errors import UnknownOutcome, VendorError

log = structlog.get_logger(__name__)

Job = TypeVar("Job")
Answer = TypeVar("Answer")

# Threads of one run, and how many of them one cluster may have. A quarter keeps three healthy
# clusters at full speed beside a hanging one; the server's own limits make more of little use.
THREADS = 16
PER_CLUSTER = 4
# Of those of a run, kept from clusters that failed last time.
SPARE = THREADS // 2
# A run stops claiming after this and leaves the rest to the next. Clusters that hang are due again
# before the others of their kind have ended, so without an end a partner with twenty of them would
# keep one worker process per loop for ever. Shorter than a period of beat, it would waste runs.
RUN_SECONDS = 10.0


class Calls(Generic[Job, Answer]):
    """Runs calls in threads and hands back (job, answer or error) as they end."""

    def __init__(self, threads: int = THREADS, per_cluster: int = PER_CLUSTER) -> None:
        self._threads = threads
        self._per_cluster = per_cluster
        self._executor = ThreadPoolExecutor(max_workers=threads, thread_name_prefix="kube-calls")
        self._running: dict[Future[Answer], tuple[Job, UUID]] = {}
        self._count: Counter[UUID] = Counter()

    def __enter__(self) -> Calls[Job, Answer]:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def free(self) -> int:
        return self._threads - len(self._running)

    def busy(self) -> list[UUID]:
        """Clusters that have their share of the threads."""
        return [key for key, count in self._count.items() if count >= self._per_cluster]

    def jobs(self) -> list[Job]:
        """What was begun and is not collected yet."""
        return [job for job, _ in self._running.values()]

    def idle(self) -> bool:
        return not self._running

    def submit(self, job: Job, cluster: UUID, call: Callable[[], Answer]) -> None:
        self._running[self._executor.submit(call)] = (job, cluster)
        self._count[cluster] += 1

    def collect(self, timeout: float) -> list[tuple[Job, Answer | VendorError]]:
        """What ended within ``timeout`` seconds; a call that broke has an unknown outcome."""
        if not self._running:
            return []
        done, _ = wait(self._running, timeout=timeout, return_when=FIRST_COMPLETED)
        results: list[tuple[Job, Answer | VendorError]] = []
        for future in done:
            job, cluster = self._running.pop(future)
            self._count[cluster] -= 1
            try:
                results.append((job, future.result()))
            except VendorError as error:
                results.append((job, error))
            except Exception as error:  # one broken job must not stop all others
                log.exception("cluster_call_broke", cluster=str(cluster))
                results.append((job, UnknownOutcome(f"{type(error).__name__}: {error}")))
        return results
