"""Every way in which a call to a cluster can fail, as one of three classes with a short code.

The class says what a loop may do (kernel.errors), the code says what people are told. Nothing else
leaves this package: a cluster's strange answer is the cluster's state, never our crash.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import urllib3.exceptions as u3

from kernel.addresses import ForbiddenAddress
from kernel.errors import PermanentError, TemporaryError, UnknownOutcome, VendorError
from kernel.text import clean
from kernel.transport import causes
from provisioner.kube.agent import AgentOffline


class Unavailable(TemporaryError):
    """Nothing happened there. Codes: dns, connect, agent_offline, tls, rate_limited, busy."""

    def __init__(self, code: str, message: str, *, delay: float = 1.0) -> None:
        super().__init__(message, delay=delay)
        self.code = code


class Rejected(PermanentError):
    """Refused. Codes: unauthorized, forbidden, agent_outdated, not_admitted, quota, not_found,
    exists, conflict, expired, invalid, bad_ca, address_forbidden."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message, code=code)


class Unsure(UnknownOutcome):
    """It may have happened. Codes: timeout, broken, too_large, not_json, redirect, server_error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


# What a cluster as a whole suffers from, as opposed to one call being refused.
CREDENTIAL = frozenset({"unauthorized", "forbidden", "agent_outdated"})
TLS = frozenset({"bad_ca"})
_ONE_CALL = frozenset(
    {"quota", "not_admitted", "not_found", "exists", "conflict", "expired", "invalid"}
)

SENTENCES: dict[str, str] = {
    "dns": "The server's name does not resolve. Check the address or your DNS.",
    "connect": "The server does not accept connections. Check that it runs and is not fenced off.",
    "agent_offline": "The cluster's agent is not connected. Check that it runs, and read its log: "
    "kubectl logs -n gpuyard-system deployment/gpuyard-agent.",
    "tls": "The server does not speak TLS at this address. Check the port.",
    "timeout": "The server did not answer in time. Check its load and the network.",
    "broken": "The server cut the connection. Check its load and the network.",
    "rate_limited": "The server asks us to slow down; we do.",
    "busy": "The server is busy; we try again.",
    "server_error": "The server reports an error of its own. Look at its log.",
    "unauthorized": "The server rejects the token: it is wrong or expired. Paste a new one.",
    "forbidden": "The token lacks a right that the provider bundle gives. Apply the bundle again.",
    "agent_outdated": "The cluster's agent does not know a command of ours. Update it: apply its "
    "file with the image that the cluster's page names.",
    "bad_ca": "The server's certificate is not signed by the given CA, or names another host.",
    "address_forbidden": "The name now resolves to an address that must not be used.",
    "too_large": "The server's answer is larger than any we expect.",
    "not_json": "The server's answer is not what a Kubernetes API server sends.",
    "redirect": "The server redirects. Give the address it redirects to.",
}


def code_of(error: VendorError) -> str:
    return str(getattr(error, "code", "broken"))


def is_unhealthy(error: VendorError) -> bool:
    """Whether the failure says something about the whole cluster rather than about one call."""
    return code_of(error) not in _ONE_CALL


_BY_STATUS = {401: "unauthorized", 404: "not_found", 410: "expired"}


def from_status(status: int, reason: str, message: str, retry_after: str | None) -> VendorError:
    """The error for an HTTP status that is no success. ``message`` is hostile text."""
    text = f"{status} {reason}: {clean(message, limit=300)}"
    if status == 429:
        return Unavailable("rate_limited", text, delay=_delay(retry_after))
    if 300 <= status < 400:
        return Unsure("redirect", text)
    if not 400 <= status < 500:
        return Unsure("server_error", text)
    code = _BY_STATUS.get(status, "invalid")
    if status == 403:
        code = _forbidden(message)
    if status == 409:
        code = "exists" if reason == "AlreadyExists" else "conflict"
    return Rejected(code, text)


def _forbidden(message: str) -> str:
    """A right is missing (the whole cluster suffers), or this one object is not let in."""
    if "exceeded quota" in message:
        return "quota"
    if "not on its list" in message:  # podtools/agent.go
        return "agent_outdated"
    return "forbidden" if " cannot " in message else "not_admitted"


def _delay(retry_after: str | None) -> float:
    """The server's wish, but never more than half a minute: it must not park our loops."""
    if retry_after is not None and retry_after.isascii() and retry_after.isdigit():
        return float(min(int(retry_after[:4]), 30))
    return 1.0


@contextmanager
def translated() -> Iterator[None]:
    """Turn whatever transport and decoding raise into our errors, causes chained."""
    try:
        yield
    except ForbiddenAddress as error:
        raise Rejected("address_forbidden", str(error)) from error
    except (u3.HTTPError, OSError) as error:
        raise _from_transport(error) from error
    except ValueError as error:  # what HTTP libraries raise for sizes below zero and the like
        raise Unsure("broken", f"no HTTP: {clean(error, limit=200)}") from error
    except RecursionError as error:
        raise Unsure("not_json", "undecodable answer") from error


# What any of the causes is -> class and code. The first row that fits wins.
_TRANSPORT: tuple[
    tuple[tuple[type[BaseException], ...], Callable[[str, str], VendorError], str], ...
] = (
    ((ForbiddenAddress,), Rejected, "address_forbidden"),
    ((ssl.SSLCertVerificationError,), Rejected, "bad_ca"),
    ((AgentOffline,), Unavailable, "agent_offline"),
    ((u3.NameResolutionError,), Unavailable, "dns"),
    ((u3.ConnectTimeoutError, u3.NewConnectionError), Unavailable, "connect"),
    ((ssl.SSLError, u3.SSLError), Unavailable, "tls"),
    ((u3.TimeoutError, TimeoutError), Unsure, "timeout"),
)


def _from_transport(error: BaseException) -> VendorError:
    text = clean(f"{type(error).__name__}: {error}", limit=300)
    found = list(causes(error))
    for kinds, made, code in _TRANSPORT:
        if any(isinstance(cause, kinds) for cause in found):
            return made(code, text)
    return Unsure("broken", text)
