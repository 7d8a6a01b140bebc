"""The relay in a provider's cluster, between a real gateway and pods at loopback addresses.

That everything a renter does goes through it is seen in test_gateway.py. Here is what the relay
itself promises: to the owner of the cluster, that nothing but rentals is reached through it; to
renters, that it comes back; to both, that one stream does not stop another.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from devstack.ports import free_port
from provisioner.streams import relays
from provisioner.streams.doors import Door
from provisioner.streams.relays import NoRelay, RelayKey
from tests.relayed import (
    CLUSTER,
    INSTANCE,
    SPACE,
    Book,
    Cluster,
    RelayProcess,
    Served,
    gateway_process,
    listening,
    relaying,
    send_back,
    write_seed,
)
from tests.sshpod import (
    MIB,
    NEEDS_OPENSSH,
    Pod,
    Way,
    make_key,
    prove_forwarding,
    prove_hostile_is_closed,
    running,
    until,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

NAME = "ren_01m8g2e91yf9da8etbjzkk2a5w"
LOST = "the way to this machine was lost; connect again"
# Scaled down; 10,000 is the campaign's.
HANDSHAKES = int(os.environ.get("HANDSHAKES") or 100)


@dataclass
class Scene:
    """A cluster, a gateway, and what a relay needs to come in to it."""

    binary: Path
    keys: Path
    cluster: Cluster
    book: Book
    serving: Served

    @property
    def secret(self) -> Path:
        return self.keys / "relay"

    def relay(
        self, *more: str, port: int = 0, secret: Path | None = None
    ) -> AbstractContextManager[RelayProcess]:
        return relaying(
            self.binary,
            secret or self.secret,
            self.cluster,
            port or self.serving.port,
            more=more,
        )

    def open(self, target: str, port: int) -> Any:
        """A stream, as later features open one: its reader and writer."""
        return self.serving.call(self.serving.gateway.relays.stream(CLUSTER, target, port))

    def say(self, stream: Any, text: bytes) -> None:
        async def write() -> None:
            stream[1].write(text)
            await stream[1].drain()

        self.serving.call(write())

    def echo(self, stream: Any, text: bytes = b"there and back") -> None:
        self.say(stream, text)
        assert self.serving.call(stream[0].readexactly(len(text))) == text

    def refusal(self, target: str, port: int) -> str:
        """What the relay says instead of opening a stream."""
        with pytest.raises(asyncssh.ChannelOpenError) as refused:
            self.open(target, port)
        return refused.value.reason

    def here(self) -> int:
        """Relays that are connected."""
        return len(self.serving.gateway.relays._live[CLUSTER])


@pytest.fixture
def keys(keys: Path) -> Path:
    for name in ("published", "ana"):
        make_key(keys, name)
    return keys


@pytest.fixture
def scene(binary: Path, keys: Path, tmp_path: Path) -> Iterator[Scene]:
    cluster, book = Cluster(tmp_path), Book()
    published = (keys / "published.pub").read_text().strip()
    book.relays[CLUSTER] = write_seed(keys / "relay", published)
    serving = Served(book, (keys / "published").read_text())
    yield Scene(binary, keys, cluster, book, serving)
    serving.stop()
    cluster.stop()


@pytest.fixture
def pod(scene: Scene) -> Iterator[Pod]:
    """A renter's machine, and their name at the gateway."""
    with running(scene.binary, scene.keys, address="127.0.0.2") as found:
        scene.cluster.add("gy-one", found.address)
        ana = asyncssh.read_public_key(scene.keys / "ana.pub").get_fingerprint("sha256")
        scene.book.doors[NAME] = Door(
            instance=INSTANCE,
            cluster=CLUSTER,
            target=f"gy-one.{SPACE}",
            port=found.port,
            host_key=found.host_key,
            client_key=(scene.keys / "gateway").read_text(),
            authorized={ana: "usr_ana"},
        )
        yield found


