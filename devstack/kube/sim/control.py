"""The control port of a simulated cluster: that of its nodes (simcontrol.py), and its API server's.

    GET    /api/faults        standing orders for faults of the API server, with their counts
    POST   /api/faults        {"kind": ..., "match": {...}, "params": {...}} -> the order
    DELETE /api/faults/{id}   withdraw one
    DELETE /api/faults        withdraw all
    POST   /api/compact       forget the history: watches and pages that lag get 410
    POST   /api/logs          {"namespace", "pod", "container", "lines": [...]}: a container prints

An order is in force when its request is answered. Kinds and parameters: sim/faults.py.
"""

from __future__ import annotations

import json
from http.server import ThreadingHTTPServer
from typing import Any

from devstack.kube.nodesim import Simulator
from devstack.kube.sim import kinds
from devstack.kube.sim.apiserver import ApiServer
from devstack.kube.sim.faults import OrderError
from devstack.kube.sim.podlogs import Line
from devstack.kube.sim.server import HttpServer
from devstack.kube.simclient import Sim
from devstack.kube.simcontrol import LONGEST_BODY, ControlHandler, listen

Json = dict[str, Any]

_FAULTS = "/api/faults"


def serve_sim_control(simulator: Simulator, server: HttpServer, port: int) -> ThreadingHTTPServer:
    """Listen in a daemon thread. OSError when the port is taken."""

    class Handler(_Handler):
        sim = simulator
        http = server

    return listen(Handler, port)


class _Handler(ControlHandler):
    http: HttpServer

    def do_GET(self) -> None:
        if self.path == _FAULTS:
            self._answer(200, {"faults": [each.json() for each in self.http.faults.standing()]})
        else:
            super().do_GET()

    def do_POST(self) -> None:
        if not self.path.startswith("/api/"):
            super().do_POST()
            return
        try:
            self._answer(201, self._told(self._json()))
        except (OrderError, KeyError, TypeError, ValueError) as error:
            self._answer(422, {"error": f"{type(error).__name__}: {error}"})

    def do_DELETE(self) -> None:
        if not self.path.startswith(_FAULTS):
            super().do_DELETE()
            return
        number = self.path.removeprefix(_FAULTS).removeprefix("/")
        if not number:
            self.http.faults.clear()
        elif not number.isdigit() or not self.http.faults.withdraw(int(number)):
            self._answer(404, {"error": f"no such order: {self.path}"})
            return
        self._answer(200, {})

    def _json(self) -> Json:
        length = min(int(self.headers.get("Content-Length", 0)), LONGEST_BODY)
        body = json.loads(self.rfile.read(length) or b"{}")
        if not isinstance(body, dict):
            raise ValueError("the body is no JSON object")
        return body

    def _told(self, body: Json) -> Json:
        if self.path == _FAULTS:
            match, params = body.get("match", {}), body.get("params", {})
            fault = self.http.faults.place(body["kind"], match, params)
            self.http.faults_changed()
            return fault.json()
        if self.path == "/api/compact":
            self.http.api.compact()
            return {}
        if self.path == "/api/logs":
            return {"lines": _print(self.http.api, body)}
        raise OrderError(f"no such path: {self.path}")


def _print(api: ApiServer, body: Json) -> int:
    with api.store.lock:
        pod = api.store.get(kinds.PODS, body["namespace"], body["pod"])
        if pod is None:
            raise OrderError(f"no pod {body['namespace']}/{body['pod']}")
        for text in body["lines"]:
            line = Line(api.store.clock.now(), str(text))
            api.logs.write(pod.metadata["uid"], body["container"], line)
    return len(body["lines"])


class ApiSim(Sim):
    """Client of this port: what `Sim` can, and faults of the API server."""

    def fail(self, kind: str, match: Json | None = None, params: Json | None = None) -> int:
        """Place an order, in force on return; its id."""
        body = {"kind": kind, "match": match or {}, "params": params or {}}
        placed: int = self._call("POST", _FAULTS, body)["id"]
        return placed

    def faults(self) -> list[Json]:
        """Standing orders with their counts."""
        found: list[Json] = self._call("GET", _FAULTS)["faults"]
        return found

    def withdraw_fault(self, order_id: int) -> None:
        self._call("DELETE", f"{_FAULTS}/{order_id}")

    def heal(self) -> None:
        """Withdraw all orders for the API server."""
        self._call("DELETE", _FAULTS)

    def compact(self) -> None:
        """Forget the history of changes, and open pages."""
        self._call("POST", "/api/compact")

    def print(self, namespace: str, pod: str, container: str, lines: list[str]) -> None:
        """A container prints lines."""
        body = {"namespace": namespace, "pod": pod, "container": container, "lines": lines}
        self._call("POST", "/api/logs", body)
