"""A look at an API server that answers every question with the same nonsense, over TLS."""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from provisioner.contracts import AddressBinding
from provisioner.kube.client import CALL_SECONDS, Client
from provisioner.kube.questions import KubernetesQuestions
from provisioner.preflight import probes
from provisioner.preflight.facts import RowFacts
from provisioner.preflight.judge import FAIL, MEASURED_LIMIT, judge, verdict
from provisioner.preflight.probes import Known
from tests.unit.provisioner.test_kube_client import Handler, Server, certificate
from tests.unit.provisioner.test_kube_client import answer as answered

NAME = "localhost"
LONG = "x" * 1_000_000
LOOK = 3.0


def answer(body: bytes, status: str = "200 OK", headers: str = "") -> Handler:
    """One whole request per connection, and said so: each question gets its nonsense."""
    send = answered(body, status, f"{headers}Connection: close\r\n")

    def handle(sock: ssl.SSLSocket, data: bytes) -> None:
        head, _, rest = data.partition(b"\r\n\r\n")
        length = re.search(rb"content-length: (\d+)", head.lower())
        while length is not None and len(rest) < int(length[1]):
            rest += sock.recv(65536)
        send(sock, data)

    return handle


NONSENSE: dict[str, Handler] = {
    "a page": answer(b"<html><script>alert(1)</script></html>"),
    "a page of a proxy": answer(b"<html>sign in</html>", "403 Forbidden"),
    "nothing": answer(b""),
    "an empty object": answer(b"{}"),
    "a list": answer(b"[]"),
    "a redirect": answer(b"", "307 Temporary Redirect", "Location: https://127.0.0.1:1/\r\n"),
    "wrong types": answer(
        json.dumps(
            {
                "gitVersion": {"a": LONG},
                "metadata": [LONG],
                "items": {"a": [LONG]},
                "status": {"allowed": "true", "resourceRules": {"a": 1}},
            }
        ).encode()
    ),
    "long strings": answer(
        json.dumps(
            {
                "gitVersion": f"v1.30.0{LONG}",
                "metadata": {"creationTimestamp": LONG, "resourceVersion": LONG},
                "items": [{"metadata": {"name": LONG, "labels": {"gpuyard.io/pool": "rental"}}}],
                "status": {"allowed": False, "resourceRules": [{"verbs": [LONG]}]},
            }
        ).encode()
    ),
    "yes to everything": answer(json.dumps({"status": {"allowed": True}}).encode()),
}


@pytest.fixture
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Server, str]]:
    pem, file = certificate(NAME, tmp_path)
    made = Server(file, NONSENSE[request.param])
    yield made, pem
    made.close()


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that has every namespace there could be is asked for as long as a look lasts."""
    monkeypatch.setattr(probes, "LOOK_SECONDS", LOOK)


@pytest.mark.parametrize("server", list(NONSENSE), indirect=True)
def test_nonsense_is_told_in_plain_short_words_and_opens_nothing(
    server: tuple[Server, str],
) -> None:
    made, pem = server
    binding = AddressBinding(("127.0.0.0/8", "::1/128"), (made.port,))
    client = Client.direct(
        api_url=f"https://{NAME}:{made.port}", ca_pem=pem, token="token", binding=binding
    )
    image = f"registry.example.com/tools@sha256:{'0' * 64}"
    known = Known("token", (), image, "https://report.example.com/", datetime.now(UTC))
    began = time.monotonic()
    facts = probes.look(KubernetesQuestions(client), known)
    assert time.monotonic() - began < LOOK + CALL_SECONDS
    results = judge(facts, RowFacts("none", "", "unknown", None))
    assert all(len(result.measured) <= MEASURED_LIMIT for result in results)
    assert all(result.measured.isprintable() for result in results)
    assert verdict(results, before=False) is False


@pytest.mark.parametrize("server", ["yes to everything"], indirect=True)
def test_a_server_that_says_yes_to_everything_gave_too_much(server: tuple[Server, str]) -> None:
    made, pem = server
    binding = AddressBinding(("127.0.0.0/8", "::1/128"), (made.port,))
    client = Client.direct(
        api_url=f"https://{NAME}:{made.port}", ca_pem=pem, token="token", binding=binding
    )
    known = Known("token", (), "x@sha256:0", "https://report.example.com/", datetime.now(UTC))
    facts = probes.look(KubernetesQuestions(client), known)
    found = {result.rule: result for result in judge(facts, RowFacts("none", "", "unknown", None))}
    assert found["rights_too_many"].outcome == FAIL
    assert found["rights_too_many"].measured == "* on * in the whole cluster"