def way(scene: Scene, port: int = 0) -> Way:
    published = (scene.keys / "published.pub").read_text().strip()
    return Way(port or scene.serving.port, published, scene.keys, user=NAME, key="ana")


@pytest.fixture
def echo(scene: Scene) -> Iterator[tuple[str, int]]:
    """A pod that sends back what it gets: its target and port."""
    scene.cluster.add("gy-echo", "127.0.0.3")
    with listening("127.0.0.3", send_back) as port:
        yield f"gy-echo.{SPACE}", port


# --- What goes through


def test_a_session_goes_through_and_the_owner_reads_how_much(
    scene: Scene, pod: Pod, tmp_path: Path
) -> None:
    there, sent, back = tmp_path / "there", tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(8 * MIB))
    with scene.relay() as relay:
        outside = way(scene)
        done = outside.run("cat; exit 7", given="a secret\n")
        assert (done.returncode, done.stdout) == (7, "a secret\n")
        outside.copy(str(sent), f"{outside.host}:{there}")
        outside.copy(f"{outside.host}:{there}", str(back))
        assert len({hashlib.sha256(each.read_bytes()).digest() for each in (sent, back)}) == 1
        prove_forwarding(outside)
        relay.until_said("stream instance=", 5)
    lines = [line.split() for line in relay.log if " stream " in line]
    assert all(line[2:4] == [f"instance={INSTANCE}", f"port={pod.port}"] for line in lines)
    carried = [[int(word.split("=")[1]) for word in line[4:6]] for line in lines]
    assert max(into for into, _ in carried) > 8 * MIB
    assert max(out for _, out in carried) > 8 * MIB
    assert not any("secret" in line for line in relay.log), "what is carried is nobody's business"


def test_each_direction_ends_by_itself(scene: Scene) -> None:
    def count(made: socket.socket) -> None:
        total = 0
        while got := made.recv(65536):
            total += len(got)
        made.sendall(str(total).encode())

    def speak(made: socket.socket) -> None:
        made.sendall(b"all I say")
        made.shutdown(socket.SHUT_WR)
        send_back_to.append(made.recv(100))

    send_back_to: list[bytes] = []
    scene.cluster.add("gy-two", "127.0.0.4")
    with (
        scene.relay(),
        listening("127.0.0.4", count) as counting,
        listening("127.0.0.4", speak) as speaking,
    ):
        reader, writer = scene.open(f"gy-two.{SPACE}", counting)
        scene.say((reader, writer), b"x" * 3 * MIB)
        scene.serving.call(_ended(writer))
        assert scene.serving.call(reader.read()) == str(3 * MIB).encode()
        reader, writer = scene.open(f"gy-two.{SPACE}", speaking)
        assert scene.serving.call(reader.read()) == b"all I say"
        scene.say((reader, writer), b"after that")
        until(lambda: send_back_to == [b"after that"], "the other direction went on")


async def _ended(writer: Any) -> None:
    writer.write_eof()


