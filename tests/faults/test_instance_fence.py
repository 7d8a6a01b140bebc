"""A worker stopped in mid-work (SIGSTOP) until others took over, then let go on: it writes nothing.

With ROUNDS in the environment it sleeps a real minute; else its claim is ended in the table.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from provisioner.kube.connections import connect
from provisioner.kube.errors import Unavailable
from provisioner.models import Instance, InstanceEvent
from provisioner.reconcile.claim import INSTANCE_CLAIM, claim_instances
from provisioner.reconcile.steps import next_step
from tests.faults.lives import Life, expire_claims, instance_row, worker
from tests.live.pods import until
from tests.live.provider import reaches, sweep

pytestmark = [pytest.mark.live, pytest.mark.django_db(transaction=True)]

SLEEPS_S = 60.0 if os.environ.get("ROUNDS") else 0.0


@pytest.fixture
def life(kube_owned, sim) -> Iterator[Life]:
    begun = Life.begin(kube_owned)
    yield begun
    expire_claims()
    begun.ends()


class Sleeper:
    """A worker that stopped itself at the chosen moment and can be woken."""

    def __init__(self, moment: str, effect: str, database_url: str) -> None:
        self._process = worker(moment, effect, "SIGSTOP", database_url)
        stopped = os.waitid(os.P_PID, self._process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
        assert stopped is not None
        assert stopped.si_code == os.CLD_STOPPED, self._process.communicate()[0].decode()[-2000:]

    def sleep(self) -> None:
        """Until its claim is nobody's any more."""
        if SLEEPS_S:
            threading.Event().wait(SLEEPS_S)
        else:
            expire_claims()

    def wake(self) -> str:
        """Let it go on to its end; its output."""
        self._process.send_signal(signal.SIGCONT)
        output, _ = self._process.communicate(timeout=120)
        assert self._process.returncode == 0, output.decode()[-2000:]
        return output.decode()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait(30)


@pytest.fixture
def asleep(database_url: str) -> Iterator[Callable[[str, str], Sleeper]]:
    made: list[Sleeper] = []

    def stop_at(moment: str, effect: str) -> Sleeper:
        made.append(Sleeper(moment, effect, database_url))
        return made[-1]

    yield stop_at
    for sleeper in made:
        sleeper.kill()


def stored(life: Life) -> list[Any]:
    """All rows and events of the rental's machines."""
    rows = [
        instance_row(key) for key in Instance.objects.order_by("id").values_list("id", flat=True)
    ]
    return [rows, list(InstanceEvent.objects.order_by("id").values())]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_asleep_in_a_start(life: Life, asleep, moment: str) -> None:
    """Another worker brought it up meanwhile; the first wakes and adds nothing."""
    sleeper = asleep(moment, "POST pods")
    assert Instance.objects.get(pk=life.view.id).claim_token is not None
    sleeper.sleep()
    ready = life.converges("ready")
    before = stored(life)
    assert "claim_lost" in sleeper.wake()
    assert stored(life) == before, "generation, token, events, everything as it was"
    assert life.pods() == [ready.pod_uid]


def test_asleep_in_a_stop(life: Life, asleep) -> None:
    """The machine is gone and the rental has another one when the first worker wakes."""
    reaches(life.view, "ready")
    life.end()
    sleeper = asleep("after", "DELETE pods")
    sleeper.sleep()
    life.converges("gone")
    life.start_again()
    ready = life.converges("ready")
    before = stored(life)
    assert "claim_lost" in sleeper.wake()
    assert stored(life) == before
    assert life.pods() == [ready.pod_uid]


def test_asleep_between_the_last_check_and_the_create(life: Life, asleep) -> None:
    """No fence stops a request that leaves late: its pod is an orphan, and the sweep ends it."""
    sleeper = asleep("before", "POST pods")
    life.end()
    sleeper.sleep()
    # Its absence counts only after the time of the last create: what waiting would bring about.
    Instance.objects.update(create_until=life.view.created_at - INSTANCE_CLAIM)
    life.converges("gone")
    before = stored(life)
    assert "claim_lost" in sleeper.wake()
    assert stored(life) == before
    assert len(life.pods()) == 1
    sweep()
    until("the late pod is gone", lambda: life.pods() == [])


def test_a_create_that_slept_before_its_first_request_sends_none(life: Life) -> None:
    """Its secrets would stay: those who end an instance take away what was made in time."""
    (row,) = claim_instances(limit=1, busy=[])
    assert row.claim_token is not None
    step = next_step(row, row.claim_token)
    with pytest.raises(Unavailable):
        replace(step, create_by=0.0).call(connect(row.cluster))
    life.check_nothing_in_the_cluster()
