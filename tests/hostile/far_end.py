"""The other side, as a process of its own: hostile servers, canaries, doors, agents, and one
healthy cluster, so that nothing of it counts as the product's memory, processes or connections.

`python -m tests.hostile.far_end FOLDER`, with DATABASE_URL: orders are lines of JSON on standard
input, each answered by a line of JSON. It ends with its input. `FarEnd` is its other end.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from contextlib import ExitStack, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from uuid import UUID

from tests.hostile.behaviours import HOST, behaviours, rotating
from tests.hostile.pem import Pair, self_signed
from tests.hostile.wire import Canary, Listener

Json = dict[str, Any]
ROOT = Path(__file__).resolve().parents[2]
ROTATING = "another one each time"
# Where addresses that inputs name would lead, if anything followed them there.
_KNOWN_PORTS = (443, 6443)
_NODES = {"card": "h100-sxm", "nodes": 4, "cards": 8, "cpu": 192, "memory_gib": 2048}
_NODES["disk_gib"] = 28000


class FarEnd:
    """Starts the process and gives it orders."""

    def __init__(self, folder: Path, database_url: str, seed: str) -> None:
        env = {**os.environ, "DATABASE_URL": database_url, "HOSTILE_SEED": seed}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.far_end", str(folder)],
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.ready = self._read()

    def order(self, what: str, **given: Any) -> Json:
        assert self._process.stdin
        self._process.stdin.write(json.dumps({"what": what, **given}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> Json:
        assert self._process.stdout
        line = self._process.stdout.readline()
        assert line.startswith("{"), f"the far end ended, or said {line!r}"
        found: Json = json.loads(line)
        return found

    def close(self) -> None:
        """Returns when it is gone, and with it its children."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(30)


class _Side:
    def __init__(self, folder: Path, exits: ExitStack, seed: str) -> None:
        self._folder, self._exits, self._seed = folder, exits, seed
        self._canaries = [Canary("127.0.0.1")]
        for address in ("127.0.0.1", "::1"):
            for port in _KNOWN_PORTS:
                with suppress(OSError):  # somebody else's, or there is no such address here
                    self._canaries.append(Canary(address, port))
        self._every = behaviours(self._canaries[0].port)
        self._pairs = {
            "good": self_signed(HOST),
            "another CA": self_signed(HOST),
            "another host": self_signed("other.partner.example"),
            "expired": self_signed(HOST, expired=True),
        }
        self._listeners: list[Listener] = []
        self._agents: list[Any] = []
        self._doors: dict[str, int] = {}

    def begin(self) -> Json:
        """A listener for every behaviour; what the campaign has to know."""
        ports = {}
        for name, each in self._every.items():
            pair = self._pairs[each.pair] if each.pair else None
            ports[name] = self._listen(each.answer, pair)
        ports[ROTATING] = self._listen(rotating(self._every), self._pairs["good"])
        return {
            "ports": ports,
            "slow": [name for name, each in self._every.items() if each.slow],
            # Whose listener shows the very certificate of another owner, or an expired one.
            "ca": {name: self._trusted(name) for name in ports},
            "canaries": len(self._canaries),
            "stand_in": self._stand_in(),
            "healthy": self._healthy(),
        }

    def _trusted(self, name: str) -> str:
        kind = self._every[name].pair if name in self._every else "good"
        return self._pairs[kind if kind in ("another host", "expired") else "good"].certificate

    def _listen(self, answer: Any, pair: Pair | None) -> int:
        made = Listener(answer, pair, self._folder, f"{self._seed}/{len(self._listeners)}")
        self._listeners.append(made)
        return made.port

    def _healthy(self) -> Json:
        from devstack.kube.sim.stack import Pace, SimStack

        name = "healthy"
        stack = SimStack(
            self._folder / "kube",
            names=[name],
            fleets={name: [_NODES]},
            pace=Pace(heartbeat_s=10.0),
            control=False,
        )
        stack.start()
        self._exits.callback(stack.stop)
        kube = stack.clusters[name]
        return {"api_url": kube.api_url, "ca_pem": kube.ca_pem, "token": kube.token}

    # --- agents -----------------------------------------------------------------------------------

    def _stand_in(self) -> int:
        """A door behind which every cluster has an agent gone bad."""
        from django.conf import settings

        from tests.agentdoor import DoorWorld

        side = self

        class Bad:
            async def stream(self, cluster: str, target: str, port: int) -> tuple[Any, Any]:
                return await asyncio.open_connection("127.0.0.1", side._doors[cluster])

        world = DoorWorld(settings.GPUYARD_GRANT_KEY)
        world.door._relays = cast("Any", Bad())
        self._exits.callback(world.stop)
        return world.port

    def bad_agent(self, cluster: str, behaviour: str, pem: str) -> Json:
        """An agent with the right certificate that answers by itself."""
        each = self._every.get(behaviour)
        answer = rotating(self._every) if each is None else each.answer
        kind = "good" if each is None else each.pair
        key = pem.index("-----BEGIN PRIVATE")
        pairs = {"good": Pair(pem[:key], pem[key:]), "": None}
        self._doors[cluster] = self._listen(answer, pairs.get(kind, self._pairs.get(kind)))
        return {}

    def gateway(self) -> Json:
        """The real door."""
        from tests.agents import platform

        self._platform = self._exits.enter_context(platform())
        return {"port": self._platform.door_port}

    def agent(self, cluster: str, port: int) -> Json:
        """The real program, beside an API server that answers at ``port`` as it likes."""
        from devstack.podtools import build_podtools
        from tests.agents import running_agent

        trusted = self._pairs["good"].certificate
        kube = SimpleNamespace(api_url=f"https://127.0.0.1:{port}", ca_pem=trusted, token="x" * 40)
        folder = self._folder / f"agent-{len(self._agents)}"
        made = running_agent(build_podtools(), folder, kube, self._platform, UUID(cluster))
        self._agents.append(self._exits.enter_context(made))
        return {}

    def figures(self) -> Json:
        return {
            "canary_connections": sum(each.connections for each in self._canaries),
            "canary_bytes": sum(each.bytes for each in self._canaries),
            "requests": sum(each.requests for each in self._listeners),
            "agents": len(self._agents),
            "agents_alive": sum(each.process.poll() is None for each in self._agents),
            "agents_listen": sum(listening_sockets(each.process.pid) for each in self._agents),
            "agents_mib": max((peak_mib(each.process.pid) for each in self._agents), default=0),
        }


def listening_sockets(pid: int) -> int:
    """How many sockets of a process wait for connections, of either family."""
    own = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(OSError):
            target = os.readlink(link)
            if target.startswith("socket:["):
                own.add(target[8:-1])
    found = 0
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            # TCP in state 0A listens; a UDP socket without a peer takes from anybody.
            waits = words[3] == ("0A" if table.startswith("tcp") else "07")
            found += waits and words[9] in own
    return found


def peak_mib(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if "VmHWM" in line)) >> 10


def main(folder: Path) -> None:
    import django

    django.setup()
    # Whatever else is printed must not meet the answers.
    answers, sys.stdout = sys.stdout, sys.stderr
    with ExitStack() as exits:
        side = _Side(folder, exits, os.environ["HOSTILE_SEED"])
        print(json.dumps(side.begin()), file=answers, flush=True)
        for line in sys.stdin:
            given = json.loads(line)
            found = getattr(side, given.pop("what"))(**given)
            print(json.dumps(found), file=answers, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
