"""What a program said before it ended by itself is fetched once, kept a month and never changed."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import transaction
from django.db.utils import DatabaseError

from kernel import clock
from provisioner import facade
from provisioner.contracts import InstanceView
from provisioner.instances import logs, release
from provisioner.kube.errors import Unsure
from provisioner.models import InstanceLog
from tests.area.provisioner.cluster import MemoryCluster
from tests.area.provisioner.test_loops import loop, started
from tests.area.provisioner.yard import end, row_of

pytestmark = pytest.mark.django_db

STAMP = b"2026-11-01T10:00:00.5Z "


def ends_by_itself(view: InstanceView, reason: str = "container_exited") -> None:
    row = row_of(view)
    with transaction.atomic():
        assert release.end(row, reason=reason, fault=None, at=clock.now())


def until_gone(cluster: MemoryCluster, view: InstanceView) -> None:
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    assert row_of(view).state == "gone"


def test_the_last_words_are_fetched_before_the_pod_is_deleted(cluster) -> None:
    _, view = started(cluster)
    hostile = STAMP + b"\x1b[31mCUDA error\x1b[0m <b>\xff\x00\n"
    cluster.logs = {
        (view.pod_name, False): hostile,
        (view.pod_name, True): STAMP + b"the run before\n",
    }
    ends_by_itself(view)
    loop(cluster)
    asked = cluster.calls.index("pod_log")
    assert cluster.calls.index("delete_pod") > asked
    until_gone(cluster, view)
    before, last = facade.kept_logs(instance_id=view.id)
    assert [line.text for line in last.lines] == ["CUDA error <b>\ufffd"]
    assert last.lines[0].at == "2026-11-01T10:00:00.500000Z"
    assert [line.text for line in before.lines] == ["the run before"]
    assert (before.previous, last.previous, last.kind) == (True, False, "kept")
    assert cluster.calls.count("pod_log") == 2, "fetched once, however often the deletion is asked"


def test_a_wish_of_the_renter_keeps_nothing(cluster) -> None:
    _, view = started(cluster)
    cluster.logs = {(view.pod_name, False): STAMP + b"secret\n"}
    end(view)
    until_gone(cluster, view)
    assert "pod_log" not in cluster.calls
    assert facade.kept_logs(instance_id=view.id) == []


def test_a_failed_fetch_is_visible_and_does_not_stop_the_deletion(cluster) -> None:
    _, view = started(cluster)
    cluster.fail("pod_log", lambda: Unsure("timeout", "dripping"), times=2)
    ends_by_itself(view)
    until_gone(cluster, view)
    (log,) = facade.kept_logs(instance_id=view.id)
    assert (log.kind, log.lines) == ("none", ())
    assert "timeout" in (log.detail or "")


def test_a_lost_answer_to_the_deletion_fetches_again_and_keeps_one(cluster) -> None:
    _, view = started(cluster)
    cluster.logs = {(view.pod_name, False): STAMP + b"said\n"}
    cluster.fail("delete_pod", lambda: Unsure("timeout", "x"), after=True)
    ends_by_itself(view)
    loop(cluster)
    assert facade.kept_logs(instance_id=view.id) == []
    until_gone(cluster, view)
    (log,) = facade.kept_logs(instance_id=view.id)
    assert [line.text for line in log.lines] == ["said"]


def test_only_the_end_is_kept(cluster) -> None:
    _, view = started(cluster)
    line = STAMP + b"x" * 100 + b"\n"
    cluster.logs = {(view.pod_name, False): line * 5000 + STAMP + b"the end\n"}
    ends_by_itself(view)
    until_gone(cluster, view)
    (log,) = facade.kept_logs(instance_id=view.id)
    assert log.truncated
    assert log.lines[-1].text == "the end"
    stored = InstanceLog.objects.get(instance=view.id)
    assert len(stored.text) < 2 * logs.KEPT_BYTES


def test_it_is_append_only_and_pruned_after_a_month(cluster, set_clock) -> None:
    _, view = started(cluster)
    cluster.logs = {(view.pod_name, False): STAMP + b"said\n"}
    ends_by_itself(view)
    until_gone(cluster, view)
    rows = InstanceLog.objects.filter(instance=view.id)
    for change in (lambda: rows.update(text="nothing"), rows.delete):
        with pytest.raises(DatabaseError, match="Cannot"), transaction.atomic():
            change()
    assert logs.prune() == 0
    set_clock((clock.now() + timedelta(days=30, minutes=1)).isoformat())
    assert logs.prune() == 1
    assert facade.kept_logs(instance_id=view.id) == []


def test_whoever_stored_it_first_stays(cluster) -> None:
    _, view = started(cluster)
    for raw in (b"first\n", b"second\n"):
        logs.keep(view.id, [logs.Fetched(False, STAMP + raw)], at=clock.now())
    (log,) = facade.kept_logs(instance_id=view.id)
    assert [line.text for line in log.lines] == ["first"]
