"""The tools of a renter's pod, spoken to by OpenSSH's own clients.

What runs here is the static binary as an init container would bring it, with keys as a mounted
Secret has them. Only the cluster is missing.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from devstack.ports import free_port
from tests.sshpod import (
    MIB,
    NEEDS_OPENSSH,
    Pod,
    answers,
    make_key,
    prove_forwarding,
    prove_hostile_is_closed,
    prove_terminal,
    running,
    until,
)

pytestmark = [pytest.mark.live, pytest.mark.slow, NEEDS_OPENSSH]

NAMESPACES = ("unshare", "--map-root-user", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def keys(keys: Path) -> Path:
    """And a key that nobody trusts."""
    make_key(keys, "stranger")
    return keys


@pytest.fixture
def namespaces() -> tuple[str, ...]:
    if subprocess.run([*NAMESPACES, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine gives no process namespaces")
    return NAMESPACES


@pytest.fixture
def pod(binary: Path, keys: Path) -> Iterator[Pod]:
    with running(binary, keys) as found:
        yield found


def test_a_command_has_its_streams_its_status_and_the_containers_environment(pod: Pod) -> None:
    done = pod.run('cat; echo "$COLOUR $HOME $PWD"; echo apart >&2; exit 7', given="given\n")
    home = str(pod.keys)
    assert (done.returncode, done.stdout) == (7, f"given\nblue {home} {home}\n")
    assert done.stderr == "apart\n"
    assert "GPUYARD" not in pod.run("env").stdout, "what only the tools need is nobody's business"
    assert pod.run("kill -9 $$").returncode == 128 + 9


def test_only_the_gateways_key_gets_in(pod: Pod) -> None:
    refused = pod.run("echo in", key="stranger")
    assert (refused.returncode, refused.stdout) == (255, "")
    assert "Permission denied (publickey)" in refused.stderr
    assert pod.run("echo in").stdout == "in\n"


def test_the_host_key_is_the_one_of_the_secret(pod: Pod) -> None:
    asked = ["ssh-keyscan", "-p", str(pod.port), "-t", "ed25519", "127.0.0.1"]
    scanned = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    kind, shown = (pod.keys / "host-key.pub").read_text().split()[:2]
    assert f"{kind} {shown}" in scanned.stdout


def test_a_terminal_and_ports(pod: Pod) -> None:
    prove_terminal(pod)
    prove_forwarding(pod)


def test_scp_both_ways_and_sftp(pod: Pod, tmp_path: Path) -> None:
    there, sent, back = tmp_path / "there", tmp_path / "sent", tmp_path / "back"
    sent.write_bytes(os.urandom(20 * MIB))
    pod.copy(str(sent), f"{pod.host}:{there}")
    pod.copy(f"{pod.host}:{there}", str(back))
    sums = {hashlib.sha256(each.read_bytes()).hexdigest() for each in (sent, there, back)}
    assert len(sums) == 1
    batch = ["sftp", *pod.options(), "-P", str(pod.port), "-b", "-", "any@127.0.0.1"]
    asked = "pwd\nmkdir made\nls\n"
    done = subprocess.run(
        batch, input=asked, capture_output=True, text=True, timeout=30, check=True
    )
    assert f"Remote working directory: {pod.keys}" in done.stdout
    assert (pod.keys / "made").is_dir()


def test_a_stop_says_goodbye(pod: Pod) -> None:
    client = pod.start("echo in; sleep 600")
    assert client.stdout
    assert client.stdout.readline() == "in\n"
    pod.process.send_signal(signal.SIGTERM)
    _, said = client.communicate(timeout=15)
    assert "this machine is being stopped" in said
    assert client.returncode == 255
    assert pod.process.wait(timeout=15) == 0


def test_an_ssh_server_that_dies_comes_back(pod: Pod) -> None:
    assert pod.run("kill -9 $PPID").returncode == 255
    pod.until_open()
    assert pod.run("echo again").stdout == "again\n"
    assert pod.process.poll() is None


def test_what_a_session_leaves_goes_on_and_is_buried(pod: Pod) -> None:
    """By the keeper: process 1 is the image's own and may not."""
    line = "(setsid sh -c 'echo $$ > born; exec sleep 0.5' &) >/dev/null 2>&1; echo left"
    assert pod.run(line).stdout == "left\n"
    born = pod.keys / "born"
    until(lambda: born.exists() and bool(born.read_text()), "it is born")
    orphan = born.read_text().strip()
    parents = pod.run(f"cut -d' ' -f4 /proc/{orphan}/stat").stdout.strip()
    assert parents == str(pod.process.pid)
    until(lambda: not Path(f"/proc/{orphan}").exists(), "the orphan is buried")


