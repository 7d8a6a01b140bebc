"""How long from a rent to its pod, on healthy clusters, beside one that hangs or does not.

Slices with and without the hanging cluster alternate, so that what else the machine does falls on
both alike; what is compared is the median of each kind. In every slice the cluster in question has
work: machines to start and to end there, lists, leases, a watch. Hanging is the worst way to be cut
off: every call takes its whole deadline.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from devstack.kube.sim import kinds
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.store import Change
from kernel import clock
from provisioner.models import Cluster
from tests.market import H100, Renter
from tests.sites import Site

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64
RENTAL = "gpuyard.io/rental"
# Longer than any call of ours waits.
HANG_S = 60.0
WITHIN_S = 60.0
# Connections, plans and caches are warm after it.
WARM_S = 2.0
# Machines that start on the cluster in question at the beginning of each slice.
BESIDE = 3


@dataclass
class Figures:
    """Seconds from the rent's request to the pod's creation, by slice."""

    healthy: list[list[float]] = field(default_factory=list)
    cut_off: list[list[float]] = field(default_factory=list)

    def medians(self) -> tuple[float, float]:
        """Over all launches: without and with the cut-off cluster."""
        healthy, cut_off = (
            statistics.median(second for slice_ in slices for second in slice_)
            for slices in (self.healthy, self.cut_off)
        )
        return healthy, cut_off

    def ratio(self) -> float:
        healthy, cut_off = self.medians()
        return cut_off / healthy

    def ratios(self) -> list[float]:
        """Of each pair of neighbouring slices: the range shows what the machine did meanwhile."""
        pairs = zip(self.healthy, self.cut_off, strict=True)
        return [statistics.median(after) / statistics.median(before) for before, after in pairs]


class Births:
    """When the first pod of each rental was created, as the stores themselves tell."""

    def __init__(self, sites: Sequence[Site]) -> None:
        self._sites = sites
        self._at: dict[str, float] = {}
        self._news = threading.Condition()

    @contextmanager
    def listening(self) -> Iterator[Births]:
        for site in self._sites:
            site.plane.store.listen(self._changed)
        try:
            yield self
        finally:
            for site in self._sites:
                site.plane.store.unlisten(self._changed)

    def wait(self, rental: str) -> float:
        """The moment, monotonic; an AssertionError when none comes."""
        with self._news:
            assert self._news.wait_for(lambda: rental in self._at, WITHIN_S), f"no pod for {rental}"
            return self._at[rental]

    def _changed(self, kind: Kind, change: Change) -> None:
        if kind is kinds.PODS and change.type == "ADDED":
            with self._news:
                self._at.setdefault(change.new.metadata["labels"].get(RENTAL, ""), time.monotonic())
                self._news.notify_all()


def compare(renter: Renter, sites: Sequence[Site], *, pairs: int, seconds: float) -> Figures:
    """``pairs`` of slices of ``seconds``; the last of ``sites`` is cut off in every second one.

    A slice shorter than a call's deadline would be over before a hang costs anybody anything.
    """
    *others, dark = sites
    figures = Figures()
    with Births(others).listening() as births:
        _slice(renter, others, dark, births, WARM_S)
        for _ in range(pairs):
            figures.healthy.append(_slice(renter, others, dark, births, seconds))
            dark.plane.http.faults.place("hang_before", {"times": 0}, {"seconds": HANG_S})
            try:
                figures.cut_off.append(_slice(renter, others, dark, births, seconds))
            finally:
                dark.plane.http.faults.clear()
            _await_return(dark)
    return figures


def _slice(
    renter: Renter, others: Sequence[Site], dark: Site, births: Births, seconds: float
) -> list[float]:
    # A cluster that is away is off sale after some seconds; until then it is rented as ever.
    beside = [_rent(renter, dark) for _ in range(BESIDE)]
    taken: list[float] = []
    ends = time.monotonic() + seconds
    while (began := time.monotonic()) < ends or not taken:
        rental = _rent(renter, others[len(taken) % len(others)])
        assert rental is not None, "a healthy cluster refused"
        taken.append(births.wait(rental) - began)
        renter.call("DELETE", f"/rentals/{rental}")
    for rental in beside:
        if rental is not None:
            renter.call("DELETE", f"/rentals/{rental}")
    return taken


def _await_return(dark: Site) -> None:
    """Until a full list of the cluster succeeded again: no call that hung is left to count."""
    since, ends = clock.now(), time.monotonic() + WITHIN_S
    back = Cluster.objects.filter(pk=dark.id, failures=0, last_positive_at__gt=since)
    while not back.exists():
        assert time.monotonic() < ends, f"{dark.name} did not come back"
        time.sleep(0.1)


def _rent(renter: Renter, site: Site) -> str | None:
    body = {
        "requirement": {"accelerator": H100, "gpus": 1, "region": site.region},
        "image": IMAGE,
        "ssh": False,
        "max_hours": 4,
    }
    status, answer = renter.call("POST", "/rentals", body)
    return str(answer["id"]) if status == 202 else None