def test_a_stream_that_one_side_leaves_is_over_for_the_other(scene: Scene) -> None:
    ended: list[bytes] = []
    resets = threading.Event()

    def wait(made: socket.socket) -> None:
        ended.append(made.recv(100))

    def break_off(made: socket.socket) -> None:
        made.recv(1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        resets.set()

    scene.cluster.add("gy-two", "127.0.0.4")
    with (
        scene.relay() as relay,
        listening("127.0.0.4", wait) as waiting,
        listening("127.0.0.4", break_off) as breaking,
    ):
        _, writer = scene.open(f"gy-two.{SPACE}", waiting)

        async def close() -> None:
            writer.close()

        scene.serving.call(close())
        until(lambda: ended == [b""], "the pod sees the end")
        relay.until_said("stream instance=", 1)
        stream = scene.open(f"gy-two.{SPACE}", breaking)
        scene.say(stream, b"x")
        assert resets.wait(10)
        assert scene.serving.call(stream[0].read()) == b""
        relay.until_said("stream instance=", 2)


# --- Who may come in


def test_a_relay_with_another_seed_is_refused_like_one_of_no_cluster(
    scene: Scene, keys: Path
) -> None:
    published = (keys / "published.pub").read_text().strip()
    write_seed(keys / "other", published)
    with scene.relay(secret=keys / "other") as wrong:
        wrong.until_said("unable to authenticate")
    scene.book.relays.clear()
    with scene.relay() as unknown:
        unknown.until_said("unable to authenticate")
    said = [each.log[0] for each in (wrong, unknown)]
    assert said[0] == said[1]
    assert scene.here() == 0


def test_a_key_of_a_relay_opens_nothing_for_a_client(scene: Scene, pod: Pod, keys: Path) -> None:
    """Who steals a seed has a relay, and neither a shell at the gateway nor ports."""
    make_key(keys, "stolen")
    public = (keys / "stolen.pub").read_text()
    scene.book.relays[CLUSTER] = RelayKey(CLUSTER, public)
    thief = replace(way(scene), user=CLUSTER, key="stolen")
    assert thief.run("echo in").returncode == 255
    ports = ["-N", "-oExitOnForwardFailure=yes", "-R", f"{free_port()}:127.0.0.1:1", thief.host]
    asked = subprocess.run(thief.ssh(*ports), capture_output=True, timeout=30, check=False)
    assert asked.returncode == 255
    tunnel = thief.ssh("-W", f"127.0.0.1:{pod.port}", thief.host)
    assert subprocess.run(tunnel, capture_output=True, timeout=30, check=False).stdout == b""
    # And a renter's key is none of a relay's.
    assert replace(way(scene), user=CLUSTER).run("echo in").returncode == 255


def test_a_gateway_with_another_host_key_gets_nothing(
    scene: Scene, keys: Path, tmp_path: Path
) -> None:
    make_key(keys, "impostor")
    seen: list[str] = []

    class Spy(Book):
        async def relay(self, name: str) -> RelayKey | None:
            seen.append(name)
            return scene.book.relays[CLUSTER]

    impostor = Served(Spy(), (keys / "impostor").read_text())
    try:
        with scene.relay(port=impostor.port) as relay:
            relay.until_said("this is not the gateway: its host key is another")
    finally:
        impostor.stop()
    assert seen == [], "not even its name is said"


def test_a_removed_cluster_is_sent_away_and_a_new_key_takes_effect(
    scene: Scene, pod: Pod, keys: Path
) -> None:
    with scene.relay() as relay:
        inside = way(scene).start("echo in; sleep 600")
        assert inside.stdout
        assert inside.stdout.readline() == "in\n"
        known = scene.book.relays.pop(CLUSTER)
        began = time.monotonic()
        _, said = inside.communicate(timeout=15)
        print(f"a removed cluster's sessions ended after {time.monotonic() - began:.1f} s")
        assert LOST in said
        relay.until_said("this cluster has no relay any more")
        assert scene.here() == 0
        scene.book.relays[CLUSTER] = known
        assert way(scene).run("echo again").stdout == "again\n"
        published = (keys / "published.pub").read_text().strip()
        scene.book.relays[CLUSTER] = write_seed(keys / "relay", published)
        relay.until_said("this relay's key was replaced")
        # The Secret was written anew as well: no restart is needed.
        assert way(scene).run("echo anew").stdout == "anew\n"


# --- What can be reached


def no_label(pod: dict[str, Any]) -> None:
    del pod["metadata"]["labels"]["app.kubernetes.io/managed-by"]


def of_no_instance(pod: dict[str, Any]) -> None:
    del pod["metadata"]["labels"]["gpuyard.io/instance"]


def somebody_elses(pod: dict[str, Any]) -> None:
    pod["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "Helm"


def on_host_network(pod: dict[str, Any]) -> None:
    pod["spec"]["hostNetwork"] = True


def at_host_address(pod: dict[str, Any]) -> None:
    pod["status"]["hostIP"] = pod["status"]["podIP"]


def no_address(pod: dict[str, Any]) -> None:
    del pod["status"]["podIP"]


def a_name_for_address(pod: dict[str, Any]) -> None:
    pod["status"]["podIP"] = "localhost"


def being_ended(pod: dict[str, Any]) -> None:
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"


def has_ended(pod: dict[str, Any]) -> None:
    pod["status"]["phase"] = "Succeeded"


def another(pod: dict[str, Any]) -> None:
    pod["metadata"]["name"] = "gy-other"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (no_label, "this pod is not one of a rental"),
        (of_no_instance, "this pod is not one of a rental"),
        (somebody_elses, "this pod is not one of a rental"),
        (on_host_network, "this pod is on its node's network"),
        (at_host_address, "this pod is at its node's address"),
        (no_address, "this pod has no address yet"),
        (a_name_for_address, "this pod has an address that is none"),
        (being_ended, "this pod is being ended"),
        (has_ended, "this pod does not run"),
        (another, "the API server answered with something else than this pod"),
    ],
)
def test_what_is_no_running_rental_is_not_reached(
    scene: Scene,
    echo: tuple[str, int],
    spoil: Callable[[dict[str, Any]], None],
    sentence: str,
) -> None:
    with scene.relay() as relay:
        scene.echo(scene.open(*echo))
        spoil(scene.cluster.pods[SPACE, "gy-echo"])
        assert scene.refusal(*echo) == sentence
        relay.until_said(f'refused "{echo[0]}" port {echo[1]}: {sentence}')


