"""Asking what the platform stands on: database and broker, each within a second.

A check raises when it fails; :class:`Probe` remembers when one last succeeded in this process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.utils import DatabaseError, InterfaceError
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

# One probe may take this long in all: probes come every few seconds and must not pile up.
_BROKER_TIMEOUT_S = 0.3
_DATABASE_TIMEOUT_MS = 1000

Errors = tuple[type[Exception], ...]
DATABASE_ERRORS: Errors = (DatabaseError, InterfaceError)
BROKER_ERRORS: Errors = (RedisError, OSError)


def ask_database() -> None:
    """Raises one of DATABASE_ERRORS unless a statement is answered."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = {_DATABASE_TIMEOUT_MS}")
        try:
            cursor.execute("SELECT 1")
        finally:
            cursor.execute("RESET statement_timeout")


def ask_broker() -> None:
    """Raises one of BROKER_ERRORS unless the broker answers."""
    client = Redis.from_url(
        settings.CELERY_BROKER_URL,
        socket_timeout=_BROKER_TIMEOUT_S,
        socket_connect_timeout=_BROKER_TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
    )
    try:
        client.ping()
    finally:
        client.close()


class Probe:
    """A check that remembers when it last succeeded, in this process."""

    def __init__(self, check: Callable[[], None], errors: Errors) -> None:
        self._check = check
        self._errors = errors
        self._lock = threading.Lock()
        self._last_ok: float | None = None

    def result(self) -> dict[str, Any]:
        """``{"ok", "age_seconds", "error"}``; age: since it last succeeded, None if never."""
        error = None
        try:
            self._check()
        except self._errors as failure:
            error = type(failure).__name__  # the text may hold an address or a password
        with self._lock:
            if error is None:
                self._last_ok = time.monotonic()
            last = self._last_ok
        age = None if last is None else round(time.monotonic() - last, 1)
        return {"ok": error is None, "age_seconds": age, "error": error}
