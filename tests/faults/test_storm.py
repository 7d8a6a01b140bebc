"""A storm of wrong answers: no pod without a rental, and no rental without its pod, for 120 s.

Two simulated clusters over HTTP and TLS, two worker processes and a watcher, a renter who starts,
stops, restarts and ends without a pause, machines that vanish, and an independent eye. Then the
faults end: within CALM_AGAIN everything wanted runs, and in as much again nothing of it is left.

ROUNDS raises the length: six seconds a round and at least a minute. It lives here and not in bench,
because a bound is asserted, and not in races, because processes and clusters are what it is about.
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any

import pytest

from devstack.kube.sim.stack import Pace, SimStack
from devstack.state import State
from kernel import clock
from marketplace.models import Rental
from provisioner.models import Brake, Cluster, Hold, Instance
from tests.faults.storm import processes, weather
from tests.faults.storm.eye import Eye, Seen, longest
from tests.market import H100, USD, Renter, make_renter
from tests.sites import Site, on_sale

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(3000)]

SECONDS = max(60, 6 * int(os.environ.get("ROUNDS", "5")))
SEED = int(os.environ.get("STORM_SEED", "0")) or int(time.time())
CLUSTERS = ("storm-a", "storm-b")
LIMIT = 120.0
# What the product may wait when the last answer was lost: a create for the end of its claim (20 s),
# a cluster that failed for its retry (15 s), a pod that goes for the next look (10 s).
CALM_AGAIN = 45.0
# As many as two clusters of eight cards bear with room for restarts and other hosts.
MOST_RENTALS = 10
# Per cluster. Ten lost machines in ten minutes are an incident and pull the brake, which is another
# test's; orphans that a sweep deletes count as well.
MOST_LOST = 3
FLEET: list[dict[str, Any]] = [
    {"card": "h100-sxm", "nodes": 2, "cards": 4, "cpu": 96, "memory_gib": 1024, "disk_gib": 14000}
]
IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
_ROUGHLY = {"rent": 4, "terminate": 2, "stop": 1, "start": 2, "restart": 2, "retry": 1}


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    with State.temporary("storm") as state:
        stack = SimStack(
            state.path / "kube",
            names=CLUSTERS,
            fleets=dict.fromkeys(CLUSTERS, FLEET),
            pace=Pace(heartbeat_s=5.0),
            control=False,
        )
        stack.start()
        try:
            yield on_sale(stack, make_renter("Owner", credit=0))
        finally:
            stack.stop()


class Tenant:
    """A renter who never rests, by the seed; ``done`` counts answers by action and status."""

    def __init__(self, renter: Renter, sites: list[Site], dice: Random) -> None:
        self.done: Counter[str] = Counter()
        self._renter, self._sites, self._dice = renter, sites, dice

    def act(self) -> None:
        live = list(Rental.objects.filter(ended_at=None).values_list("id", "state"))
        action = self._dice.choices(list(_ROUGHLY), list(_ROUGHLY.values()))[0]
        if action == "rent":
            if len(live) < MOST_RENTALS:
                self._rent()
            return
        if live:
            rental = Rental.objects.get(pk=self._dice.choice(live)[0])
            self.ask(rental, action)

    def ask(self, rental: Rental, action: str) -> None:
        path = f"/rentals/{rental.public_id}/actions"
        self._note(action, self._renter.call("POST", path, {"action": action}))

    def _rent(self) -> None:
        site = self._dice.choice(self._sites)
        body = {
            "requirement": {"accelerator": H100, "gpus": 1, "region": site.region},
            "image": IMAGE,
            "ssh": False,
            "max_hours": 4,
            "failover": self._dice.random() < 0.3,
        }
        self._note("rent", self._renter.call("POST", "/rentals", body))

    def _note(self, action: str, answer: tuple[int, Any]) -> None:
        status, body = answer
        # 402 and 409 are honest refusals of the moment; anything else is this test's mistake.
        assert status in (200, 202, 402, 409), (action, status, body)
        self.done[f"{action} {status}"] += 1


def test_a_storm_of_wrong_answers(sites: list[Site], database_url: str, tmp_path: Path) -> None:
    dice = Random(SEED)
    tenant = Tenant(make_renter("Tenant", credit=10_000 * USD), sites, dice)
    with processes.running(
        database_url, tmp_path, sites, workers=[processes.LOOPS] * 2
    ) as children:
        eye = Eye(sites, database_url).start()
        hits = _storm(sites, tenant, dice)
        wanted = _until(lambda: _astray(sites), "what is wanted runs, nothing else does", children)
        for rental in Rental.objects.filter(ended_at=None).exclude(state="terminating"):
            tenant.ask(rental, "terminate")
        ended = _until(lambda: _left(sites), "nothing is left", children)
        seen = eye.stop()
        assert not children.ended(), "a process of ours ended by itself"
    _tell(seen, hits, tenant, wanted, ended)
    assert longest(seen.orphans) < LIMIT
    assert longest(seen.ghosts) < LIMIT
    assert seen.orphans, "no pod was ever to go: there was nothing to see"
    assert sum(hits.values()) > SECONDS / 2, "hardly any answer was wrong: no storm"


def _storm(sites: list[Site], tenant: Tenant, dice: Random) -> Counter[str]:
    """SECONDS long; how often each kind of fault hit."""
    hits: Counter[str] = Counter()
    lost: Counter[str] = Counter()
    ends, gusts = time.monotonic() + SECONDS, 0
    for site in sites:
        weather.begin(site.plane, dice.randrange(10**6))
    while (now := time.monotonic()) < ends:
        tenant.act()
        site = dice.choice(sites)
        if dice.random() < 0.02 and lost[site.name] < MOST_LOST:
            lost[site.name] += _lose_one(site, dice)
        # Every fifteen seconds a cluster begins or ends something that lasts.
        if gusts < (SECONDS - (ends - now)) // 15:
            gusts += 1
            hits.update(weather.count(site.plane))
            weather.calm(site.plane, dice.randrange(10**6))
            if gusts % 2:
                weather.gust(site.plane, dice)
    for site in sites:
        hits.update(weather.count(site.plane))
        site.plane.http.faults.clear()
    return hits


def _lose_one(site: Site, dice: Random) -> bool:
    """Somebody with rights in the cluster deletes a pod of ours; whether there was one."""
    pods = site.pods()
    if not pods:
        return False
    pod = dice.choice(pods)
    path = f"/api/v1/namespaces/{pod.namespace}/pods/{pod.name}"
    site.plane.admin().delete(path, {"gracePeriodSeconds": 0})
    return True


def _astray(sites: list[Site]) -> list[str]:
    """Pods that no rental wants, and rentals that want a pod and do not run it."""
    running = Instance.objects.filter(desired="run", state="ready")
    expected = dict(running.values_list("pod_uid", "pod_name"))
    found = {pod.metadata["uid"]: pod.name for site in sites for pod in site.pods()}
    unrest = Rental.objects.filter(ended_at=None, desired_state="running")
    resting = ("running", "failed")
    wrong = [f"pod {found[uid]} of nobody" for uid in found if uid not in expected]
    wrong += [f"no pod {expected[uid]}" for uid in expected if uid not in found]
    return wrong + [
        f"{rental.public_id} is {rental.state} ({rental.reason})"
        for rental in unrest.exclude(state__in=resting)
    ]


def _left(sites: list[Site]) -> list[str]:
    """What is still there although every rental was ended."""
    left = [f"pod {pod.name}" for site in sites for pod in site.pods()]
    left += [f"lease {name}" for site in sites for name in site.leases()]
    left += [f"hold {hold.pk}" for hold in Hold.objects.filter(to_ts=None)]
    return left + [f"{row.public_id}: {row.state}" for row in Rental.objects.filter(ended_at=None)]


def _until(wrong: Callable[[], list[str]], what: str, children: processes.Children) -> float:
    """Wait until nothing is wrong; the seconds it took."""
    began = time.monotonic()
    while found := wrong():
        if time.monotonic() - began > CALM_AGAIN:
            why = f"seed {SEED}: not within {CALM_AGAIN} s: {what}: {_why(found, children)}"
            raise AssertionError(why)
        time.sleep(0.2)
    return time.monotonic() - began


def _why(found: list[str], children: processes.Children) -> str:
    clusters = list(Cluster.objects.values_list("name", "state", "reason", "failures"))
    brakes = list(Brake.objects.filter(released_at=None).values_list("cause", "detail"))
    at = clock.now()
    instances = [
        f"{row.pk} {row.state} ({row.reason}) for {row.desired} since {at - row.state_since}, due"
        f" in {_from(row.due_at, at)}, claim {_from(row.claim_until, at)}, attempts {row.attempts},"
        f" create until {_from(row.create_until, at)}, pod {row.pod_uid}, lease {row.lease_token}"
        f" due in {_from(row.lease_due_at, at)}"
        for row in Instance.objects.exclude(state="gone")
    ]
    left = [str(key) for key in Instance.objects.exclude(state="gone").values_list("pk", flat=True)]
    said = "\n".join(children.said(*left))
    return f"{found}; clusters {clusters}; open brakes {brakes}; instances {instances};\n{said}"


def _from(moment: datetime | None, at: datetime) -> str:
    return "-" if moment is None else f"{(moment - at).total_seconds():.1f} s"


def _tell(seen: Seen, hits: Counter[str], tenant: Tenant, wanted: float, ended: float) -> None:
    print(
        f"\nstorm of {SECONDS} s, seed {SEED}: {sum(hits.values())} wrong answers {dict(hits)};"
        f" {dict(tenant.done)}"
        f"\nlongest orphan {longest(seen.orphans):.1f} s of {len(seen.orphans)},"
        f" longest ghost {longest(seen.ghosts):.1f} s of {len(seen.ghosts)} ({seen.looks} looks);"
        f" brakes {Brake.objects.count()}; calm after {wanted:.1f} s, empty after {ended:.1f} s"
    )