def test_names_that_are_none_are_not_asked_for(scene: Scene, echo: tuple[str, int]) -> None:
    target, port = echo
    scene.cluster.add("gy-echo", "127.0.0.3", "kube-system")
    no_name = "this is no name of the form POD.NAMESPACE"
    with scene.relay():
        scene.echo(scene.open(target, port))
        asked = len(scene.cluster.asked)
        for wrong in (
            *(
                "127.0.0.3",
                "",
                ".",
                "gy-echo",
                f".{SPACE}",
                f"../gy-echo.{SPACE}",
                "a/b.gpuyard-r-1",
            ),
            *(f"gy-echo?x=.{SPACE}", f"GY-ECHO.{SPACE}", f"gy-echo%2f.{SPACE}", f"a..{SPACE}"),
            *(f"a\n.{SPACE}", f"gy-echo.{SPACE}.", f"{'a' * 300}.{SPACE}", f"gy-é.{SPACE}"),
        ):
            assert scene.refusal(wrong, port) in {no_name, "this namespace is not one of rentals"}
        for elsewhere in ("gy-echo.kube-system", "gy-echo.default", "gy-echo.gpuyard-system"):
            assert scene.refusal(elsewhere, port) == "this namespace is not one of rentals"
        assert scene.refusal(target, 0) == "there is no such port"
        assert scene.refusal(target, 65536 + port) == "there is no such port"
        assert len(scene.cluster.asked) == asked, "the API server was not bothered"
        assert scene.refusal(f"gy-none.{SPACE}", port) == "there is no such pod"
        closed = free_port()
        said = scene.refusal(target, closed)
        assert said == f"the pod does not answer at port {closed}: connect: connection refused"
        scene.echo(scene.open(target, port))


def test_without_the_api_server_nothing_new_opens_and_what_is_open_goes_on(
    scene: Scene, echo: tuple[str, int]
) -> None:
    with scene.relay():
        before = scene.open(*echo)
        scene.cluster.stop()
        assert scene.refusal(*echo) == "the API server of this cluster does not answer"
        scene.echo(before)
        scene.cluster.start()
        scene.echo(scene.open(*echo))


