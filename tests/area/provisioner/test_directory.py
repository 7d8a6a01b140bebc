"""What the gateway is told of each name, from the tables: nobody, closed and why, or a door."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Coroutine, Iterator
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

import asyncssh
import pytest
from django.conf import settings
from django.db import connections, transaction

from kernel.ids import new_id, public
from provisioner.contracts import InstanceState, InstanceView, PodOrder
from provisioner.contracts.access import NamedPort
from provisioner.facade import access
from provisioner.instances import access_keys
from provisioner.kube import manifests
from provisioner.models import Instance, Visit
from provisioner.models import WayIn as WayInRow
from provisioner.reconcile.steps import open_secrets, spec_of
from provisioner.streams import directory as directory_module
from provisioner.streams.directory import (
    PROBE,
    STARTING,
    STOPPED,
    STOPPING,
    TableDirectory,
    terminal_name,
)
from provisioner.streams.doors import Closed, Door
from provisioner.streams.ports.doors import PortDoor, Way
from tests.area.provisioner.yard import IMAGE, end, make_yard, rent, row_of, sure
from tests.sshkeys import line_of_seed, new_line, print_of

# The directory asks on connections of its own, which see only what was committed.
pytestmark = pytest.mark.django_db(transaction=True)
S = InstanceState
T = TypeVar("T")


@pytest.fixture
def directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[TableDirectory]:
    """With one thread, whose connection is closed at the end: the database is dropped some day."""
    monkeypatch.setattr(directory_module, "_THREADS", 1)
    made = TableDirectory()
    yield made
    now(made._ask(connections.close_all))


def now(asked: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(asked)


def rented(line: str) -> InstanceView:
    order = PodOrder(image=IMAGE, command=("sleep", "infinity"), ssh_public_keys=(line,))
    return rent(make_yard(), order=order)


def put(view: InstanceView, state: InstanceState, *, uid: str | None = "uid-1") -> None:
    Instance.objects.filter(pk=view.id).update(state=state.value, pod_uid=uid)


def name_of(view: InstanceView) -> str:
    return public("rental", view.rental_ref)


def probe_of(instance_id: UUID) -> str:
    made = access_keys.probe_key(instance_id, key=settings.GPUYARD_SEALING_KEY)
    return print_of(access_keys.public_line(made))


@pytest.mark.parametrize("state", [S.STARTING, S.READY, S.DEGRADED, S.UNREACHABLE])
def test_a_machine_that_may_answer_is_a_door(directory, state) -> None:
    line = new_line()
    view = rented(line)
    put(view, state)
    row = row_of(view)
    door = now(directory.find(name_of(view)))
    assert isinstance(door, Door)
    assert (door.instance, door.cluster) == (
        public("instance", view.id),
        public("cluster", row.cluster_id),
    )
    assert door.target == f"{row.pod_name}.{row.namespace.name}"
    assert door.port == manifests.SSH_PORT
    mine = print_of(line)
    assert door.authorized == {mine: mine, probe_of(view.id): PROBE}


def test_a_door_has_the_keys_that_its_secret_was_given(directory) -> None:
    """The gateway proves itself with the key that the pod trusts, and trusts the one it shows."""
    view = rented(new_line())
    put(view, S.READY)
    row = row_of(view)
    opened = open_secrets(row)
    secret = manifests.env_secret(spec_of(row), opened.env, opened.keys)
    given = {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}
    door = now(directory.find(name_of(view)))
    host = asyncssh.import_private_key(given[manifests.HOST_KEY])
    assert words(host.export_public_key()) == door.host_key.split()
    client = asyncssh.import_private_key(door.client_key)
    assert words(client.export_public_key()) == given[manifests.GATEWAY_KEY].split()
    assert door.host_key != given[manifests.GATEWAY_KEY]


def words(exported: bytes) -> list[str]:
    return exported.decode().split()[:2]


@pytest.mark.parametrize(
    ("state", "uid"),
    [
        (S.RESERVED, None),
        (S.CREATING, None),
        (S.CREATING, "uid-1"),
        (S.PULLING, "uid-1"),
        (S.STARTING, None),
        (S.STARTING, "uid-1"),
    ],
)
def test_a_machine_that_comes_up_may_be_waited_for(directory, state, uid) -> None:
    line = new_line()
    view = rented(line)
    put(view, state, uid=uid)
    door = now(directory.find(name_of(view)))
    assert isinstance(door, Door)
    assert door.coming
    assert door.target.startswith(f"{row_of(view).pod_name}.")
    mine = print_of(line)
    assert door.authorized == {mine: mine, probe_of(view.id): PROBE}
    put(view, S.READY, uid="uid-1")
    up = now(directory.find(name_of(view)))
    assert isinstance(up, Door)
    assert not up.coming
    # Written anew each time, with a random check in it.
    assert up == replace(door, coming=False, client_key=up.client_key)


@pytest.mark.parametrize("state", [S.RESERVED, S.READY, S.DEGRADED, S.UNREACHABLE, S.STOPPING])
def test_a_machine_whose_end_is_asked_is_closed_at_once(directory, state) -> None:
    view = rented(new_line())
    put(view, S.READY if state is S.STOPPING else state)
    end(view)
    put(view, state)
    closed = now(directory.find(name_of(view)))
    assert isinstance(closed, Closed)
    assert closed.sentence == STOPPING


def test_a_machine_that_is_gone_says_that_it_does_not_run(directory) -> None:
    line = new_line()
    view = rented(line)
    end(view)
    put(view, S.GONE)
    closed = now(directory.find(name_of(view)))
    assert isinstance(closed, Closed)
    assert closed.sentence == STOPPED
    assert print_of(line) in closed.authorized


def test_a_rental_without_a_machine_does_not_run(directory) -> None:
    rental, line = new_id(), new_line()
    with transaction.atomic():
        access.let_in(rental_ref=rental, keys=[line])
    mine = print_of(line)
    assert now(directory.find(public("rental", rental))) == Closed(STOPPED, {mine: mine})


def test_an_ended_rental_is_nobodys_name(directory) -> None:
    view = rented(new_line())
    put(view, S.READY)
    with transaction.atomic():
        access.shut(rental_ref=view.rental_ref)
    assert now(directory.find(name_of(view))) is None


def test_other_names_are_nobodys(directory) -> None:
    view = rented(new_line())
    put(view, S.READY)
    name = name_of(view)
    others = ["", "root", "ren_", name[:-1], f"{name}0", f"{name}\0", public("rental", uuid4())]
    for kind, ref in (("instance", view.id), ("cluster", view.cluster_id)):
        others.append(public(kind, ref))
    # The right number behind another prefix.
    others += [public("instance", view.rental_ref), name.removeprefix("ren_")]
    for other in others:
        assert now(directory.find(other)) is None, other


def test_changed_keys_are_seen_with_the_next_question(directory) -> None:
    first, second = new_line(), new_line()
    view = rented(first)
    put(view, S.READY)
    assert print_of(first) in now(directory.find(name_of(view))).authorized
    with transaction.atomic():
        access.let_in(rental_ref=view.rental_ref, keys=[second])
    authorized = now(directory.find(name_of(view))).authorized
    assert set(authorized) == {print_of(second), probe_of(view.id)}


# --- terminals of the portal ----------------------------------------------------------------------


def terminal_of(instance_id: UUID, user: UUID) -> str:
    made = access_keys.terminal_key(instance_id, user, key=settings.GPUYARD_SEALING_KEY)
    return print_of(access_keys.public_line(made))


def test_a_members_name_has_one_key_of_this_machine_and_person(directory) -> None:
    view, user = rented(new_line()), uuid4()
    put(view, S.READY)
    door = now(directory.find(terminal_name(view.rental_ref, user)))
    assert isinstance(door, Door)
    assert door.instance == public("instance", view.id)
    assert door.authorized == {terminal_of(view.id, user): f"portal:{user.hex}"}
    assert terminal_of(view.id, user) not in now(directory.find(name_of(view))).authorized
    others = (terminal_of(view.id, uuid4()), terminal_of(uuid4(), user))
    assert not set(others) & set(door.authorized)


def test_a_rental_without_keys_has_terminals_too(directory) -> None:
    view, user = rent(make_yard(), order=PodOrder(image=IMAGE)), uuid4()
    put(view, S.READY)
    assert isinstance(now(directory.find(terminal_name(view.rental_ref, user))), Door)


def test_a_member_reads_how_a_machine_stands(directory) -> None:
    view, user = rented(new_line()), uuid4()
    put(view, S.READY)
    end(view)
    put(view, S.READY)
    closed = now(directory.find(terminal_name(view.rental_ref, user)))
    assert closed == Closed(STOPPING, {terminal_of(view.id, user): f"portal:{user.hex}"})
    with transaction.atomic():
        access.shut(rental_ref=view.rental_ref)
    assert now(directory.find(terminal_name(view.rental_ref, user))) is None


def test_names_of_members_are_written_in_one_way(directory) -> None:
    view, user = rented(new_line()), uuid4()
    put(view, S.READY)
    name = name_of(view)
    for text in (
        "",
        "+",
        "x",
        user.hex.upper(),
        str(user),
        f"{{{user}}}",
        f"{user.hex}0",
        user.urn,
    ):
        assert now(directory.find(f"{name}+{text}")) is None, text
    assert now(directory.find(f"{name}+{user.hex}+{user.hex}")) is None


def test_a_members_visit_names_the_member(directory) -> None:
    view, user = rented(new_line()), uuid4()
    put(view, S.READY)
    name, instance = terminal_name(view.rental_ref, user), public("instance", view.id)
    asked = directory.came(
        name=name, instance=instance, who=f"portal:{user.hex}", address="192.0.2.9"
    )
    visit = sure(now(asked))
    row = Visit.objects.get()
    assert (row.pk, row.rental_ref, row.instance_id) == (visit, view.rental_ref, view.id)
    assert (row.user_ref, row.fingerprint, row.address) == (user, "", None)


# --- relays ---------------------------------------------------------------------------------------


def test_a_cluster_is_known_by_the_key_of_its_seed_alone(directory) -> None:
    cluster = make_yard().cluster
    name = public("cluster", cluster.pk)
    with transaction.atomic():
        given = access.relay_values(cluster_id=cluster.pk, replace=False)
    known = sure(now(directory.relay(name)))
    assert (known.cluster, known.public_key) == (name, line_of_seed(given.relay_seed))
    with transaction.atomic():
        other = access.relay_values(cluster_id=cluster.pk, replace=True)
    replaced = sure(now(directory.relay(name)))
    assert replaced.public_key == line_of_seed(other.relay_seed) != known.public_key


def test_other_names_are_no_cluster(directory) -> None:
    cluster = make_yard().cluster
    for name in ("", "clu_", public("cluster", uuid4()), public("rental", cluster.pk)):
        assert now(directory.relay(name)) is None, name


# --- visits and proofs ----------------------------------------------------------------------------


def test_visits_are_written_and_the_platforms_own_are_not(directory) -> None:
    view = rented(new_line())
    put(view, S.READY)
    name, instance = name_of(view), public("instance", view.id)

    async def come(who: str) -> UUID | None:
        visit: UUID | None = await directory.came(
            name=name, instance=instance, who=who, address="192.0.2.9"
        )
        return visit

    assert now(come(PROBE)) is None
    assert not Visit.objects.exists()
    visit = sure(now(come("SHA256:x")))
    row = Visit.objects.get()
    assert (row.pk, row.rental_ref, row.instance_id) == (visit, view.rental_ref, view.id)
    assert (row.fingerprint, row.address, row.ended_at) == ("SHA256:x", "192.0.2.9", None)
    now(directory.went(visit, bytes_in=3, bytes_out=4, why="removed"))
    row.refresh_from_db()
    assert row.ended_at is not None
    assert (row.bytes_in, row.bytes_out, row.why) == (3, 4, "removed")


def test_a_way_in_is_due_by_names_and_proven_by_id(directory) -> None:
    view = rented(new_line())
    put(view, S.READY)
    clusters = [public("cluster", view.cluster_id)]
    assert now(directory.unproven(clusters)) == [(name_of(view), view.id)]
    assert now(directory.unproven([public("cluster", uuid4())])) == []
    now(directory.tried(view.id, ""))
    assert WayInRow.objects.get().proven_at is not None
    assert now(directory.unproven(clusters)) == []


# --- ports by name


def published(line: str, **modes: int) -> InstanceView:
    view = rented(line)
    with transaction.atomic():
        named = [NamedPort(port, mode) for mode, port in modes.items()]
        access.publish(rental_ref=view.rental_ref, ports=named)
    return view


def test_a_port_with_a_name_leads_to_the_machine_that_runs(directory) -> None:
    view = published(new_line(), token=8000, public=3000)
    put(view, S.READY)
    row = row_of(view)
    found = now(directory.find_port(view.rental_ref, 8000))
    assert found == PortDoor(
        rental=view.rental_ref,
        port=8000,
        access_mode="token",
        version=1,
        token=access.token(rental_ref=view.rental_ref),
        way=Way(
            public("instance", view.id),
            public("cluster", row.cluster_id),
            f"{row.pod_name}.{row.namespace.name}",
        ),
    )
    assert found.token not in repr(found)
    public_one = now(directory.find_port(view.rental_ref, 3000))
    assert public_one is not None
    assert public_one.access_mode == "public"
    assert now(directory.find_port(view.rental_ref, 9)) is None, "it has no name"
    assert now(directory.find_port(uuid4(), 8000)) is None


def test_a_changed_port_and_a_replaced_token_are_another_answer(directory) -> None:
    view = published(new_line(), token=8000)
    put(view, S.READY)
    before = now(directory.find_port(view.rental_ref, 8000))
    with transaction.atomic():
        second = access.token(rental_ref=view.rental_ref, replace=True)
    after = now(directory.find_port(view.rental_ref, 8000))
    assert before is not None
    assert after is not None
    assert (after.version, after.token) == (2, second)
    assert before.token != second
    assert before.outlived(after)
    with transaction.atomic():
        access.publish(rental_ref=view.rental_ref, ports=[])
    assert now(directory.find_port(view.rental_ref, 8000)) is None


@pytest.mark.parametrize(
    ("state", "sentence"), [(S.CREATING, STARTING), (S.STOPPING, STARTING), (S.GONE, STOPPED)]
)
def test_a_machine_that_does_not_run_has_no_way(directory, state, sentence) -> None:
    view = published(new_line(), token=8000)
    put(view, state)
    found = now(directory.find_port(view.rental_ref, 8000))
    assert found is not None
    assert (found.way, found.sentence) == (None, sentence)


def test_the_name_of_an_ended_rental_leads_nowhere(directory) -> None:
    view = published(new_line(), public=8000)
    put(view, S.READY)
    with transaction.atomic():
        access.shut(rental_ref=view.rental_ref)
    assert now(directory.find_port(view.rental_ref, 8000)) is None
