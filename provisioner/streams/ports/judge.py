"""Who may pass: one request, what is known of its port, and the time -> pass on or an answer. PURE.

A cookie alone opens only for the port's own pages and for links that lead there. Names of other
machines lie in the same domain, so browsers send it with what another machine's page asks for as
well: with forms, pictures, frames and websockets. Whoever shows the token itself is let in from
anywhere.
"""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from kernel.grants import BadGrant, verify
from kernel.ids import public
from provisioner.contracts.access import ENTER_PATH, enter_verb
from provisioner.instances.port_names import PortNames
from provisioner.streams.ports import passes
from provisioner.streams.ports.doors import PUBLIC, TEAM, PortDoor
from provisioner.streams.ports.headers import (
    Headers,
    cookies,
    values,
    wants_websocket,
    words,
)
from provisioner.streams.ports.pages import Answer

# Of a query: more is looked through by nobody.
_MOST_FIELDS: Final = 200
_LONGEST_PATH: Final = 2000
_ELSEWHERE: Final = frozenset({b"same-site", b"cross-site"})


@dataclass(frozen=True)
class Keys:
    """cookie: signs cookies; grant: verifies what the portal signed (kernel.grants)."""

    cookie: bytes
    grant: bytes


@dataclass(frozen=True)
class Request:
    """A head, as it came. target: path and query; host: the Host header."""

    method: str
    target: str
    host: str
    headers: Headers

    @property
    def json_wanted(self) -> bool:
        return any(b"json" in word for word in words(self.headers, b"accept"))

    @property
    def is_page(self) -> bool:
        """Whether a person's browser asks for a page, which can be sent elsewhere and back."""
        accepts = any(word.startswith(b"text/html") for word in words(self.headers, b"accept"))
        mode = words(self.headers, b"sec-fetch-mode")
        upgrading = wants_websocket(self.headers)
        return self.method == "GET" and accepts and not upgrading and mode in (set(), {b"navigate"})

    def from_elsewhere(self, names: PortNames) -> bool:
        """Whether a page of another name makes the browser ask."""
        own = f"{names.scheme}://{self.host}".lower().encode()
        if any(origin.lower() != own for origin in values(self.headers, b"origin")):
            return True
        if not words(self.headers, b"sec-fetch-site") & _ELSEWHERE:
            return False
        mode, into = (words(self.headers, name) for name in (b"sec-fetch-mode", b"sec-fetch-dest"))
        return mode != {b"navigate"} or into != {b"document"}


@dataclass(frozen=True)
class Passed:
    """It may be passed on. until: when a cookie that let it in ends. cookie: to be set with the
    answer."""

    until: float | None = None
    cookie: str = ""


def judge(
    request: Request, door: PortDoor, *, names: PortNames, portal: str, keys: Keys, now: float
) -> Passed | Answer:
    """portal: its address, for members who have to show who they are."""
    if request.target.partition("?")[0] == ENTER_PATH:
        return _enter(request, door, names=names, keys=keys, now=now)
    if door.access_mode == PUBLIC:
        return Passed()
    if not request.from_elsewhere(names):
        for value in cookies(request.headers, passes.name_of(secure=names.secure)):
            until = passes.until_of(value, door, key=keys.cookie, now=now)
            if until is not None:
                return Passed(until=until)
    if door.access_mode == TEAM:
        return _show_yourself(request, door, portal)
    if any(_is_token(given, door) for given in _query(request, "token")):
        made = passes.header(door, key=keys.cookie, now=now, secure=names.secure)
        return Passed(cookie=made)
    return _token_only(request, door)


def _token_only(request: Request, door: PortDoor) -> Passed | Answer:
    if _is_token(_bearer(request.headers), door):
        return Passed()
    return Answer(
        401,
        "Whoever opens this address has to show its token. Open it from the page of the rental.",
        (("www-authenticate", "Bearer"),),
    )


def _enter(request: Request, door: PortDoor, *, names: PortNames, keys: Keys, now: float) -> Answer:
    """A member comes back from the portal with its word for them."""
    granted = False
    for text in _query(request, "grant"):
        try:
            found = verify(text, verb=enter_verb(door.port), key=keys.grant, now=now)
        except BadGrant:
            continue
        granted = granted or found.subject == door.rental
    if not granted or door.access_mode != TEAM or request.method != "GET":
        return Answer(403, "This way in has expired. Open the address again.")
    wanted = next(iter(_query(request, "to")), "/")
    target = wanted if is_own_path(wanted) else "/"
    made = passes.header(door, key=keys.cookie, now=now, secure=names.secure)
    return Answer(303, "You are in.", (("set-cookie", made), ("location", ascii_path(target))))


def _show_yourself(request: Request, door: PortDoor, portal: str) -> Answer:
    said = "This address is for members of the rental's team. Open it from the page of the rental."
    if not request.is_page:
        return Answer(401, said)
    to = urlencode({"to": request.target if is_own_path(request.target) else "/"})
    rental = public("rental", door.rental)
    where = f"{portal}/rentals/{rental}/ports/{door.port}/enter?{to}"
    return Answer(302, said, (("location", where),))


def is_own_path(text: str) -> bool:
    """Whether a browser stays on this host when it is sent there. Browsers read ``\\`` as ``/``
    and leave out control characters, so ``/\\example.net`` leads to another host."""
    return (
        text.startswith("/")
        and not text.startswith("//")
        and len(text) <= _LONGEST_PATH
        and "\\" not in text
        and all(" " < letter != "\x7f" for letter in text)
    )


def ascii_path(text: str) -> str:
    """As a header can hold it; what is quoted already stays so."""
    return quote(text, safe="/?&=%:;,@!$'()*+~#[]-._")


def _bearer(headers: Headers) -> str:
    given = values(headers, b"authorization")
    kind, _, token = (given[0] if len(given) == 1 else b"").partition(b" ")
    return token.strip().decode("latin-1") if kind.lower() == b"bearer" else ""


def _query(request: Request, name: str) -> list[str]:
    try:
        fields = parse_qsl(urlsplit(request.target).query, max_num_fields=_MOST_FIELDS)
    except ValueError:
        return []
    return [value for each, value in fields if each == name]


def _is_token(given: str, door: PortDoor) -> bool:
    return hmac.compare_digest(given.encode(), door.token.encode())
