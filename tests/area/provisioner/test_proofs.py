"""When a way in is tried, how long a closed one rests, and when it is shown to the renter."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import connections

from kernel.ids import new_id
from provisioner.contracts import InstanceState, InstanceView
from provisioner.facade import access
from provisioner.instances import access_keys, entry
from provisioner.instances.entry import FIRST_PAUSE, LONGEST_PAUSE
from provisioner.models import Entry, Instance
from provisioner.models import WayIn as WayInRow
from tests.area.provisioner.yard import at_time, end, make_yard, rent

pytestmark = pytest.mark.django_db
S = InstanceState
NOON = datetime(2098, 3, 1, 12, tzinfo=UTC)
LINE = access_keys.public_line(access_keys.published_key(key=bytes(range(32))))


@pytest.fixture(autouse=True)
def _noon(set_clock) -> None:
    """Set for each test, real again after it."""
    clock(timedelta())


@pytest.fixture(autouse=True)
def _gateway(settings) -> None:
    settings.GPUYARD_SEALING_KEY = bytes(range(32))
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)


def clock(after: timedelta) -> None:
    at_time((NOON + after).isoformat())


def put(view: InstanceView, state: InstanceState, *, uid: str | None = "uid-1") -> InstanceView:
    Instance.objects.filter(pk=view.id).update(state=state.value, pod_uid=uid)
    return view


def ready() -> InstanceView:
    return put(rent(make_yard()), S.READY)


def due(*views: InstanceView) -> list[UUID]:
    clusters = {view.cluster_id for view in views}
    return [instance for _, instance in entry.unproven(clusters=clusters)]


def shown(view: InstanceView):
    return access.ways(rental_refs=[view.rental_ref]).get(view.rental_ref)


@pytest.mark.parametrize("state", list(S))
def test_a_machine_is_tried_once_it_may_answer(state: InstanceState) -> None:
    view = put(rent(make_yard()), state)
    open_ = state in {S.STARTING, S.READY, S.DEGRADED}
    assert entry.unproven(clusters=[view.cluster_id]) == (
        [(view.rental_ref, view.id)] if open_ else []
    )


def test_a_machine_without_a_pod_or_whose_end_is_asked_is_not_tried() -> None:
    waiting = put(rent(make_yard()), S.STARTING, uid=None)
    ending = ready()
    end(ending)
    put(ending, S.READY)
    ended = ready()
    Entry.objects.filter(pk=ended.rental_ref).delete()
    assert due(waiting, ending, ended) == []


def test_only_machines_behind_the_given_clusters_are_tried() -> None:
    here, there = ready(), ready()
    assert due(here) == [here.id]
    assert set(due(here, there)) == {here.id, there.id}
    assert entry.unproven(clusters=[]) == []
    assert entry.unproven(clusters=[uuid4()]) == []


def test_a_closed_way_rests_twice_as_long_with_each_failure() -> None:
    view, at, pauses = ready(), timedelta(), []
    for failures in range(1, 13):
        entry.tried(view.id, error="closed")
        row = WayInRow.objects.get()
        assert (row.failures, row.error, row.proven_at) == (failures, "closed", None)
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures)
        clock(at + pause - timedelta(milliseconds=1))
        assert due(view) == [], failures
        at += pause
        clock(at)
        assert due(view) == [view.id], failures
        pauses.append(pause)
    assert pauses[-1] == pauses[-2] == LONGEST_PAUSE


def test_failures_without_end_do_not_overflow() -> None:
    view = ready()
    entry.tried(view.id, error="closed")
    WayInRow.objects.update(failures=2**31 - 2)
    assert due(view) == []
    clock(LONGEST_PAUSE)
    assert due(view) == [view.id]


def test_those_that_were_never_tried_come_first() -> None:
    tried, fresh = ready(), ready()
    entry.tried(tried.id, error="closed")
    clock(timedelta(hours=1))
    assert due(tried, fresh) == [fresh.id, tried.id]


def test_what_was_proven_once_stays_proven() -> None:
    view = ready()
    entry.tried(view.id, error="x" * 300)
    assert len(WayInRow.objects.get().error) == 200
    clock(timedelta(seconds=5))
    entry.tried(view.id, error="")
    row = WayInRow.objects.get()
    assert (row.failures, row.error, row.proven_at) == (0, "", NOON + timedelta(seconds=5))
    clock(timedelta(hours=1))
    assert due(view) == []
    entry.tried(view.id, error="closed again")
    entry.tried(view.id, error="")
    row.refresh_from_db()
    assert row.proven_at == NOON + timedelta(seconds=5)
    assert row.tried_at == NOON + timedelta(hours=1)


@pytest.mark.django_db(transaction=True)
def test_a_failure_of_one_gateway_does_not_undo_the_proof_of_another() -> None:
    """Relays connect to each gateway, so two may try the same machine and tell at one time."""
    view = ready()
    together = threading.Barrier(2)

    def tell(error: str) -> None:
        together.wait(10)
        entry.tried(view.id, error=error)

    with ThreadPoolExecutor(2) as threads:
        for _ in range(30):
            WayInRow.objects.all().delete()
            entry.tried(view.id, error="closed")
            for telling in [threads.submit(tell, error) for error in ("", "closed")]:
                telling.result(10)
            assert WayInRow.objects.get().proven_at is not None
        for closing in [threads.submit(close, together) for _ in range(2)]:
            closing.result(10)


def close(together: threading.Barrier) -> None:
    """Each thread its own connection, which would keep the database from being dropped."""
    together.wait(10)
    connections.close_all()


# --- what the renter is shown ---------------------------------------------------------------------


def test_nothing_is_shown_before_the_proof() -> None:
    view = ready()
    assert shown(view) is None
    entry.tried(view.id, error="closed")
    assert shown(view) is None
    entry.tried(view.id, error="")
    way = shown(view)
    assert (way.host, way.port, way.proven_at) == ("ssh.example.com", 22, NOON)


@pytest.mark.parametrize("state", list(S))
def test_a_proven_way_is_shown_while_the_machine_is_there(state: InstanceState) -> None:
    view = put(rent(make_yard()), state)
    entry.tried(view.id, error="")
    there = state in {S.READY, S.DEGRADED, S.UNREACHABLE}
    assert (shown(view) is not None) == there


def test_a_way_is_not_shown_when_the_end_was_asked() -> None:
    view = ready()
    entry.tried(view.id, error="")
    end(view)
    put(view, S.READY)
    assert shown(view) is None


def test_the_proof_of_a_former_machine_is_none_of_the_present_one() -> None:
    yard = make_yard()
    view = put(rent(yard), S.READY)
    entry.tried(view.id, error="")
    put(view, S.GONE)
    again = put(rent(yard, rental=view.rental_ref, tenant=view.tenant_ref), S.READY)
    assert shown(view) is None
    assert due(view) == [again.id]
    entry.tried(again.id, error="")
    assert shown(view) is not None


def test_of_several_rentals_those_that_are_open_are_shown(django_assert_num_queries) -> None:
    views = [ready() for _ in range(3)]
    for view in views[:2]:
        entry.tried(view.id, error="")
    refs = [*(view.rental_ref for view in views), new_id()]
    with django_assert_num_queries(1):
        assert set(access.ways(rental_refs=refs)) == {view.rental_ref for view in views[:2]}
    assert access.ways(rental_refs=[]) == {}


def test_a_platform_without_a_gateway_shows_none(settings) -> None:
    view = ready()
    entry.tried(view.id, error="")
    settings.GPUYARD_SSH_GATEWAY = None
    assert shown(view) is None


@pytest.mark.parametrize(
    ("port", "place"), [(22, "ssh.example.com"), (2222, "[ssh.example.com]:2222")]
)
def test_the_line_for_known_hosts_is_openssh_s(settings, port: int, place: str) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", port)
    view = ready()
    entry.tried(view.id, error="")
    way = shown(view)
    assert (way.port, way.known_hosts_line) == (port, f"{place} {LINE}")
