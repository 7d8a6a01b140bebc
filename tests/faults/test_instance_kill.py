"""A worker killed with -9 around each effect of a start, a stop, a restart and a failover: the next
one converges, and outside as well as inside nothing is left, doubled or forgotten.

The last test draws whole lives at random. ROUNDS in the environment raises their number; SEED
repeats one.
"""

from __future__ import annotations

import os
import random
import secrets
import time
from collections.abc import Iterator
from datetime import timedelta

import pytest

from provisioner.models import Instance
from provisioner.reconcile import instance_loop
from provisioner.reconcile.claim import INSTANCE_CLAIM
from tests.faults.instance_worker import MOMENTS
from tests.faults.lives import END, START, Life, expire_claims, killed
from tests.live.provider import now, reaches

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

ROUNDS = int(os.environ.get("ROUNDS", "1"))
SEED = os.environ.get("SEED") or secrets.token_hex(4)

# Around every request, and once what the last request of a step brought is stored.
AROUND_START = [(moment, effect) for effect in START for moment in MOMENTS[:3]]
AROUND_START.append(("written", START[-1]))
AROUND_END = [(moment, effect) for effect in END for moment in MOMENTS[:3]]
AROUND_END += [("written", END[0]), ("written", END[-1])]
# A restart is an end and a start of two machines; new in it is the passage between them.
AROUND_PASSAGE = [("during", END[0]), ("after", END[-1]), ("written", END[-1])]
AROUND_PASSAGE += [("before", START[0]), ("during", START[-1]), ("written", START[-1])]


if "ROUNDS" not in os.environ:
    # Ten seconds each: a run of the tests takes the pod's own effects, make torture takes all.
    AROUND_START, AROUND_END, AROUND_PASSAGE = AROUND_START[-4:], AROUND_END[:3], AROUND_PASSAGE[:3]


@pytest.fixture
def life(kube_owned, sim) -> Iterator[Life]:
    begun = Life.begin(kube_owned)
    yield begun
    expire_claims()
    begun.ends()


@pytest.mark.parametrize(("moment", "effect"), AROUND_START)
def test_killed_during_a_start(life: Life, database_url: str, moment: str, effect: str) -> None:
    killed(moment, effect, database_url)
    row = Instance.objects.get(pk=life.view.id)
    assert row.claim_token is not None, "it died holding its claim"
    assert instance_loop.run(seconds=0.1) == 0, "which nobody takes before its time"
    born = life.pods()
    assert len(born) == (1 if effect == "POST pods" and moment in ("after", "written") else 0) or (
        moment == "during"
    )
    expire_claims()
    ready = life.converges("ready")
    assert born in ([], [ready.pod_uid]), "the pod of the dead worker was adopted"
    assert len(life.sightings()) == 1


@pytest.mark.parametrize(("moment", "effect"), AROUND_END)
def test_killed_during_a_stop(life: Life, database_url: str, moment: str, effect: str) -> None:
    """And started again afterwards where the worker died latest: a second machine, then gone."""
    reaches(life.view, "ready")
    life.end()
    killed(moment, effect, database_url)
    expire_claims()
    life.converges("gone")
    if effect == "DELETE secrets":
        life.start_again()
        life.converges("ready")
        assert len(life.sightings()) == 2


@pytest.mark.parametrize(("moment", "effect"), AROUND_PASSAGE)
def test_killed_during_a_restart(life: Life, database_url: str, moment: str, effect: str) -> None:
    """The successor takes over the very same cards, and there is never a second pod."""
    before = reaches(life.view, "ready")
    life.restart()
    killed(moment, effect, database_url)
    assert len(life.pods()) <= 1
    expire_claims()
    after = life.converges("ready")
    assert after.id != before.id
    assert (after.node, after.rental_ref) == (before.node, before.rental_ref)
    assert [pod.uid for pod in life.sightings()] == [before.pod_uid, after.pod_uid]


@pytest.mark.parametrize(
    ("moment", "effect"),
    [("before", END[0]), ("during", END[0]), ("after", "DELETE leases"), ("written", END[-1])],
)
def test_killed_during_a_failover(life: Life, database_url: str, moment: str, effect: str) -> None:
    """The host loses the pod; the worker that cleans up after it dies; another machine takes over
    once nothing of the first is left."""
    reaches(life.view, "ready")
    life.lose_pod()
    Instance.objects.filter(pk=life.view.id).update(due_at=Instance.objects.get().created_at)
    instance_loop.run(seconds=0.0)
    killed(moment, effect, database_url)
    expire_claims()
    assert life.converges("gone").reason == "host_lost"
    life.start_again()
    life.converges("ready")
    assert len(life.sightings()) == 2


def test_killed_for_real_it_converges_in_thirty_seconds(life: Life, database_url: str) -> None:
    """Without any help from the test: the claim runs out by itself."""
    killed("after", "POST pods", database_url)
    began = time.monotonic()
    life.converges("ready", seconds=30)
    assert time.monotonic() - began < 30
    assert timedelta(seconds=30) > INSTANCE_CLAIM


def test_ended_while_the_dead_workers_create_is_unknown(life: Life, database_url: str) -> None:
    """The pod exists, nobody wrote that down, and the renter ends the rental."""
    killed("after", "POST pods", database_url)
    assert len(life.pods()) == 1
    assert now(life.view).pod_uid is None
    life.end()
    expire_claims()
    life.converges("gone")


@pytest.mark.parametrize("number", range(ROUNDS))
def test_a_whole_life_with_a_death_in_each_part(life: Life, database_url: str, number: int) -> None:
    """Start, restart, stop, start again, end: in each part a worker dies somewhere, drawn anew."""
    draw = random.Random(f"{SEED}/{number}")
    for part, around, state in (
        (None, AROUND_START, "ready"),
        (life.restart, AROUND_PASSAGE, "ready"),
        (life.end, AROUND_END, "gone"),
        (life.start_again, AROUND_START, "ready"),
        (life.end, AROUND_END, "gone"),
    ):
        moment, effect = draw.choice(around)
        print(f"SEED={SEED} life {number}: {moment} {effect}, then {state}")
        if part is not None:
            part()
        killed(moment, effect, database_url)
        expire_claims()
        life.converges(state)
    assert len(life.sightings()) == 3
