"""A webhook receiver as its owner would run one: an HTTPS server on loopback that keeps what came.

It checks signatures by itself, from the words of the contract and nothing of the product's code.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
import ipaddress
import json
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"),)


@dataclass(frozen=True)
class Answer:
    """What the receiver says. wait: held back until it is set, or the client goes away."""

    status: int = 200
    body: bytes = b"thanks"
    headers: tuple[tuple[str, str], ...] = ()
    wait: threading.Event | None = None


@dataclass(frozen=True)
class Received:
    """One request as it arrived."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def event(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)
        return found

    def signed_by(self, secret: str) -> bool:
        """Whether one of the signatures is of this secret; the time must be in the header."""
        parts = [part.split("=", 1) for part in self.headers["Gpuyard-Signature"].split(",")]
        sent = next(value for name, value in parts if name == "t")
        given = [value for name, value in parts if name == "v1"]
        wanted = hmac.new(secret.encode(), f"{sent}.".encode() + self.body, hashlib.sha256)
        return any(hmac.compare_digest(wanted.hexdigest(), value) for value in given)


class Receiver:
    """Runs until ``close``; answers with what ``decide`` says of each request."""

    def __init__(self, folder: Path, decide: Callable[[Received], Answer] | None = None) -> None:
        self.requests: list[Received] = []
        self.connections = 0
        self.decide = decide or (lambda _: Answer())
        self.ca_file, key_file = _certificate(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, key_file)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        plain = self._server.get_request

        def counted() -> Any:
            sock, address = plain()
            self.connections += 1
            # Each connection's own thread does its handshake: a silent client holds up nobody.
            made = context.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
            return made, address

        self._server.get_request = counted  # type: ignore[method-assign]
        self.port = self._server.server_address[1]
        self.url = f"https://127.0.0.1:{self.port}/hooks"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def events(self) -> list[str]:
        """The ids of the events, in the order they came, repetitions included."""
        return [request.event["id"] for request in self.requests]

    def wait_for(self, count: int, seconds: float = 10.0) -> None:
        """Until so many requests came."""
        ends = time.monotonic() + seconds
        tick = threading.Event()
        while len(self.requests) < count:
            assert time.monotonic() < ends, f"{len(self.requests)} of {count} requests came"
            tick.wait(0.01)

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                received = Received(self.path, dict(self.headers), self.rfile.read(length))
                receiver.requests.append(received)
                answer = receiver.decide(received)
                if answer.wait is not None:
                    answer.wait.wait(30)
                self.send_response(answer.status)
                for name, value in answer.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                with suppress(OSError):  # it may have gone at its deadline
                    self.wfile.write(answer.body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


def _certificate(folder: Path) -> tuple[Path, Path]:
    """A self-signed certificate for 127.0.0.1 and localhost, and its key, as files."""
    key = ec.generate_private_key(ec.SECP256R1())
    # A name of its own: among authorities of one name OpenSSL would try the first only.
    number = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"receiver {number % 10**9}")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(number)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = folder / f"receiver-{number}.pem", folder / f"receiver-{number}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    private.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    return certificate, private
