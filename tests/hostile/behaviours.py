"""How a hostile API server can answer, each way with a name.

A behaviour gets the socket after a whole request was read (before the handshake, where it is about
that) and does its worst. `slow` ones hold a call until its deadline.
"""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from tests.hostile import answers
from tests.hostile.wire import Answer, Asked

HOST = "k8s.partner.example"
METADATA = "http://169.254.169.254/latest/meta-data/"


@dataclass(frozen=True)
class Behaviour:
    """``pair``: the certificate by its name in `far_end`; "" for no TLS at all."""

    name: str
    answer: Answer
    pair: str = "good"
    slow: bool = False


def _whole(
    body: bytes | Callable[[Asked], bytes], status: str = "200 OK", head: str = ""
) -> Answer:
    def answer(sock: socket.socket, asked: Asked) -> None:
        content = body if isinstance(body, bytes) else body(asked)
        start = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n{head}\r\n"
        sock.sendall(start.encode("latin-1") + content)

    return answer


def _last(*pieces: bytes) -> Answer:
    """These bytes, and the line is cut."""

    def answer(sock: socket.socket, _: Asked) -> None:
        for piece in pieces:
            sock.sendall(piece)
        raise ConnectionAbortedError

    return answer


def _then(first: bytes, again: bytes, pause: float = 0.0) -> Answer:
    """First the one, then the other for ever."""

    def answer(sock: socket.socket, asked: Asked) -> None:
        sock.sendall(first)
        while True:
            sock.sendall(again)
            asked.rest(pause)

    return answer


def _silence(sock: socket.socket, asked: Asked) -> None:
    while True:
        asked.rest(1)


def _after(first: bytes) -> Answer:
    """These bytes, and nothing more on a line that stays."""

    def answer(sock: socket.socket, asked: Asked) -> None:
        sock.sendall(first)
        _silence(sock, asked)

    return answer


def _words(text: str) -> Answer:
    return _whole(lambda asked: json.dumps(answers.plausible(asked, text)).encode())


def _pages(sock: socket.socket, asked: Asked) -> None:
    """There is always one more page, and every page is as full as it gets."""
    body = answers.many_nodes(asked)[:-1] + b',"metadata":{"continue":"more"}}'
    _whole(body)(sock, asked)


def _long_continue(sock: socket.socket, asked: Asked) -> None:
    body = json.dumps({"items": [], "metadata": {"continue": "c" * answers.MIB}}).encode()
    _whole(body)(sock, asked)


def _events(sock: socket.socket, asked: Asked) -> None:
    """A watch without end; for every other call a body without end."""
    event = {"type": "MODIFIED", "object": answers.plausible(asked, "x")}
    line = json.dumps(event).encode() + b"\n"
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(b"%x\r\n%s\r\n" % (len(line), line))
        asked.rest(0.001)


def _redirect(status: str, where: str) -> Answer:
    return _whole(b"{}", status, f"Location: {where}\r\n")


def _bomb(kind: str) -> Answer:
    plain = b'{"items":[' + b" " * 50_000_000 + b"]}"
    packed = gzip.compress(plain) if kind == "gzip" else zlib.compress(plain)
    return _whole(packed, head=f"Content-Encoding: {kind}\r\n")


_OK = b"HTTP/1.1 200 OK\r\n"
_INTERIM = b"HTTP/1.1 100 Continue\r\n\r\n"
_HELLO = b"\x16\x03\x03\x00\x7a\x02\x00\x00\x76\x03\x03"
_RECORD = b"\x16\x03\x03\x40\x00"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _handshakes() -> list[Behaviour]:
    return [
        Behaviour("no TLS", _last(b"HTTP/1.1 400 Bad Request\r\n\r\n"), ""),
        Behaviour("another protocol", _last(b"SSH-2.0-OpenSSH_9.2\r\n"), ""),
        Behaviour("closes at once", _last(), ""),
        Behaviour("silent before TLS", _silence, "", slow=True),
        Behaviour(
            "half a handshake",
            _after(_HELLO),
            "",
            slow=True,
        ),
        Behaviour("a handshake in drips", _then(_RECORD, b"\x02", 0.05), "", slow=True),
        Behaviour("an alert", _last(b"\x15\x03\x03\x00\x02\x02\x28"), ""),
        Behaviour("alerts for ever", _then(b"", b"\x15\x03\x03\x00\x02\x01\x00", 0.01), ""),
        Behaviour("another CA", _whole(b"{}"), "another CA"),
        Behaviour("another host", _whole(b"{}"), "another host"),
        Behaviour("an expired certificate", _whole(b"{}"), "expired"),
    ]


