"""What machines tell of themselves: whose word counts, how much is kept, since when cards rest."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.conf import settings
from django.db import transaction

from kernel.errors import InvalidRequest
from provisioner.contracts import Fault
from provisioner.contracts.reports import DeviceReport, DiskReport, InstanceReport, Reporting
from provisioner.facade import reports
from provisioner.instances import release, samples
from provisioner.instances.report_token import token_of
from provisioner.kube import manifests
from provisioner.models import Instance, MetricSample, ReadyInterval, Reporter
from tests.area.provisioner.test_loops import full_list, loop, started
from tests.area.provisioner.yard import at_time, end, make_yard, rent, sure

pytestmark = pytest.mark.django_db
# Machines come up by the real clock, which a list needs; what they tell comes long after.
NOON = datetime(2098, 3, 1, 12, tzinfo=UTC)
GIB = 2**30


@pytest.fixture(autouse=True)
def _clock(set_clock) -> None:
    """Real again after each test."""


def key() -> bytes:
    given: bytes = settings.GPUYARD_SEALING_KEY
    return given


def card(percent: float | None = 0.0, name: str = "GPU-0", used: int = GIB) -> DeviceReport:
    return DeviceReport(name, percent, used, 80 * GIB, 40.0)


def report(*percents: float | None, **more: Any) -> InstanceReport:
    cards = [card(percent, f"GPU-{n}") for n, percent in enumerate(percents)]
    return InstanceReport(at=NOON, devices=cards, **more)


def tell(instance_id: UUID, after: float, *percents: float | None, **more: Any) -> float:
    """One report ``after`` seconds past noon."""
    at_time((NOON + timedelta(seconds=after)).isoformat())
    gpus = Instance.objects.get(pk=instance_id).gpus
    return reports.take(reporting=Reporting(instance_id, gpus), report=report(*percents, **more))


def tell_for(instance_id: UUID, begin: int, end_: int, *percents: float | None) -> None:
    for after in range(begin, end_ + 1, 15):
        assert tell(instance_id, after, *percents) == 0.0


def quiet(view: Any) -> datetime | None:
    """Since when, as of the last report."""
    found = reports.quiet(rental_refs=[view.rental_ref]).get(view.rental_ref)
    if found is None:
        return None
    assert found.until == Reporter.objects.get(instance__state="ready").reported_at
    return found.since


def test_what_listens_is_kept_as_it_was_told_last(cluster) -> None:
    _, view = started(cluster)
    for after, told in ((0, None), (15, [22, 8888]), (30, []), (45, None)):
        tell(view.id, after, 0, ports=told)
        assert Reporter.objects.get(pk=view.id).listening == told


def test_the_token_reaches_the_secret_and_opens_until_the_end_is_asked(cluster) -> None:
    yard = make_yard(cards=4)
    view = rent(yard, 2)
    loop(cluster)
    (secret,) = cluster.secrets.values()
    token = token_of(view.id, key=key())
    assert secret["data"][manifests.REPORT_TOKEN]
    assert secret["data"][manifests.REPORT_TOKEN] == base64.b64encode(token.encode()).decode()
    assert reports.reporting(token=token) == Reporting(view.id, 2)
    end(view)
    assert reports.reporting(token=token) is None
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    assert cluster.secrets == {}


def test_a_repeated_create_makes_the_same_token(cluster) -> None:
    """Derived, not drawn: what a crash between two calls repeats is what is there."""
    view = rent(make_yard())
    assert token_of(view.id, key=key()) == token_of(view.id, key=key())
    assert token_of(uuid4(), key=key()) != token_of(view.id, key=key())


def test_no_other_token_is_good_for_an_instance(cluster) -> None:
    yard = make_yard(cards=4)
    mine, theirs = rent(yard), rent(yard)
    token = token_of(mine.id, key=key())
    other = token_of(theirs.id, key=key())
    secret = token.rpartition("_")[2] if token.count("_") == 3 else token[len("gy_rep_") + 27 :]
    mixed = other[: len("gy_rep_") + 27] + secret
    for bad in (
        mixed,
        token[:-1],
        token + "x",
        token_of(mine.id, key=bytes(32)),
        token_of(uuid4(), key=key()),
        token.replace("gy_rep_", "gy_live_"),
        "gy_rep_",
        "gy_rep_x_y",
        f"gy_rep_{'é' * 26}_é",
        "",
    ):
        assert reports.reporting(token=bad) is None, bad
    assert sure(reports.reporting(token=token)).instance_id == mine.id


def test_a_restart_is_another_machine_with_another_token(cluster) -> None:
    _, view = started(cluster)
    token = token_of(view.id, key=key())
    with transaction.atomic():
        other = sure(
            release.request_restart(
                rental_ref=view.rental_ref, reason="restarted_by_user", fault=Fault.NONE
            )
        )
    assert reports.reporting(token=token) is None
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    assert reports.reporting(token=token) is None
    assert sure(reports.reporting(token=token_of(other, key=key()))).instance_id == other


def test_reports_come_every_five_seconds_at_most(cluster) -> None:
    _, view = started(cluster)
    assert tell(view.id, 0, 10, 10) == 0.0
    assert tell(view.id, 4, 90, 90) == 1.0
    assert MetricSample.objects.count() == 1
    assert tell(view.id, 5, 20, 20) == 0.0
    assert list(MetricSample.objects.order_by("at").values_list("gpu_percent", flat=True)) == [
        [10, 10],
        [20, 20],
    ]
    # A clock that was put back refuses nobody for long.
    assert tell(view.id, -600, 30, 30) == 0.0


def test_more_cards_than_it_has_are_refused_and_nothing_is_stored(cluster) -> None:
    _, view = started(cluster)
    with pytest.raises(InvalidRequest) as refused:
        tell(view.id, 0, 1, 2, 3)
    assert "devices" in refused.value.extra["errors"]
    assert (Reporter.objects.count(), MetricSample.objects.count()) == (0, 0)


def test_a_report_changes_no_interval_and_no_instance(cluster) -> None:
    """A check inside the tenant's pod never closes the meter, nor opens it."""
    _, view = started(cluster)

    def facts() -> Any:
        return (
            list(ReadyInterval.objects.order_by("id").values()),
            list(Instance.objects.order_by("id").values()),
        )

    before = facts()
    tell(view.id, 0, 0, 0, ssh="down", disk=DiskReport(5, 5))
    tell(view.id, 400, 100)
    tell(view.id, 800, None, None, ssh="up", boot="another")
    assert facts() == before
    at_time(None)
    coming = rent(make_yard(), 1)
    tell(coming.id, 0, 100)
    assert not ReadyInterval.objects.filter(instance=coming.id).exists()


