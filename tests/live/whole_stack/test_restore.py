"""The database is put back to a backup while clusters and Stripe went on: by the runbook.

docs/runbooks/restore.md step by step with pg_dump and pg_restore. What happened after the backup is
listed and left alone. It comes last in this folder: the stack has forgotten its latest minutes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from devstack.kube.api import Api, ApiError
from devstack.kube.witness import Sighting
from devstack.people import top_up
from devstack.platform_api import ProblemError
from devstack.play import uuid_of
from devstack.stack import PROCESSES
from tests.whole_stack import World

pytestmark = [pytest.mark.live, pytest.mark.slow]

# Two sweeps of the orphans, and what a busy machine adds.
TWO_SWEEPS_S = 150


def test_what_the_backup_does_not_know_is_listed_and_left_alone(
    world: World, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    person = world.people["second_renter"]
    kept, ended = (running(world) for _ in range(2))
    backup = tmp_path / "backup"
    world.stack.postgres.dump(backup)
    taken_at = datetime.now(UTC).isoformat()
    credit = available(world)

    lost = running(world)
    request.addfinalizer(lambda: delete(world, pod_of(world, lost)))
    world.end(person, ended)
    top_up(world.stack, person, "25.00")
    assert available(world) > credit

    for name in reversed(PROCESSES):
        world.stack.stop_process(name)
    world.stack.postgres.restore(backup)
    world.stack.manage("restored", "--backup-time", taken_at)
    for name in PROCESSES:
        world.stack.start_process(name)
    world.stack.await_web()

    # Step 2: what both know goes on; what they contradict each other about is held, and free.
    world.until_state(person, kept, "running", deadline_s=120)
    world.until(lambda: bool(lost_pods(world, lost)), "the sweep lists the pod", deadline_s=120)
    (unknown,) = lost_pods(world, lost)
    said = world.stack.manage("stripe_stocktake", "--since", taken_at)
    listed = world.stack.manage("unknown")
    assert pod_of(world, lost).name in listed
    assert "payment_intent" in listed, said
    world.until(
        lambda: (lost_pods(world, lost)[0]["last_seen_at"] - unknown["first_seen_at"]).seconds > 30,
        "another sweep saw it",
        deadline_s=TWO_SWEEPS_S,
    )
    assert pod_of(world, lost).deletion_at is None
    contradicted = person.api.get(f"/rentals/{ended}")
    assert contradicted["state"] in {"degraded", "unreachable"}
    assert pod_of(world, kept).deletion_at is None
    assert available(world) <= credit, "what is unknown was credited"
    assert not world.query("SELECT 1 FROM facts.usage WHERE rental_id = %s", uuid_of(lost))
    assert "not_found" in refusal(world, lost)

    # Step 4: looked at and released. What is really gone ends, the rest lives on.
    for brake in open_brakes(world):
        world.stack.manage("brake", "release", brake, "--note", "looked at, nothing to keep")
    failed = world.until_state(person, ended, "failed", deadline_s=120)
    assert failed["reason"] == "host_lost"
    charged_to = world.query(
        "SELECT max(to_ts) AS last FROM facts.usage WHERE rental_id = %s", uuid_of(ended)
    )[0]["last"]
    assert charged_to is None or charged_to.isoformat() <= taken_at, (
        "time that was lost was charged"
    )
    assert person.api.get(f"/rentals/{kept}")["state"] == "running"
    assert pod_of(world, lost).deletion_at is None, "the platform touched what it does not know"
    assert world.query("SELECT 1 FROM facts.entry HAVING sum(amount_micro) <> 0") == []
    world.end(person, kept)


def running(world: World) -> str:
    """A new rental that runs; its id."""
    person = world.people["second_renter"]
    rental: str = world.rent(person)["id"]
    world.until_state(person, rental, "running", deadline_s=60)
    return rental


def available(world: World) -> Decimal:
    """Credit of the renter that is not held, in USD, without what it got for interruptions: the
    stop and the restore are some."""
    api = world.people["second_renter"].api
    rows = api.get("/billing/transactions?limit=200")["items"]
    given = (Decimal(row["amount"]) for row in rows if row["kind"] == "outage_credit")
    return Decimal(api.get("/billing/balance")["available"]) - sum(given)


def pod_of(world: World, rental: str) -> Sighting:
    (pod,) = world.pods_of(rental)
    return pod


def lost_pods(world: World, rental: str) -> list[dict[str, Any]]:
    return world.query(
        "SELECT first_seen_at, last_seen_at FROM provisioner_unknownpod WHERE uid = %s",
        pod_of(world, rental).uid,
    )


def refusal(world: World, rental: str) -> str:
    """What the API says of a rental that the restore forgot."""
    with pytest.raises(ProblemError) as found:
        world.people["second_renter"].api.get(f"/rentals/{rental}")
    return found.value.slug


def open_brakes(world: World) -> list[str]:
    lines = world.stack.manage("brake", "list").splitlines()
    return [line.split()[0] for line in lines if "OPEN" in line]


def delete(world: World, pod: Sighting) -> None:
    """By hand in its cluster, as the runbook asks of people."""
    for cluster in world.stack.clusters.values():
        api = Api.from_kubeconfig(cluster.admin_kubeconfig)
        try:
            api.delete(f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}")
        except ApiError as error:
            if error.status != 404:
                raise
