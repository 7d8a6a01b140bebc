"""The reaper's decisions in virtual time, and the file that an owner applies.

``Yard`` is a cluster with the clocks that matter: the reaper's monotonic one, and the platform's,
whose only trace in the cluster is the length of a lease and that it changed.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import ModuleType
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from devstack.kube.embed import MANIFEST, PROGRAM, embedded
from marketplace.rentals.lease import FAILOVER, POST_PAID, PREPAID
from provisioner.clusters.reaper import CURRENT
from provisioner.instances.lease import pause
from provisioner.kube import manifests
from provisioner.kube.spec import LeaseSpec

MINUTE, HOUR, DAY = 60.0, 3600.0, 86400.0
PERIOD = 10.0
SPACE = "gpuyard-r-01"


def _load() -> ModuleType:
    """The program as the cluster runs it: a file of its own, part of no package."""
    spec = importlib.util.spec_from_file_location("gpuyard_reaper", PROGRAM)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["gpuyard_reaper"] = module
    spec.loader.exec_module(module)
    return module


reaper: Any = _load()


class Yard:
    """One namespace with one pod; ``at`` is the reaper's monotonic clock."""

    def __init__(self, *, at: float = 5000.0) -> None:
        self.at = at
        self.reaper = reaper.Reaper()
        self.leases: dict[str, Any] = {}
        self.pods = {"p1": reaper.Pod("p1", "uid-1", "ins_1", leaving=False)}
        self._version = 0

    def renew(self, seconds: float, instance: str = "ins_1") -> None:
        self._version += 1
        self.leases[instance] = reaper.Lease(instance, str(self._version), seconds)

    def look(self) -> list[str]:
        """The names of the pods that are ended now; they leave."""
        found = self.reaper.look(
            self.at, SPACE, list(self.leases.values()), list(self.pods.values())
        )
        for end in found:
            assert end.pod is self.pods[end.pod.name]
            del self.pods[end.pod.name]
        return [end.pod.name for end in found]

    def run(self, seconds: float, each: Callable[[], None] = lambda: None) -> float | None:
        """Look every period; when the pod was ended, in seconds from now, or None."""
        began = self.at
        while self.at < began + seconds:
            each()
            if self.look():
                return self.at - began
            self.at += PERIOD
        return None

    def restart(self) -> None:
        self.reaper = reaper.Reaper()


def test_prepaid_for_a_day_and_the_control_plane_away_for_twenty_hours() -> None:
    yard = Yard()
    yard.renew(PREPAID.total_seconds())
    assert yard.run(20 * HOUR) is None
    yard.renew(PREPAID.total_seconds())  # it is back
    assert yard.run(26 * HOUR - PERIOD) is None


def test_a_lease_that_is_over_ends_the_pod_within_a_period() -> None:
    yard = Yard()
    yard.renew(DAY)
    ended = yard.run(2 * DAY)
    assert ended is not None
    assert DAY <= ended < DAY + PERIOD