def test_quiet_is_every_card_without_a_gap_up_to_now(cluster) -> None:
    _, view = started(cluster)
    tell_for(view.id, 0, 600, 0, 5)
    assert quiet(view) == NOON
    # The other card works once: from there on anew.
    tell(view.id, 615, 0, 5.1)
    assert quiet(view) is None
    tell_for(view.id, 630, 700, 0, 0)
    assert quiet(view) == NOON + timedelta(seconds=630)
    # A minute of silence is bridged, a second more is not, neither while it lasts nor after.
    tell(view.id, 690 + 60, 0, 0)
    assert quiet(view) == NOON + timedelta(seconds=630)
    at_time((NOON + timedelta(seconds=811)).isoformat())
    assert quiet(view) is None
    tell(view.id, 811, 0, 0)
    assert quiet(view) == NOON + timedelta(seconds=811)


@pytest.mark.parametrize("told", [(0.0,), (0.0, None), ()])
def test_a_card_that_is_not_told_may_work(cluster, told) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 0, 0)
    assert quiet(view) is not None
    tell(view.id, 15, *told)
    assert quiet(view) is None


def test_a_program_that_began_anew_and_cards_proven_anew_begin_a_new_window(cluster) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 0, 0, boot="a")
    tell(view.id, 15, 0, 0, boot="a")
    assert quiet(view) == NOON
    tell(view.id, 30, 0, 0, boot="b")
    assert quiet(view) == NOON + timedelta(seconds=30)
    ReadyInterval.objects.update(opened_at=NOON + timedelta(seconds=40))
    tell(view.id, 45, 0, 0, boot="b")
    assert quiet(view) == NOON + timedelta(seconds=40)


@pytest.mark.parametrize("state", ["degraded", "unreachable", "starting"])
def test_a_machine_that_is_not_proven_ready_is_not_quiet(cluster, state) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 0, 0)
    Instance.objects.filter(pk=view.id).update(state=state)
    assert quiet(view) is None