def test_a_start_leaves_a_keeper_behind_and_returns_when_ssh_greets(
    binary: Path, keys: Path, namespaces: tuple[str, ...]
) -> None:
    """As the hook of a container, whose process 1 is anything and has its streams to itself."""
    port = free_port()
    hook = f"{binary} start -keys {keys} -ssh 127.0.0.1:{port} && echo returned; exec cat"
    image = subprocess.Popen(
        [*namespaces, "sh", "-c", hook],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    pod = Pod(port, (keys / "host-key.pub").read_text().strip(), keys, process=image)
    try:
        assert image.stdout
        assert image.stdout.readline() == "returned\n"
        assert answers(port), "at once, without another try"
        assert pod.run("cat /proc/1/comm").stdout == "cat\n"
        assert image.stderr
        assert "SSH answers at" in image.stderr.readline(), "what it says is in the renter's log"
    finally:
        image.kill()
        image.communicate()


def test_it_works_in_an_image_with_nothing_in_it(
    binary: Path, keys: Path, tmp_path: Path, namespaces: tuple[str, ...]
) -> None:
    image = tmp_path / "image"
    (image / "gpuyard").mkdir(parents=True)
    (image / "proc").mkdir()
    subprocess.run([str(binary), "install", str(image / "gpuyard")], check=True)
    for name in ("host-key", "gateway.pub"):
        shutil.copy(keys / name, image / "gpuyard" / name)
    installed = image / "gpuyard/podtools"
    assert installed.read_bytes() == binary.read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o755
    port = free_port()
    tools = "/gpuyard/podtools"
    process = subprocess.Popen(
        [
            *(*NAMESPACES, "--root", str(image), tools),
            *("keep", "-keys", "/gpuyard", "-ssh", f"127.0.0.1:{port}"),
        ],
        env={},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    pod = Pod(port, (keys / "host-key.pub").read_text().strip(), keys, process=process)
    try:
        pod.until_open()
        nothing = pod.run("")
        assert nothing.returncode == 127
        assert "this image has no shell" in nothing.stderr
        assert "usage: podtools" in pod.run(tools).stderr
    finally:
        process.kill()
        process.communicate()


# Scaled down; `HANDSHAKES=10000` is the campaign's.
HANDSHAKES = int(os.environ.get("HANDSHAKES") or 500)


def test_what_is_no_handshake_gets_nothing_but_a_closed_connection(pod: Pod) -> None:
    prove_hostile_is_closed(pod.port, b"SSH-2.0-gpuyard", HANDSHAKES)
    assert pod.run("echo in").stdout == "in\n"


def test_who_is_slow_is_shown_out_and_keeps_nobody_out(pod: Pod) -> None:
    """The limit is fifteen seconds; as many as may knock at once stall, and then let others in."""
    stalled = [socket.create_connection(("127.0.0.1", pod.port)) for _ in range(32)]
    began = time.monotonic()
    try:
        for each in stalled:
            each.sendall(b"SSH-2.0-slow\r\n")
        for each in stalled:
            each.settimeout(25)
            while each.recv(65536):
                pass
        assert time.monotonic() - began < 25
        assert pod.run("echo in").stdout == "in\n"
    finally:
        for each in stalled:
            each.close()
