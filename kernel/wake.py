"""Wake a loop after commit. Losing the message costs seconds, never work: the row is the job.

A dead broker must not turn a stored rental into an error, so sending does not retry, the socket
timeouts are short (settings), and a failure is counted and swallowed; beat runs the same loop.
"""

from __future__ import annotations

from dataclasses import dataclass

import structlog
from celery import current_app
from django.db import transaction
from kombu.exceptions import KombuError
from prometheus_client import Counter
from redis.exceptions import RedisError

log = structlog.get_logger(__name__)
LOST = Counter("gpuyard_wake_lost_total", "Wake-ups that the broker did not take", ["task"])


def wake(task: str) -> None:
    """Ask for one run of the argument-less task named ``task``; never raises on a dead broker."""
    try:
        current_app.send_task(task, retry=False, ignore_result=True)
    except (KombuError, RedisError, OSError) as error:
        LOST.labels(task).inc()
        log.warning("wake_lost", task=task, error=str(error))


@dataclass(frozen=True)
class _Wake:
    task: str

    def __call__(self) -> None:
        wake(self.task)


def wake_on_commit(task: str) -> None:
    """The same once the present transaction has committed; nothing when it rolls back.

    However often a transaction asks: one message. What a savepoint asked for goes with it.
    """
    wanted = _Wake(task)
    if all(asked != wanted for _, asked, _ in transaction.get_connection().run_on_commit):
        transaction.on_commit(wanted, robust=True)
