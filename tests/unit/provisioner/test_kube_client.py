"""One call to a hostile API server: bounded in time and bytes, led nowhere, never a crash.

The servers are raw sockets with TLS on loopback: a proper HTTP library would not misbehave enough.
"""

from __future__ import annotations

import datetime
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kernel.errors import PermanentError, TemporaryError, UnknownOutcome, VendorError
from kernel.ids import new_id
from provisioner.contracts import AddressBinding
from provisioner.contracts.access import AGENT_HOST
from provisioner.kube import api as kube_api
from provisioner.kube import client as kube_client
from provisioner.kube.agent import AgentWay
from provisioner.kube.api import KubernetesApi
from provisioner.kube.client import Client
from provisioner.kube.errors import code_of
from provisioner.kube.slim import Allowance
from provisioner.kube.transport import Cut
from tests.agentdoor import DoorWorld

Handler = Callable[[ssl.SSLSocket, bytes], None]


def certificate(name: str, folder: Path) -> tuple[str, Path]:
    """A self-signed certificate for ``name`` as (PEM, file with key)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM).decode()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    file = folder / f"{name}.pem"
    file.write_text(private + pem)
    return pem, file


class Server:
    """Answers every connection with ``handler``; counts them."""

    def __init__(self, pem_file: Path, handler: Handler) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem_file)
        self._context, self._handler = context, handler
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.requests: list[bytes] = []
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
                self.requests.append(data)
                self._handler(sock, data)
        except OSError:
            return  # the client went away, which is what some tests want to see

    def close(self) -> None:
        self._listener.close()


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    def handle(sock: ssl.SSLSocket, _: bytes) -> None:
        head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
        sock.sendall(head.encode() + body)

    return handle


Start = Callable[..., tuple[Client, Server]]


@pytest.fixture
def direct(tmp_path) -> Iterator[Start]:
    """Servers at an address."""
    servers: list[Server] = []
    pem, file = certificate("k8s.example.com", tmp_path)

    def start(handler: Handler, **given) -> tuple[Client, Server]:
        server = Server(file, handler)
        servers.append(server)
        options = {
            "api_url": f"https://k8s.example.com:{server.port}",
            "ca_pem": pem,
            "token": "secret-token",
            "binding": AddressBinding(("127.0.0.0/8",), (server.port,)),
            "resolver": lambda host, port: ["127.0.0.1"],
        }
        return Client.direct(**{**options, **given}), server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def behind_agent(tmp_path, settings) -> Iterator[Start]:
    """Servers that are agents gone bad, or whose agents pass on what a bad server says."""
    servers: list[Server] = []
    pem, file = certificate(AGENT_HOST, tmp_path)
    world = DoorWorld(settings.GPUYARD_GRANT_KEY)
    settings.GPUYARD_AGENT_DOOR = ("127.0.0.1", world.port)

    def start(handler: Handler) -> tuple[Client, Server]:
        server = Server(file, handler)
        servers.append(server)
        world.agents.port = server.port
        return Client(way=AgentWay(new_id()), ca_pem=pem, token="secret-token"), server

    yield start
    for server in servers:
        server.close()
    world.stop()


@pytest.fixture(params=["direct", "behind_agent"])
def serve(request) -> Start:
    """Either way the same holds."""
    found: Start = request.getfixturevalue(request.param)
    return found


def failure(client: Client, **given) -> VendorError:
    with pytest.raises(VendorError) as caught:
        client.request("GET", "/x", **given)
    return caught.value


def test_a_proper_answer_is_decoded_and_the_connection_kept(serve) -> None:
    client, server = serve(answer(b'{"kind": "Pod"}'))
    assert client.request("GET", "/a", query={"labelSelector": "a=b"}) == {"kind": "Pod"}
    head = server.requests[0].decode()
    assert head.startswith("GET /a?labelSelector=a%3Db HTTP/1.1")
    assert "Authorization: Bearer secret-token" in head
    assert "Accept-Encoding: identity" in head


def test_a_read_outlives_a_kept_connection_and_nothing_else_does(serve) -> None:
    """A balancer or relay closed it when the next call was on its way. Whether that call arrived
    cannot be known, which matters to whatever changes something."""

    def and_then_close(sock: ssl.SSLSocket, data: bytes) -> None:
        answer(b'{"kind": "Pod"}')(sock, data)
        sock.recv(65536)

    client, server = serve(and_then_close)
    for _ in range(3):
        assert client.request("GET", "/a") == {"kind": "Pod"}
    assert len(server.requests) == 3
    with pytest.raises(UnknownOutcome) as caught:
        client.request("POST", "/a", body={})
    assert code_of(caught.value) == "broken"
    assert len(server.requests) == 3, "sent once, and not again over another connection"


def test_a_server_that_only_ever_closes_is_asked_once(serve) -> None:
    client, server = serve(lambda sock, data: None)
    assert code_of(failure(client)) == "broken"
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        ("401 Unauthorized", b"{}", PermanentError, "unauthorized"),
        ("403 Forbidden", b'{"message":"user cannot list pods"}', PermanentError, "forbidden"),
        ("403 Forbidden", b'{"message":"exceeded quota: x"}', PermanentError, "quota"),
        ("403 Forbidden", b'{"message":"violates PodSecurity"}', PermanentError, "not_admitted"),
        ("404 Not Found", b"<html>", PermanentError, "not_found"),
        ("409 Conflict", b'{"reason":"AlreadyExists"}', PermanentError, "exists"),
        ("409 Conflict", b'{"reason":"Conflict"}', PermanentError, "conflict"),
        ("410 Gone", b"{}", PermanentError, "expired"),
        ("422 Unprocessable", b"{}", PermanentError, "invalid"),
        ("500 Internal", b"x", UnknownOutcome, "server_error"),
        ("503 Unavailable", b"[" * 100_000, UnknownOutcome, "server_error"),
        ("200 OK", b"", UnknownOutcome, "not_json"),
        ("200 OK", b"[1]", UnknownOutcome, "not_json"),
        ("200 OK", b"\xff\xfe", UnknownOutcome, "not_json"),
        ("200 OK", b'{"a":' * 100_000, UnknownOutcome, "not_json"),
        ("200 OK", b'{"a":' + b"9" * 5_000 + b"}", UnknownOutcome, "not_json"),
        ("200 OK", b'{"a":[' + b"0," * 100_000 + b"0]}", UnknownOutcome, "too_large"),
        ("200 OK", b'{"a":"' + b"x" * 524_288 + b'"}', UnknownOutcome, "too_large"),
    ],
)
def test_every_status_and_body_is_an_error_of_ours(serve, status, body, kind, code) -> None:
    client, _ = serve(answer(body, status))
    error = failure(client)
    assert isinstance(error, kind)
    assert code_of(error) == code


def test_retry_after_is_a_wish_of_half_a_minute_at_most(serve) -> None:
    client, server = serve(answer(b"{}", "429 Too Many", "Retry-After: 99999\r\n"))
    began = time.monotonic()
    error = failure(client)
    assert isinstance(error, TemporaryError)
    assert error.delay == 30
    assert time.monotonic() - began < 5
    assert len(server.requests) == 1, "nothing is retried inside"


def test_no_redirect_is_followed(direct) -> None:
    other, target = direct(answer(b'{"stolen": true}'))
    client, _ = direct(
        answer(b"", "307 Moved", f"Location: https://k8s.example.com:{target.port}/x\r\n")
    )
    assert code_of(failure(client)) == "redirect"
    assert target.requests == []
    assert other.request("GET", "/x") == {"stolen": True}, "the target does answer"


def test_proxies_of_the_environment_are_not_used(serve, monkeypatch) -> None:
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    client, _ = serve(answer(b"{}"))
    assert client.request("GET", "/x") == {}


def test_an_endless_answer_is_cut_at_the_cap(serve) -> None:
    def flood(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b" " * 65536)

    client, _ = serve(flood)
    assert code_of(failure(client)) == "too_large"


def test_a_bomb_is_not_unpacked(serve) -> None:
    bomb = gzip.compress(b" " * 50_000_000)
    client, _ = serve(answer(bomb, headers="Content-Encoding: gzip\r\n"))
    assert code_of(failure(client)) == "not_json"


def drip_headers(sock: ssl.SSLSocket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        sock.sendall(b"X: y\r\n")
        time.sleep(0.05)


def drip_body(sock: ssl.SSLSocket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
    while True:
        sock.sendall(b" ")
        time.sleep(0.05)


def say_nothing(sock: ssl.SSLSocket, _: bytes) -> None:
    sock.recv(1)


def close_early(sock: ssl.SSLSocket, _: bytes) -> None:
    sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")


@pytest.mark.parametrize("handler", [drip_body, say_nothing])
def test_one_deadline_covers_the_whole_call(serve, handler) -> None:
    client, _ = serve(handler)
    began = time.monotonic()
    error = failure(client, seconds=0.7)
    assert isinstance(error, UnknownOutcome)
    assert code_of(error) == "timeout"
    assert time.monotonic() - began < 3


def test_dripping_headers_end_as_well(serve) -> None:
    client, _ = serve(drip_headers)
    began = time.monotonic()
    assert isinstance(failure(client, seconds=0.7), UnknownOutcome)
    assert time.monotonic() - began < 5


def test_a_handshake_that_never_ends_ends(tmp_path) -> None:
    pem, _ = certificate("k8s.example.com", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        client = Client.direct(
            api_url=f"https://k8s.example.com:{port}",
            ca_pem=pem,
            token="t",
            binding=AddressBinding(("127.0.0.0/8",), (port,)),
            resolver=lambda host, port: ["127.0.0.1"],
        )
        began = time.monotonic()
        error = failure(client, seconds=0.7)
        assert code_of(error) == "timeout"
        assert time.monotonic() - began < 3


def test_a_connection_cut_in_the_middle_has_an_unknown_outcome(serve) -> None:
    client, _ = serve(close_early)
    assert isinstance(failure(client), UnknownOutcome)


def test_another_ca_is_refused(direct, tmp_path) -> None:
    (tmp_path / "other").mkdir()
    other, _ = certificate("k8s.example.com", tmp_path / "other")
    client, server = direct(answer(b"{}"), ca_pem=other)
    error = failure(client)
    assert isinstance(error, PermanentError)
    assert code_of(error) == "bad_ca"
    assert server.requests == [], "the token was not sent"


def test_a_certificate_for_another_host_is_refused(direct, tmp_path) -> None:
    pem, file = certificate("other.example.com", tmp_path)
    server = Server(file, answer(b"{}"))
    client, _ = direct(
        answer(b"{}"),
        api_url=f"https://k8s.example.com:{server.port}",
        ca_pem=pem,
        binding=AddressBinding(("127.0.0.0/8",), (server.port,)),
    )
    assert code_of(failure(client)) == "bad_ca"
    assert server.requests == []
    server.close()


def test_the_address_is_checked_at_each_connect_and_no_byte_leaves(direct) -> None:
    """A name that pointed to a good address when it was registered may point elsewhere now."""
    now = ["127.0.0.1"]
    client, server = direct(
        answer(b"{}", headers="Connection: close\r\n"), resolver=lambda host, port: list(now)
    )
    assert client.request("GET", "/x") == {}
    for address in ("169.254.169.254", "10.0.0.1", "::ffff:169.254.169.254"):
        now[:] = [address]
        error = failure(client)
        assert isinstance(error, PermanentError)
        assert code_of(error) == "address_forbidden"
    now[:] = ["127.0.0.1", "169.254.169.254"]
    assert code_of(failure(client)) == "address_forbidden", "every address is checked"
    assert len(server.requests) == 1


def test_dead_ports_and_names_are_told_apart(direct) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gone, _ = direct(
        answer(b"{}"),
        api_url=f"https://k8s.example.com:{port}",
        binding=AddressBinding(("127.0.0.0/8",), (port,)),
    )
    assert code_of(failure(gone)) == "connect"

    def unknown(host: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    nameless, _ = direct(answer(b"{}"), resolver=unknown)
    assert code_of(failure(nameless)) == "dns"


def test_a_resolver_that_hangs_is_given_up(direct, monkeypatch) -> None:
    monkeypatch.setattr("kernel.transport.CONNECT_TIMEOUT", 0.3)
    over = threading.Event()

    def hanging(host: str, port: int) -> list[str]:
        over.wait(5)
        return ["127.0.0.1"]

    client, _ = direct(answer(b"{}"), resolver=hanging)
    began = time.monotonic()
    assert code_of(failure(client)) == "dns"
    assert time.monotonic() - began < 2
    over.set()


def test_a_server_without_tls_is_named_as_such(tmp_path) -> None:
    pem, _ = certificate("k8s.example.com", tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]

        def speak_plainly() -> None:
            sock, _ = listener.accept()
            sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            sock.close()

        threading.Thread(target=speak_plainly, daemon=True).start()
        client = Client.direct(
            api_url=f"https://k8s.example.com:{port}",
            ca_pem=pem,
            token="t",
            binding=AddressBinding(("127.0.0.0/8",), (port,)),
            resolver=lambda host, port: ["127.0.0.1"],
        )
        error = failure(client)
        assert isinstance(error, TemporaryError)
        assert code_of(error) == "tls"


def test_pages_are_followed_and_bounded(serve, monkeypatch) -> None:
    monkeypatch.setattr(kube_client, "MAX_PAGES", 3)
    body = json.dumps({"metadata": {"continue": "again"}, "items": [{}]}).encode()
    client, server = serve(answer(body))
    with pytest.raises(UnknownOutcome):
        list(client.pages("/pods", query={}, limit=10, seconds=5))
    assert len(server.requests) == 3


def test_a_page_is_as_long_as_was_asked_and_a_list_is_bounded(serve, monkeypatch) -> None:
    """Whoever keeps the items of all pages keeps no more than a list may have."""
    body = json.dumps({"metadata": {"continue": "again"}, "items": [{"a": "x" * 99}] * 3}).encode()
    client, server = serve(answer(body, headers="Connection: close\r\n"))
    with pytest.raises(UnknownOutcome) as caught:
        list(client.pages("/pods", query={}, limit=2, seconds=5))
    assert code_of(caught.value) == "too_large"
    monkeypatch.setattr(kube_client, "FREE_KEPT", 0)
    monkeypatch.setattr(kube_client, "MAX_KEPT", 10_000)
    with pytest.raises(UnknownOutcome) as caught:
        list(client.pages("/pods", query={}, limit=3, seconds=5))
    assert code_of(caught.value) == "too_large"
    assert 2 < len(server.requests) < 20


def test_large_lists_of_a_process_share_an_allowance(serve, monkeypatch) -> None:
    allowance = Allowance(10_000)
    monkeypatch.setattr(kube_client, "FREE_KEPT", 2_000)
    monkeypatch.setattr(kube_client, "_KEPT", allowance)
    page = {"metadata": {"continue": "again"}, "items": [{"a": "x" * 99}] * 3}
    client, _ = serve(answer(json.dumps(page).encode(), headers="Connection: close\r\n"))
    with allowance.share() as others:
        assert others.has(10_000)
        pages = client.pages("/pods", query={}, limit=3, seconds=5)
        assert next(pages)["items"], "the beginning of a list is free"
        with pytest.raises(TemporaryError) as caught:
            list(pages)
        assert code_of(caught.value) == "busy"
    assert next(client.pages("/pods", query={}, limit=3, seconds=5))
    with allowance.share() as afterwards:
        assert afterwards.has(10_000), "everything was given back"


def test_of_a_page_is_kept_what_is_wanted(serve) -> None:
    client, _ = serve(answer(json.dumps({"items": [{"a": 1, "b": 2}, 7]}).encode()))
    pages = client.pages(
        "/pods", query={}, limit=5, seconds=5, keep=lambda item: {"b": item.get("b")}
    )
    assert [page["items"] for page in pages] == [[{"b": 2}, {"b": None}]]


def test_a_watch_yields_events_and_ends_when_it_falls_silent(serve) -> None:
    def send_events(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for part in (b'{"type":"ADDED"}\n{"ty', b'pe":"DELETED"}\n'):
            sock.sendall(f"{len(part):x}\r\n".encode() + part + b"\r\n")
        sock.recv(1)

    client, _ = serve(send_events)
    events = client.lines("/watch", query={}, silence=0.5, seconds=10)
    assert [next(events)["type"], next(events)["type"]] == ["ADDED", "DELETED"]
    with pytest.raises(UnknownOutcome):
        next(events)


def test_an_endless_line_of_a_watch_is_cut(serve, monkeypatch) -> None:
    monkeypatch.setattr(kube_client, "MAX_OBJECT", 300_000)

    def flood(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    client, _ = serve(flood)
    with pytest.raises(UnknownOutcome) as caught:
        list(client.lines("/watch", query={}, silence=5, seconds=10))
    assert code_of(caught.value) == "too_large"


# --- logs: bytes without an end ------------------------------------------------------------------


def log_of(client: Client, *, limit: int = 1000, seconds: float = 5) -> tuple[bytes, bool]:
    return KubernetesApi(client).pod_log(
        "ns",
        "pod",
        container="main",
        tail_lines=10,
        limit_bytes=limit,
        previous=False,
        since=None,
        seconds=seconds,
    )


def followed(
    client: Client, cut: Cut, *, silence: float = 5, seconds: float = 5
) -> Iterator[bytes]:
    since = datetime.datetime(2026, 11, 1, 10, 0, 0, tzinfo=datetime.UTC)
    return KubernetesApi(client).follow_log(
        "ns",
        "pod",
        container="main",
        tail_lines=None,
        since=since,
        silence=silence,
        seconds=seconds,
        cut=cut,
    )


def test_a_log_is_asked_for_as_kubernetes_wants_it(serve) -> None:
    client, server = serve(answer(b"2026-11-01T10:00:00Z hello\n"))
    assert log_of(client) == (b"2026-11-01T10:00:00Z hello\n", False)
    assert list(followed(client, Cut())) == [b"2026-11-01T10:00:00Z hello\n"]
    tail, follow = (request.decode().split(" ")[1] for request in server.requests)
    assert tail.startswith("/api/v1/namespaces/ns/pods/pod/log?")
    assert {"container=main", "tailLines=10", "timestamps=true", "previous=false"} <= set(
        tail.partition("?")[2].split("&")
    )
    assert {"follow=true", "sinceTime=2026-11-01T10%3A00%3A00Z"} <= set(
        follow.partition("?")[2].split("&")
    )


def test_only_the_end_of_a_log_is_kept(serve) -> None:
    client, _ = serve(answer(b"a" * 50_000 + b"the end"))
    assert log_of(client, limit=7) == (b"the end", True)


def test_an_endless_log_is_cut_at_the_cap(serve, monkeypatch) -> None:
    monkeypatch.setattr(kube_api, "MAX_LOG_READ", 300_000)

    def flood(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            sock.sendall(b"x" * 65536)

    client, _ = serve(flood)
    raw, truncated = log_of(client, limit=100)
    assert (raw, truncated) == (b"x" * 100, True)


def test_a_dripping_log_ends_in_time_and_says_that_it_is_not_whole(serve) -> None:
    client, _ = serve(drip_body)
    began = time.monotonic()
    raw, truncated = log_of(client, seconds=0.7)
    assert set(raw) == {ord(" ")}
    assert truncated
    assert time.monotonic() - began < 3


def test_a_log_of_which_nothing_came_is_a_failure(serve) -> None:
    client, _ = serve(say_nothing)
    with pytest.raises(UnknownOutcome) as caught:
        log_of(client, seconds=0.7)
    assert code_of(caught.value) == "timeout"


@pytest.mark.parametrize(
    ("handler", "code"),
    [
        (answer(b'{"message":"container is waiting to start"}', "400 Bad Request"), "invalid"),
        (answer(b'{"message":"x"}', "404 Not Found"), "not_found"),
        (answer(b"", "307 Moved", "Location: https://elsewhere.example.com/\r\n"), "redirect"),
        (answer(b"x", headers="Content-Encoding: gzip\r\n"), "not_json"),
        (close_early, "broken"),
    ],
)
def test_a_log_that_cannot_be_read_is_an_error_of_ours(serve, handler, code) -> None:
    client, _ = serve(handler)
    with pytest.raises(VendorError) as caught:
        list(followed(client, Cut()))
    assert code_of(caught.value) == code


def test_a_silent_log_breaks_and_a_cut_ends_it_at_once(serve) -> None:
    def begin_and_stay(sock: ssl.SSLSocket, _: bytes) -> None:
        sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        sock.recv(1)

    client, _ = serve(begin_and_stay)
    pieces = followed(client, Cut(), silence=0.3)
    assert next(pieces) == b"hello", "a piece is given when it comes, not when enough came"
    with pytest.raises(UnknownOutcome) as caught:
        next(pieces)
    assert code_of(caught.value) == "timeout"

    cut = Cut()
    pieces = followed(client, cut, silence=30, seconds=60)
    assert next(pieces) == b"hello"
    began = time.monotonic()
    threading.Timer(0.2, cut.make).start()
    assert list(pieces) == []
    assert time.monotonic() - began < 5
    assert list(followed(client, cut)) == [], "what is cut before it begins ends as well"
