"""Clusters that hang, or say what no table takes, beside one that answers."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection

from kernel import clock
from provisioner.models import Cluster, ClusterLoop
from provisioner.reconcile import node_loop, observe, orphans, tokens
from provisioner.reconcile.claim import claim_loops
from provisioner.reconcile.pool import SPARE, THREADS
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.yard import make_yard

pytestmark = pytest.mark.django_db
KIND = ClusterLoop.Kind.INVENTORY


def due() -> None:
    ClusterLoop.objects.update(due_at=clock.now(), claim_token=None, claim_until=None)


def test_those_that_failed_come_last_and_leave_half_of_the_threads() -> None:
    troubled = [make_yard(cards=1).cluster.pk for _ in range(THREADS)]
    Cluster.objects.filter(pk__in=troubled).update(failures=3)
    sound = make_yard(cards=1).cluster.pk
    due()
    jobs = claim_loops(KIND, limit=THREADS, spare=SPARE)
    assert sound in {job.cluster.pk for job in jobs}
    assert len(jobs) == 1 + THREADS - SPARE
    assert claim_loops(KIND, limit=SPARE, spare=SPARE) == [], "that is for those that answer"
    assert len(claim_loops(KIND, limit=SPARE)) == SPARE


def test_a_limit_holds_however_the_database_plans() -> None:
    """After a change of its statistics it may choose anew for every row of the table."""
    for _ in range(THREADS):
        make_yard(cards=1)
    due()
    with connection.cursor() as cursor:
        for way in ("hashjoin", "mergejoin", "material", "hashagg", "sort"):
            cursor.execute(f"SET LOCAL enable_{way} = off")
    assert len(claim_loops(KIND, limit=3)) == 3


@pytest.mark.parametrize("loop", [node_loop, observe, orphans, tokens])
def test_a_run_ends_although_clusters_are_due_again_and_again(
    loop: Any, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_yard(cards=1)
    due()
    monkeypatch.setattr(loop, "release_loop", lambda *_, **__: due())
    began = time.monotonic()
    loop.run(cluster.connect, seconds=0.3)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize("word", ["a\x00b", "a\ud800b"])
def test_words_that_no_table_takes_are_the_clusters_failure(
    word: str, cluster: MemoryCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = make_yard(cards=1).cluster, make_yard(cards=1).cluster
    due()

    class Hostile:
        def __getattr__(self, name: str) -> Any:
            return getattr(cluster, name)

        def server_version(self) -> str:
            return word

    def connect(row: Cluster) -> Any:
        return Hostile() if row.pk == bad.pk else cluster

    assert node_loop.run(connect, seconds=0.3) >= 2
    bad.refresh_from_db()
    good.refresh_from_db()
    assert (bad.failures > 0, good.failures) == (True, 0)
