"""One address for a live log: the web process decides and the streams process answers.

Both behind the origin, each a process of its own as operators run them. There is no cluster: the
machine has not been created yet.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator

import pytest

from devstack.ports import free_port
from devstack.process import Supervisor, answers_at, wait_until
from devstack.stack import ROOT
from devstack.state import State
from tests.live.logreader import Reader, streams_process
from tests.market import make_renter, make_supply, order

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.slow]


@pytest.fixture
def origin(database_url: str, state: State) -> Iterator[str]:
    """The base address of web and streams behind one origin, on the test's database."""
    web, port = free_port(), free_port()
    with streams_process(state, database_url) as streams, Supervisor(state) as supervisor:
        child = supervisor.start(
            "web",
            [
                *(sys.executable, "-m", "granian", "config.wsgi:application"),
                *("--interface", "wsgi", "--host", "127.0.0.1", "--port", str(web)),
                *("--workers", "1", "--no-access-log", "--log-level", "warning"),
            ],
            env={"DATABASE_URL": database_url, "GPUYARD_PROCESS": "web"},
            cwd=ROOT,
        )
        supervisor.start(
            "origin",
            [
                *(sys.executable, "-m", "devstack.origin", "--port", str(port)),
                *("--web", str(web), "--streams", streams.rpartition(":")[2]),
            ],
            cwd=ROOT,
        )
        url = f"http://127.0.0.1:{port}"
        wait_until(answers_at(f"{url}/healthz"), "web answers", child=child, deadline_s=120)
        yield url


def test_a_follower_is_handed_to_the_streams_process_and_a_stranger_to_nobody(origin: str) -> None:
    renter, other = make_renter(), make_renter("Other")
    rental = renter.call("POST", "/rentals", order(make_supply(2).offer))[1]["id"]
    address = f"{origin}/api/v1/rentals/{rental}/logs"

    reader = Reader.open(
        f"{address}?follow=true", headers={"Authorization": f"Bearer {renter.secret}"}
    )
    assert reader.response.status == 200
    assert str(reader.response.getheader("Content-Type")).startswith("text/event-stream")
    assert reader.response.getheader("X-Accel-Redirect") is None, "the grant stays inside"
    waiting = reader.next()
    assert waiting is not None
    assert (waiting.kind, waiting.data["code"]) == ("notice", "waiting")
    reader.close()

    for headers, status in (({"Authorization": f"Bearer {other.secret}"}, 404), ({}, 401)):
        refused = Reader.open(f"{address}?follow=true", headers=headers)
        assert refused.response.status == status
        refused.close()
