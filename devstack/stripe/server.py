"""The HTTP server of the simulator, as a process of its own or as threads of a test.

Listens on loopback only and answers only requests whose Host is a loopback name, so that no
foreign page can reach it through a rebound name.
"""

import json
import socket
import struct
import sys
import threading
import traceback
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar

import devstack.stripe.resources  # noqa: F401  registers every operation
from devstack.stripe import checkout_page, control, hosted
from devstack.stripe.card_form import Page
from devstack.stripe.clock import VirtualClock
from devstack.stripe.control import Control
from devstack.stripe.core import Simulator
from devstack.stripe.engine import Engine, Request
from devstack.stripe.errors import StripeError
from devstack.stripe.faults import Cut, Faults
from devstack.stripe.resources import checkout, events
from devstack.stripe.store import Store
from devstack.stripe.webhooks import ENDPOINTS, SECRETS, Webhooks, is_loopback

MAX_BODY = 1 << 20
DEFAULT_API_KEY = "sk_test_simulator"
DEFAULT_WEBHOOK_SECRET = "whsec_simulator"
CONFIGURED = "configured at start"


class Account:
    """One simulated Stripe account: store, clock, engine, faults and webhooks."""

    def __init__(self, *, api_key: str, state: Path | None = None) -> None:
        self.store = Store(state)
        saved = self.store.get("clock", "offset")
        self.sim = Simulator(self.store, VirtualClock(saved["seconds"] if saved else 0.0))
        self.faults = Faults()
        self.engine = Engine(self.sim, self.faults, api_key)
        self.webhooks = Webhooks(self.sim, self.faults, self.sweep)

    def sweep(self) -> None:
        """Do what time brings: expire checkout sessions, settle refunds, close disputes."""
        with self.store.transaction():
            checkout.expire_due(self.sim)
            self.sim.run_due()

    def reset(self) -> None:
        """Forget everything but the webhook endpoints."""
        self.faults.clear()
        with self.store.lock:
            kept = [
                (table, key, row)
                for table in (ENDPOINTS, SECRETS, "clock")
                for key, row in self.store.items(table)
            ]
            self.store.clear()
            with self.store.transaction():
                for table, key, row in kept:
                    self.store.put(table, key, row)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int, account: Account) -> None:
        self.account = account
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        # A client that went away is its own business; anything else is worth reading.
        if not isinstance(sys.exception(), ConnectionError | TimeoutError):
            traceback.print_exc()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    # Buffered: headers and body leave in one segment, or each answer waits for a delayed ACK.
    wbufsize = -1
    # Longer than any pause between two requests of a client that keeps its connection.
    timeout: ClassVar[float] = 600.0
    server: _Server

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the control endpoint `requests` is the log."""

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_DELETE(self) -> None:
        self._answer()

    def _answer(self) -> None:
        body = self._body()
        if body is None:
            return
        if not is_loopback(f"http://{self.headers.get('Host', '')}"):
            self._send_json(403, {"error": {"message": "The simulator is for loopback only."}})
        elif self.path.startswith("/_sim/"):
            self._control(body)
        elif self.path.startswith(("/v1/", "/v2/")):
            self._api(body)
        else:
            self._page(body)

    def _body(self) -> bytes | None:
        try:
            length = int(self.headers.get("Content-Length") or 0)
        except ValueError:
            length = -1
        if not 0 <= length <= MAX_BODY:
            self.close_connection = True
            self._send_json(413, {"error": {"message": f"The body exceeds {MAX_BODY} bytes."}})
            return None
        return self.rfile.read(length)

    def _api(self, body: bytes) -> None:
        headers = {k.lower(): v for k, v in self.headers.items()}
        try:
            answer = self.server.account.engine.handle(
                Request(self.command, self.path, headers, body)
            )
        except Cut:
            self._cut()
            return
        self._send_json(answer.status, answer.body, answer.headers)

    def _control(self, body: bytes) -> None:
        if self.command == "POST" and self.headers.get_content_type() != "application/json":
            self._send_json(415, {"error": "control requests are application/json"})
            return
        try:
            answer = control.handle(self.server.account, self.command, self.path, body)
        except control.ControlError as error:
            self._send_json(400, {"error": str(error)})
        except StripeError as error:
            self._send_json(error.status, error.body())
        else:
            self._send_json(200, answer)

    def _page(self, body: bytes) -> None:
        try:
            page = hosted.handle(self.server.account.sim, self.command, self.path, body)
        except StripeError as error:
            page = Page(error.status, checkout_page.notice("Error", error.message))
        self._send(
            page.status,
            "text/html; charset=utf-8",
            page.html.encode(),
            {
                "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'",
                **page.headers,
            },
        )

    def _cut(self) -> None:
        """Close the connection with a reset, as a broken network does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def _send_json(self, status: int, value: Any, headers: dict[str, str] | None = None) -> None:
        body = json.dumps(value, indent=2).encode()
        self._send(status, "application/json", body, headers or {})

    def _send(self, status: int, kind: str, body: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


class StripeSim:
    """The simulator as threads of this process: `with StripeSim() as stripe_sim: ...`.

    `base_url` goes to the SDK's `base_addresses={"api": ...}`, `control` arms faults, moves the
    clock and looks inside.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        state: Path | None = None,
        api_key: str = DEFAULT_API_KEY,
        webhook_url: str | None = None,
        webhook_secret: str = DEFAULT_WEBHOOK_SECRET,
    ) -> None:
        self.api_key = api_key
        self.webhook_secret = webhook_secret
        self.account = Account(api_key=api_key, state=state)
        self._server = _Server(port, self.account)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}"
        self.account.sim.base_url = self.base_url
        self.control = Control(self.base_url)
        self._thread = threading.Thread(
            target=self._server.serve_forever,
            kwargs={"poll_interval": 0.05},  # how long a stop may take
            name="stripe-http",
            daemon=True,
        )
        if webhook_url is not None:
            self._add_endpoint(webhook_url)

    def _add_endpoint(self, url: str) -> None:
        """Deliver to `url`, and no more to the address of an earlier start on the same state."""
        store = self.account.store
        with store.transaction():
            for endpoint in store.rows(ENDPOINTS):
                if endpoint["description"] == CONFIGURED:
                    store.remove(ENDPOINTS, endpoint["id"])
                    store.remove(SECRETS, endpoint["id"])
            events.add_endpoint(
                self.account.sim,
                url,
                ["*"],
                secret=self.webhook_secret,
                description=CONFIGURED,
                everything=True,
            )

    def start(self) -> None:
        self._thread.start()
        self.account.webhooks.start()

    def stop(self) -> None:
        """Stop serving; held requests are let go."""
        self.account.faults.clear()
        self._server.shutdown()
        self._server.server_close()
        self.account.webhooks.stop()

    def __enter__(self) -> "StripeSim":
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
