"""The simulator's control port: JSON over HTTP on loopback, for tests and demos.

    GET    /healthz       200 once all nodes are registered and the pods listed, else 503
    GET    /state         nodes with their cards, holders and pods; the standing orders
    POST   /orders        {"kind": ..., "match": {...}, "params": {...}} -> the order with its id
    DELETE /orders/{id}   withdraw one
    DELETE /orders        withdraw all

An order is in force when its request is answered. Kinds and parameters: faults.KINDS. An order that
makes no sense answers 422 with the reason.
"""

from __future__ import annotations

import dataclasses
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from devstack.kube.faults import OrderError

if TYPE_CHECKING:
    from devstack.kube.nodesim import Simulator

LONGEST_BODY = 65536


def serve_control(simulator: Simulator, port: int) -> None:
    """Listen in a daemon thread. OSError when the port is taken."""

    class Handler(ControlHandler):
        sim = simulator

    listen(Handler, port)


def listen(handler: type[ControlHandler], port: int) -> ThreadingHTTPServer:
    """A server of `handler` in a daemon thread. OSError when the port is taken."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="control", daemon=True).start()
    return server


class ControlHandler(BaseHTTPRequestHandler):
    sim: Simulator
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        if self.path == "/healthz":
            ready = self.sim.ready.is_set()
            self._answer(200 if ready else 503, {"ready": ready})
        elif self.path == "/state":
            nodes = [node.snapshot() for node in self.sim.nodes.values()]
            orders = [dataclasses.asdict(order) for order in self.sim.orders.standing()]
            self._answer(200, {"nodes": nodes, "orders": orders})
        else:
            self._answer(404, {"error": f"no such path: {self.path}"})

    def do_POST(self) -> None:
        if self.path != "/orders":
            self._answer(404, {"error": f"no such path: {self.path}"})
            return
        try:
            length = min(int(self.headers.get("Content-Length", 0)), LONGEST_BODY)
            body = json.loads(self.rfile.read(length))
            order = self.sim.orders.place(
                body["kind"], body.get("match", {}), body.get("params", {})
            )
        except OrderError as error:
            self._answer(422, {"error": str(error)})
        except (ValueError, KeyError, TypeError, AttributeError):
            self._answer(422, {"error": 'expected {"kind": ..., "match": {}, "params": {}}'})
        else:
            self.sim.orders_changed()
            self._answer(201, dataclasses.asdict(order))

    def do_DELETE(self) -> None:
        if self.path == "/orders":
            self.sim.orders.clear()
        else:
            number = self.path.removeprefix("/orders/")
            if not number.isdigit() or not self.sim.orders.withdraw(int(number)):
                self._answer(404, {"error": f"no such order: {self.path}"})
                return
        self.sim.orders_changed()
        self._answer(200, {})

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged: a waiting test asks many times a second."""

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
