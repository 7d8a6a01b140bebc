"""200 SSH sessions at once through gateway and relay: memory of each, and what they add in time.

The sessions run `cat` in a pod's tools; a byte's way there and back is timed through gateway and
relay and straight to the pod, in turns, while all of them are open. Then the gateway is killed and
started again at the same port, and the flow of one session alone is timed in each direction, by
OpenSSH's client. Gateway, relay and pod are processes of their own, the API server answers for the
one pod. No database takes part. The last line is JSON.

    python bench/ssh_sessions.py [sessions]
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asyncssh

from devstack.podtools import build_podtools
from devstack.ports import free_port
from provisioner.streams.doors import Door
from tests.relayed import (
    CLUSTER,
    INSTANCE,
    SPACE,
    Book,
    Cluster,
    RelayProcess,
    gateway_process,
    relaying,
    write_seed,
)
from tests.sshpod import MIB, Pod, Way, make_key, running

ROUNDS = 200
NAMES = 20  # machines among which the sessions are divided
FLOW_MIB = 200
FLOW_ROUNDS = 3


def memory_kib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))


async def enter(way: Way, name: str) -> Any:
    """An open session that sends back what it is given, and its connection."""
    conn = await asyncssh.connect(
        way.address,
        way.port,
        username=name,
        client_keys=[str(way.keys / way.key)],
        known_hosts=([asyncssh.import_public_key(way.host_key)], [], []),
        config=None,
        agent_path=None,
    )
    process = await conn.create_process("cat", encoding=None)
    await echo(process)
    return conn, process


async def echo(process: Any) -> float:
    """Milliseconds of a byte there and back."""
    began = time.perf_counter()
    process.stdin.write(b"x")
    assert await process.stdout.readexactly(1) == b"x"
    return (time.perf_counter() - began) * 1000


def flow(way: Way) -> tuple[float, float]:
    """MiB/s out of the pod and into it."""
    took = []
    for line, given in (
        (f"head -c {FLOW_MIB * MIB} /dev/zero", b""),
        ("cat > /dev/null", b"\0" * (FLOW_MIB * MIB)),
    ):
        began = time.perf_counter()
        words = way.ssh(way.host, line)
        subprocess.run(words, input=given, stdout=subprocess.DEVNULL, check=True, timeout=300)
        took.append(FLOW_MIB / (time.perf_counter() - began))
    return took[0], took[1]


def flows(straight: Way, through: Way) -> dict[str, Any]:
    """Both ways in turns; the middle of each."""
    rounds = [(flow(straight), flow(through)) for _ in range(FLOW_ROUNDS)]
    found: dict[str, Any] = {}
    for index, name in enumerate(("out", "in")):
        floor = statistics.median(each[0][index] for each in rounds)
        figure = statistics.median(each[1][index] for each in rounds)
        found |= {
            f"floor_{name}_mib_s": round(floor),
            f"{name}_mib_s": round(figure),
            f"{name}_ratio": round(figure / floor, 2),
        }
    return found


async def measure(
    straight: Way, through: Way, sessions: int, gateway: subprocess.Popen[str], relay: RelayProcess
) -> dict[str, Any]:
    pids = {"gateway": gateway.pid, "relay": relay.process.pid}
    empty = {name: memory_kib(pid) for name, pid in pids.items()}
    opened, took = [], []
    for number in range(sessions):
        began = time.perf_counter()
        opened.append(await enter(through, f"ren_{number % NAMES}"))
        took.append((time.perf_counter() - began) * 1000)
    full = {name: memory_kib(pid) for name, pid in pids.items()}
    direct = await enter(straight, "any")
    there, floor = [], []
    for number in range(ROUNDS):
        there.append(await echo(opened[number * 7 % sessions][1]))
        floor.append(await echo(direct[1]))
    gateway.send_signal(signal.SIGKILL)
    gateway.wait()
    began = time.perf_counter()
    again = gateway_process(through.keys, through.port)
    try:
        listening = time.perf_counter() - began
        began = time.perf_counter()
        anew, _ = await enter(through, "ren_0")
        first = (time.perf_counter() - began) * 1000
        for conn in [*(each for each, _ in opened), direct[0], anew]:
            conn.abort()
        flowing = flows(straight, through)
    finally:
        again.kill()
        again.communicate()
    p95 = [statistics.quantiles(each, n=20)[-1] for each in (there, floor)]
    return {
        "figure_kib_per_session": round((full["gateway"] - empty["gateway"]) / sessions),
        "relay_kib_per_session": round((full["relay"] - empty["relay"]) / sessions),
        "gateway_mib": [round(each["gateway"] / 1024) for each in (empty, full)],
        "relay_mib": [round(each["relay"] / 1024) for each in (empty, full)],
        "floor_echo_ms": round(statistics.median(floor), 2),
        "echo_ms": round(statistics.median(there), 2),
        "added_ms": round(statistics.median(there) - statistics.median(floor), 2),
        "added_p95_ms": round(p95[0] - p95[1], 2),
        "connect_ms": round(statistics.median(took)),
        "gateway_listens_again_s": round(listening, 1),
        "first_session_after_ms": round(first),
        **flowing,
    }


def book(keys: Path, pod: Pod) -> Book:
    """One pod behind every name, open to one key."""
    visitor = asyncssh.read_public_key(keys / "visitor.pub").get_fingerprint("sha256")
    door = Door(
        instance=INSTANCE,
        cluster=CLUSTER,
        target=f"gy-one.{SPACE}",
        port=pod.port,
        host_key=pod.host_key,
        client_key=(keys / "gateway").read_text(),
        authorized={visitor: "usr_visitor"},
    )
    written = Book()
    written.doors = {f"ren_{number}": door for number in range(NAMES)}
    written.relays = {CLUSTER: write_seed(keys / "relay", (keys / "published.pub").read_text())}
    return written


def main(sessions: int) -> int:
    with tempfile.TemporaryDirectory() as name:
        keys = Path(name)
        for key in ("host-key", "gateway", "published", "visitor"):
            make_key(keys, key)
        binary, port, cluster = build_podtools(), free_port(), Cluster(keys)
        with running(binary, keys, address="127.0.0.2") as pod:
            cluster.add("gy-one", pod.address)
            book(keys, pod).write(keys)
            gateway = gateway_process(keys, port)
            try:
                with relaying(binary, keys / "relay", cluster, port) as relay:
                    published = (keys / "published.pub").read_text().strip()
                    through = Way(port, published, keys, user="ren_0", key="visitor")
                    straight = dataclasses.replace(pod, user="any")
                    assert through.run("true").returncode == 0
                    work = measure(straight, through, sessions, gateway, relay)
                    found = asyncio.run(work)
            finally:
                gateway.kill()
                gateway.communicate()
                cluster.stop()
    print(json.dumps({"bench": "ssh_sessions", "sessions": sessions, **found}))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
