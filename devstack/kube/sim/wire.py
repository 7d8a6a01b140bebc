"""HTTP/1.1 as far as API clients speak it: reading a request, writing an answer, over streams.

No pipelining, no trailers, no compression, no chunked request bodies (411): API clients send none.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Mapping
from http import HTTPStatus

# As a real server: larger bodies are refused before they are read.
LONGEST_BODY = 3 * 1024 * 1024
LONGEST_HEAD = 64 * 1024


class WireError(Exception):
    """What came is no request that this server serves; `status` is the answer to it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclasses.dataclass(frozen=True)
class Head:
    """Request line and headers, names in lower case."""

    method: str
    target: str
    headers: Mapping[str, str]

    @property
    def token(self) -> str | None:
        scheme, _, token = self.headers.get("authorization", "").partition(" ")
        return token if scheme.lower() == "bearer" else None

    @property
    def content_type(self) -> str:
        return self.headers.get("content-type", "application/json").partition(";")[0].strip()

    @property
    def keeps(self) -> bool:
        return self.headers.get("connection", "").lower() != "close"


async def read(reader: asyncio.StreamReader) -> tuple[Head, bytes] | None:
    """The next request of a connection; None when the client has closed it. Raises WireError."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    except asyncio.LimitOverrunError as error:
        raise WireError(431, "the request's head is too large") from error
    lines = raw[:-4].decode("latin-1").split("\r\n")
    words = lines[0].split(" ")
    if len(words) != 3:
        raise WireError(400, "malformed request line")
    pairs = (line.partition(":") for line in lines[1:])
    head = Head(words[0], words[1], {name.lower(): value.strip() for name, _, value in pairs})
    if "transfer-encoding" in head.headers:
        raise WireError(411, "the body needs a Content-Length")
    length = head.headers.get("content-length", "0")
    if not length.isascii() or not length.isdigit():
        raise WireError(400, "malformed Content-Length")
    if int(length) > LONGEST_BODY:
        raise WireError(413, "the body is too large")
    return head, await reader.readexactly(int(length))


def answer_head(
    status: int,
    headers: Mapping[str, str],
    *,
    length: int | None,
    content_type: str = "application/json",
) -> bytes:
    """Status line and headers; `length` None for a body in chunks."""
    phrase = HTTPStatus(status).phrase
    rows = [f"HTTP/1.1 {status} {phrase}", f"Content-Type: {content_type}"]
    rows += [f"{name}: {value}" for name, value in headers.items()]
    rows.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
    return ("\r\n".join(rows) + "\r\n\r\n").encode("latin-1")


def chunk(content: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(content), content)


LAST_CHUNK = b"0\r\n\r\n"
