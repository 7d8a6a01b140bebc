"""The SSH gateway between OpenSSH's own clients and the tools of a renter's pod, by a real relay.

Here a dictionary says who may come in; what says it in the product is tested where that lives.
"""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from devstack.ports import free_port
from provisioner.streams import gateway, visit
from provisioner.streams.doors import Closed, Door
from provisioner.streams.gateway import CONNECTIONS_PER_NAME, KNOCKING_PER_ADDRESS
from tests.relayed import CLUSTER, SPACE, Book, Cluster, Served, relaying, write_seed
from tests.sshpod import (
    MIB,
    NEEDS_OPENSSH,
    Pod,
    Way,
    make_key,
    prove_forwarding,
    prove_hostile_is_closed,
    prove_terminal,
    running,
    until,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

NAME = "ren_01m8g2e91yf9da8etbjzkk2a5w"
# Scaled down; 10,000 is the campaign's.
HANDSHAKES = int(os.environ.get("HANDSHAKES") or 500)


@pytest.fixture
def keys(keys: Path) -> Path:
    """And the gateway's own host key, and people's keys."""
    for name in ("published", "ana", "ben"):
        make_key(keys, name)
    return keys


@pytest.fixture
def pod(binary: Path, keys: Path) -> Iterator[Pod]:
    with running(binary, keys, address="127.0.0.2") as found:
        yield found


@pytest.fixture
def cluster(tmp_path: Path, pod: Pod) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    made.add("gy-one", pod.address)
    yield made
    made.stop()


@dataclass
class Serving:
    """What it takes to serve one directory."""

    binary: Path
    keys: Path
    cluster: Cluster

    @contextmanager
    def __call__(self, book: Book, port: int = 0) -> Iterator[Way]:
        serving = Served(book, (self.keys / "published").read_text(), port)
        public = (self.keys / "published.pub").read_text().strip()
        with relaying(self.binary, self.keys / "relay", self.cluster, serving.port):
            try:
                yield Way(serving.port, public, self.keys, user=NAME, key="ana")
            finally:
                serving.stop()


@pytest.fixture
def served(binary: Path, keys: Path, cluster: Cluster) -> Serving:
    return Serving(binary, keys, cluster)


def fingerprint(keys: Path, name: str) -> str:
    asked = ["ssh-keygen", "-l", "-E", "sha256", "-f", str(keys / f"{name}.pub")]
    return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()[1]


@pytest.fixture
def book(pod: Pod, keys: Path) -> Book:
    written = Book()
    written.doors[NAME] = Door(
        instance="one",
        cluster=CLUSTER,
        target=f"gy-one.{SPACE}",
        port=pod.port,
        host_key=pod.host_key,
        client_key=(keys / "gateway").read_text(),
        authorized={fingerprint(keys, "ana"): "usr_ana"},
    )
    published = (keys / "published.pub").read_text().strip()
    written.relays[CLUSTER] = write_seed(keys / "relay", published)
    return written


def change(book: Book, **values: Any) -> None:
    book.doors[NAME] = replace(book.doors[NAME], **values)


@pytest.fixture
def way(book: Book, served: Serving) -> Iterator[Way]:
    with served(book) as found:
        yield found


def test_what_goes_through_is_what_the_pod_would_say(way: Way) -> None:
    done = way.run('cat; echo "$COLOUR"; echo apart >&2; exit 7', given="given\n")
    assert (done.returncode, done.stdout, done.stderr) == (7, "given\nblue\n", "apart\n")
    prove_terminal(way)
    prove_forwarding(way)


def test_a_hundred_megabytes_each_way_arrive_as_they_left(way: Way, tmp_path: Path) -> None:
    there, sent, back = tmp_path / "there", tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(100 * MIB))
    way.copy(str(sent), f"{way.host}:{there}")
    way.copy(f"{way.host}:{there}", str(back))
    assert len({hashlib.sha256(each.read_bytes()).digest() for each in (sent, there, back)}) == 1


def test_strangers_learn_nothing(way: Way) -> None:
    """Another's machine, with a key that opens one's own, is refused like one that is not there."""
    theirs = way.run("echo in", key="ben")
    nowhere = replace(way, user="ren_nobody").run("echo in")
    for refused in (theirs, nowhere):
        assert (refused.returncode, refused.stdout) == (255, "")
    assert theirs.stderr.replace(NAME, "NAME") == nowhere.stderr.replace("ren_nobody", "NAME")
    assert "Permission denied (publickey)" in theirs.stderr