def test_what_else_an_api_server_may_say(scene: Scene, echo: tuple[str, int]) -> None:
    with scene.relay(), listening("127.0.0.1", lambda made: wanted.set()) as elsewhere:
        wanted = threading.Event()
        good = json.dumps(scene.cluster.pods[SPACE, "gy-echo"]).encode()
        for instead, sentence in (
            ((500, {}, b"{}"), "the API server of this cluster answered 500"),
            ((403, {}, b"{}"), "the API server of this cluster does not let the relay look"),
            ((200, {}, b"[[[["), "the API server's answer is not understood"),
            ((200, {}, b"[" * 100_000), "the API server's answer is not understood"),
            ((200, {}, good + b" " * 3 * MIB), "the API server's answer is too large"),
            (
                (307, {"Location": f"https://127.0.0.1:{elsewhere}/"}, good),
                "the API server of this cluster answered 307",
            ),
            (
                (200, {"Content-Length": "100000"}, good),  # and then silence
                "the API server of this cluster broke off its answer",
            ),
        ):
            scene.cluster.instead = instead
            assert scene.refusal(*echo) == sentence
        assert not wanted.is_set(), "it goes nowhere else"
        scene.cluster.instead = None
        scene.cluster.token = "renewed"
        said = scene.refusal(*echo)
        assert said == "the API server of this cluster does not let the relay look"
        (scene.cluster.account / "token").write_text("renewed\n")
        scene.echo(scene.open(*echo))


# --- It comes back


def test_a_gateway_killed_and_started_again_is_served_at_once(
    scene: Scene, pod: Pod, keys: Path
) -> None:
    port = free_port()
    scene.book.write(keys)
    gateway = gateway_process(keys, port)
    try:
        with scene.relay(port=port):
            outside = way(scene, port)
            inside = outside.start("echo in; sleep 600")
            assert inside.stdout
            assert inside.stdout.readline() == "in\n"
            gateway.kill()
            gateway.wait()
            assert inside.wait(timeout=15) == 255
            inside.communicate()
            gateway = gateway_process(keys, port)
            began = time.monotonic()
            assert outside.run("echo again").stdout == "again\n"
            print(f"a session {time.monotonic() - began:.1f} s after the gateway listened again")
    finally:
        gateway.kill()
        gateway.communicate()


def test_sessions_end_with_their_relay_and_the_next_relay_serves(scene: Scene, pod: Pod) -> None:
    outside = way(scene)
    with scene.relay() as relay:
        inside = outside.start("echo in; sleep 600")
        assert inside.stdout
        assert inside.stdout.readline() == "in\n"
        reader, _ = scene.open(f"gy-one.{SPACE}", pod.port)
        assert scene.serving.call(reader.readline()).startswith(b"SSH-2.0-")
        relay.process.kill()
        with pytest.raises(asyncssh.Error):
            scene.serving.call(reader.read())
        _, said = inside.communicate(timeout=15)
        assert (inside.returncode, LOST in said) == (255, True), said
    waiting = outside.start("echo in")  # it comes before its relay, and waits
    with scene.relay():
        out, said = waiting.communicate(timeout=20)
        assert out == "in\n", said


def test_without_a_relay_it_is_said_after_a_while(
    scene: Scene, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "WAIT_SECONDS", 0.5)
    refused = way(scene).run("echo in")
    assert (refused.returncode, refused.stdout) == (255, "")
    assert "the way to this machine is interrupted; try again in a minute" in refused.stderr
    with pytest.raises(NoRelay):
        scene.open(f"gy-one.{SPACE}", pod.port)


def test_an_update_ends_no_session(scene: Scene, pod: Pod) -> None:
    outside = way(scene)
    with scene.relay() as old:
        inside = outside.start("echo in; sleep 600")
        assert inside.stdout
        assert inside.stdout.readline() == "in\n"
        with scene.relay() as new:
            until(lambda: scene.here() == 2, "both are here")
            old.process.send_signal(signal.SIGTERM)
            assert outside.run("echo by the new one").stdout == "by the new one\n"
            new.until_said("stream instance=")
            assert old.process.poll() is None
            inside.kill()
            inside.communicate()
            assert old.process.wait(timeout=15) == 0
            assert outside.run("echo still").stdout == "still\n"
            new.process.send_signal(signal.SIGTERM)  # with no stream it leaves at once
            assert new.process.wait(timeout=15) == 0


