"""The reporter of a renter's pod, to a server that writes down what it is told."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from devstack.kube.certs import Authority
from tests.sshpod import NEEDS_OPENSSH, running, until

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

MIB = 1 << 20
TOKEN = "gy_rep_an-instance_a-secret"
TOOL = """#!/bin/sh
echo 'GPU-aaaa, 97, 1024, 81559, 61'
echo 'GPU-bbbb, [N/A], 5, 81559, [Not Supported]'
"""


class Platform:
    """Takes reports over TLS; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.status = 200


@contextmanager
def listening(folder: Path) -> Iterator[tuple[Platform, int]]:
    platform = Platform()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            platform.headers.append({**self.headers, "path": self.path})
            platform.told.append(json.loads(body))
            self.send_response(platform.status)
            self.end_headers()
            self.wfile.write(b'{"next_s":15}')

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.crt", folder / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield platform, server.server_port
    finally:
        server.shutdown()


@pytest.fixture
def keys(keys: Path) -> Path:
    """And a token, and a certificate that no public authority knows."""
    (keys / "report-token").write_text(f"{TOKEN}\n")
    authority = Authority(keys, "platform")
    authority.server("server", ["127.0.0.1"])
    (keys / "ca.pem").write_text(authority.pem)
    return keys


def tool(keys: Path, text: str) -> str:
    made = keys / "smi"
    made.write_text(text)
    made.chmod(0o755)
    return str(made)


def test_a_report_says_how_the_machine_does(binary: Path, keys: Path) -> None:
    with listening(keys) as (platform, port):
        url = f"https://127.0.0.1:{port}/api/v1/instance-reports"
        with running(binary, keys, "-report", url, "-usage", tool(keys, TOOL)) as pod:
            until(lambda: bool(platform.told), "it reports at once")
            assert pod.run("env").stdout.count("GPUYARD") == 0
    (head, body) = platform.headers[0], platform.told[0]
    assert head["Authorization"] == f"Bearer {TOKEN}"
    assert head["Content-Type"] == "application/json"
    assert head["path"] == "/api/v1/instance-reports"
    known, bare = body["devices"]
    assert known == {
        "id": "GPU-aaaa",
        "gpu_percent": 97,
        "memory_used_bytes": 1024 * MIB,
        "memory_total_bytes": 81559 * MIB,
        "temperature_c": 61,
    }
    assert (bare["gpu_percent"], bare["temperature_c"]) == (None, None), "not measured, never zero"
    assert body["ssh"] in {"up", "down"}
    assert 0 < body["disk"]["used_bytes"] <= body["disk"]["total_bytes"]
    assert abs(datetime.fromisoformat(body["at"]) - datetime.now(UTC)) < timedelta(minutes=1)
    assert len(body["boot"]) == 16
    assert body["ports"] == sorted(set(body["ports"]))
    assert port not in body["ports"], "what listens for the machine itself is no way in"


@pytest.mark.parametrize(
    "text",
    [
        "#!/bin/sh\nexit 3\n",
        "#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'\n",
        "#!/bin/sh\nyes '\x01;DROP TABLE, -5, 9e99, nan, 400' | head -100000\n",
    ],
    ids=["fails", "talks", "lies"],
)
def test_a_tool_that_measures_nothing_reports_nothing(binary: Path, keys: Path, text: str) -> None:
    with listening(keys) as (platform, port):
        url = f"https://127.0.0.1:{port}/"
        with running(binary, keys, "-report", url, "-usage", tool(keys, text)):
            until(lambda: bool(platform.told), "it reports at once")
    cards = platform.told[0]["devices"]
    assert len(cards) <= 64
    for card in cards:
        assert card.pop("id").isprintable()
        assert set(card.values()) == {None}


def test_a_platform_it_cannot_trust_is_told_nothing(binary: Path, keys: Path) -> None:
    with listening(keys) as (platform, port):
        (keys / "ca.pem").write_text(Authority(keys / "another", "another").pem)
        with running(binary, keys, "-report", f"https://127.0.0.1:{port}/") as pod:
            assert pod.process.stderr
            said = next(line for line in pod.process.stderr if "not reported" in line)
    assert "certificate" in said
    assert platform.told == []


def test_without_a_token_one_still_gets_in(binary: Path, keys: Path) -> None:
    (keys / "report-token").unlink()
    with running(binary, keys, "-report", "https://127.0.0.1:1/") as pod:
        assert pod.process.stderr
        assert any("no token to report with" in line for line in pod.process.stderr)
        assert pod.run("echo in").stdout == "in\n"
        assert pod.process.poll() is None
