"""The furnished platform for tests that need everything: processes, clusters, people.

Used by tests/live/whole_stack and tests/browser; each pytest run starts at most one.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import psycopg
from psycopg.rows import dict_row

from devstack.demo import furnish
from devstack.kube.binaries import find_binaries
from devstack.kube.witness import Sighting, Witness
from devstack.people import Person
from devstack.platform_api import ProblemError
from devstack.play import SSH_KEY, uuid_of
from devstack.stack import Stack
from devstack.state import State
from devstack.stripe.control import Control

Json = dict[str, Any]


@dataclass
class World:
    """A running stack with people, cards on sale, and an independent eye on each cluster."""

    stack: Stack
    people: dict[str, Person]
    witnesses: dict[str, Witness]
    fillers: list[str] = field(default_factory=list)

    def now(self) -> datetime:
        return datetime.now(UTC)

    def query(self, sql: str, *values: object) -> list[Json]:
        """Rows of a query against the stack's database."""
        with psycopg.connect(self.stack.postgres.url, row_factory=dict_row) as database:
            return database.execute(sql, values).fetchall()

    def until(self, condition: Callable[[], bool], what: str, *, deadline_s: float = 30) -> None:
        """Wait for a condition of the outside world; an assertion with its name otherwise."""
        deadline = time.monotonic() + deadline_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {deadline_s} s: {what}"
            time.sleep(0.05)

    # --- renting

    def order(
        self, person: Person, *, accelerator: str = "", gpus: int = 1, ownership: str = "owned"
    ) -> Json:
        """The body of POST /rentals for the cheapest offer that fits."""
        wanted = f"&accelerator={accelerator}" if accelerator else f"&ownership={ownership}"
        offers = person.api.get(f"/offers?gpus={gpus}&order=price{wanted}")["items"]
        assert offers, f"nothing on sale for {gpus} x {accelerator or ownership}"
        quote = person.api.post("/quotes", {"offer": offers[0]["id"], "gpus": gpus})
        return {
            "quote": quote["id"],
            "name": "test",
            "template": "ubuntu",
            "ssh_keys": [SSH_KEY],
            "max_hours": 2,
        }

    def rent(self, person: Person, **wanted: Any) -> Json:
        return person.api.post("/rentals", self.order(person, **wanted))

    def until_state(
        self, person: Person, rental_id: str, state: str, *, deadline_s: float = 30
    ) -> Json:
        """Long-poll until the rental is in ``state``; the rental."""
        deadline = time.monotonic() + deadline_s
        while True:
            found = person.api.get(f"/rentals/{rental_id}?wait_state={state}&timeout=2")
            if found["state"] == state:
                return found
            assert time.monotonic() < deadline, f"still {found['state']} ({found['reason']})"

    def end(self, person: Person, rental_id: str) -> Json:
        """Terminate and wait for observed absence and the slot's return."""
        person.api.delete(f"/rentals/{rental_id}")
        return self.until_state(person, rental_id, "terminated")

    # --- what the clusters saw

    def pods_of(self, rental_id: str) -> list[Sighting]:
        """Sightings of all pods that ever existed for a rental, on any cluster."""
        return [
            sighting
            for witness in self.witnesses.values()
            for value in (rental_id, uuid_of(rental_id))
            for sighting in witness.for_label("gpuyard.io/rental", value)
        ]

    def wait_pod(self, rental_id: str, moment: str) -> Sighting:
        """Wait until the rental's pod appeared (pod_seen), was ready, or is in deletion."""
        reached: dict[str, Callable[[Sighting], object]] = {
            "pod_seen": lambda pod: pod.appeared_at,
            "ready": lambda pod: pod.ready_at,
            "deletion": lambda pod: pod.deletion_at or pod.gone_at,
        }
        self.until(
            lambda: any(reached[moment](pod) for pod in self.pods_of(rental_id)),
            f"pod of {rental_id}: {moment}",
        )
        return self.pods_of(rental_id)[0]

    def open_holds(self, rental_id: str) -> int:
        rows = self.query(
            "SELECT count(*) AS n FROM facts.hold WHERE rental_id = %s AND to_ts IS NULL",
            uuid_of(rental_id),
        )
        return int(rows[0]["n"])

    # --- the last card

    def leave_one_card(self, accelerator: str) -> None:
        """Rent until exactly one card of this kind is free, as the catalogue shows it."""
        person = self.people["renter"]

        def free() -> int:
            offers = person.api.get(f"/offers?accelerator={accelerator}&gpus=1")["items"]
            return sum(offer["gpus_available"] for offer in offers)

        while True:
            rows = self.query(
                "SELECT count(*) AS n FROM facts.slot WHERE accelerator = %s AND state = 'free'",
                accelerator,
            )
            left = int(rows[0]["n"])
            if left <= 1:
                break
            rental = self.rent(person, accelerator=accelerator, gpus=left - 1)
            self.fillers.append(rental["id"])
        self.until(
            lambda: free() == 1 and self._free_slots(accelerator) == 1,
            f"one free {accelerator} in the catalogue",
        )

    def _free_slots(self, accelerator: str) -> int:
        rows = self.query(
            "SELECT count(*) AS n FROM facts.slot WHERE accelerator = %s AND state = 'free'",
            accelerator,
        )
        return int(rows[0]["n"])

    def free_cards(self) -> None:
        """End the rentals that leave_one_card made."""
        while self.fillers:
            self.end(self.people["renter"], self.fillers.pop())

    def race(self, accelerator: str, *, renters: int) -> list[Json | ProblemError]:
        """So many requests at once for one card; each answer or problem."""
        person = self.people["renter"]
        body = {
            "requirement": {"accelerator": accelerator, "gpus": 1},
            "name": "race",
            "template": "ubuntu",
            "ssh_keys": [SSH_KEY],
            "max_hours": 2,
        }
        answers: list[Json | ProblemError] = []
        barrier = threading.Barrier(renters)

        def go() -> None:
            barrier.wait()
            try:
                answers.append(person.api.post("/rentals", body))
            except ProblemError as problem:
                answers.append(problem)

        threads = [threading.Thread(target=go) for _ in range(renters)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == renters, "a request got no answer at all"
        return answers

    # --- Stripe's side

    @property
    def stripe(self) -> Control:
        return Control(self.stack.stripe_url)

    @contextmanager
    def stripe_down(self) -> Iterator[None]:
        """Stripe answers nothing inside; everything again afterwards."""
        self.stripe.down("cut")
        try:
            yield
        finally:
            self.stripe.down(None)

    def until_inbox_is_drained(self) -> None:
        """An event that met a dead Stripe or a killed worker pauses for up to a minute or two."""
        self.until(
            lambda: (
                self.query("SELECT count(*) AS n FROM facts.stripe_event WHERE applied_ts IS NULL")[
                    0
                ]["n"]
                == 0
            ),
            "every event is applied",
            deadline_s=150,
        )


@contextmanager
def running() -> Iterator[World]:
    """A furnished stack in a temporary state directory, gone afterwards. With KUBE=sim its control
    planes are simulated: quick while a page is made, but no proof."""
    kube = os.environ.get("KUBE") or "real"
    if kube == "real":
        find_binaries()
    with State.temporary("stack") as state:
        stack = Stack(state, durable=False, kube=kube)
        try:
            stack.start()
            people = furnish(stack)
            witnesses = {
                name: Witness(cluster.admin_kubeconfig).start()
                for name, cluster in stack.clusters.items()
            }
            yield World(stack, people, witnesses)
        finally:
            stack.stop()
