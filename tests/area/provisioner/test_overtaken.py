"""A sighting and a worker at the same instance: who comes second loses nothing that was seen."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from kernel import clock
from provisioner.contracts import InstanceState
from provisioner.instances.move import move
from provisioner.kube.pods import facts
from provisioner.kube.watch import Seen
from provisioner.models import Instance, ReadyInterval
from provisioner.reconcile import apply, instance_loop
from provisioner.streams.watcher import apply_seen
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import Yard, make_yard, rent, row_of, states, sure

pytestmark = pytest.mark.django_db


def coming_up(cluster: MemoryCluster) -> tuple[Yard, Any]:
    """A machine whose pod was created and is not ready yet."""
    yard = make_yard(cards=4)
    view = rent(yard, 2)
    instance_loop.run(cluster.connect, seconds=0.01)
    return yard, view


def first(monkeypatch: pytest.MonkeyPatch, rival: Callable[[], object]) -> None:
    """Let ``rival`` act once, between a decision and its carrying out."""
    plain = apply.carry_out

    def overtaken(*args: Any, **given: Any) -> bool:
        monkeypatch.setattr(apply, "carry_out", plain)
        rival()
        return plain(*args, **given)

    monkeypatch.setattr(apply, "carry_out", overtaken)


def pulling(row: Instance) -> bool:
    """What a worker makes of the answer to its create: the pod as it was at first."""
    return move(row, to=InstanceState.PULLING, reason="pulling", at=clock.now())


def test_ready_is_seen_at_once_though_a_worker_moved_the_row_meanwhile(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard, view = coming_up(cluster)
    cluster.run_pods()
    first(monkeypatch, lambda: pulling(row_of(view)))
    apply_seen(yard.cluster.pk, Seen("MODIFIED", cluster.pods[cluster.only_key()]))
    assert states(view)[-2:] == ["pulling", "ready"]
    assert ReadyInterval.objects.get(instance_id=view.id).closed_at is None


def test_a_deletion_is_seen_at_once_though_a_worker_moved_the_row_meanwhile(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard, view = coming_up(cluster)
    pod = cluster.pods[cluster.only_key()]
    first(monkeypatch, lambda: pulling(row_of(view)))
    apply_seen(yard.cluster.pk, Seen("DELETED", pod))
    assert row_of(view).desired == Instance.Desired.END


def test_an_older_picture_does_not_overwrite_what_a_newer_one_proved(
    cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    yard, view = coming_up(cluster)
    stale, old = row_of(view), facts(copy.deepcopy(cluster.pods[cluster.only_key()]))
    stale.seen = {}
    cluster.run_pods()
    ready = Seen("MODIFIED", cluster.pods[cluster.only_key()])
    first(monkeypatch, lambda: apply_seen(yard.cluster.pk, ready))
    apply.observed(stale, sure(old), at=clock.now(), blind=True)
    row = row_of(view)
    assert row.state == "ready"
    assert row.seen["version"] == int(ready.pod["metadata"]["resourceVersion"])
