"""What the portal's terminal and the streams process say to each other on their websocket.

Binary frames are bytes of the terminal, both ways. Text frames are JSON objects:

    from the page   {"resize": [columns, rows]}   {"grant": "..."}   {"seen": bytes}
    from us         {"closed": "sentence"}, the last one   {}, a sign of life

``seen`` says how many bytes more the page has drawn: a websocket in a browser has no other way to
slow its sender.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

# Chosen by the page when it connects; a page of another version is refused, not misunderstood.
PROTOCOL: Final = "gpuyard.terminal.1"
ALIVE: Final = "{}"
# A page sends what was typed or pasted in pieces of 16 KiB. A frame is in memory as a whole.
MOST_BYTES: Final = 64 * 1024
# A grant is the longest text, 512 letters at most.
MOST_TEXT: Final = 1024
# Larger than any screen; programs make tables of this size.
MOST_CELLS: Final = 1000


class BadFrame(Exception):
    """Nothing that our page sends; the message is for people."""


@dataclass(frozen=True)
class Typed:
    data: bytes


@dataclass(frozen=True)
class Resize:
    columns: int
    rows: int


@dataclass(frozen=True)
class Renewed:
    grant: str


@dataclass(frozen=True)
class Seen:
    count: int


Frame = Typed | Resize | Renewed | Seen


def read(message: Mapping[str, Any]) -> Frame:
    """A ``websocket.receive`` of ASGI. Raises BadFrame."""
    data, text = message.get("bytes"), message.get("text")
    if data is not None:
        if len(data) > MOST_BYTES:
            raise BadFrame("More was sent at once than a terminal takes. Reload the page.")
        return Typed(bytes(data))
    if text is None or len(text) > MOST_TEXT:
        raise _nonsense()
    try:
        said = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _nonsense() from error
    if not isinstance(said, dict) or len(said) != 1:
        raise _nonsense()
    ((kind, value),) = said.items()
    if kind == "resize" and isinstance(value, list) and len(value) == 2:
        columns, rows = value
        if _counts(columns, MOST_CELLS) and _counts(rows, MOST_CELLS):
            return Resize(columns, rows)
    elif kind == "seen" and _counts(value, 2**31):
        return Seen(value)
    elif kind == "grant" and isinstance(value, str):
        return Renewed(value)
    raise _nonsense()


def closed(sentence: str) -> str:
    """The last frame."""
    return json.dumps({"closed": sentence})


def _counts(value: object, most: int) -> bool:
    return type(value) is int and 1 <= value <= most


def _nonsense() -> BadFrame:
    return BadFrame("The page sent something that no terminal says. Reload it.")
