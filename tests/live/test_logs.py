"""Logs of pods on a real control plane: followed, resumed, kept, and whatever a program prints."""

from __future__ import annotations

import json
import time
import urllib.request
from collections.abc import Iterator

import pytest
from django.conf import settings

from devstack.kube.simclient import Sim
from devstack.state import State
from kernel.grants import Grant, sign
from provisioner import facade
from provisioner.contracts import InstanceView
from provisioner.contracts.streaming import LOGS_FOLLOW, LOGS_TAIL, STREAM_PATHS
from tests.live.logreader import Reader, streams_process
from tests.live.pods import pods_path
from tests.live.provider import end, on_sale, reaches, rent, work_until

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def streams(database_url: str) -> Iterator[str]:
    with State.temporary("streams") as state, streams_process(state, database_url) as url:
        yield url


def address(streams: str, view: InstanceView, verb: str, **query: object) -> str:
    grant = Grant(verb, subject=view.id, owner=view.tenant_ref)
    text = sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time())
    more = "".join(f"&{name}={value}" for name, value in query.items())
    return f"{streams}{STREAM_PATHS[verb]}?grant={text}{more}"


def printing(sim: Sim, view: InstanceView, **params: object) -> None:
    sim.order("log", {"namespace": view.namespace, "pod": view.pod_name}, params)


def tail(streams: str, view: InstanceView, **query: object) -> list[str]:
    with urllib.request.urlopen(address(streams, view, LOGS_TAIL, **query)) as answer:
        return [item["text"] for item in json.load(answer)["items"]]


def texts(reader: Reader) -> list[str]:
    return [event.data["text"] for event in reader.seen if event.kind == "message"]


def test_a_log_is_followed_from_start_to_end_and_resumed(kube_owned, sim, streams) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reader = Reader.open(address(streams, view, LOGS_FOLLOW))
    assert reader.response.status == 200
    waiting = reader.next()
    assert waiting is not None
    assert (waiting.kind, waiting.data["code"]) == ("notice", "waiting")

    reaches(view, "ready")
    reader.until_text("main started")
    printing(sim, view, lines=50, text="first {n}")
    reader.until_text("first 49")
    assert texts(reader)[1:] == [f"first {n}" for n in range(50)]
    half = next(event for event in reader.seen if event.data["text"] == "first 24")
    reader.close()

    # Half of it is asked for again, and what was printed meanwhile comes with it, all once.
    printing(sim, view, lines=5, text="meanwhile {n}")
    again = Reader.open(address(streams, view, LOGS_FOLLOW), last=half.ident)
    again.until_text("meanwhile 4")
    expected = [f"first {n}" for n in range(25, 50)] + [f"meanwhile {n}" for n in range(5)]
    assert texts(again) == expected

    end(view)
    reaches(view, "gone")
    assert again.until_text("received SIGTERM")
    last = again.next()
    assert last is not None
    assert (last.kind, last.data) == ("end", {"code": "ended"})
    assert again.next() is None
    assert facade.kept_logs(instance_id=view.id) == [], "who ends a machine takes its log before"


def test_a_restart_of_the_program_goes_on_in_the_same_stream(kube_owned, sim, streams) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reaches(view, "ready")
    reader = Reader.open(address(streams, view, LOGS_FOLLOW))
    reader.until_text("main started")
    order = sim.order("crash", {"pod": view.pod_name, "namespace": view.namespace})
    reader.until_text("fatal: exit code 1")
    sim.withdraw(order)
    reader.until_text("main started")
    reader.close()
    assert tail(streams, view, previous="true")[-1] == "fatal: exit code 1"


def test_a_machine_that_its_host_ends_leaves_its_last_words(kube_owned, sim, streams) -> None:
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reaches(view, "ready")
    match = {"pod": view.pod_name, "namespace": view.namespace}
    sim.order("log", match, {"hex": b"\x1b[31mCUDA error\x1b[0m <b>\xff\xfe".hex(), "lines": 1})
    work_until(
        lambda: tail(streams, view, tail=1)[-1].startswith("CUDA error <b>"),
        "the program has printed",
    )
    # The owner removes the pod by hand; its program takes the whole grace to stop.
    sim.order("slow_stop", match)
    kube_owned.admin().delete(pods_path(view.namespace, view.pod_name))
    reaches(view, "gone", listing=True, seconds=90)
    (log,) = facade.kept_logs(instance_id=view.id)
    assert (log.kind, log.previous) == ("kept", False), log
    assert [line.text for line in log.lines][1:] == ["CUDA error <b>\ufffd\ufffd"]
    assert log.lines[0].text.startswith("main started")


def test_floods_long_lines_and_binary_stay_harmless(kube_owned, sim, streams) -> None:
    """100,000 lines at once, and bytes that terminals and browsers would obey."""
    cluster = on_sale(kube_owned)
    view = rent(cluster)
    reaches(view, "ready")
    reader = Reader.open(address(streams, view, LOGS_FOLLOW))
    reader.until_text("main started")
    printing(sim, view, lines=100_000, text="flood {n}")
    # As many as the stream's rate lets through in a moment; none is left out on the way.
    reader.until_text("flood 20000", within_s=60)
    flooded = texts(reader)[1:]
    assert flooded == [f"flood {n}" for n in range(len(flooded))]
    reader.close()

    hostile = (
        b"\x1b]0;owned\x07\x1b[2J<script>alert(1)</script>\x00\xff\xe2\x80\xae " + b"z" * 20_000
    )
    # One order for both lines: a second order takes the place of one that is not yet carried out.
    printing(sim, view, lines=1, hex=(hostile + b"\nafter").hex())

    seen: list[str] = []

    def both() -> bool:
        """Each look is at the end of a file that may still be written."""
        seen[:] = [text for text in tail(streams, view, tail=50) if "script" in text]
        return bool(seen) and "after" in tail(streams, view, tail=3)

    work_until(both, "the last lines are there")
    (line,) = seen
    assert "<script>alert(1)</script>" in line, "markup stays text; pages escape it"
    assert not any(ord(letter) < 32 or letter == "\u202e" for letter in line)
    assert len(line) <= 16 * 1024 + 1
