"""The control endpoints (/_sim/...) and the client for them.

Control requests are JSON: a browser on a foreign page cannot send them without a preflight, and
the server answers none. They never go through the API's own checks or faults.

Routes: GET state, faults, requests, webhooks, clock, objects/{kind}; POST faults {kind, ...},
faults/clear, release, down {mode}, clock {advance}, reset, webhooks/flush {timeout},
webhooks/redeliver {event}, webhooks/endpoint {url, secret, events}, sweep, and orders/{name}: what
a bank, a card network or the account's owner does outside the API (see registry.order).
"""

import json
import re
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode, urlsplit

from devstack.stripe import soundness
from devstack.stripe.registry import ORDERS
from devstack.stripe.resources import charges, events

if TYPE_CHECKING:
    from devstack.stripe.server import Account


class ControlError(ValueError):
    """A control request that makes no sense; the message says why."""


def handle(account: "Account", method: str, target: str, body: bytes) -> Any:
    """Answer a control request with JSON-able data; ControlError for a bad one."""
    path = urlsplit(target).path.removeprefix("/_sim/").strip("/")
    try:
        given = json.loads(body) if body else {}
    except ValueError as error:
        raise ControlError("the body is not JSON") from error
    if not isinstance(given, dict):
        raise ControlError("the body must be a JSON object")
    route = f"{method} {path}"
    if route.startswith("GET objects/"):
        with account.sim.store.lock:
            return account.sim.store.rows(path.removeprefix("objects/"))
    if route.startswith("POST orders/"):
        return _order(account, path.removeprefix("orders/"), given)
    routes: dict[str, Callable[[], Any]] = {
        "GET state": lambda: state(account),
        "GET faults": account.faults.seen,
        "GET requests": account.engine.requests,
        "GET webhooks": account.webhooks.deliveries,
        "GET clock": lambda: {"now": account.sim.clock.now()},
        "POST faults": lambda: _arm(account, given),
        "POST faults/clear": account.faults.clear,
        "POST release": account.faults.release,
        "POST down": lambda: _down(account, given.get("mode")),
        "POST clock": lambda: _advance(account, float(given.get("advance", 0))),
        "POST reset": account.reset,
        "POST sweep": account.sweep,
        "POST webhooks/flush": lambda: account.webhooks.flush(float(given.get("timeout", 10))),
        "POST webhooks/redeliver": lambda: account.webhooks.redeliver(str(given.get("event"))),
        "POST webhooks/endpoint": lambda: _endpoint(account, given),
    }
    if route not in routes:
        raise ControlError(f"there is no control route {route}")
    try:
        return routes[route]()
    except (TypeError, ValueError) as error:
        raise ControlError(f"{route}: {error}") from error


def _order(account: "Account", name: str, given: dict[str, Any]) -> Any:
    if name not in ORDERS:
        raise ControlError(f"there is no order {name}")
    try:
        with account.sim.store.transaction():
            return ORDERS[name](account.sim, **given)
    except (TypeError, ValueError) as error:
        raise ControlError(f"{name}: {error}") from error


def _arm(account: "Account", given: dict[str, Any]) -> dict[str, int]:
    return {"id": account.faults.arm(**given)}


def _down(account: "Account", mode: Any) -> None:
    if mode not in (None, "cut", "503"):
        raise ControlError("mode is null, cut or 503")
    account.faults.down = mode


def _advance(account: "Account", seconds: float) -> dict[str, float]:
    now = account.sim.clock.advance(seconds)
    with account.sim.store.transaction():
        account.sim.store.put("clock", "offset", {"seconds": account.sim.clock.offset})
    account.sweep()
    account.webhooks.wake()
    return {"now": now}


def _endpoint(account: "Account", given: dict[str, Any]) -> dict[str, Any]:
    with account.sim.store.transaction():
        return events.add_endpoint(
            account.sim,
            str(given.get("url", "")),
            given.get("events", ["*"]),
            secret=given.get("secret"),
            everything=True,
        )


def state(account: "Account") -> dict[str, Any]:
    """Counts, balance and broken invariants (an empty list when the account is sound)."""
    with account.sim.store.lock:
        return {
            "objects": account.sim.store.tables(),
            "balance": charges.totals(account.sim),
            "problems": soundness.problems(account.sim),
            "webhooks": account.webhooks.counts(),
            "now": account.sim.clock.now(),
        }


