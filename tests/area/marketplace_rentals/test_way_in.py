"""The way in as the renter sees it: null until it was proven; and who came."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest

from kernel.ids import parse, public
from provisioner.contracts import InstanceState as S
from provisioner.instances import access_keys, entry, meter
from provisioner.models import Instance
from tests.area.marketplace_rentals.test_life import NOON, World, clock, world  # noqa: F401
from tests.market import make_renter
from tests.sshkeys import new_line, print_of

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _gateway(settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)


def ssh(of: World) -> Any:
    access = of.show()["access"]
    rest = {**access, "ssh": None, "terminal": None}
    assert rest == {"ssh": None, "ports": [], "jupyter": None, "terminal": None}
    return access["ssh"]


def prove(of: World, error: str = "") -> None:
    entry.tried(of.instance.pk, error=error)


# --- access.ssh -----------------------------------------------------------------------------------


def test_the_way_in_is_shown_once_it_was_proven(world: World, settings: Any) -> None:  # noqa: F811
    assert ssh(world) is None
    world.run()
    assert ssh(world) is None, "ready, and nobody has been in yet"
    prove(world, "SSH of this machine does not answer")
    assert ssh(world) is None
    world.clock.set(NOON + timedelta(seconds=3))
    prove(world)
    name = world.rental.public_id
    key = access_keys.published_key(key=settings.GPUYARD_SEALING_KEY)
    assert ssh(world) == {
        "host": "ssh.example.com",
        "port": 2222,
        "user": name,
        "command": f"ssh -p 2222 {name}@ssh.example.com",
        "known_hosts_line": f"[ssh.example.com]:2222 {access_keys.public_line(key)}",
        "proven_at": "2026-03-01T12:00:03Z",
    }


def test_at_the_usual_port_the_command_names_none(world: World, settings: Any) -> None:  # noqa: F811
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 22)
    world.run()
    prove(world)
    shown = ssh(world)
    assert shown["command"] == f"ssh {world.rental.public_id}@ssh.example.com"
    assert shown["known_hosts_line"].startswith("ssh.example.com ssh-ed25519 ")
    assert shown["port"] == 22


def test_without_keys_there_is_no_way_in_to_show(world: World) -> None:  # noqa: F811
    world.run()
    prove(world)
    assert ssh(world) is not None
    assert world.renter.call("PATCH", world.path, {"ssh_keys": []})[1]["access"]["ssh"] is None
    assert ssh(world) is None
    changed = world.renter.call("PATCH", world.path, {"ssh_keys": [new_line()]})[1]
    assert changed["access"]["ssh"]["user"] == world.rental.public_id, "proven once, and still"


def test_the_terminal_is_shown_with_the_way_in_and_without_keys_too(
    world: World,  # noqa: F811
    settings: Any,
) -> None:
    def terminal() -> Any:
        return world.show()["access"]["terminal"]

    world.run()
    assert terminal() is None
    prove(world)
    page = {"url": f"{settings.GPUYARD_BASE_URL}{world.path}/terminal"}
    assert terminal() == page
    world.renter.call("PATCH", world.path, {"ssh_keys": []})
    assert (ssh(world), terminal()) == (None, page)
    world.renter.call("DELETE", world.path)
    assert terminal() is None


def test_a_list_shows_the_same(world: World) -> None:  # noqa: F811
    world.run()
    prove(world)
    (listed,) = world.renter.call("GET", "/rentals")[1]["items"]
    assert listed["access"]["ssh"] == ssh(world)


def test_a_way_in_ends_with_its_machine(world: World) -> None:  # noqa: F811
    world.run()
    prove(world)
    status, ended = world.renter.call("DELETE", world.path)
    assert (status, ended["access"]["ssh"]) == (202, None)


def test_a_machine_that_is_out_of_sight_keeps_its_way_in(world: World) -> None:  # noqa: F811
    world.run()
    prove(world)
    closing = meter.closing_at_last_proof(world.instance)
    lost = NOON + timedelta(minutes=5)
    world.step(S.UNREACHABLE, "cluster_unreachable", lost, closing=closing)
    assert ssh(world) is not None


# --- visits ---------------------------------------------------------------------------------------


def come(of: World, line: str, second: int) -> UUID:
    of.clock.set(NOON + timedelta(seconds=second))
    return entry.came(
        rental_ref=of.rental.pk,
        instance_id=of.instance.pk,
        fingerprint=print_of(line),
        address="192.0.2.44",
    )


def visits(of: World, query: str = "") -> Any:
    status, answer = of.renter.call("GET", f"{of.path}/visits{query}")
    assert status == 200, answer
    return answer


def test_who_came_is_shown_with_the_name_of_their_key(world: World) -> None:  # noqa: F811
    world.run()
    mine, unknown = new_line(), new_line()
    body = {"name": "ada's laptop", "public_key": mine}
    key = world.renter.call("POST", "/ssh-keys", body)[1]
    others = make_renter("Others")
    assert others.call("POST", "/ssh-keys", {"name": "secret", "public_key": unknown})[0] == 201
    first, second = come(world, mine, 1), come(world, unknown, 2)
    world.clock.set(NOON + timedelta(seconds=61))
    entry.went(first, bytes_in=10, bytes_out=2**40, why="this key was removed")
    latest, earliest = visits(world)["items"]
    assert earliest == {
        "id": public("visit", first),
        "instance": public("instance", world.instance.pk),
        "via": "ssh",
        "user": None,
        "fingerprint": key["fingerprint"],
        "ssh_key": key["id"],
        "ssh_key_name": "ada's laptop",
        "address": "192.0.2.44",
        "began_at": "2026-03-01T12:00:01Z",
        "ended_at": "2026-03-01T12:01:01Z",
        "bytes_in": 10,
        "bytes_out": 2**40,
        "why": "this key was removed",
    }
    assert latest["id"] == public("visit", second)
    assert (latest["ssh_key"], latest["ssh_key_name"]) == (None, None), "another's is not told"
    assert (latest["ended_at"], latest["bytes_in"], latest["why"]) == (None, 0, "")


def test_who_came_by_the_portal_is_shown_as_a_person(world: World) -> None:  # noqa: F811
    world.run()
    user = world.renter.principal.user.pk
    entry.came(rental_ref=world.rental.pk, instance_id=world.instance.pk, user_ref=user)
    (visit,) = visits(world)["items"]
    assert (visit["via"], visit["user"]) == ("portal", public("user", user))
    told = ("fingerprint", "ssh_key", "ssh_key_name", "address")
    assert [visit[name] for name in told] == [None] * 4


def test_visits_are_paged_newest_first(world: World) -> None:  # noqa: F811
    world.run()
    line = new_line()
    made = [public("visit", come(world, line, second)) for second in range(5)]
    seen, query = [], "?limit=2"
    sizes = []
    while True:
        page = visits(world, query)
        sizes.append(len(page["items"]))
        seen += [item["id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query = f"?limit=2&cursor={page['next_cursor']}"
    assert sizes == [2, 2, 1]
    assert seen == made[::-1]


def test_a_rental_nobody_came_to_has_no_visits(world: World) -> None:  # noqa: F811
    assert visits(world) == {"items": [], "next_cursor": None}


def test_visits_of_another_organization_are_not_there(world: World) -> None:  # noqa: F811
    world.run()
    come(world, new_line(), 1)
    status, answer = make_renter("Others").call("GET", f"{world.path}/visits")
    assert (status, answer["type"]) == (404, "/problems/not_found")


def test_visits_stay_when_the_rental_has_ended(world: World) -> None:  # noqa: F811
    world.run()
    come(world, new_line(), 1)
    world.renter.call("DELETE", world.path)
    world.gone(NOON + timedelta(minutes=1))
    assert Instance.objects.get(rental_ref=parse("rental", world.rental.public_id)).state == "gone"
    assert len(visits(world)["items"]) == 1