def _redirects(canary: int) -> list[Behaviour]:
    targets = (METADATA, f"https://127.0.0.1:{canary}/", f"//127.0.0.1:{canary}/", "/api/v1/nodes")
    ways = zip(("301 Moved", "302 Found", "307 Temporary", "308 Permanent"), targets, strict=True)
    return [
        *(Behaviour(f"redirect {way[:3]}", _redirect(way, where)) for way, where in ways),
        Behaviour("redirect that is none", _whole(b"{}", head=f"Location: {METADATA}\r\n")),
        Behaviour(
            "refresh", _whole(b"{}", head=f"Refresh: 0; url=https://127.0.0.1:{canary}/\r\n")
        ),
        Behaviour("another service", _whole(b"{}", head=f'Alt-Svc: h2="127.0.0.1:{canary}"\r\n')),
        Behaviour("use a proxy", _redirect("305 Use Proxy", f"http://127.0.0.1:{canary}")),
    ]


def _slow() -> list[Behaviour]:
    drip = _OK + b"Content-Length: 1000000\r\n\r\n{"
    return [
        Behaviour("silent", _silence, slow=True),
        Behaviour("a status in drips", _then(b"HTTP/1.1 200 ", b"O", 0.05), slow=True),
        Behaviour("headers in drips", _then(_OK, b"X: y\r\n", 0.05), slow=True),
        Behaviour("a body in drips", _then(drip, b" ", 0.05), slow=True),
        Behaviour("chunks in drips", _then(_CHUNKED, b"1\r\n \r\n", 0.05), slow=True),
        Behaviour("begins and stays", _after(_CHUNKED + b"1\r\n{\r\n"), slow=True),
        Behaviour(
            "interim answers in drips",
            _then(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.05),
            slow=True,
        ),
    ]


