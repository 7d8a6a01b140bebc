"""A client of the HTTP API as any program would write it: JSON, a key, problems raised."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

Json = dict[str, Any]

# Loopback only, whatever the environment says about proxies.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ProblemError(Exception):
    """The platform refused: `status`, `slug` and the problem's own text."""

    def __init__(self, status: int, body: Json) -> None:
        self.status = status
        self.body = body
        self.slug = str(body.get("type", "")).rsplit("/", 1)[-1]
        super().__init__(f"{status} {self.slug}: {body.get('detail', body)}")


class PlatformApi:
    """One identity at `base_url`; `key` is an API key, or none for the public operations."""

    def __init__(self, base_url: str, key: str | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self.key = key

    def get(self, path: str, *, timeout_s: float = 70.0) -> Json:
        return self.call("GET", path, timeout_s=timeout_s)

    def post(self, path: str, body: Json | None = None, *, idempotency_key: str = "") -> Json:
        """A creating or acting call; a key of its own unless the caller repeats an earlier one."""
        return self.call("POST", path, body or {}, idempotency_key=idempotency_key)

    def patch(self, path: str, body: Json) -> Json:
        return self.call("PATCH", path, body)

    def delete(self, path: str) -> Json:
        return self.call("DELETE", path)

    def call(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        *,
        idempotency_key: str = "",
        timeout_s: float = 70.0,
    ) -> Json:
        """One request under /api/v1. ProblemError for an error answer, OSError for none."""
        headers = {"Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        if body is not None:
            headers["Content-Type"] = "application/json"
        if method == "POST":
            headers["Idempotency-Key"] = idempotency_key or str(uuid.uuid4())
        request = urllib.request.Request(
            f"{self.base_url}/api/v1{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            method=method,
        )
        try:
            with _OPENER.open(request, timeout=timeout_s) as response:
                return _decoded(response.read())
        except urllib.error.HTTPError as error:
            raise ProblemError(error.code, _decoded(error.read())) from None

    def until(
        self,
        path: str,
        condition: Callable[[Json], bool],
        what: str,
        *,
        deadline_s: float = 60.0,
        poll_s: float = 0.1,
    ) -> Json:
        """GET `path` until `condition` holds for the answer; TimeoutError with the last answer."""
        deadline = time.monotonic() + deadline_s
        while True:
            answer = self.get(path)
            if condition(answer):
                return answer
            if time.monotonic() > deadline:
                raise TimeoutError(f"not within {deadline_s:.0f} s: {what}; last seen: {answer}")
            time.sleep(poll_s)


def _decoded(content: bytes) -> Json:
    if not content:
        return {}
    try:
        body = json.loads(content)
    except ValueError:
        return {"detail": content[:300].decode(errors="replace")}
    return body if isinstance(body, dict) else {"items": body}
