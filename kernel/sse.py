"""Server-sent events as bytes. PURE.

Data is JSON, so no line feed of hostile text can end a field or begin another.
"""

from __future__ import annotations

import json
from typing import Any

CONTENT_TYPE = "text/event-stream; charset=utf-8"
# A comment: keeps connections through proxies alive and says nothing to the reader.
HEARTBEAT = b": alive\n\n"


def event(data: Any, *, kind: str = "", ident: str = "") -> bytes:
    """One event. ``kind`` and ``ident`` are our own words, without line feeds."""
    head = f"event: {kind}\n" if kind else ""
    if ident:
        head += f"id: {ident}\n"
    body = json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    return f"{head}data: {body}\n\n".encode()


def retry(milliseconds: int) -> bytes:
    """After a cut, clients come back after this long."""
    return f"retry: {milliseconds}\n\n".encode()