def test_keys_come_and_go_while_it_runs(way: Way, book: Book, keys: Path) -> None:
    both = {fingerprint(keys, name): f"usr_{name}" for name in ("ana", "ben")}
    inside = way.start("echo in; sleep 600")
    assert inside.stdout
    assert inside.stdout.readline() == "in\n"
    change(book, authorized=both)
    assert way.run("echo me too", key="ben").stdout == "me too\n"
    change(book, authorized={fingerprint(keys, "ben"): "usr_ben"})
    _, said = inside.communicate(timeout=5)
    assert inside.returncode == 255
    assert "this key may not come in any more" in said
    assert way.run("echo in").returncode == 255
    assert way.run("echo me still", key="ben").stdout == "me still\n"


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        (None, "this machine was ended"),
        ("closed", "it is stopped; start it first"),
        ("anew", "this machine was started anew; connect again"),
    ],
)
def test_what_ends_a_session_is_said(way: Way, book: Book, then: str | None, sentence: str) -> None:
    inside = way.start("echo in; sleep 600")
    assert inside.stdout
    assert inside.stdout.readline() == "in\n"
    door = book.doors[NAME]
    if then is None:
        del book.doors[NAME]
    elif then == "closed":
        book.doors[NAME] = Closed("it is stopped; start it first", door.authorized)
    else:
        change(book, instance="two")
    _, said = inside.communicate(timeout=5)
    assert (inside.returncode, sentence in said) == (255, True), said
    if then == "closed":
        assert sentence in way.run("echo in").stderr


def test_a_stop_of_the_pod_is_said_by_the_pod(way: Way, pod: Pod) -> None:
    inside = way.start("echo in; sleep 600")
    assert inside.stdout
    assert inside.stdout.readline() == "in\n"
    pod.process.send_signal(signal.SIGTERM)
    _, said = inside.communicate(timeout=10)
    assert "this machine is being stopped" in said


def test_a_pod_that_does_not_answer_and_one_that_is_another(
    way: Way, book: Book, keys: Path
) -> None:
    port = book.doors[NAME].port  # type: ignore[union-attr]
    change(book, port=free_port())
    silent = way.run("echo in")
    assert (silent.returncode, silent.stdout) == (255, "")
    assert "SSH of this machine does not answer" in silent.stderr
    # Whoever took the pod's address has not its host key: nothing of the renter's goes there.
    change(book, port=port, host_key=(keys / "ben.pub").read_text())
    assert "SSH of this machine does not answer" in way.run("echo in").stderr


def test_without_the_directory_nobody_new_comes_in_and_nobody_is_sent_away(
    way: Way, book: Book
) -> None:
    inside = way.start("echo in; sleep 600")
    assert inside.stdout
    assert inside.stdout.readline() == "in\n"
    book.broken = True
    assert way.run("echo in").returncode == 255
    asked = book.asked
    until(lambda: book.asked >= asked + 2, "it was asked twice more, in vain")
    assert inside.poll() is None
    book.broken = False
    assert way.run("echo in").stdout == "in\n"
    assert inside.poll() is None
    inside.kill()
    inside.communicate()


def pending(cluster: Cluster, **status: str) -> None:
    """Its containers are not up yet, as an API server shows it."""
    cluster.pods[SPACE, "gy-one"]["status"] = {"phase": "Pending", "hostIP": "127.9.9.9", **status}


def test_who_comes_early_waits_and_is_let_in(
    way: Way, book: Book, cluster: Cluster, pod: Pod
) -> None:
    pending(cluster)
    change(book, coming=True)
    inside = way.start("echo in; echo err >&2; exit 7")
    assert inside.stderr
    assert inside.stderr.readline() == "gpuyard: waiting for this machine\n"
    # Before the kubelet has said that it runs.
    pending(cluster, podIP=pod.address)
    out, err = inside.communicate(timeout=15)
    assert (out, err, inside.returncode) == ("in\n", "err\n", 7)
    assert way.run("cat", given="at once").stdout == "at once"


def test_who_waits_goes_along_to_another_machine(
    way: Way, book: Book, cluster: Cluster, pod: Pod
) -> None:
    """Its host refused it, and the order went elsewhere."""
    pending(cluster)
    change(book, coming=True)
    inside = way.start("echo in")
    assert inside.stderr
    assert inside.stderr.readline() == "gpuyard: waiting for this machine\n"
    cluster.add("gy-two", pod.address)
    change(book, instance="two", target=f"gy-two.{SPACE}")
    assert inside.communicate(timeout=15)[0] == "in\n"


