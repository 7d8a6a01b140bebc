"""devstack's own client, straight into a server of this process: no socket, no TLS, no JSON text.

For the nodes of simulated clusters and whoever prepares them; faults do not reach it, as they are
between the platform and a server, not between a server and its nodes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any

from devstack.kube.api import Api, ApiError, Json, _with_query
from devstack.kube.sim.apiserver import Answer, ApiServer, Request, Watching
from devstack.kube.sim.rules.patches import copied
from devstack.kube.sim.rules.rbac import AUTHENTICATED, MASTERS, User

ADMIN = User("kubernetes-admin", (MASTERS, AUTHENTICATED))


class LocalApi(Api):
    """An `Api` with all rights on one simulated server; `url` is where others reach it."""

    def __init__(self, server: ApiServer, url: str) -> None:
        self.url = url
        self._server = server

    def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> Json:
        """As in Api; never OSError."""
        request = Request(method, path, dict(body or {}), content_type, user=ADMIN)
        answer = self._server.handle(request)
        if not isinstance(answer, Answer):
            raise ValueError(f"{method} {path} has no single answer")
        found = answer.json()
        if answer.status >= 400:
            raise ApiError(answer.status, found.get("reason", ""), found.get("message", ""))
        return found

    def watch(self, path: str, *, silence_s: float, **query: str) -> Iterator[Json]:
        """As in Api; `silence_s` does not matter here."""
        target = _with_query(path, {**query, "watch": "true"})
        opened = self._server.handle(Request("GET", target, user=ADMIN))
        if isinstance(opened, Answer):
            found = opened.json()
            raise ApiError(opened.status, found.get("reason", ""), found.get("message", ""))
        assert isinstance(opened, Watching)
        changed = threading.Event()
        opened.watch.on_change = changed.set
        ends = time.monotonic() + opened.seconds
        try:
            while (left := ends - time.monotonic()) > 0 and not opened.watch.ended:
                changed.clear()
                for event in opened.watch.take():
                    if event.type == "ERROR":
                        body = event.object.body
                        raise ApiError(body["code"], body["reason"], body["message"])
                    yield copied(event.json())
                changed.wait(left)
        finally:
            opened.watch.close()
