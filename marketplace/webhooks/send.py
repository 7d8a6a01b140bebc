"""One signed POST to a stranger's server: bounded in time and bytes, led nowhere, never a crash.

The only module of the room that speaks to a network; threads of the loop call it, outside any
transaction. Success is a status of 2xx, whatever the body. An answer's body is hostile text: a
few kilobytes are read, what is kept is cleaned and short, and it is shown as text only.
"""

from __future__ import annotations

import ssl
import time
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import urllib3
import urllib3.exceptions as u3
from django.conf import settings

from kernel import transport
from kernel.addresses import ForbiddenAddress, Resolver, resolve
from kernel.errors import Refusal
from kernel.text import clean
from kernel.transport import CONNECT_TIMEOUT, Deadline, Gate, causes, within
from marketplace.webhooks import receivers
from marketplace.webhooks.signing import HEADER

# From resolving to the last byte. A receiver should store the event and answer; who works longer
# before answering would hold a thread that others wait for.
CALL_SECONDS: Final = 10.0
# Read of an answer, and kept of it: enough for a framework's error page's first words.
_READ_BYTES: Final = 4096
_KEPT_LETTERS: Final = 1000
_USER_AGENT: Final = "gpuyard-webhooks/1"


@dataclass(frozen=True)
class Message:
    """What goes out: the address, the stored body, and the signature made for this attempt."""

    url: str
    body: bytes
    signature: str


@dataclass(frozen=True)
class Outcome:
    """What came of an attempt. reason: empty for success, else a key of present.FAILURES."""

    reason: str
    code: int | None = None
    body: str = ""
    seconds: float = 0.0


def send(message: Message, resolver: Resolver = resolve) -> Outcome:
    """Post the message once; raises nothing that a stranger's server could cause."""
    began = time.monotonic()
    try:
        reason, code, body = _post(message, resolver)
    except (u3.HTTPError, OSError, ForbiddenAddress, Refusal) as error:
        reason, code, body = _reason(error), None, ""
    return Outcome(reason, code, body, time.monotonic() - began)


def _post(message: Message, resolver: Resolver) -> tuple[str, int, str]:
    receiver = receivers.parse(message.url)
    gate = Gate(
        receiver.host, receiver.port, receivers.check_ip, resolver, threads=receivers.RESOLVERS
    )
    with within(CALL_SECONDS) as deadline:
        connections = transport.pool(gate, _context(settings.GPUYARD_WEBHOOK_CA_FILE))
        try:
            answer = connections.urlopen(
                "POST",
                receiver.target,
                body=message.body,
                headers={
                    "Accept-Encoding": "identity",
                    "Connection": "close",
                    "Content-Type": "application/json",
                    "User-Agent": _USER_AGENT,
                    HEADER: message.signature,
                },
                retries=False,
                redirect=False,
                timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT, read=deadline.left()),
                preload_content=False,
                decode_content=False,
                assert_same_host=False,
            )
            body = _first_words(answer, deadline)
        except (u3.HTTPError, OSError) as error:
            if deadline.passed:
                raise TimeoutError(f"no answer within {CALL_SECONDS:g} s") from error
            raise
        finally:
            connections.close()
    return _judged(answer.status), answer.status, body


def _first_words(answer: urllib3.BaseHTTPResponse, deadline: Deadline) -> str:
    """The beginning of the body as harmless text; what cannot be read is left out.

    The status has decided already. A body that drips or breaks off changes nothing about it.
    """
    kept = b""
    try:
        while len(kept) < _READ_BYTES and not deadline.passed:
            chunk = answer.read(_READ_BYTES - len(kept), decode_content=False)
            if not chunk:
                break
            kept += chunk
    except (u3.HTTPError, OSError):
        kept += b" [cut off]"
    finally:
        answer.close()
    return clean(kept.decode(errors="replace"), limit=_KEPT_LETTERS, lines=True)


def _judged(status: int) -> str:
    if 200 <= status < 300:
        return ""
    return "redirect" if 300 <= status < 400 else "status"


@lru_cache(maxsize=4)
def _context(ca_file: str) -> ssl.SSLContext:
    """The system's authorities, and the installation's own where the operator named one."""
    context = ssl.create_default_context()
    if ca_file:
        context.load_verify_locations(cafile=ca_file)
    return context


# What any of the causes is -> reason. The first row that fits wins.
_REASONS: Final[tuple[tuple[tuple[type[BaseException], ...], str], ...]] = (
    ((ForbiddenAddress, Refusal), "address_forbidden"),
    ((ssl.SSLCertVerificationError,), "certificate"),
    ((u3.NameResolutionError,), "dns"),
    ((u3.ConnectTimeoutError, u3.NewConnectionError), "connect"),
    ((u3.TimeoutError, TimeoutError), "timeout"),
    ((ssl.SSLError, u3.SSLError), "tls"),
)


def _reason(error: BaseException) -> str:
    found = list(causes(error))
    for kinds, reason in _REASONS:
        if any(isinstance(cause, kinds) for cause in found):
            return reason
    return "broken"
