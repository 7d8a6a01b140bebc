"""A registry that means harm: led nowhere, not held up, not flooded, and no byte to a wrong place.

The servers are raw sockets with TLS on loopback: a proper HTTP library would not misbehave enough.
"""

from __future__ import annotations

import gzip
import ipaddress
import json
import resource
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from devstack.kube.certs import Authority
from kernel.addresses import ForbiddenAddress
from marketplace.images.reference import parse
from marketplace.images.registry import Failure, Registry, Unanswered

Handler = Callable[[ssl.SSLSocket, bytes], None]
SECONDS = 1.0
USER = ("puller", "correct-horse-battery")


class Server:
    """Answers every connection with ``handler``; keeps what it was asked."""

    def __init__(self, folder: Path, handler: Handler) -> None:
        authority = Authority(folder, "hostile")
        self.authority_file = authority.pair.cert
        pair = authority.server("hostile", ["127.0.0.1", "registry.example.com"])
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(pair.cert, pair.key)
        self._handler = handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[str] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._one, args=(raw,), daemon=True).start()

    def _one(self, raw: socket.socket) -> None:
        try:
            with self._context.wrap_socket(raw, server_side=True) as sock:
                data = b""
                while b"\r\n\r\n" not in data:
                    chunk = sock.recv(65536)
                    if not chunk:
                        return
                    data += chunk
                self.requests.append(data.decode())
                self._handler(sock, data)
        except OSError:
            return  # the client went away, which is what some tests want to see

    def close(self) -> None:
        self._listener.close()


def answer(status: str, headers: str = "", body: bytes = b"") -> Handler:
    def handle(sock: ssl.SSLSocket, _: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        sock.sendall(head.encode() + body)

    return handle


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Server]]:
    servers: list[Server] = []

    def start(handler: Handler) -> Server:
        server = Server(tmp_path / str(len(servers)), handler)
        monkeypatch.setenv("SSL_CERT_FILE", str(server.authority_file))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


def ask(server: Server, **given: Any) -> str:
    options: dict[str, Any] = {"networks": (ipaddress.ip_network("127.0.0.0/8"),), **given}
    name = parse(f"127.0.0.1:{server.port}/team/app:1")
    return Registry(name, **options).digest(seconds=SECONDS)


def failure(server: Server, **given: Any) -> Unanswered:
    began = time.monotonic()
    with pytest.raises(Unanswered) as caught:
        ask(server, **given)
    assert time.monotonic() - began < SECONDS + 4, "the deadline holds whatever the server does"
    return caught.value


def challenge(realm: str) -> str:
    return f'WWW-Authenticate: Bearer realm="{realm}",service="x",scope="repository:other:pull"\r\n'


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
@pytest.mark.parametrize(
    "target",
    ["https://169.254.169.254/latest/meta-data/", "http://127.0.0.1/", "https://example.com/x"],
)
def test_no_redirect_is_followed(serve, status: str, target: str) -> None:
    server = serve(answer(status, f"Location: {target}\r\n"))
    error = failure(server)
    assert error.failure is Failure.BAD_ANSWER
    assert "redirect" in str(error)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "realm",
    [
        "http://127.0.0.1/token",
        "ftp://example.com/token",
        "//example.com/token",
        "https://",
        "https://user@example.com/token",
        "https://example.com:port/token",
        "https://exa mple.com/",
        "https://example.com\\@127.0.0.1/",
        "file:///etc/passwd",
        "",
    ],
)
def test_a_token_service_elsewhere_than_https_is_refused(serve, realm: str) -> None:
    server = serve(answer("401 Unauthorized", challenge(realm)))
    assert failure(server, user=USER).failure is Failure.BAD_ANSWER
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("realm", "address"),
    [
        ("https://169.254.169.254/latest/meta-data/", "169.254.169.254"),
        ("https://auth.example.com/token", "169.254.169.254"),
        ("https://auth.example.com/token", "10.0.0.1"),
        ("https://auth.example.com/token", "::ffff:169.254.169.254"),
        ("https://auth.example.com:22/token", "93.184.215.14"),
    ],
)
def test_a_token_service_at_a_forbidden_address_gets_no_byte(
    serve, realm: str, address: str
) -> None:
    server = serve(answer("401 Unauthorized", challenge(realm)))

    def resolver(host: str, port: int) -> list[str]:
        return ["127.0.0.1"] if host == "127.0.0.1" else [address]

    with pytest.raises(ForbiddenAddress):
        ask(server, user=USER, resolver=resolver)
    assert len(server.requests) == 1


def test_a_registry_does_not_lead_into_the_in_house_network(serve) -> None:
    """The network is open for its own registries, not for whom another registry names."""
    inner = serve(answer("200 OK", body=b'{"token": "x"}'))
    outer = serve(answer("401 Unauthorized", challenge(f"https://127.0.0.1:{inner.port}/token")))
    with pytest.raises(ForbiddenAddress):
        ask(outer, user=USER)
    assert inner.requests == []


@pytest.mark.parametrize(
    ("name", "addresses"),
    [
        ("registry.example.com/a:1", ["127.0.0.1"]),
        ("registry.example.com/a:1", ["93.184.215.14", "127.0.0.1"]),
        ("metadata.example.com/a:1", ["169.254.169.254"]),
        ("registry.example.com:22/a:1", ["93.184.215.14"]),
        ("registry.example.com:10250/a:1", ["93.184.215.14"]),
        ("localhost/a:1", ["127.0.0.1"]),
        ("2130706433/a.b/c:1", ["127.0.0.1"]),
    ],
)
def test_registries_at_other_addresses_or_ports_are_not_reached(name, addresses) -> None:
    registry = Registry(parse(name), resolver=lambda host, port: addresses)
    with pytest.raises(ForbiddenAddress):
        registry.digest(seconds=SECONDS)


