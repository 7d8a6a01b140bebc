"""The little of HTTP that the streams process speaks, over ASGI: reading a request, answering it.

No framework: three addresses, two answers, and every byte of a stream under our own control.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs

from kernel.ids import new_id

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

_COMMON = (
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
    # nginx would otherwise collect a stream before it passes it on.
    (b"x-accel-buffering", b"no"),
)


class Problem(Exception):
    """An answer that is a problem document: type, status and a sentence."""

    def __init__(self, slug: str, status: int, detail: str, *, retry_after: int = 0) -> None:
        super().__init__(detail)
        self.slug = slug
        self.status = status
        self.detail = detail
        self.retry_after = retry_after


@dataclass(frozen=True)
class Request:
    """What a handler needs of a GET."""

    path: str
    query: dict[str, list[str]]
    last_event_id: str

    @classmethod
    def of(cls, scope: Scope) -> Request:
        """Raises Problem for a method or a query that no address here takes."""
        if scope.get("method", "GET") not in ("GET", "HEAD"):  # a websocket has none
            raise Problem("method_not_allowed", 405, "Only GET is answered here.")
        headers = {bytes(name).lower(): bytes(value) for name, value in scope["headers"]}
        try:
            raw = bytes(scope["query_string"]).decode("ascii")
            query = parse_qs(raw, keep_blank_values=True, max_num_fields=16)
        except (UnicodeDecodeError, ValueError) as error:
            raise Problem("malformed", 400, "The query of this address cannot be read.") from error
        ident = headers.get(b"last-event-id", b"")[:64].decode("latin-1")
        return cls(str(scope["path"]), query, ident)

    def text(self, name: str) -> str:
        """The one value of a parameter, "" when it is absent; Problem when given twice."""
        values = self.query.get(name, [""])
        if len(values) > 1:
            raise Problem("invalid_filter", 400, f"{name} is given more than once.")
        return values[0]

    def number(self, name: str, *, default: int, most: int) -> int:
        given = self.text(name)
        if not given:
            return default
        if not (given.isascii() and given.isdigit() and len(given) < 8 and int(given) <= most):
            raise Problem("invalid_filter", 400, f"{name} is a number from 0 to {most}.")
        return int(given)

    def flag(self, name: str) -> bool:
        given = self.text(name) or "false"
        if given not in ("true", "false"):
            raise Problem("invalid_filter", 400, f"{name} is true or false.")
        return given == "true"


async def begin(send: Send, status: int, content_type: str, **headers: str) -> None:
    """The head of an answer; its body follows by ``body``."""
    extra = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    fixed = [(b"content-type", content_type.encode()), (b"x-request-id", new_id().hex.encode())]
    await send(
        {"type": "http.response.start", "status": status, "headers": [*fixed, *_COMMON, *extra]}
    )


async def body(send: Send, piece: bytes, *, more: bool) -> None:
    await send({"type": "http.response.body", "body": piece, "more_body": more})


async def answer_json(send: Send, value: Any, status: int = 200, **headers: str) -> None:
    content = json.dumps(value, ensure_ascii=False).encode()
    kind = "application/json" if status < 400 else "application/problem+json"
    await begin(send, status, kind, content_length=str(len(content)), **headers)
    await body(send, content, more=False)


async def answer_problem(send: Send, problem: Problem) -> None:
    document = {
        "type": f"/problems/{problem.slug}",
        "title": problem.slug.replace("_", " ").capitalize(),
        "status": problem.status,
        "detail": problem.detail,
    }
    more = {"retry_after": str(problem.retry_after)} if problem.retry_after else {}
    await answer_json(send, document, problem.status, **more)


async def gone(receive: Receive) -> None:
    """Returns when the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def while_connected(receive: Receive, work: Awaitable[None]) -> None:
    """Do ``work``, and no more of it once the client has left; errors of the work are raised."""
    tasks = (asyncio.ensure_future(gone(receive)), asyncio.ensure_future(work))
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        _, result = await asyncio.gather(*tasks, return_exceptions=True)
    if isinstance(result, Exception):
        raise result