@pytest.mark.parametrize(
    ("then", "sentence"),
    [
        ("ended", "this machine was ended"),
        ("closed", "this machine is being stopped"),
        ("key", "this key may not come in any more"),
        ("up", "SSH of this machine does not answer"),
    ],
)
def test_who_waits_in_vain_hears_why(
    way: Way, book: Book, cluster: Cluster, then: str, sentence: str
) -> None:
    pending(cluster)
    change(book, coming=True)
    inside = way.start("echo in")
    assert inside.stderr
    assert inside.stderr.readline() == "gpuyard: waiting for this machine\n"
    if then == "ended":
        del book.doors[NAME]
    elif then == "closed":
        book.doors[NAME] = Closed(sentence, book.doors[NAME].authorized)
    elif then == "key":
        change(book, authorized={})
    else:
        change(book, coming=False)
    out, said = inside.communicate(timeout=15)
    assert (inside.returncode, out, sentence in said) == (255, "", True), said


def test_nobody_is_asked_for_who_has_left(
    way: Way, book: Book, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pending(cluster)
    change(book, coming=True)
    inside = way.start("echo in")
    assert inside.stderr
    assert inside.stderr.readline() == "gpuyard: waiting for this machine\n"
    inside.kill()
    inside.communicate()
    found = book.find
    names: list[str] = []

    async def noted(name: str) -> Door | Closed | None:
        names.append(name)
        return await found(name)

    monkeypatch.setattr(book, "find", noted)

    def quiet() -> bool:
        """Relays were asked for twice, four seconds apart, and no machine between."""
        names.clear()
        asked = book.asked
        until(lambda: book.asked >= asked + 2, "it asks")
        return not names

    until(quiet, "nobody waits any more", deadline_s=40)


def test_who_says_nothing_for_long_is_sent_away(way: Way, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who says something, or has used a port, is not."""
    port = free_port()
    words = way.ssh("-N", "-L", f"{port}:127.0.0.1:9", way.host)
    talks, tunnel = way.start("while echo still here; do sleep 0.5; done"), subprocess.Popen(words)
    until(lambda: takes(port), "the tunnel was used")
    silent = way.start("echo in; sleep 600")
    assert silent.stdout
    assert silent.stdout.readline() == "in\n"
    monkeypatch.setattr(visit, "IDLE_SECONDS", 2)
    _, said = silent.communicate(timeout=15)
    assert "nothing was said for a day" in said
    for each in (talks, tunnel):
        assert each.poll() is None
        each.kill()
        each.communicate()


def takes(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), 5):
        return True
    return False


def test_a_gateway_that_was_restarted_lets_in_at_once(book: Book, served: Serving) -> None:
    with served(book) as way:
        inside = way.start("echo in; sleep 600")
        assert inside.stdout
        assert inside.stdout.readline() == "in\n"
    _, said = inside.communicate(timeout=10)
    assert "the gateway restarts" in said
    with served(book, way.port):
        assert way.run("echo again").stdout == "again\n"


def test_one_machine_has_its_share_of_connections(way: Way) -> None:
    open_ = [way.start("echo in; sleep 600") for _ in range(CONNECTIONS_PER_NAME)]
    try:
        for each in open_:
            assert each.stdout
            assert each.stdout.readline() == "in\n", each.communicate()[1]
        refused = way.run("echo in")
        assert (refused.returncode, refused.stdout) == (255, "")
        assert "connections are open to this machine" in refused.stderr
        open_[0].kill()
        until(lambda: way.run("echo in").stdout == "in\n", "a place is free again")
    finally:
        for each in open_:
            each.kill()
            each.communicate()


def test_hostile_handshakes_get_a_closed_connection(way: Way) -> None:
    prove_hostile_is_closed(way.port, b"SSH-2.0-gpuyard", HANDSHAKES)
    assert way.run("echo in").stdout == "in\n"


def test_who_stalls_at_the_door_keeps_nobody_out_for_long(way: Way) -> None:
    assert way.run("echo in").stdout == "in\n", "the relay is in and knocks no more"
    stalled = [
        socket.create_connection(("127.0.0.1", way.port)) for _ in range(KNOCKING_PER_ADDRESS)
    ]
    try:
        for each in stalled:
            each.settimeout(10)
            assert each.recv(64).startswith(b"SSH-2.0-gpuyard")
        with socket.create_connection(("127.0.0.1", way.port), timeout=10) as one_more:
            assert one_more.recv(64) == b"", "closed without a word"
        stalled[0].close()
        until(lambda: way.run("echo in").stdout == "in\n", "a place is free again")
    finally:
        for each in stalled:
            each.close()


def test_a_handshake_that_takes_too_long_is_ended(
    way: Way, monkeypatch: pytest.MonkeyPatch, book: Book, served: Serving
) -> None:
    monkeypatch.setattr(gateway, "LOGIN_SECONDS", 2)
    with (
        served(book) as quick,
        socket.create_connection(("127.0.0.1", quick.port), timeout=15) as slow,
    ):
        slow.sendall(b"SSH-2.0-slow\r\n")
        while slow.recv(65536):
            pass
        assert quick.run("echo in").stdout == "in\n"