def test_the_scope_asked_for_is_ours(serve) -> None:
    def handle(sock: ssl.SSLSocket, data: bytes) -> None:
        realm = f"https://127.0.0.1:{server.port}/token?account=x"
        if data.startswith(b"HEAD"):
            answer("401 Unauthorized", challenge(realm))(sock, data)
        else:
            answer("200 OK", body=b'{"token": "t"}')(sock, data)

    server = serve(handle)
    assert failure(server).failure is Failure.AUTH
    asked = server.requests[1].splitlines()[0]
    assert "scope=repository%3Ateam%2Fapp%3Apull" in asked
    assert "other" not in asked
    assert "account=x" in asked


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{}",
        b'{"token": 7}',
        b'{"token": "a\\r\\nHost: evil"}',
        b'{"token": "' + b"x" * 40_000 + b'"}',
        b"[" * 60_000,
        b"\xff\xfe",
        # mtime: the compressed bytes name the test, and workers must collect the same names
        gzip.compress(b'{"token": "x"}', mtime=0),
    ],
    ids=lambda body: body[:12],
)
def test_a_token_answer_that_is_none(serve, body: bytes) -> None:
    def handle(sock: ssl.SSLSocket, data: bytes) -> None:
        realm = f"https://127.0.0.1:{server.port}/token"
        unsigned = answer("401 Unauthorized", challenge(realm))
        (unsigned if data.startswith(b"HEAD") else answer("200 OK", body=body))(sock, data)

    server = serve(handle)
    assert failure(server).failure is Failure.BAD_ANSWER
    assert len(server.requests) == 2


def test_a_giant_answer_is_cut_off(serve) -> None:
    chunk = json.dumps({"token": "x" * 8192}).encode()

    def handle(sock: ssl.SSLSocket, data: bytes) -> None:
        if data.startswith(b"HEAD"):
            realm = f"https://127.0.0.1:{server.port}/token"
            answer("401 Unauthorized", challenge(realm))(sock, data)
            return
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n")
        while True:
            sock.sendall(chunk)

    server = serve(handle)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    error = failure(server)
    assert (error.failure, str(error)) == (Failure.BAD_ANSWER, "more than 64 KiB")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


@pytest.mark.parametrize(
    "piece",
    [b"H", b"HTTP/1.1 200 OK\r\nX: y", b"HTTP/1.1 100 Continue\r\n\r\n"],
    ids=["silent", "in its headers", "continuing"],
)
def test_a_dripping_server_is_cut_off_at_the_deadline(serve, piece: bytes) -> None:
    stop = threading.Event()

    def handle(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(piece)
        rest = piece if b"100" in piece else b"z"
        while not stop.wait(0.02):
            sock.sendall(rest)

    server = serve(handle)
    try:
        error = failure(server)
    finally:
        stop.set()
    assert error.failure is Failure.UNREACHABLE
    assert "within 1 s" in str(error)


def test_a_name_server_that_hangs_is_given_up() -> None:
    stop = threading.Event()

    def resolver(host: str, port: int) -> list[str]:
        stop.wait(30)
        return []

    began = time.monotonic()
    with pytest.raises(Unanswered) as caught:
        Registry(parse("registry.example.com/a:1"), resolver=resolver).digest(seconds=0.5)
    stop.set()
    assert caught.value.failure is Failure.UNREACHABLE
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        ("200 OK", "", Failure.BAD_ANSWER),
        ("200 OK", "Docker-Content-Digest: sha256:12\r\n", Failure.BAD_ANSWER),
        ("200 OK", f"Docker-Content-Digest: md5:{'0' * 64}\r\n", Failure.BAD_ANSWER),
        ("204 No Content", "", Failure.BAD_ANSWER),
        ("401 Unauthorized", "", Failure.BAD_ANSWER),
        ("401 Unauthorized", "WWW-Authenticate: Negotiate\r\n", Failure.BAD_ANSWER),
        ("401 Unauthorized", f"WWW-Authenticate: {'Bearer ' * 900}\r\n", Failure.BAD_ANSWER),
        ("401 Unauthorized", 'WWW-Authenticate: Basic realm="x"\r\n', Failure.AUTH),
        ("403 Forbidden", "", Failure.AUTH),
        ("404 Not Found", "", Failure.NOT_FOUND),
        ("418 Teapot", "", Failure.BAD_ANSWER),
        ("429 Too Many Requests", "Retry-After: 3600\r\n", Failure.BUSY),
        ("500 Oops", "", Failure.UNREACHABLE),
        ("503 Oops", "Retry-After: 3600\r\n", Failure.UNREACHABLE),
        ("999 \x1b[31mred", "", Failure.BAD_ANSWER),
    ],
)
def test_every_answer_is_one_of_five(serve, status: str, headers: str, expected: Failure) -> None:
    server = serve(answer(status, headers))
    assert failure(server).failure is expected
    assert len(server.requests) == 1


def test_what_is_no_http_at_all(serve) -> None:
    server = serve(lambda sock, _: sock.sendall(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"))
    assert failure(server).failure is Failure.UNREACHABLE


def test_the_password_is_sent_only_when_asked_for(serve) -> None:
    digest = "sha256:" + "a" * 64
    server = serve(answer("200 OK", f"Docker-Content-Digest: {digest}\r\n"))
    assert ask(server, user=USER) == digest
    assert "Authorization" not in server.requests[0]
    assert "Accept-Encoding: identity" in server.requests[0]