def test_a_relay_that_is_silent_is_given_up_and_another_used(
    scene: Scene, pod: Pod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "KEEPALIVE_SECONDS", 0.5)
    outside = way(scene)
    with scene.relay() as first, scene.relay() as second:
        until(lambda: scene.here() == 2, "both are here")
        inside = outside.start("echo in; sleep 600")
        assert inside.stdout
        assert inside.stdout.readline() == "in\n"
        for each in (first, second):
            each.process.send_signal(signal.SIGSTOP)
        _, said = inside.communicate(timeout=30)
        assert LOST in said
        first.process.send_signal(signal.SIGCONT)
        assert outside.run("echo in").stdout == "in\n"
        second.process.send_signal(signal.SIGCONT)
        until(lambda: scene.here() == 2, "the other comes back")


def test_a_gateway_that_hangs_is_given_up_and_tried_again(
    scene: Scene, pod: Pod, keys: Path
) -> None:
    port = free_port()
    scene.book.write(keys)
    gateway = gateway_process(keys, port)
    try:
        with scene.relay(port=port) as relay:
            relay.until_said("connected")
            gateway.send_signal(signal.SIGSTOP)
            relay.until_said("the gateway does not answer", deadline_s=40)
            gateway.send_signal(signal.SIGCONT)
            relay.until_said("connected", 2, deadline_s=40)
            assert way(scene, port).run("echo in").stdout == "in\n"
    finally:
        gateway.kill()
        gateway.communicate()


def test_no_more_than_a_few_relays_of_a_cluster_stay(
    scene: Scene, echo: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "RELAYS_PER_CLUSTER", 2)
    with scene.relay() as oldest:
        until(lambda: scene.here() == 1, "the first is here")
        with scene.relay(), scene.relay():
            oldest.until_said("newer relays of this cluster have come")
            assert scene.here() == 2
            scene.echo(scene.open(*echo))


def test_one_relay_serves_several_gateways(scene: Scene, echo: tuple[str, int], keys: Path) -> None:
    other = Served(scene.book, (keys / "published").read_text())
    try:
        with relaying(
            scene.binary, scene.secret, scene.cluster, scene.serving.port, other.port
        ) as relay:
            scene.echo(scene.open(*echo))
            elsewhere = replace(scene, serving=other)
            elsewhere.echo(elsewhere.open(*echo))
            scene.serving.call(scene.serving.gateway.stop())
            relay.until_said("the gateway restarts")
            elsewhere.echo(elsewhere.open(*echo))
            scene.serving.call(scene.serving.gateway.start("127.0.0.1", scene.serving.port))
            scene.echo(scene.open(*echo))
    finally:
        other.stop()


def test_what_is_no_gateway_does_the_relay_no_harm(scene: Scene, echo: tuple[str, int]) -> None:
    hostile = (
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"SSH-2.0-" + b"A" * 4096 + b"\r\n",
        b"banner\r\n" * 20000,
        b"SSH-2.0-x\r\n" + b"\xff\xff\xff\xff" + os.urandom(64),
        b"SSH-2.0-x\r\n" + b"\0\0\0\x0c\x04\x14" + os.urandom(64),
        b"SSH-2.0-x\r\n\0\0\0\x0c\x0a\x14" + b"\0" * 10,
        b"\0" * 300,
        b"",
    )
    port = free_port()
    more = f"-gateway=127.0.0.1:{port}"
    with socket.create_server(("127.0.0.1", port)) as server, scene.relay(more) as relay:
        server.settimeout(20)
        for each in hostile:
            made, _ = server.accept()
            with made, suppress(OSError):
                made.settimeout(5)
                made.sendall(each)
        scene.echo(scene.open(*echo))
        assert relay.process.poll() is None
        assert not any("panic" in line for line in relay.log)


def test_clients_that_are_none_do_a_connected_relay_no_harm(
    scene: Scene, echo: tuple[str, int]
) -> None:
    with scene.relay() as relay:
        stream = scene.open(*echo)
        prove_hostile_is_closed(scene.serving.port, b"SSH-2.0-gpuyard", HANDSHAKES)
        scene.echo(stream)
        assert sum("connected" in line for line in relay.log) == 1, "it was never lost"


