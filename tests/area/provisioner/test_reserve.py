"""Reserving: exclusive, tight, and the same for one or sixty-four at once."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import IntegrityError, connection, connections, transaction

from kernel import clock
from kernel.errors import InvalidRequest
from kernel.ids import new_id
from provisioner import facade
from provisioner.contracts import Fault, InstanceState, NoCandidate, PlacementRequest, PodOrder
from provisioner.instances import release
from provisioner.inventory import summary
from provisioner.models import Cluster, Hold, Instance, Namespace, NodeShare, Slot
from tests.area.provisioner.yard import (
    IMAGE,
    Yard,
    add_node,
    conserved,
    end,
    make_yard,
    plan,
    rent,
    row_of,
    sure,
)

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CONTENDERS = 64


def at_once(calls: Sequence[Callable[[], Any]]) -> list[Any]:
    """Results or exceptions of calls that start together, each in a thread of its own."""
    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(number: int) -> None:
        try:
            connection.ensure_connection()
            gate.wait(timeout=60)
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001  what went wrong is the result
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    return results


def patient(yard: Yard, gpus: int, tenant: UUID) -> Any:
    """As the marketplace rents: skipping first, waiting once before it refuses."""
    chosen = plan(yard, gpus, tenant=tenant)
    for wait in (False, True):
        try:
            return rent(yard, gpus, tenant=tenant, given=chosen, wait=wait)
        except NoCandidate:
            if wait:
                raise
    raise AssertionError("unreachable")


def test_a_reservation_writes_everything_at_once() -> None:
    yard = make_yard(cards=4)
    order = PodOrder(image=IMAGE, env={"A": "clear"}, secret_env={"B": "hidden"})
    view = rent(yard, 3, order=order)
    row = row_of(view)
    assert (view.state, view.reason, row.event_seq) == (InstanceState.RESERVED, "placed", 1)
    assert view == facade.instance(rental_ref=view.rental_ref)
    assert (row.vcpus_milli, row.ram_mib, row.gpus) == (24000, 3 * 65536, 3)
    assert row.due_at == row.created_at
    holds = Hold.objects.filter(instance=row)
    assert holds.count() == 3
    assert all(hold.from_ts == row.created_at for hold in holds)
    assert (Namespace.objects.get(name=view.namespace)).tenant_ref == view.tenant_ref
    stored = str(row.order) + bytes(row.secrets_sealed or b"").hex()
    assert "clear" not in stored
    assert "hidden" not in stored
    conserved(yard)
    summary.refresh()
    assert facade.groups(ids=[yard.group.pk])[0].slots_free == 1


def test_it_takes_two_statements(django_assert_num_queries) -> None:
    yard = make_yard(cards=4)
    tenant = uuid4()
    rent(yard, tenant=tenant)  # binds the namespace
    chosen = plan(yard, tenant=tenant)
    with transaction.atomic(), django_assert_num_queries(2):
        facade.reserve(
            plan=chosen,
            instance_id=new_id(),
            rental_ref=new_id(),
            tenant_ref=tenant,
            order=PodOrder(image=IMAGE),
            gpus=1,
            disk_mib=0,
        )


def test_a_rollback_leaves_nothing() -> None:
    yard = make_yard()
    chosen = plan(yard)
    with transaction.atomic():
        facade.reserve(
            plan=chosen,
            instance_id=new_id(),
            rental_ref=new_id(),
            tenant_ref=uuid4(),
            order=PodOrder(image=IMAGE),
            gpus=1,
            disk_mib=0,
        )
        transaction.set_rollback(True)
    assert not Instance.objects.exists()
    assert not Namespace.objects.exclude(tenant_ref=None).exists()
    conserved(yard)


def test_a_bad_order_is_refused_with_nothing_stored() -> None:
    yard = make_yard()
    with pytest.raises(InvalidRequest):
        rent(yard, order=PodOrder(image="ubuntu:latest"))
    assert not Instance.objects.exists()


def test_best_fit_uses_the_tightest_node() -> None:
    yard = make_yard(nodes=1, cards=8)
    add_node(yard, "small", 2)
    assert rent(yard, 2).node == "small"
    assert rent(yard, 1).node == "node-0"


def test_the_plan_reads_at_most_two_hundred_nodes() -> None:
    yard = make_yard(nodes=0)
    for number in range(205):
        add_node(yard, f"n-{number}", 1)
    assert len(plan(yard).candidates) == 200


def test_without_a_candidate_the_plan_says_why() -> None:
    yard = make_yard(nodes=2, cards=2, namespaces=1)
    assert plan(yard, 3).rejections == {"too_few_free": 2}
    assert plan(yard, 1, disk_mib=10**7).rejections == {"disk_too_large": 2}
    NodeShare.objects.filter(pk=yard.shares[0].pk).update(sellable=False)
    assert plan(yard, 3).rejections == {"too_few_free": 1, "node_unavailable": 1}
    tenant = uuid4()
    rent(yard, tenant=tenant)
    assert plan(yard).rejections == {"namespaces_exhausted": 2}
    assert plan(yard, tenant=tenant).candidates
    Cluster.objects.update(state="unreachable")
    assert plan(yard, tenant=tenant).rejections == {"cluster_not_ready": 2}


def test_a_tenant_keeps_one_namespace_per_cluster_and_shares_it_with_nobody() -> None:
    yard = make_yard(nodes=2, cards=8)
    one, two = uuid4(), uuid4()
    names = {rent(yard, tenant=one).namespace for _ in range(3)}
    others = {rent(yard, tenant=two).namespace for _ in range(3)}
    assert len(names) == len(others) == 1
    assert not names & others


def test_a_drained_or_lost_cluster_takes_nothing_even_with_an_old_plan() -> None:
    yard = make_yard()
    chosen = plan(yard)
    with transaction.atomic():
        facade.retire_cluster(cluster_id=yard.cluster.pk)
    with pytest.raises(NoCandidate):
        rent(yard, given=chosen)
    summary.refresh()
    yard.group.refresh_from_db()
    assert not yard.group.listed_ok


@pytest.mark.parametrize("number", range(ROUNDS))
def test_sixty_four_want_the_last_card(number: int) -> None:
    yard = make_yard(cards=1, namespaces=CONTENDERS)
    calls = [partial(patient, yard, 1, uuid4()) for _ in range(CONTENDERS)]
    results = at_once(calls)
    won = [result for result in results if not isinstance(result, Exception)]
    lost = [result for result in results if isinstance(result, NoCandidate)]
    assert len(won) == 1, results
    assert len(lost) == CONTENDERS - 1, results
    assert Hold.objects.filter(to_ts__isnull=True).count() == 1
    conserved(yard)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_nobody_is_refused_while_a_card_is_free(number: int) -> None:
    """As many cards as contenders, on few nodes: every one of them gets one."""
    yard = make_yard(nodes=3, cards=8, namespaces=24)
    calls = [partial(patient, yard, 1, uuid4()) for _ in range(24)]
    results = at_once(calls)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert Slot.objects.filter(state="free").count() == 0
    conserved(yard)


@pytest.mark.parametrize("number", range(ROUNDS))
def test_one_tenant_bursting_binds_one_namespace(number: int) -> None:
    yard = make_yard(nodes=2, cards=8, namespaces=4)
    tenant = uuid4()
    results = at_once([lambda: patient(yard, 1, tenant)] * 16)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert Namespace.objects.filter(tenant_ref=tenant).count() == 1
    conserved(yard)


def test_renting_and_ending_at_once_conserves_every_slot() -> None:
    yard = make_yard(nodes=3, cards=4, namespaces=32)

    def life(gpus: int, tenant: UUID) -> str:
        try:
            view = patient(yard, gpus, tenant)
        except NoCandidate:
            return "refused"
        end(view)
        row = Instance.objects.get(pk=view.id)
        assert release.finish(row, at=clock.now(), claim=None)
        Slot.objects.filter(state="dirty", free_at__isnull=False).update(free_at=clock.now())
        release.recycle()
        return "lived"

    def lives(gpus: int) -> list[str]:
        return [life(gpus, uuid4()) for _ in range(4)]

    calls = [partial(lives, gpus) for gpus in (1, 2, 3, 4) * 4]
    results = at_once(calls)
    assert not [result for result in results if isinstance(result, Exception)], results
    assert any("lived" in result for result in results)
    conserved(yard)
    Slot.objects.filter(state="dirty").update(free_at=clock.now())
    release.recycle()
    summary.refresh()
    assert Slot.objects.filter(state="free").count() == 12
    group = facade.groups(ids=[yard.group.pk])[0]
    assert (group.slots_free, group.largest_block) == (12, 4)
    conserved(yard)


def test_the_schema_itself_refuses_a_double_hold() -> None:
    yard = make_yard(cards=1)
    view = rent(yard)
    hold = Hold.objects.get(instance_id=view.id)
    with pytest.raises(IntegrityError), transaction.atomic():
        Hold.objects.create(
            slot=hold.slot, instance_id=view.id, rental_ref=new_id(), from_ts=clock.now()
        )
    Hold.objects.filter(pk=hold.pk).update(to_ts=clock.now())
    with pytest.raises(IntegrityError, match="hold_never_overlaps"), transaction.atomic():
        Hold.objects.create(
            slot=hold.slot, instance_id=view.id, rental_ref=new_id(), from_ts=hold.from_ts
        )


def test_a_rental_has_one_live_instance() -> None:
    yard = make_yard(cards=2)
    rental = new_id()
    rent(yard, rental=rental)
    with pytest.raises(IntegrityError, match="instance_one_alive"):
        rent(yard, rental=rental)
    conserved(yard)


def test_a_hold_never_starts_before_the_last_one_ended(set_clock) -> None:
    """Even when the clock is set back, e.g. by a restored server."""
    yard = make_yard(cards=1)
    view = rent(yard)
    end(view)
    release.finish(Instance.objects.get(pk=view.id), at=clock.now(), claim=None)
    Slot.objects.update(state="free", free_at=None)
    NodeShare.objects.update(slots_free=1)
    first = Hold.objects.get(instance_id=view.id)
    set_clock("2020-01-01T00:00:00Z")
    second = Hold.objects.get(instance_id=rent(yard).id)
    assert second.from_ts >= sure(first.to_ts)


def test_a_waiting_reservation_gives_up_after_a_second() -> None:
    yard = make_yard(cards=1)
    chosen = plan(yard)
    locked, over = threading.Event(), threading.Event()

    def hold_the_row() -> None:
        with transaction.atomic():
            NodeShare.objects.select_for_update().get(pk=yard.shares[0].pk)
            locked.set()
            over.wait(30)
        connections.close_all()

    thread = threading.Thread(target=hold_the_row)
    thread.start()
    locked.wait(10)
    try:
        for wait in (False, True):
            with pytest.raises(NoCandidate):
                rent(yard, given=chosen, wait=wait)
    finally:
        over.set()
        thread.join()
    assert rent(yard, given=chosen, wait=True).node == "node-0"


def test_ending_twice_is_ending_once() -> None:
    yard = make_yard()
    view = rent(yard)
    end(view)
    before = facade.instance_events(rental_ref=view.rental_ref)
    end(view, reason="funds")
    assert facade.instance_events(rental_ref=view.rental_ref) == before
    with transaction.atomic():
        facade.request_end(rental_ref=uuid4(), reason="admin", fault=Fault.NONE)


def test_plan_of_an_unknown_group_is_empty() -> None:
    found = facade.plan(PlacementRequest((uuid4(),), 1, 0, uuid4()))
    assert (found.candidates, found.rejections) == ((), {})
