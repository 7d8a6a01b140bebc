"""Into pods of a real kubelet: 200 SSH connections at once, then 10,000 hostile handshakes, then a
killed gateway.

Four rentals of a whole stack on this machine, through API, gateway and relay. Memory of gateway and
relay per connection, and the time of a byte there and back through both, in turns with its floor:
the same straight to a pod. While strangers knock, a renter goes on. Needs root
(devstack/kube/node/able.py). The last line is JSON.

    python bench/real_ssh.py [connections] [handshakes]
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import asyncssh

from bench.ssh_sessions import ROUNDS, echo, memory_kib
from devstack.kube.api import Api
from devstack.kube.node.able import why_not
from devstack.people import RENTER_SCOPES, Person, join, make_staff, top_up
from devstack.stack import REAL, Stack
from devstack.state import State
from devstack.way_in import Client, furnish_real, open_way, rent
from tests.sshpod import prove_hostile_is_closed

Json = dict[str, Any]
MACHINES = 4
# What the gateway has of a pod's own key, as its directory makes it.
_KEY = (
    "from django.conf import settings; from kernel.ids import parse;"
    "from provisioner.instances import access_keys as k;"
    "key = settings.GPUYARD_SEALING_KEY; at = parse('instance', {instance!r});"
    "print(k.private_text(k.gateway_key(at, key=key)), k.public_line(k.host_key(at, key=key)),"
    " sep='|')"
)


async def enter(host: str, port: int, user: str, host_key: str, private: str) -> tuple[Any, Any]:
    """An open session that sends back what it is given, and its connection."""
    conn = await asyncssh.connect(
        host,
        port,
        username=user,
        client_keys=[asyncssh.import_private_key(private)],
        known_hosts=([asyncssh.import_public_key(host_key)], [], []),
        encryption_algs=["aes128-gcm@openssh.com"],
        config=None,
        agent_path=None,
    )
    process = await conn.create_process("cat", encoding=None)
    await echo(process)
    return conn, process


async def crowd(
    stack: Stack, ways: list[Json], private: str, straight: Json, number: int
) -> tuple[Json, list[Any]]:
    pids = {name: stack.processes[name].pid for name in ("gateway", "relay")}
    before = {name: memory_kib(pid) for name, pid in pids.items()}
    opened, took = [], []
    for each in range(number):
        way = ways[each % len(ways)]
        began = time.perf_counter()
        key = way["known_hosts_line"].partition(" ")[2]
        opened.append(await enter(way["host"], way["port"], way["user"], key, private))
        took.append((time.perf_counter() - began) * 1000)
    after = {name: memory_kib(pid) for name, pid in pids.items()}
    direct = await enter(**straight)
    there, floor = [], []
    for each in range(ROUNDS):
        there.append(await echo(opened[each * 7 % number][1]))
        floor.append(await echo(direct[1]))
    direct[0].abort()
    p95 = [statistics.quantiles(each, n=20)[-1] for each in (there, floor)]
    return {
        "connections": number,
        "machines": len(ways),
        "gateway_kib_each": round((after["gateway"] - before["gateway"]) / number),
        "relay_kib_each": round((after["relay"] - before["relay"]) / number),
        "gateway_mib": [round(each["gateway"] / 1024) for each in (before, after)],
        "relay_mib": [round(each["relay"] / 1024) for each in (before, after)],
        "connect_ms": round(statistics.median(took)),
        "floor_echo_ms": round(statistics.median(floor), 2),
        "echo_ms": round(statistics.median(there), 2),
        "added_ms": round(statistics.median(there) - statistics.median(floor), 2),
        "added_p95_ms": round(p95[0] - p95[1], 2),
    }, opened


def besieged(stack: Stack, client: Client, way: Json, handshakes: int) -> Json:
    """While strangers knock, a renter comes in again and again; memory before and after."""
    pid = stack.processes["gateway"].pid
    before, over, waits = memory_kib(pid), threading.Event(), []

    def live() -> None:
        while not over.is_set():
            began = time.perf_counter()
            if client.run(way, "true").returncode:
                raise RuntimeError("a renter was kept out")
            waits.append(time.perf_counter() - began)

    alone = []
    for _ in range(9):
        began = time.perf_counter()
        client.run(way, "true")
        alone.append(time.perf_counter() - began)
    renter = threading.Thread(target=live)
    renter.start()
    began = time.monotonic()
    prove_hostile_is_closed(way["port"], b"SSH-2.0-gpuyard", handshakes, address=way["host"])
    took = time.monotonic() - began
    over.set()
    renter.join()
    return {
        "hostile_handshakes": handshakes,
        "hostile_per_s": round(handshakes / took),
        "gateway_grew_mib": round((memory_kib(pid) - before) / 1024),
        "renters_came_in": len(waits),
        "ssh_alone_s": round(statistics.median(alone), 2),
        "ssh_besieged_s": round(statistics.median(waits), 2),
    }


def killed(stack: Stack, client: Client, way: Json) -> Json:
    stack.kill_process("gateway")
    began = time.monotonic()
    stack.start_process("gateway")
    while client.run(way, "true").returncode:
        if time.monotonic() - began > 120:
            raise RuntimeError("nobody gets in any more")
    return {"gateway_started_to_first_session_s": round(time.monotonic() - began, 1)}


def furnish(stack: Stack, client: Client) -> tuple[Person, list[Json], list[Json]]:
    furnish_real(stack, make_staff(stack, "staff@example.com"))
    person = join(stack, "renter@example.com", "Labs", RENTER_SCOPES)
    top_up(stack, person, "500.00")
    rentals = [rent(stack, person, client, name=f"m{number}") for number in range(MACHINES)]
    ways = [open_way(person, each["id"]) for each in rentals]
    return person, [person.api.get(f"/rentals/{each['id']}") for each in rentals], ways


def straight_to(stack: Stack, rental: Json) -> Json:
    """What `enter` takes for a rental's pod itself."""
    said = stack.manage("shell", "-c", _KEY.format(instance=rental["instance"]), "--no-imports")
    private, _, public = said.strip().rpartition("|")
    admin = Api.from_kubeconfig(stack.clusters[REAL].admin_kubeconfig)
    label = f"gpuyard.io/instance={rental['instance']}"
    (pod,) = admin.get(f"/api/v1/pods?labelSelector={label}")["items"]
    host = pod["status"]["podIP"]
    return {"host": host, "port": 22022, "user": "any", "host_key": public, "private": private}


def measure(connections: int, handshakes: int) -> Json:
    with State.temporary("realssh") as state:
        stack = Stack(state, clusters=(REAL,))
        try:
            stack.start()
            client = Client.make(state.path / "keys", "bench")
            _, rentals, ways = furnish(stack, client)
            private = (client.folder / client.name).read_text()
            straight = straight_to(stack, rentals[0])

            async def scene() -> Json:
                found, opened = await crowd(stack, ways, private, straight, connections)
                for conn, _ in opened:
                    conn.abort()
                return found

            found = asyncio.run(scene())
            found |= besieged(stack, client, ways[0], handshakes)
            return found | killed(stack, client, ways[0])
        finally:
            stack.stop()


def main() -> int:
    if reason := why_not():
        print(f"not measured: {reason}")
        return 0
    numbers = [int(word) for word in sys.argv[1:]]
    connections, handshakes = (*numbers, *(200, 10_000)[len(numbers) :])
    print(json.dumps({"bench": "real_ssh", **measure(connections, handshakes)}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