class Control:
    """Client of the control endpoints, for tests and for the demo's own steps."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")

    def call(self, method: str, path: str, /, **body: Any) -> Any:
        """One control request; ControlError with the simulator's reason."""
        request = urllib.request.Request(
            f"{self.base_url}/_sim/{path}",
            data=json.dumps(body).encode() if method == "POST" else None,
            headers={"Content-Type": "application/json"},
            method=method,
        )
        try:
            with urllib.request.urlopen(request, timeout=90) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ControlError(error.read().decode()) from error

    def fail(self, kind: str, **match: Any) -> int:
        """Arm a fault (see devstack.stripe.faults); returns its id."""
        return int(self.call("POST", "faults", kind=kind, **match)["id"])

    def order(self, name: str, **what: Any) -> Any:
        """Order what happens outside the API, e.g. order("dispute", charge=id)."""
        return self.call("POST", f"orders/{name}", **what)

    def clear(self) -> None:
        """Disarm every fault and bring the service up."""
        self.call("POST", "faults/clear")

    def wait_held(self, count: int = 1, timeout: float = 10) -> None:
        """Return once `count` requests are held by a hold fault; TimeoutError otherwise."""
        deadline = time.monotonic() + timeout
        while sum(fault["holding"] for fault in self.faults()) < count:
            if time.monotonic() > deadline:
                raise TimeoutError(f"fewer than {count} requests are held after {timeout} s")
            time.sleep(0.01)

    def release(self) -> int:
        """Let held requests go on; returns how many holds were open."""
        return int(self.call("POST", "release"))

    def down(self, mode: str | None = "cut") -> None:
        """Take the API down ("cut" or "503") or bring it back (None)."""
        self.call("POST", "down", mode=mode)

    def advance(self, seconds: float) -> float:
        """Move the clock forward; returns the new time."""
        return float(self.call("POST", "clock", advance=seconds)["now"])

    def now(self) -> float:
        return float(self.call("GET", "clock")["now"])

    def state(self) -> dict[str, Any]:
        return dict(self.call("GET", "state"))

    def objects(self, kind: str) -> list[dict[str, Any]]:
        """Every stored object of a kind, e.g. `payment_intent`, oldest first."""
        return list(self.call("GET", f"objects/{kind}"))

    def requests(self) -> list[dict[str, Any]]:
        """The last API requests: method, path, status, idempotency_key, replayed."""
        return list(self.call("GET", "requests"))

    def faults(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "faults"))

    def deliveries(self) -> list[dict[str, Any]]:
        return list(self.call("GET", "webhooks"))

    def flush(self, timeout: float = 10) -> dict[str, int]:
        """Wait until every due webhook was tried; returns deliveries by state."""
        return dict(self.call("POST", "webhooks/flush", timeout=timeout))

    def redeliver(self, event: str) -> int:
        return int(self.call("POST", "webhooks/redeliver", event=event))

    def endpoint(self, url: str, secret: str, events: list[str] | None = None) -> str:
        """Deliver webhooks to a loopback URL; returns the endpoint's id."""
        given = {"url": url, "secret": secret, "events": events or ["*"]}
        return str(self.call("POST", "webhooks/endpoint", **given)["id"])

    def reset(self) -> None:
        """Forget every object, key and fault; webhook endpoints stay."""
        self.call("POST", "reset")

    # -- the customer's browser -------------------------------------------------------------

    def submit(self, url: str, **form: str) -> tuple[int, str]:
        """POST a hosted page's form; returns (status, Location or page text)."""
        parts = urlsplit(url)
        if f"{parts.scheme}://{parts.netloc}" != self.base_url:
            raise ControlError(f"{url} is not a page of this simulator")
        request = urllib.request.Request(url, data=urlencode(form).encode(), method="POST")
        opener = urllib.request.build_opener(_NoRedirect)
        try:
            with opener.open(request, timeout=30) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as error:
            if error.code == 303:
                return 303, str(error.headers["Location"])
            raise ControlError(f"{error.code}: {error.read().decode()[:300]}") from error

    def pay_page(
        self, url: str, card: str = "4242424242424242", *, challenge: str = "complete"
    ) -> str:
        """Fill in a checkout or invoice page as a customer would, answering a challenge.

        Returns the address the browser ends at; ControlError with the page's message when the
        card was refused.
        """
        status, where = self.submit(
            url,
            card_number=card,
            exp_month="12",
            exp_year="2040",
            cvc="123",
            name="Test Customer",
            email="customer@example.com",
            country="US",
            postal_code="94103",
            action="pay",
        )
        if status == 303 and "/_hosted/authenticate/" in where:
            status, where = self.submit(where, action=challenge)
        if status != 303:
            found = re.search(r'role="alert">([^<]*)<', where)
            raise ControlError(found[1] if found else where)
        return where

    def onboard_page(self, url: str, bank: str = "000123456789") -> str:
        """Sign up on the page of an account link; returns the address the browser ends at."""
        status, where = self.submit(url, holder="Owner", account_number=bank, action="complete")
        if status != 303:
            found = re.search(r'role="alert">([^<]*)<', where)
            raise ControlError(found[1] if found else where)
        return where


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        return None