class Answers(reaper.Api):  # type: ignore[misc]
    """The program's own reading of what a server answers."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def call(self, method: str, path: str, body: Any = None) -> Any:
        return {"items": self.items}


def as_stored(version: int, *, platform: datetime, cluster: datetime, seconds: float) -> Any:
    """A lease as the platform's code writes it and a server shows it, each by its own clock."""
    spec = LeaseSpec("gy-1", "ins_1", "ren_1", "org_1", 1)
    body = manifests.lease(spec, at=platform, until=platform + timedelta(seconds=seconds))
    body["metadata"] |= {
        "resourceVersion": str(version),
        "creationTimestamp": cluster.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return body


@pytest.mark.parametrize("shift", [timedelta(minutes=10), timedelta(minutes=-10)])
@pytest.mark.parametrize("moved", ["platform", "cluster"])
def test_a_clock_that_is_set_changes_nothing(shift, moved) -> None:
    """In the middle of a lease of ten minutes one clock is set by ten minutes; then a renewal."""
    yard, length = Yard(), 10 * MINUTE
    clocks = {"platform": datetime(2026, 11, 1, tzinfo=UTC), "cluster": datetime(2026, 11, 1)}

    def read(version: int) -> None:
        stored = as_stored(version, **clocks, seconds=length)
        (yard.leases["ins_1"],) = Answers([stored]).leases(SPACE)

    read(1)
    assert yard.run(5 * MINUTE) is None
    clocks = {name: clock + timedelta(minutes=5) for name, clock in clocks.items()}
    clocks[moved] += shift
    assert yard.run(4 * MINUTE) is None
    read(2)
    ended = yard.run(HOUR)
    assert ended is not None
    assert length <= ended < length + PERIOD


def test_after_its_own_restart_it_counts_from_first_sight_and_never_shorter() -> None:
    yard = Yard()
    yard.renew(HOUR)
    assert yard.run(59 * MINUTE) is None
    yard.restart()
    again = yard.run(3 * HOUR)
    assert again is not None
    assert HOUR <= again < HOUR + PERIOD, "at most one more length of the lease"


def test_a_reaper_that_was_away_itself_ends_nothing_that_was_renewed_meanwhile() -> None:
    yard = Yard()
    yard.renew(10 * MINUTE)
    yard.look()
    yard.at += 9 * MINUTE  # not looking, e.g. its node was busy
    yard.renew(10 * MINUTE)
    yard.at += 9 * MINUTE
    assert yard.look() == []
    assert yard.run(10 * MINUTE - PERIOD) is None


def test_renewals_lost_and_back() -> None:
    """Half the lease without any, then again: as if nothing had been."""
    yard = Yard()
    renewed = [yard.at]

    def each() -> None:
        lost = 20 * MINUTE < yard.at - 5000.0 < 29 * MINUTE
        if not lost and yard.at - renewed[0] >= MINUTE:
            yard.renew(FAILOVER.total_seconds())
            renewed[0] = yard.at

    yard.renew(FAILOVER.total_seconds())
    assert yard.run(3 * HOUR, each) is None
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended < FAILOVER.total_seconds() + PERIOD


def test_a_failover_lease_ends_before_another_machine_may_start() -> None:
    """Ten minutes and sixty seconds after the last renewal arrived, the program has had its end."""
    yard = Yard()
    yard.renew(FAILOVER.total_seconds())
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended + reaper.GRACE <= FAILOVER.total_seconds() + 60


def test_a_shorter_lease_counts_at_once() -> None:
    yard = Yard()
    yard.renew(DAY)
    yard.run(HOUR)
    yard.renew(5 * MINUTE)  # the money went elsewhere
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended <= 5 * MINUTE + PERIOD


def test_a_pod_without_any_lease_has_ten_minutes_from_first_sight() -> None:
    yard = Yard()
    ended = yard.run(HOUR)
    assert ended is not None
    assert 10 * MINUTE <= ended < 10 * MINUTE + PERIOD


def test_a_lease_that_comes_late_saves_its_pod() -> None:
    yard = Yard()
    assert yard.run(9 * MINUTE) is None
    yard.renew(HOUR)
    assert yard.run(50 * MINUTE) is None
    del yard.leases["ins_1"]  # and one that vanishes begins another ten minutes
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended >= 10 * MINUTE


def test_a_lease_without_a_length_is_no_lease_and_ends_nothing_at_once() -> None:
    yard = Yard()
    yard.leases["ins_1"] = reaper.Lease("ins_1", "7", 0.0)
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended >= 10 * MINUTE


def test_another_pod_under_the_name_starts_anew() -> None:
    yard = Yard()
    yard.run(9 * MINUTE)
    yard.pods["p1"] = reaper.Pod("p1", "uid-2", "ins_1", leaving=False)
    ended = yard.run(HOUR)
    assert ended is not None
    assert ended >= 10 * MINUTE


def test_a_pod_that_leaves_is_left_alone() -> None:
    yard = Yard()
    yard.pods["p1"] = reaper.Pod("p1", "uid-1", "ins_1", leaving=True)
    assert yard.run(HOUR) is None


def test_leases_of_others_and_of_other_namespaces_do_not_count() -> None:
    yard = Yard()
    yard.renew(DAY, instance="ins_2")
    other = [reaper.Lease("ins_1", "1", DAY)]
    yard.reaper.look(yard.at, "gpuyard-r-02", other, [])
    assert yard.run(HOUR) is not None


@settings(max_examples=300, deadline=None)
@given(
    length=st.sampled_from([PREPAID, POST_PAID, FAILOVER, timedelta(hours=3)]),
    gaps=st.lists(st.floats(0, 4000), min_size=1, max_size=20),
    restarts=st.sets(st.integers(0, 19)),
)
def test_a_pod_never_ends_before_its_lease(length, gaps, restarts) -> None:
    """Whatever comes between looks: renewals, restarts, long silences."""
    yard = Yard()
    yard.renew(length.total_seconds())
    renewed = yard.at
    yard.look()
    for number, gap in enumerate(gaps):
        yard.at += gap
        if number in restarts:
            yard.restart()
        ended = yard.look()
        if ended:
            assert yard.at - renewed >= length.total_seconds()
            return
        if number % 3 == 0:
            yard.renew(length.total_seconds())
            renewed = yard.at
            yard.look()


@pytest.mark.parametrize("length", [PREPAID, POST_PAID, FAILOVER])
def test_what_is_left_of_a_lease_keeps_the_promise(length) -> None:
    """Just before a renewal, with a wish a minute old and a loop ten seconds late."""
    left = length - pause(length) - timedelta(seconds=70)
    promised = {PREPAID: timedelta(hours=24), POST_PAID: timedelta(hours=71)}
    assert left >= promised.get(length, timedelta(minutes=7))


# -- the look at all namespaces ---------------------------------------------------------------


class Server:
    """What the program asks of an API server; ``broken`` namespaces answer with an error."""

    def __init__(self, namespaces: int) -> None:
        self.namespaces = namespaces
        self.broken: dict[int, Exception] = {}
        self.pods_of: dict[int, list[Any]] = {}
        self.unwilling: set[str] = set()
        self.ended: list[str] = []
        self.beats: list[int] = []

    def _number(self, namespace: str) -> int:
        number = int(namespace.rpartition("-")[2])
        if number in self.broken:
            raise self.broken[number]
        if number > self.namespaces:
            raise reaper.Refused(403, "forbidden")
        return number

    def pods(self, namespace: str) -> list[Any]:
        return self.pods_of.get(self._number(namespace), [])

    def leases(self, namespace: str) -> list[Any]:
        self._number(namespace)
        return []

    def end(self, end: Any) -> None:
        if end.pod.name in self.unwilling:
            raise reaper.Refused(500, "not now")
        self.ended.append(end.pod.name)

    def beat(self, namespaces: int) -> None:
        self.beats.append(namespaces)


def test_the_pool_ends_at_the_first_no() -> None:
    server = Server(3)
    assert reaper.look_at_all(server, reaper.Reaper(), 0) == 3
    assert server.beats == [3]
    server.namespaces = 5  # it grew
    assert reaper.look_at_all(server, reaper.Reaper(), 3) == 5


@pytest.mark.parametrize("error", [reaper.Refused(403, "no"), OSError("cut"), ValueError("html")])
def test_a_known_namespace_that_fails_keeps_no_other_back_but_is_no_sign_of_life(error) -> None:
    server = Server(3)
    server.broken[2] = error
    old, looking = reaper.Pod("p", "u", "i", leaving=False), reaper.Reaper()
    server.pods_of[3] = [old]
    looking._bare[("gpuyard-r-03", "u")] = -1e9
    assert reaper.look_at_all(server, looking, 3) == 3
    assert server.ended == ["p"]
    assert server.beats == []


def test_a_server_that_does_not_answer_ends_the_look_and_forgets_nothing() -> None:
    server = Server(2)
    server.broken[3] = OSError("cut")
    with pytest.raises(OSError, match="cut"):
        reaper.look_at_all(server, reaper.Reaper(), 2)
    assert server.beats == []


def test_a_pod_that_cannot_be_ended_keeps_no_other_back(capsys) -> None:
    server = Server(1)
    looking = reaper.Reaper()
    server.pods_of[1] = [reaper.Pod(n, n, n, leaving=False) for n in ("p1", "p2")]
    looking._bare = {("gpuyard-r-01", n): -1e9 for n in ("p1", "p2")}
    server.unwilling = {"p1"}
    assert reaper.look_at_all(server, looking, 1) == 1
    assert server.ended == ["p2"]
    assert server.beats == []
    assert "ending pod p1" in capsys.readouterr().out


# -- the file that is applied -----------------------------------------------------------------


def test_the_manifest_carries_the_very_program() -> None:
    items = yaml.safe_load(MANIFEST.read_text())["items"]
    (config,) = [item for item in items if item["kind"] == "ConfigMap"]
    assert config["data"] == {"reaper.py": PROGRAM.read_text()}, "python -m devstack.kube.embed"
    assert embedded(MANIFEST.read_text(), PROGRAM.read_text()) == MANIFEST.read_text()


def test_one_version_everywhere() -> None:
    items = yaml.safe_load(MANIFEST.read_text())["items"]
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    annotations = deployment["spec"]["template"]["metadata"]["annotations"]
    assert annotations["gpuyard.io/reaper-version"] == str(reaper.VERSION) == str(CURRENT)


def test_the_program_needs_python_and_nothing_else() -> None:
    imported = {
        line.split()[1].partition(".")[0]
        for line in PROGRAM.read_text().splitlines()
        if line.startswith(("import ", "from "))
    }
    assert imported <= set(sys.stdlib_module_names)


def test_its_own_pod_is_confined() -> None:
    items = yaml.safe_load(MANIFEST.read_text())["items"]
    (deployment,) = [item for item in items if item["kind"] == "Deployment"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "@sha256:" in container["image"]
    assert container["resources"]["limits"] == {"cpu": "100m", "memory": "64Mi"}
