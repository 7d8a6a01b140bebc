"""What the proxy says itself: a sentence, as a page or as problem+json. PURE."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass, field
from http import HTTPStatus

from provisioner.streams.ports.headers import Headers

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 36rem; margin: 20vh auto; padding: 0 1rem;
  color: #1c2127; background: #fff }}
h1 {{ font-size: 1.25rem }} p {{ color: #48525c }}
@media (prefers-color-scheme: dark) {{
  body {{ background: #14181c; color: #e6e9ec }} p {{ color: #a7b0b9 }} }}
</style></head><body><h1>{title}</h1><p>{sentence}</p></body></html>
"""


@dataclass(frozen=True)
class Answer:
    """What is said instead of passing a request on."""

    status: int
    sentence: str
    headers: tuple[tuple[str, str], ...] = field(default=())

    def rendered(self, *, json_wanted: bool) -> tuple[Headers, bytes]:
        """Its headers and body."""
        title = HTTPStatus(self.status).phrase
        if json_wanted:
            kind = "application/problem+json"
            said = {"title": title, "status": self.status, "detail": self.sentence}
            body = json.dumps({"type": "about:blank", **said}).encode()
        else:
            kind = "text/html; charset=utf-8"
            escaped = html.escape(self.sentence)
            body = _PAGE.format(title=html.escape(title), sentence=escaped).encode()
        told = {
            "content-type": kind,
            "content-length": str(len(body)),
            "cache-control": "no-store",
            "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        }
        pairs = [*told.items(), *self.headers]
        return [(name.encode(), value.encode()) for name, value in pairs], body


NO_SUCH_NAME = Answer(404, "There is nothing at this address.")
NOT_UNDERSTOOD = Answer(400, "This is no request that we understand.")
ASK_AGAIN = Answer(
    503, "Whether this address leads anywhere cannot be told now. Try again in a moment."
)


def silent(port: int) -> Answer:
    return Answer(502, f"Nothing listens on port {port} of this machine yet.")


def broken(port: int) -> Answer:
    return Answer(502, f"What listens on port {port} of this machine did not answer in HTTP.")


def unreachable() -> Answer:
    return Answer(503, "The way to this machine is interrupted. Try again in a moment.")


def full(most: int) -> Answer:
    return Answer(503, f"{most} connections are open to this machine, the most.")