def _framing() -> list[Behaviour]:
    body = b'{"gitVersion":"v1.30.0","items":[]}'
    length = _OK + b"Content-Length: "
    return [
        Behaviour("interim answers for ever", _then(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n" * 50)),
        Behaviour("switches protocols", _last(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n")),
        Behaviour("a body without end", _then(_OK + b"\r\n", b" " * 65536)),
        Behaviour("headers without end", _then(_OK, b"X: " + b"y" * 60 + b"\r\n")),
        Behaviour("a giant header", _last(_OK + b"X: " + b"y" * 10_000_000 + b"\r\n\r\n{}")),
        Behaviour("thousands of headers", _last(_OK + b"X: y\r\n" * 5_000 + b"\r\n{}")),
        Behaviour("a status without end", _then(b"HTTP/1.1 200 ", b"O" * 65536)),
        Behaviour("a length too long", _last(length + b"999\r\n\r\n" + body)),
        Behaviour("a length too short", _last(length + b"3\r\n\r\n" + body)),
        Behaviour("a length below zero", _last(length + b"-1\r\n\r\n" + body)),
        Behaviour("a length of words", _last(length + b"many\r\n\r\n" + body)),
        Behaviour("a length without end", _last(length + b"9" * 400 + b"\r\n\r\n")),
        Behaviour("two lengths", _last(length + b"2\r\nContent-Length: 35\r\n\r\n" + body)),
        Behaviour("chunks of no size", _last(_CHUNKED + b"zz\r\n{}\r\n0\r\n\r\n")),
        Behaviour("chunks below zero", _last(_CHUNKED + b"-5\r\n{}\r\n0\r\n\r\n")),
        Behaviour("a chunk too large", _last(_CHUNKED + b"f" * 16 + b"\r\n{}")),
        Behaviour("a chunk's size without end", _then(_CHUNKED, b"0" * 65536)),
        Behaviour("trailers without end", _then(_CHUNKED + b"2\r\n{}\r\n0\r\n", b"X: y\r\n" * 999)),
        Behaviour("cut in a chunk", _last(_CHUNKED + b"50\r\n{")),
        Behaviour("no HTTP", _last(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")),
        Behaviour("an old HTTP", _last(b"<html>hello</html>")),
        Behaviour("a status of words", _last(b"HTTP/1.1 two hundred\r\n\r\n{}")),
        Behaviour("a status below zero", _last(b"HTTP/1.1 -200 OK\r\n\r\n{}")),
        Behaviour("a status beyond all", _whole(b"{}", "999 What")),
        Behaviour("no content", _whole(b"", "204 No Content")),
    ]


def _packed() -> list[Behaviour]:
    many = "Content-Encoding: " + "gzip, " * 500 + "x\r\n"
    return [
        Behaviour("a gzip bomb", _bomb("gzip")),
        Behaviour("a deflate bomb", _bomb("deflate")),
        Behaviour("an unknown packing", _whole(b"\x00", head="Content-Encoding: br, zstd\r\n")),
        Behaviour("packed many times", _whole(b"{}", head=many)),
        Behaviour("packed without a word", _whole(gzip.compress(b" " * 50_000_000))),
    ]


def _statuses() -> list[Behaviour]:
    page = b"<html><script>alert(1)</script></html>"
    wait = "Retry-After: {}\r\n"
    ansi = b'{"message":"\\u001b[2J\\u202e\\u0000"}'
    asks = "WWW-Authenticate: Negotiate\r\n"
    return [
        Behaviour("wait for a day", _whole(b"{}", "429 Too Many", wait.format(86400))),
        Behaviour("wait for ever", _whole(b"{}", "503 Unavailable", wait.format("9" * 400))),
        Behaviour(
            "wait for a date",
            _whole(b"{}", "429 Too Many", wait.format("Fri, 31 Dec 9999 23:59:59 GMT")),
        ),
        Behaviour("wait below zero", _whole(b"{}", "429 Too Many", wait.format("-1"))),
        Behaviour("a page", _whole(page)),
        Behaviour("a page that refuses", _whole(page, "403 Forbidden")),
        Behaviour("a page of an error", _whole(page * 20_000, "500 Internal")),
        Behaviour("a deep error", _whole(b"[" * 100_000, "503 Unavailable")),
        Behaviour("an error with ANSI", _whole(ansi, "422 No")),
        Behaviour("unauthorized", _whole(b"{}", "401 Unauthorized", asks)),
    ]


def _bodies() -> list[Behaviour]:
    return [
        Behaviour("deep JSON", _whole(answers.deep)),
        Behaviour("a long integer", _whole(answers.long_integer)),
        Behaviour("a million objects", _whole(answers.many_empty)),
        Behaviour("half a million keys", _whole(answers.many_keyed)),
        Behaviour("half a million floats", _whole(answers.many_floats)),
        Behaviour("names that are all different", _whole(answers.many_names)),
        Behaviour("a text of four bytes each", _whole(answers.astral)),
        Behaviour("thousands of nodes", _whole(answers.many_nodes)),
        Behaviour("pages without end", _pages),
        Behaviour("full pages without end", _whole(answers.full_page)),
        Behaviour("a long token for the next page", _long_continue),
        Behaviour("events without end", _events),
        Behaviour("an event without end", _then(_CHUNKED, b"10000\r\n" + b"x" * 65536 + b"\r\n")),
        Behaviour("nothing", _whole(b"")),
        Behaviour("a list", _whole(b"[1]")),
        Behaviour("not a number", _whole(b'{"gitVersion": NaN, "items": [Infinity]}')),
        Behaviour("no UTF-8", _whole(b"\xff\xfe\x00\x00{}")),
        Behaviour("an empty object", _whole(b"{}")),
        Behaviour("wrong types", _whole(answers.wrong_types)),
        Behaviour("words: NUL", _words("a\x00b")),
        Behaviour("words: half a character", _words("a\ud800b")),
        Behaviour("words: HTML", _words("<script>alert(1)</script>")),
        Behaviour("words: ANSI and bidi", _words("\x1b[2J\u202egpj.exe\u2028")),
        Behaviour("words: line breaks", _words("a\r\nX-Injected: yes")),
        Behaviour("words: long", _words("x" * 20_000)),
        Behaviour("words: a path", _words("../../../../etc/passwd")),
        Behaviour("words: a number", _words("9" * 1_000)),
        Behaviour("words: nothing", _words("")),
    ]


def behaviours(canary: int) -> dict[str, Behaviour]:
    """All of them by name; ``canary``: a port that redirects lead to."""
    made = [
        *(*_handshakes(), *_redirects(canary), *_slow(), *_framing()),
        *(*_packed(), *_statuses(), *_bodies()),
    ]
    found = {each.name: each for each in made}
    assert len(found) == len(made)
    return found


def rotating(every: dict[str, Behaviour]) -> Answer:
    """Another one for each connection, of those that begin after the handshake."""
    after = [each for each in every.values() if each.pair == "good"]

    def answer(sock: socket.socket, asked: Asked) -> None:
        asked.rng.choice(after).answer(sock, asked)

    return answer