def test_figures_of_an_earlier_machine_are_not_the_present_ones(cluster) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 0, 0)
    assert quiet(view) == NOON
    at_time(None)
    with transaction.atomic():
        other = sure(
            release.request_restart(
                rental_ref=view.rental_ref, reason="restarted_by_user", fault=Fault.NONE
            )
        )
    at(seconds=1)
    assert quiet(view) is None
    at_time(None)
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    loop(cluster)
    cluster.run_pods()
    full_list(cluster)
    assert Instance.objects.get(pk=other).state == "ready"
    at(seconds=2)
    assert quiet(view) is None
    assert tell(other, 15, 0, 0) == 0.0
    assert quiet(view) == NOON + timedelta(seconds=15)


# --- over time ------------------------------------------------------------------------------------


def rows() -> list[tuple[int, float, list[float | None]]]:
    found = MetricSample.objects.order_by("at")
    return [(row.seconds, (row.at - NOON).total_seconds(), row.gpu_percent) for row in found]


def at(**after: float) -> None:
    at_time((NOON + timedelta(**after)).isoformat())


def test_reports_become_averages_as_they_age_and_are_forgotten_after_a_month(cluster) -> None:
    _, view = started(cluster)
    for n in range(20):
        tell(view.id, 15 * n, n, 100 if n % 2 else None)
    tell(view.id, 300, 50, 50)
    at(hours=2, minutes=4)
    assert samples.sweep() == 0, "the first five minutes are not two hours old to their end"
    at(hours=2, minutes=5)
    assert samples.sweep() == 1
    assert samples.sweep() == 0
    assert rows() == [(300, 0, [9.5, 100]), (15, 300, [50, 50])]
    at(days=2, minutes=59)
    assert samples.sweep() == 1, "the rest is five minutes now"
    assert rows() == [(300, 0, [9.5, 100]), (300, 300, [50, 50])]
    at(days=2, hours=1)
    samples.sweep()
    assert rows() == [(3600, 0, [29.75, 75])]
    at(days=30)
    samples.sweep()
    assert len(rows()) == 1
    at(days=30, seconds=1)
    samples.sweep()
    assert rows() == []
    assert Reporter.objects.count() == 1
    at(days=32)
    samples.sweep()
    assert Reporter.objects.count() == 0


def test_a_report_after_its_stretch_was_folded_doubles_nothing(cluster) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 10, 10)
    at(hours=3)
    samples.sweep()
    tell(view.id, 30, 90, 90)
    at(hours=3)
    samples.sweep()
    assert rows() == [(300, 0, [10, 10])]


def asked(view: Any, begin: float, end_: float, step: int | None = None) -> Any:
    return reports.series(
        rental_ref=view.rental_ref,
        since=NOON + timedelta(seconds=begin),
        until=NOON + timedelta(seconds=end_),
        step=step,
    )


def test_series_have_gaps_where_nothing_was_told_and_zeros_where_zero_was(cluster) -> None:
    _, view = started(cluster)
    tell(view.id, 0, 10, 0, disk=DiskReport(5, 9))
    tell(view.id, 15, 20.26, 0, disk=DiskReport(7, 9))
    tell(view.id, 95, None, 30)
    found = asked(view, 0, 120)
    assert (found.step, found.since, found.device_ids) == (30, NOON, ["GPU-0", "GPU-1"])
    assert found.values["gpu_percent", 0] == [15.1, None, None, None]
    assert found.values["gpu_percent", 1] == [0, None, None, 30]
    assert found.values["memory_used_bytes", 0] == [GIB, None, None, GIB]
    assert found.values["memory_total_bytes", 1] == [80 * GIB, None, None, 80 * GIB]
    assert found.values["temperature_c", 1] == [40, None, None, 40]
    assert found.values["disk_used_bytes", None] == [6, None, None, None]
    assert asked(view, 0, 120, step=60).values["gpu_percent", 0] == [15.1, None]
    # Neither end on a step: whole steps that hold them.
    assert asked(view, 10, 100).values["gpu_percent", 1] == [0, None, None, 30]
    assert asked(view, 600, 660).values["gpu_percent", 1] == [None, None]
    other = rent(make_yard())
    assert asked(other, 0, 120).values == {}


def test_series_read_averages_where_reports_are_folded(cluster) -> None:
    _, view = started(cluster)
    tell_for(view.id, 0, 285, 40, 60)
    at(hours=2, minutes=30)
    samples.sweep()
    found = asked(view, 0, 600)
    assert (found.step, found.values["gpu_percent", 0]) == (300, [40, None])
