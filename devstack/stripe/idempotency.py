"""Idempotency keys as Stripe's reference describes them.

The first request with a key that starts executing decides: its answer, a stored 402 or 500
included, is what every later request with that key gets. Other parameters or another endpoint
are a 400, the same key while the first is still running a 409. Requests refused before execution
(authentication, unknown parameters, rate limit) store nothing. Keys live for 24 hours.
"""

import hashlib
import json
import threading
from typing import Any

from devstack.stripe.errors import StripeError
from devstack.stripe.store import Row, Store

TABLE = "idempotency_key"
KEPT_S = 24 * 3600
MAX_KEY = 255


class Keys:
    """The keys of one account. `begin` then either `finish` or `abandon`."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._running: set[str] = set()
        self._lock = threading.Lock()

    def begin(
        self, key: str, method: str, path: str, params: dict[str, Any], now: float
    ) -> Row | None:
        """The stored answer of this key, or None after claiming it; StripeError on misuse."""
        if len(key) > MAX_KEY:
            raise _misuse(f"Idempotency keys can have at most {MAX_KEY} characters.")
        with self._lock, self._store.lock:
            if key in self._running:
                raise StripeError(
                    409,
                    "There is currently another in-progress request using this Idempotency Key "
                    f"({key[:40]}). Please try again later.",
                    code="idempotency_key_in_use",
                )
            stored = self._store.get(TABLE, key)
            if stored is None or stored["until"] <= now:
                self._running.add(key)
                return None
        if (stored["method"], stored["path"]) != (method, path):
            raise _misuse(
                "Keys for idempotent requests can only be used for the same endpoint they were "
                f"first used for ('{stored['path']}' vs '{path}'). Try using a key other than "
                f"'{key}' if you meant to execute a different request."
            )
        if stored["params"] != _digest(params):
            raise _misuse(
                "Keys for idempotent requests can only be used with the same parameters they "
                f"were first used with. Try using a key other than '{key}' if you meant to "
                "execute a different request."
            )
        return stored

    def remember(
        self,
        key: str,
        method: str,
        path: str,
        params: dict[str, Any],
        now: float,
        status: int,
        body: dict[str, Any],
    ) -> None:
        """Store the answer; the caller is inside the transaction of the effect."""
        row = {
            "method": method,
            "path": path,
            "params": _digest(params),
            "until": now + KEPT_S,
            "status": status,
            "body": body,
        }
        self._store.put(TABLE, key, row)

    def leave(self, key: str) -> None:
        """The request with this key is over."""
        with self._lock:
            self._running.discard(key)


def _digest(params: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()


def _misuse(message: str) -> StripeError:
    return StripeError(400, message, kind="idempotency_error")
