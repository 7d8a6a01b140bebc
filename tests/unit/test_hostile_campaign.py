"""The campaign's own parts: the same seed gives the same inputs, and the evidence is not blind."""

from __future__ import annotations

import random
import socket
import subprocess
import sys
from pathlib import Path

from tests.hostile.behaviours import behaviours
from tests.hostile.inputs import MAKERS, inputs
from tests.hostile.wire import Canary

ROOT = Path(__file__).resolve().parents[2]
_WATCHED = """
import os, socket, subprocess
from tests.hostile.evidence import Guard
server = socket.create_server(("127.0.0.1", 0))
guard = Guard({server.getsockname()[1]}, frozenset({"/etc/passwd"}))
guard.watch()
socket.create_connection(server.getsockname()).close()
for harm in (
    lambda: socket.create_connection(("169.254.169.254", 80), 1),
    lambda: socket.create_connection(("127.0.0.1", 1), 1),
    lambda: subprocess.run(["true"]),
    lambda: os.system("true"),
    lambda: os.fork(),
    lambda: open("/etc/passwd"),
):
    try:
        harm()
    except OSError:
        continue
    os._exit(1)
print(len(guard.connections), len(guard.processes), len(guard.opened))
"""


def test_a_seed_names_its_inputs() -> None:
    def drawn(seed: str) -> list[str]:
        return [repr(each) for each in inputs(random.Random(seed), 300)]

    assert drawn("a") == drawn("a")
    assert drawn("a") != drawn("b")
    kinds = {each.kind.partition("/")[0] for each in inputs(random.Random(1), len(MAKERS))}
    assert {"address", "name", "url", "kubeconfig", "ca", "token", "cluster name", "body"} == kinds


def test_every_behaviour_has_a_name_and_some_are_slow() -> None:
    found = behaviours(1)
    assert len(found) > 80
    assert 5 < sum(each.slow for each in found.values()) < 20


def test_what_must_not_happen_is_seen_and_stopped() -> None:
    done = subprocess.run(
        [sys.executable, "-c", _WATCHED], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == ["2", "3", "1"], done.stderr


def test_a_canary_counts_what_reaches_it() -> None:
    canary = Canary("127.0.0.1")
    with socket.create_connection(("127.0.0.1", canary.port)) as made:
        made.sendall(b"abc")
        made.shutdown(socket.SHUT_WR)
        assert made.recv(1) == b""
    assert (canary.connections, canary.bytes) == (1, 3)
    canary.close()
