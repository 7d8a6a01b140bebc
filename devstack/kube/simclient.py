"""Client of the simulator's control port (simcontrol.py): look inside, order faults."""

from __future__ import annotations

import contextlib
import json
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any

_TIMEOUT_S = 10


class Sim:
    """The simulator at `url`. Every method raises urllib.error.HTTPError for a refused request."""

    def __init__(self, url: str) -> None:
        self._url = url
        # Proxies of the environment are not for loopback.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def state(self) -> dict[str, Any]:
        """{"nodes": [{name, card, resource, devices, pods}], "orders": [...]}"""
        state: dict[str, Any] = self._call("GET", "/state")
        return state

    def order(
        self,
        kind: str,
        match: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> int:
        """Place an order, in force on return; its id."""
        body = {"kind": kind, "match": match or {}, "params": params or {}}
        placed: int = self._call("POST", "/orders", body)["id"]
        return placed

    def withdraw(self, order_id: int) -> None:
        self._call("DELETE", f"/orders/{order_id}")

    def clear(self) -> None:
        """Withdraw all orders."""
        self._call("DELETE", "/orders")

    @contextlib.contextmanager
    def fault(
        self,
        kind: str,
        match: Mapping[str, Any] | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Iterator[int]:
        """An order for the length of a `with` block."""
        order_id = self.order(kind, match, params)
        try:
            yield order_id
        finally:
            self.withdraw(order_id)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self._url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=_TIMEOUT_S) as response:
            return json.loads(response.read())
