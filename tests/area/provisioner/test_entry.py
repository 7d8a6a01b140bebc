"""Who may come in: from the order, changed meanwhile, until the end; relays; who came."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest
from django.db import transaction

from kernel.errors import NotFound
from kernel.ids import new_id, public
from provisioner.clusters import register
from provisioner.contracts import Fault, InstanceState, InstanceView, PodOrder
from provisioner.contracts.access import RelayValues
from provisioner.facade import access
from provisioner.instances import access_keys, entry, release
from provisioner.models import Cluster, Entry, Instance, Visit
from tests.area.provisioner.test_loops import loop, started
from tests.area.provisioner.yard import IMAGE, at_time, end, make_yard, rent, row_of, sure
from tests.sshkeys import line_of_seed, new_line, print_of, prints_of

pytestmark = pytest.mark.django_db
NOON = datetime(2098, 3, 1, 12, tzinfo=UTC)
KEY = bytes(range(32))


def order(*lines: str) -> PodOrder:
    return PodOrder(image=IMAGE, command=("sleep", "infinity"), ssh_public_keys=lines)


def authorized(rental_ref: UUID) -> list[str]:
    return sorted(Entry.objects.get(pk=rental_ref).authorized)


# --- who may come in ------------------------------------------------------------------------------


def test_a_reservation_lets_in_the_keys_of_its_order() -> None:
    mine, theirs = new_line(), new_line()
    view = rent(make_yard(), order=order(mine, theirs))
    assert authorized(view.rental_ref) == prints_of(mine, theirs)
    assert Entry.objects.get().changed_at == view.created_at


def test_a_reservation_without_keys_lets_nobody_in() -> None:
    view = rent(make_yard(), order=order())
    assert authorized(view.rental_ref) == []


def test_keys_that_were_changed_are_not_those_of_the_order_again(cluster) -> None:
    first, second = new_line(), new_line()
    yard = make_yard(cards=4)
    view = rent(yard, order=order(first))
    with transaction.atomic():
        access.let_in(rental_ref=view.rental_ref, keys=[second])
    loop(cluster)
    end(view)
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    assert row_of(view).state == "gone"
    rent(yard, rental=view.rental_ref, tenant=view.tenant_ref, order=order(first))
    assert authorized(view.rental_ref) == [print_of(second)]


def test_a_restart_keeps_the_keys_that_were_changed(cluster) -> None:
    _, view = started(cluster)
    line = new_line()
    with transaction.atomic():
        access.let_in(rental_ref=view.rental_ref, keys=[line])
        successor = sure(
            release.request_restart(
                rental_ref=view.rental_ref, reason="restarted_by_user", fault=Fault.NONE
            )
        )
    loop(cluster)
    cluster.finish_deletions()
    loop(cluster)
    found = sure(entry.found(view.rental_ref))
    assert (found.instance_id, list(found.authorized)) == (successor, [print_of(line)])


def test_keys_are_replaced_and_each_counts_once() -> None:
    first, second = new_line(), new_line()
    view = rent(make_yard(), order=order(first))
    with transaction.atomic():
        access.let_in(rental_ref=view.rental_ref, keys=[second, f"{second} again", second])
    assert authorized(view.rental_ref) == [print_of(second)]
    with transaction.atomic():
        access.let_in(rental_ref=view.rental_ref, keys=[])
    assert authorized(view.rental_ref) == []


def test_keys_may_be_given_before_there_is_a_machine() -> None:
    """While a rental waits for cards; what was ordered does not come back with the machine."""
    rental, early = new_id(), new_line()
    with transaction.atomic():
        access.let_in(rental_ref=rental, keys=[early])
    found = sure(entry.found(rental))
    assert (found.instance_id, found.cluster_id, found.state) == (None, None, None)
    assert list(found.authorized) == [print_of(early)]
    rent(make_yard(), rental=rental, order=order(new_line()))
    assert authorized(rental) == [print_of(early)]


def test_an_ended_rental_leads_nowhere() -> None:
    yard = make_yard()
    view, other = rent(yard, order=order(new_line())), rent(yard, order=order(new_line()))
    with transaction.atomic():
        access.shut(rental_ref=view.rental_ref)
    assert entry.found(view.rental_ref) is None
    assert entry.found(other.rental_ref) is not None
    with transaction.atomic():
        access.shut(rental_ref=view.rental_ref)  # again: nothing is there to remove
    assert entry.found(uuid4()) is None


def test_what_is_found_is_the_present_machine(cluster) -> None:
    _, view = started(cluster)
    row = row_of(view)
    found = sure(entry.found(view.rental_ref))
    assert (found.instance_id, found.cluster_id) == (view.id, view.cluster_id)
    assert (found.pod_name, found.namespace) == (row.pod_name, row.namespace.name)
    assert (found.state, found.wanted, found.created) == (InstanceState.READY, True, True)
    end(view)
    assert not sure(entry.found(view.rental_ref)).wanted


# --- relays ---------------------------------------------------------------------------------------


def values(cluster_id: UUID, *, replace: bool = False) -> RelayValues:
    with transaction.atomic():
        return access.relay_values(cluster_id=cluster_id, replace=replace)


def test_a_relays_values_are_the_same_each_time_until_they_are_replaced(settings) -> None:
    settings.GPUYARD_SEALING_KEY = KEY
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)
    yard, other = make_yard(), make_yard(name="other")
    first = values(yard.cluster.pk)
    assert first == values(yard.cluster.pk)
    assert first.relay_seed not in repr(first)
    assert (first.cluster, first.gateway) == (
        public("cluster", yard.cluster.pk),
        "ssh.example.com:2222",
    )
    assert first.image == settings.GPUYARD_TOOLS_IMAGE
    published = access_keys.published_key(key=KEY)
    assert first.gateway_key == access_keys.public_line(published)
    theirs = values(other.cluster.pk)
    second = values(yard.cluster.pk, replace=True)
    assert len({line_of_seed(each.relay_seed) for each in (first, second, theirs)}) == 3
    assert second == values(yard.cluster.pk)
    assert (second.gateway_key, theirs) == (first.gateway_key, values(other.cluster.pk))
    assert Cluster.objects.get(pk=yard.cluster.pk).relay_version == 2
    key = access_keys.relay_key(yard.cluster.pk, 2, key=KEY)
    assert access_keys.public_line(key) == line_of_seed(second.relay_seed)


def test_a_platform_without_a_way_in_names_no_gateway(settings) -> None:
    settings.GPUYARD_SSH_GATEWAY = None
    assert values(make_yard().cluster.pk).gateway is None


@pytest.mark.parametrize("replace", [False, True])
def test_no_values_for_a_cluster_that_is_not_there(replace: bool) -> None:
    with pytest.raises(NotFound):
        values(uuid4(), replace=replace)
    assert entry.relay_version(uuid4()) is None


def test_a_cluster_that_leaves_keeps_its_relay_as_long_as_a_machine_is_there() -> None:
    yard = make_yard()
    view = rent(yard)
    other = make_yard(name="other")
    for each in (yard, other):
        register.retire_cluster(cluster_id=each.cluster.pk)
    assert entry.relay_version(yard.cluster.pk) == 1
    assert entry.relay_version(other.cluster.pk) is None
    with pytest.raises(NotFound):
        values(other.cluster.pk)
    Instance.objects.filter(pk=view.id).update(state="gone")
    assert entry.relay_version(yard.cluster.pk) is None


# --- visits ---------------------------------------------------------------------------------------


def come(view: InstanceView, after: int, address: str = "192.0.2.7") -> UUID:
    at_time((NOON + timedelta(seconds=after)).isoformat())
    return entry.came(
        rental_ref=view.rental_ref,
        instance_id=view.id,
        fingerprint="SHA256:x",
        address=address,
    )


def test_visits_are_told_latest_first_and_of_one_rental(set_clock) -> None:
    yard = make_yard()
    mine, theirs = rent(yard), rent(yard)
    first, other, second = come(mine, 0), come(theirs, 1), come(mine, 2, "2001:db8::1")
    at_time((NOON + timedelta(seconds=9)).isoformat())
    entry.went(first, bytes_in=5, bytes_out=7, why="removed " * 40)
    shown = access.visits(rental_ref=mine.rental_ref, limit=10)
    assert [visit.id for visit in shown] == [second, first]
    latest, earliest = shown
    assert (latest.address, latest.ended_at, latest.bytes_in, latest.why) == (
        "2001:db8::1",
        None,
        0,
        "",
    )
    assert (earliest.began_at, earliest.ended_at) == (NOON, NOON + timedelta(seconds=9))
    assert (earliest.bytes_in, earliest.bytes_out, len(earliest.why)) == (5, 7, 200)
    assert (earliest.instance_id, earliest.fingerprint) == (mine.id, "SHA256:x")
    assert [visit.id for visit in access.visits(rental_ref=mine.rental_ref, limit=1)] == [second]
    assert [visit.id for visit in access.visits(rental_ref=theirs.rental_ref, limit=9)] == [other]


def test_an_end_is_written_once(set_clock) -> None:
    visit = come(rent(make_yard()), 0)
    entry.went(visit, bytes_in=1, bytes_out=2, why="")
    at_time((NOON + timedelta(hours=1)).isoformat())
    entry.went(visit, bytes_in=9, bytes_out=9, why="late")
    row = Visit.objects.get()
    assert (row.ended_at, row.bytes_in, row.bytes_out, row.why) == (NOON, 1, 2, "")


def test_after_a_quarter_it_is_forgotten_who_came(set_clock) -> None:
    yard = make_yard()
    view, gone = rent(yard), rent(yard)
    old, inside, lost, young = come(view, 0), come(view, 0), come(gone, 0), come(view, 60)
    for visit in (old, young):
        entry.went(visit, bytes_in=0, bytes_out=0, why="")
    at_time((NOON + entry.VISITS_KEPT).isoformat())
    assert entry.forget() == 0
    at_time((NOON + entry.VISITS_KEPT + timedelta(seconds=1)).isoformat())
    # One whose gateway was killed has no end; it is over since its machine is gone.
    Instance.objects.filter(pk=gone.id).update(state="gone", gone_at=NOON)
    assert entry.forget() == 2
    assert {each.pk for each in Visit.objects.all()} == {inside, young}
    assert lost not in {inside, young}
