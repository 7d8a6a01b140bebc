"""Signed delivery of events to webhook endpoints, with Stripe's habits: at least once, in no
promised order, retried with growing gaps for three days.

One thread sends. Due times are on the virtual clock, so moving the clock forward brings retries
on. Signatures carry real time, because the receiver checks them against its own clock.

Limit: only loopback addresses are called.
"""

import hashlib
import hmac
import http.client
import ipaddress
import json
import random
import threading
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from devstack.stripe.core import THIN, Simulator
from devstack.stripe.errors import no_such
from devstack.stripe.faults import Faults
from devstack.stripe.store import Row

TABLE = "delivery"
DONE = "delivery_done"
ENDPOINTS = "webhook_endpoint"
SECRETS = "webhook_secret"
# Live Stripe retries for three days with growing gaps; the first gaps are shorter here so that a
# receiver that was briefly away catches up within a test.
RETRY_AFTER_S = (1, 5, 30, 300, 1800, 7200, 18000, 36000, 43200, 43200, 43200, 43200)
TIMEOUT_S = 10.0
IDLE_S = 1.0


def is_loopback(url: str) -> bool:
    """True for http(s) URLs whose host is a loopback address or `localhost`."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme not in {"http", "https"}:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def signature(payload: bytes, secret: str, timestamp: int) -> str:
    """Value of Stripe-Signature for a payload."""
    signed = f"{timestamp}.".encode() + payload
    digest = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def post(url: str, payload: bytes, headers: dict[str, str]) -> int | None:
    """Send and return the status, or None when there was no answer. Follows no redirect."""
    parts = urlsplit(url)
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    connection = kind(str(parts.hostname), parts.port, timeout=TIMEOUT_S)
    try:
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        connection.request("POST", target, payload, headers)
        response = connection.getresponse()
        response.read()
        return response.status
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


class Webhooks:
    """The outbox of one account. Deliveries are rows, so a restart goes on where it was."""

    def __init__(
        self, sim: Simulator, faults: Faults, sweep: Callable[[], None] = lambda: None
    ) -> None:
        self._sim = sim
        self._faults = faults
        self._sweep = sweep
        # Events, not a condition: nobody may hold a lock of ours while waiting for the store.
        self._wakeup = threading.Event()
        self._progress = threading.Event()
        self._stopping = threading.Event()
        self._shuffled: dict[int, list[Row]] = {}
        self._thread = threading.Thread(target=self._run, name="stripe-webhooks", daemon=True)
        sim.on_event = self.queue

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._wakeup.set()
        self._thread.join(TIMEOUT_S + 1)

    def wake(self) -> None:
        """Look again at once: something was queued or the clock moved."""
        self._wakeup.set()

    # -- queueing: called inside the transaction that made the event ---------------------------

    def queue(self, home: Simulator, event: Row) -> None:
        """Make the deliveries of a new event of the platform or of a connected account."""
        wanted = self._listeners(event)
        if not wanted:
            return
        if event["object"] == "event":
            event["pending_webhooks"] = len(wanted)
            home.save(event)
        for endpoint in wanted:
            self._deliver(event, endpoint)
        self.wake()

    def _listeners(self, event: Row) -> list[str]:
        """Ids of the endpoints that get an event. Endpoints made over the API get the platform's
        snapshots only; the one of the start and of the control interface stands for all of
        Stripe's destinations: thin events and events of connected accounts as well."""
        special = event["object"] == THIN or "account" in event
        return [
            e["id"]
            for e in self._sim.store.rows(ENDPOINTS)
            if _wants(e, event["type"])
            and (not special or (self._sim.store.get(SECRETS, e["id"]) or {}).get("all"))
        ]

    def _event(self, identifier: str) -> tuple[Simulator, Row] | None:
        """An event and the account that it belongs to."""
        for home in (self._sim, *self._sim.connected()):
            found = home.find("event", identifier) or home.find(THIN, identifier)
            if found is not None:
                return home, found
        return None

    def _deliver(self, event: Row, endpoint: str) -> None:
        copies, delay = 1, 0.0
        for fault in self._faults.for_event(event["type"]):
            if fault.kind == "drop":
                copies = 0
            elif fault.kind == "double":
                copies *= 2
            elif fault.kind == "delay":
                delay += fault.seconds
            elif fault.kind == "shuffle":
                held = self._shuffled.setdefault(fault.id, [])
                held.append(self._add(event["id"], endpoint, state="held"))
                copies -= 1
                if fault.hits >= fault.times:
                    self._shuffle(self._shuffled.pop(fault.id), fault.id)
        for _ in range(copies):
            self._add(event["id"], endpoint, due=self._sim.clock.now() + delay)
        if copies == 0 and not any(
            d["event"] == event["id"] and d["state"] == "held" for d in self._sim.store.rows(TABLE)
        ):
            self._add(event["id"], endpoint, state="dropped")

    def _shuffle(self, held: list[Row], seed: int) -> None:
        order = list(held)
        random.Random(seed).shuffle(order)
        if len(order) > 1 and order == held:
            order.reverse()
        base = self._sim.clock.now()
        for place, row in enumerate(order):
            row |= {"state": "pending", "due": base + place * 1e-3}
            self._sim.store.put(TABLE, row["id"], row)

    def _add(self, event: str, endpoint: str, *, state: str = "pending", due: float = 0) -> Row:
        row: Row = {
            "id": self._sim.new_id("dlv"),
            "event": event,
            "endpoint": endpoint,
            "state": state,
            "due": due,
            "attempts": 0,
            "status": None,
            "at": self._sim.now(),
        }
        self._sim.store.put(DONE if state == "dropped" else TABLE, row["id"], row)
        return row

    def redeliver(self, event: str) -> int:
        """Send an event again to every endpoint that wants it; returns how many."""
        with self._sim.store.transaction():
            found = self._event(event)
            if found is None:
                raise no_such("event", event, param="event")
            wanted = self._listeners(found[1])
            for endpoint in wanted:
                self._add(event, endpoint, due=self._sim.clock.now())
        self.wake()
        return len(wanted)

    def flush(self, timeout: float) -> dict[str, int]:
        """Wait until nothing is due any more; returns deliveries by state."""
        deadline = time.monotonic() + timeout
        while self._due() and (left := deadline - time.monotonic()) > 0:
            self._progress.clear()
            self._wakeup.set()
            self._progress.wait(min(left, IDLE_S))
        return self.counts()

    def counts(self) -> dict[str, int]:
        with self._sim.store.lock:
            result: dict[str, int] = {}
            for table in (TABLE, DONE):
                for row in self._sim.store.rows(table):
                    result[row["state"]] = result.get(row["state"], 0) + 1
            return result

    def deliveries(self) -> list[Row]:
        """Every delivery, open ones last."""
        with self._sim.store.lock:
            rows = [*self._sim.store.rows(DONE), *self._sim.store.rows(TABLE)]
        return [dict(row) for row in rows]

    # -- sending ------------------------------------------------------------------------------

    def _due(self) -> list[Row]:
        now = self._sim.clock.now()
        with self._sim.store.lock:
            pending = [
                r
                for r in self._sim.store.rows(TABLE)
                if r["state"] == "pending" and r["due"] <= now
            ]
        return sorted(pending, key=lambda r: float(r["due"]))

    def _run(self) -> None:
        while True:
            # Cleared before looking, so that nothing set meanwhile is slept over.
            self._wakeup.clear()
            if self._stopping.is_set():
                return
            self._sweep()
            for row in self._due():
                if self._stopping.is_set():
                    return
                self._send(dict(row))
                self._progress.set()
            self._wakeup.wait(self._idle())

    def _idle(self) -> float:
        now = self._sim.clock.now()
        with self._sim.store.lock:
            due = [r["due"] for r in self._sim.store.rows(TABLE) if r["state"] == "pending"]
        return max(0.0, min([IDLE_S, *(float(d) - now for d in due)]))

    def _send(self, row: Row) -> None:
        with self._sim.store.lock:
            found = self._event(row["event"])
            endpoint = self._sim.find(ENDPOINTS, row["endpoint"])
            secret = self._sim.store.get(SECRETS, row["endpoint"])
        if found is None or endpoint is None or secret is None or endpoint["status"] != "enabled":
            self._note(row, "dropped", None)
            return
        payload = json.dumps(_body(found[1]), indent=2).encode()
        headers = {
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "Stripe/1.0 (+https://stripe.com/docs/webhooks)",
            "Stripe-Signature": signature(payload, secret["secret"], int(time.time())),
        }
        status = post(endpoint["url"], payload, headers)
        delivered = status is not None and 200 <= status < 300
        self._note(row, "delivered" if delivered else "pending", status)

    def _note(self, row: Row, state: str, status: int | None) -> None:
        with self._sim.store.transaction():
            attempts = row["attempts"] + 1
            row |= {"state": state, "attempts": attempts, "status": status}
            if state == "pending":
                if attempts > len(RETRY_AFTER_S):
                    row["state"] = "failed"
                else:
                    row["due"] = self._sim.clock.now() + RETRY_AFTER_S[attempts - 1]
            if row["state"] == "pending":
                self._sim.store.put(TABLE, row["id"], row)
            else:
                self._sim.store.remove(TABLE, row["id"])
                self._sim.store.put(DONE, row["id"], row)
            if state == "delivered":
                self._confirm(row["event"])

    def _confirm(self, identifier: str) -> None:
        home, event = self._event(identifier) or (self._sim, {})
        if event.get("pending_webhooks", 0) > 0:
            event["pending_webhooks"] -= 1
            home.save(event)


def _body(event: Row) -> Row:
    """What is sent: a snapshot event as it is, of a thin one the notification without data."""
    if event["object"] != THIN:
        return event
    return {k: v for k, v in event.items() if k not in {"changes", "data", "snapshot_event"}}


def _wants(endpoint: dict[str, Any], kind: str) -> bool:
    enabled = endpoint["enabled_events"]
    return endpoint["status"] == "enabled" and ("*" in enabled or kind in enabled)