# --- One stream and the others


def test_streams_that_nobody_reads_stop_no_other(scene: Scene, echo: tuple[str, int]) -> None:
    """Neither pods that do not read nor readers here; and what waits for them has a bound."""
    stop = threading.Event()

    def deaf(made: socket.socket) -> None:
        stop.wait()

    def endless(made: socket.socket) -> None:
        while not stop.is_set():
            made.sendall(b"y" * 65536)

    async def pour(writer: Any) -> None:
        """Until nothing more is taken for a second."""
        with suppress(TimeoutError):
            while True:
                writer.write(b"x" * 65536)
                await asyncio.wait_for(writer.drain(), 1)

    scene.cluster.add("gy-two", "127.0.0.4")
    with (
        scene.relay() as relay,
        listening("127.0.0.4", deaf) as deaf_port,
        listening("127.0.0.4", endless) as endless_port,
    ):
        quick = scene.open(*echo)
        scene.echo(quick)
        before = memory_mib(relay)
        unread = [scene.open(f"gy-two.{SPACE}", endless_port) for _ in range(8)]
        deafs = [scene.open(f"gy-two.{SPACE}", deaf_port) for _ in range(8)]

        async def fill() -> None:
            await asyncio.gather(*(pour(writer) for _, writer in deafs))

        scene.serving.call(fill())
        took = []
        for _ in range(50):
            began = time.monotonic()
            scene.echo(quick, b"z" * 1000)
            took.append(time.monotonic() - began)
        grown = memory_mib(relay) - before
        print(
            f"beside 16 stuck streams an echo takes {sorted(took)[25] * 1000:.1f} ms; "
            f"the relay has grown by {grown:.0f} MiB"
        )
        assert grown < 16 * 8, "a few windows for each"
        assert not any(reader.at_eof() for reader, _ in unread), "none was given up"
        stop.set()


def memory_mib(relay: RelayProcess) -> float:
    status = Path(f"/proc/{relay.process.pid}/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def test_when_memory_is_short_pods_that_do_not_read_lose_their_streams(
    scene: Scene, echo: tuple[str, int]
) -> None:
    stop = threading.Event()

    def deaf(made: socket.socket) -> None:
        stop.wait()

    scene.cluster.add("gy-two", "127.0.0.4")
    with (
        scene.relay("-memory=16") as relay,
        listening("127.0.0.4", deaf) as deaf_port,
    ):
        quick = scene.open(*echo)
        deafs = [scene.open(f"gy-two.{SPACE}", deaf_port) for _ in range(20)]

        async def fill() -> None:
            for _, writer in deafs:
                writer.write(b"x" * 4 * MIB)

        scene.serving.call(fill())
        relay.until_said("memory is short")
        relay.until_said("stream instance=")
        scene.echo(quick, os.urandom(MIB))
        assert scene.here() == 1
        stop.set()


def test_there_is_a_most_of_streams(scene: Scene, echo: tuple[str, int]) -> None:
    with scene.relay():

        async def fill() -> list[Any]:
            gateway, opened = scene.serving.gateway, []
            for _ in range(40):
                opened += await asyncio.gather(
                    *(gateway.relays.stream(CLUSTER, *echo) for _ in range(50))
                )
            return opened

        soft_limit(8192)
        opened = scene.serving.call(fill())
        assert scene.refusal(*echo) == "this relay carries 2000 streams, the most"
        scene.echo(opened[0])
        scene.echo(opened[-1])

        async def close() -> None:
            opened[5][1].close()

        scene.serving.call(close())
        until(lambda: opens(scene, echo), "there is room for another")


def opens(scene: Scene, echo: tuple[str, int]) -> bool:
    try:
        scene.echo(scene.open(*echo))
    except asyncssh.ChannelOpenError:
        return False
    return True


def soft_limit(files: int) -> None:
    """The pod's own ends are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(files, hard), hard))
