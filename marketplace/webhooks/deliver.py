"""The loop that sends: claims what is due, sends in threads, writes down what came of it.

One run sends at a time, because one is enough and more would take workers from other loops. It
has two lanes of threads, so that endpoints that hang keep only each other waiting. Threads only
send; the run itself reads and writes the database, with no transaction open while they do.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from prometheus_client import Counter as Metric

from kernel.clock import now
from kernel.lanes import lane
from kernel.sealed import CannotOpen
from kernel.wake import wake
from marketplace.models import WebhookDelivery
from marketplace.webhooks import health
from marketplace.webhooks.claim import claim, finish, release
from marketplace.webhooks.endpoints import signing_keys
from marketplace.webhooks.events import TASK
from marketplace.webhooks.send import Message, Outcome, send
from marketplace.webhooks.signing import sign

log = structlog.get_logger(__name__)
ATTEMPTS = Metric("gpuyard_webhook_attempts_total", "Webhook attempts", ["outcome"])

Send = Callable[[Message], Outcome]

# A run stops claiming after this: a worker that is asked to stop should not be kept for long.
RUN_SECONDS: Final = 20.0
# Per lane. Eight quick receivers take some hundred events a second; threads cost memory.
THREADS: Final = 8
# New work is looked for at least this often while attempts hang.
_LOOK_EVERY: Final = 0.1
# Until a sealing key that is missing may be there; attempts before it would all be in vain.
_SEALING_PAUSE: Final = timedelta(minutes=10)


def run(seconds: float = RUN_SECONDS, send: Send = send) -> int:
    """Send until nothing is due; the number of attempts begun. Nothing while another run sends."""
    with _Lane(slow=False, send=send) as quick, _Lane(slow=True, send=send) as slow:
        lanes = (quick, slow)
        with lane("webhooks") as free:
            if not free:
                return 0
            health.sweep()
            begun = _send_due(lanes, time.monotonic() + seconds)
        if not all(each.idle() for each in lanes):
            # Attempts still hang, but nobody waits for them: the next run goes on from here.
            wake(TASK)
        while not all(each.idle() for each in lanes):
            _collect(lanes)
    return begun


def _send_due(lanes: tuple[_Lane, ...], ends: float) -> int:
    begun = 0
    while time.monotonic() < ends:
        started = sum(each.start() for each in lanes)
        begun += started
        if not started and all(each.idle() for each in lanes):
            break
        _collect(lanes)
    return begun


def _collect(lanes: tuple[_Lane, ...]) -> None:
    """Wait a moment for any attempt to end, and write down all that did."""
    running = [future for each in lanes for future in each.running]
    wait(running, timeout=_LOOK_EVERY, return_when=FIRST_COMPLETED)
    for each in lanes:
        each.collect()


class _Lane:
    """Threads for endpoints that answer quickly, or for those that do not."""

    def __init__(self, *, slow: bool, send: Send) -> None:
        self._slow, self._send = slow, send
        self._executor = ThreadPoolExecutor(THREADS, thread_name_prefix="webhooks")
        self._count: Counter[UUID] = Counter()
        self.running: dict[Future[Outcome], WebhookDelivery] = {}

    def __enter__(self) -> _Lane:
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown(wait=True, cancel_futures=True)

    def idle(self) -> bool:
        return not self.running

    def start(self) -> int:
        """Claim for the free threads and begin; how many."""
        free = THREADS - len(self.running)
        if not free:
            return 0
        jobs = claim(slow=self._slow, limit=free, running=+self._count)
        for job in jobs:
            self._begin(job)
        return len(jobs)

    def _begin(self, job: WebhookDelivery) -> None:
        try:
            keys = signing_keys(job.endpoint)
        except CannotOpen:
            log.error("webhook_secret_unreadable", webhook=job.endpoint.public_id)
            release(job, reason="unsealable", delay=_SEALING_PAUSE)
            return
        body = job.event.body.encode()
        signature = sign(body, at=int(now().timestamp()), keys=keys)
        message = Message(job.endpoint.url, body, signature)
        self.running[self._executor.submit(self._send, message)] = job
        self._count[job.endpoint.organization_id] += 1

    def collect(self) -> None:
        """Write down every attempt that ended."""
        for future in [each for each in self.running if each.done()]:
            job = self.running.pop(future)
            self._count[job.endpoint.organization_id] -= 1
            outcome = _outcome(future)
            finish(job, outcome)
            ATTEMPTS.labels(outcome.reason or "succeeded").inc()


def _outcome(future: Future[Outcome]) -> Outcome:
    try:
        return future.result()
    except Exception as error:  # one broken attempt must not stop everybody's
        log.exception("webhook_attempt_broke", error=type(error).__name__)
        return Outcome("broken")
