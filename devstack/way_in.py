"""The way into a machine, shown: a rental on the real node, entered by OpenSSH's own client.

Used by `make demo NODE=real` and by the live tests: it only does what a renter does, with the API
and with `ssh`.
"""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

from devstack.console import say
from devstack.people import Person
from devstack.play import await_state, check
from devstack.stack import REAL, Stack
from devstack.supply import Site, onboard, put_on_sale

Json = dict[str, Any]

SITE = Site(
    *(REAL, "owned", "owned@example.com", "gpuyard Data Centres"),
    *("fra-1", "eu-central", "DE"),
)


def furnish_real(stack: Stack, staff: Person) -> Person:
    """The real node's cluster on sale, and its relay running; its provider."""
    provider = onboard(stack, staff, SITE)
    put_on_sale(provider)
    start_relay(stack, provider)
    # Before the gateway has seen the relay, orders with keys are refused.
    provider.api.until(
        "/offers?ssh=true",
        lambda offers: bool(offers["items"]),
        "the offers have a way in",
        deadline_s=180,  # new cards are measured before they are for rent
    )
    return provider


def start_relay(stack: Stack, provider: Person) -> None:
    """As the provider does with what their cluster's page names."""
    (cluster,) = provider.api.get("/provider/clusters")["items"]
    stack.start_relay(REAL, provider.api.post(f"/provider/clusters/{cluster['id']}/relay"))


@dataclass(frozen=True)
class Client:
    """OpenSSH's client with one key; ``folder`` holds it and what it knows of hosts."""

    folder: Path
    name: str

    @classmethod
    def make(cls, folder: Path, name: str) -> Client:
        """With a new key. CalledProcessError where there is no ssh-keygen."""
        folder.mkdir(parents=True, exist_ok=True)
        words = [
            "ssh-keygen",
            "-q",
            "-t",
            "ed25519",
            "-N",
            "",
            "-C",
            name,
            "-f",
            str(folder / name),
        ]
        subprocess.run(words, check=True)
        return cls(folder, name)

    @property
    def public_key(self) -> str:
        return (self.folder / f"{self.name}.pub").read_text().strip()

    def options(self, way: Json) -> list[str]:
        """For ssh and scp, with the host key as the API gave it and no other."""
        known = self.folder / f"known_hosts-{way['port']}"
        known.write_text(way["known_hosts_line"] + "\n")
        settings = {
            "IdentityFile": self.folder / self.name,
            "IdentitiesOnly": "yes",
            "UserKnownHostsFile": known,
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "BatchMode": "yes",
            "LogLevel": "ERROR",
        }
        return ["-F", "/dev/null", *(f"-o{name}={value}" for name, value in settings.items())]

    def words(self, way: Json, line: str) -> list[str]:
        """The command that runs ``line`` in the machine. ``way``: `access.ssh` of the rental."""
        at = f"{way['user']}@{way['host']}"
        return ["ssh", *self.options(way), "-p", str(way["port"]), at, line]

    def run(self, way: Json, line: str, *, given: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.words(way, line),
            input=given,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )


def rent(stack: Stack, person: Person, client: Client, *, gpus: int = 1, **more: Any) -> Json:
    """A rental on the real node, as the API answers it."""
    offer = person.api.get(f"/offers?gpus={gpus}&ssh=true&limit=1")["items"][0]
    quote = person.api.post("/quotes", {"offer": offer["id"], "gpus": gpus})
    wanted = {
        "quote": quote["id"],
        "image": stack.clusters[REAL].images["base"],
        "ssh_keys": [client.public_key],
        "max_hours": 4,
        **more,
    }
    return person.api.post("/rentals", wanted)


def open_way(person: Person, rental_id: str, *, deadline_s: float = 120.0) -> Json:
    """`access.ssh` once it is proven, of a rental that runs."""
    found = person.api.until(
        f"/rentals/{rental_id}",
        lambda rental: rental["state"] == "running" and bool(rental["access"]["ssh"]),
        "the machine runs and its way in is proven",
        deadline_s=deadline_s,
        poll_s=0.05,
    )
    way: Json = found["access"]["ssh"]
    return way


def play_way_in(stack: Stack, person: Person) -> None:
    """Rent, go in, look, leave, end; what was seen is said, and how long each step took."""
    client = Client.make(stack.state.path / "renter", "demo")
    for turn, name in enumerate(("its image is unpacked for the first time", "cached image")):
        began = time.monotonic()
        rental = rent(stack, person, client, gpus=1 + turn, name=f"demo-{turn}")
        answered = time.monotonic()
        way = open_way(person, rental["id"])
        proven = time.monotonic()
        done = client.run(way, "nvidia-smi -L && hostname")
        inside = time.monotonic()
        check(done.returncode == 0, f"OpenSSH runs a command in the machine: {way['command']}")
        cards = [line for line in done.stdout.splitlines() if line.startswith("GPU ")]
        check(len(cards) == 1 + turn, f"it sees the ordered cards and no other: {cards}")
        say(
            f"  rent to shell {inside - began:.1f} s ({name}): order {answered - began:.2f}, "
            f"until the way in was proven {proven - answered:.2f}, "
            f"ssh {inside - proven:.2f}"
        )
        say_steps(person, rental["id"])
        person.api.delete(f"/rentals/{rental['id']}")
        await_state(person, rental["id"], "terminated")
        refused = client.run(way, "true")
        check(refused.returncode == 255, "ended, it lets nobody in")


def say_steps(person: Person, rental_id: str) -> None:
    """The rental's own timeline, as seconds from step to step."""
    events = person.api.get(f"/rentals/{rental_id}/events")["items"]
    at = [(event["reason"], _seconds(event["at"])) for event in events]
    steps = [
        f"{before[0]} -> {after[0]} {after[1] - before[1]:.2f}" for before, after in pairwise(at)
    ]
    say(f"  steps in seconds: {', '.join(steps)}")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
