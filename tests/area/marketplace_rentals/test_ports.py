"""Ports with names: ordered, changed while the machine runs, linked to, shown without a token."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest

from kernel.clock import now
from marketplace.accounts.ports import mistakes
from marketplace.models import AuditEntry, Template
from provisioner.contracts.access import NamedPort
from provisioner.instances import access_keys, entry, raw_ports
from provisioner.instances import ports as entry_ports
from provisioner.inventory.summary import refresh
from provisioner.models import Cluster, Entry, Reporter
from provisioner.reconcile.steps import open_secrets, spec_of
from tests.area.marketplace_rentals.test_life import NOON, World, clock  # noqa: F401
from tests.market import add_node, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
WEB = {"port": 8000, "protocol": "http", "name": "", "access_mode": "token"}
OPEN = {"port": 3000, "protocol": "http", "name": "site", "access_mode": "public"}


@pytest.fixture(autouse=True)
def _named(settings: Any) -> None:
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


def rented(clock: Any, **changes: Any) -> World:  # noqa: F811
    renter, supply = make_renter(), make_supply(2)
    status, made = renter.call("POST", "/rentals", order(supply.offer, max_hours=48, **changes))
    assert status == 202, made
    return World(clock, renter, supply, f"/rentals/{made['id']}")


@pytest.fixture
def world(clock: Any) -> World:  # noqa: F811
    return rented(clock, ports=[8000, {"port": 3000, "name": "site", "access_mode": "public"}])


def shown(of: World) -> list[dict[str, Any]]:
    return list(of.show()["access"]["ports"])


def bare(of: World) -> list[dict[str, Any]]:
    return [{name: p[name] for name in WEB} for p in shown(of)]


def named(of: World) -> dict[int, str]:
    found = entry.found(of.rental.pk)
    assert found is not None
    return {port: each.access_mode for port, each in found.ports.items()}


def patch(of: World, ports: Any) -> tuple[int, Any]:
    return of.renter.call("PATCH", of.path, {"ports": ports})


def link(of: World, **body: Any) -> tuple[int, Any]:
    return of.renter.call("POST", f"{of.path}/links", body)


def token_in(url: str) -> str:
    return parse_qs(urlsplit(url).query)["token"][0]


# --- ordered and changed --------------------------------------------------------------------------


def test_an_order_gives_ports_names_in_either_form(world: World) -> None:
    assert bare(world) == [WEB, OPEN]
    assert named(world) == {8000: "token", 3000: "public"}
    assert world.instance.order["ports"] == [8000, 3000]


def test_they_change_while_the_machine_runs_and_the_machine_is_left_alone(world: World) -> None:
    world.run()
    before = world.instance.pk
    status, changed = patch(world, [{"port": 9000, "access_mode": "team"}])
    assert status == 200
    assert [p["port"] for p in changed["access"]["ports"]] == [9000]
    assert named(world) == {9000: "team"}
    assert world.instance.pk == before
    audited = AuditEntry.objects.filter(action="rental.change").latest("ts")
    assert audited.details == {"ports": [{**WEB, "port": 9000, "access_mode": "team"}]}
    version = changed["version"]
    assert patch(world, [{"port": 9000, "access_mode": "team"}])[1]["version"] == version
    assert patch(world, [])[1]["access"]["ports"] == []
    assert named(world) == {}


def test_a_change_outlives_a_stop_and_a_start(world: World) -> None:
    world.run()
    assert patch(world, [9000])[0] == 200
    assert world.renter.call("POST", f"{world.path}/actions", {"action": "stop"})[0] == 202
    assert named(world) == {9000: "token"}


def test_ports_of_an_ended_rental_are_nobodys(world: World) -> None:
    world.run()
    world.renter.call("DELETE", world.path)
    assert entry.found(world.rental.pk) is None
    assert patch(world, [9000])[1]["type"] == "/problems/invalid_transition"
    assert link(world, port=8000)[1]["type"] == "/problems/invalid_transition"


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([22022], "ports.0"),
        ([0], "ports.0"),
        ([8000, 8000], "ports"),
        (list(range(1000, 1033)), "ports"),
        ([{"port": 8000, "colour": "red"}], "ports.0.colour"),
        ([{"name": "x"}], "ports.0.port"),
        ([80, {"port": True}], "ports.1.port"),
        ([{"port": "80"}], "ports.0.port"),
        ([{"port": 80, "name": "A B"}], "ports.0.name"),
        ([{"port": 80, "name": ["x"]}], "ports.0.name"),
        ([{"port": 80, "access_mode": "everybody"}], "ports.0.access_mode"),
        ([{"port": 80, "access_mode": ["public"]}], "ports.0.access_mode"),
        ([{"port": 80, "protocol": "udp"}], "ports.0.protocol"),
        ([{"port": 80, "name": "x"}, {"port": 81, "name": "x"}], "ports"),
        ([{"port": 80, "name": "jupyter", "access_mode": "public"}], "ports.0.access_mode"),
    ],
)
def test_what_is_wrong_is_said_by_field_everywhere(world: World, given: Any, field: str) -> None:
    bodies = (
        ("PATCH", world.path, {"ports": given}),
        ("POST", "/rentals", order(world.supply.offer, ports=given)),
        ("POST", "/templates", {"name": "x", "image": PINNED, "ports": given}),
    )
    for method, path, body in bodies:
        status, answer = world.renter.call(method, path, body)
        assert (status, list(answer["errors"])) == (422, [field]), (path, answer)
    assert named(world) == {8000: "token", 3000: "public"}


PINNED = "ubuntu:24.04@sha256:" + "0" * 64


@pytest.mark.parametrize("given", [["8000"], [True], [None], [[8000]], "8000", {"port": 1}])
def test_what_is_no_list_of_ports_is_refused(world: World, given: Any) -> None:
    status, answer = patch(world, given)
    assert status == 422
    assert next(iter(answer["errors"])).startswith("ports")


def test_mistakes_of_a_long_list_are_few() -> None:
    assert len(mistakes([0] * 100_000)) == 33


def test_others_cannot_change_or_link(world: World) -> None:
    others = make_renter("Others")
    assert others.call("PATCH", world.path, {"ports": [1]})[0] == 404
    assert others.call("POST", f"{world.path}/links", {"port": 8000})[0] == 404


# --- links ----------------------------------------------------------------------------------------


def test_a_link_opens_what_its_mode_asks_for(world: World, settings: Any) -> None:
    world.run()
    status, answer = link(world, port=8000)
    assert status == 201
    name = world.rental.public_id.removeprefix("ren_")
    base, _, query = answer["url"].partition("?")
    assert base == f"https://8000-{name}.pods.example.net/"
    given = query.removeprefix("token=")
    key = settings.GPUYARD_SEALING_KEY
    assert given == access_keys.access_token(world.rental.pk, 1, key=key)
    assert len(given) >= 32
    assert link(world, port=3000)[1]["url"] == f"https://3000-{name}.pods.example.net/"
    assert link(world, port=9999)[1]["errors"] == {"port": ["the rental has no such port"]}
    assert given not in str(world.show())
    assert given not in str(world.renter.call("GET", "/rentals"))
    audited = AuditEntry.objects.filter(action="rental.link").latest("ts")
    assert given not in str(audited.details)


def test_a_replaced_token_is_another_one(world: World) -> None:
    world.run()
    first = token_in(link(world, port=8000)[1]["url"])
    assert token_in(link(world, port=8000)[1]["url"]) == first
    second = token_in(link(world, port=8000, replace=True)[1]["url"])
    assert second != first
    assert token_in(link(world, port=8000)[1]["url"]) == second
    assert Entry.objects.get(pk=world.rental.pk).token_version == 2


def test_a_link_is_made_once_and_its_stored_answer_holds_no_token(world: World) -> None:
    world.run()
    body = {"port": 8000, "replace": True}
    first = world.renter.call("POST", f"{world.path}/links", body, key="once")
    again = world.renter.call("POST", f"{world.path}/links", body, key="once")
    assert (first[0], again[0], again[1]["url"]) == (201, 201, None)
    assert Entry.objects.get(pk=world.rental.pk).token_version == 2


def test_tokens_of_two_rentals_and_keys_differ() -> None:
    from uuid import UUID

    one, two, key = UUID(int=1), UUID(int=2), bytes(32)
    made = {
        access_keys.access_token(ref, version, key=k)
        for ref in (one, two)
        for version in (1, 2)
        for k in (key, hashlib.sha256().digest())
    }
    assert len(made) == 8


def test_where_ports_have_no_names_nothing_is_linked(world: World, settings: Any) -> None:
    settings.GPUYARD_PORTS_URL = None
    world.run()
    assert link(world, port=8000)[1]["errors"] == {"port": ["ports have no names on this platform"]}
    assert [p["url"] for p in shown(world)] == [None, None]


# --- what is shown --------------------------------------------------------------------------------


def test_a_name_is_shown_where_a_relay_ever_was(world: World) -> None:
    world.run()
    assert [p["url"] for p in shown(world)] == [None, None]
    Cluster.objects.update(relay_seen_at=now())
    name = world.rental.public_id.removeprefix("ren_")
    assert [p["url"] for p in shown(world)] == [
        f"https://8000-{name}.pods.example.net/",
        f"https://3000-{name}.pods.example.net/",
    ]


def test_the_state_is_what_the_machine_told_last(world: World) -> None:
    def tell(listening: list[int] | None) -> None:
        Reporter.objects.update_or_create(
            pk=world.instance.pk,
            defaults={"reported_at": now(), "pod_at": now(), "listening": listening},
        )

    world.run()
    assert [p["state"] for p in shown(world)] == [None, None]
    tell(None)
    assert [p["state"] for p in shown(world)] == [None, None], "an older reporter"
    tell([22, 3000])
    assert [p["state"] for p in shown(world)] == ["closed", "open"]
    world.renter.call("POST", f"{world.path}/actions", {"action": "stop"})
    assert [p["state"] for p in shown(world)] == [None, None], "it does not run"


# --- Jupyter and the placeholder ------------------------------------------------------------------


@pytest.fixture
def notebook(clock: Any) -> World:  # noqa: F811
    return rented(clock, template="jupyter")


def test_jupyter_is_shown_and_knows_the_token(notebook: World) -> None:
    notebook.run()
    Cluster.objects.update(relay_seen_at=now())
    access = notebook.show()["access"]
    url = access["ports"][0]["url"]
    assert access["jupyter"] == {"port": 8888, "url": url}
    assert url.startswith("https://8888-")
    given = open_secrets(notebook.instance).env
    assert given == {"JUPYTER_TOKEN": token_in(link(notebook, port=8888)[1]["url"])}
    assert spec_of(notebook.instance).env_names == ("JUPYTER_TOKEN",)


def test_jupyter_is_never_public(notebook: World) -> None:
    for port in (
        {"port": 8888, "access_mode": "public"},
        {"port": 8888, "name": "jupyter", "access_mode": "public"},
        {"port": 8888, "name": "other", "access_mode": "public"},
    ):
        status, answer = patch(notebook, [port])
        assert (status, list(answer["errors"])) == (422, ["ports.0.access_mode"])
        assert "shell" in answer["errors"]["ports.0.access_mode"][0]
        asked = order(notebook.supply.offer, template="jupyter", ports=[port])
        assert notebook.renter.call("POST", "/rentals", asked)[0] == 422
    assert patch(notebook, [{"port": 8888, "name": "jupyter", "access_mode": "team"}])[0] == 200
    assert patch(notebook, [{"port": 9, "access_mode": "public"}])[0] == 200


def test_only_the_whole_value_is_the_placeholder(clock: Any) -> None:  # noqa: F811
    env = {
        "A": "{{access_token}}",
        "B": "x{{access_token}}",
        "C": "{{access_token}} ",
        "D": "{{ access_token }}",
    }
    of = rented(clock, env=env)
    made = open_secrets(of.instance).env
    assert {**made, "A": env["A"]} == env
    assert len(made["A"]) == 43


def test_a_new_machine_gets_the_token_of_its_time(notebook: World) -> None:
    notebook.run()
    second = token_in(link(notebook, port=8888, replace=True)[1]["url"])
    assert open_secrets(notebook.instance).env["JUPYTER_TOKEN"] == second
    Entry.objects.all().delete()
    env = {"A": entry_ports.TOKEN_PLACEHOLDER}
    assert entry_ports.with_token(env, rental_ref=notebook.rental.pk) == env


# --- templates, and the version before ------------------------------------------------------------


def test_templates_keep_ports_in_full_and_in_numbers() -> None:
    renter = make_renter()
    given = [8000, {"port": 3000, "name": "site", "access_mode": "public"}]
    status, made = renter.call("POST", "/templates", {"name": "x", "image": PINNED, "ports": given})
    assert (status, made["ports"]) == (201, [WEB, OPEN])
    row = Template.objects.get(slug="x")
    assert row.ports == [8000, 3000], "what the version before reads"
    Template.objects.filter(pk=row.pk).update(ports=[3000, 9])  # and writes
    shown_then = renter.call("GET", "/templates/x")[1]["ports"]
    assert shown_then == [OPEN, {**WEB, "port": 9}]
    assert renter.call("PATCH", "/templates/x", {"ports": shown_then})[1]["ports"] == shown_then


def test_rows_of_the_version_before_have_no_named_ports(world: World) -> None:
    from django.db import connection

    ref = world.rental.pk
    Entry.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO provisioner_entry (rental_ref, authorized, changed_at) "
            "VALUES (%s, '{}', now())",
            [ref],
        )
    assert named(world) == {}
    assert Entry.objects.get(pk=ref).token_version == 1


def test_a_queued_rental_gets_its_names_with_its_machine(clock: Any) -> None:  # noqa: F811
    from marketplace.rentals import place

    first = rented(clock)
    asked = order(
        first.supply.offer,
        gpus=2,
        ports=[7000],
        queue={"deadline_seconds": 3600},
    )
    status, made = first.renter.call("POST", "/rentals", asked)
    assert (status, made["state"]) == (202, "queued")
    of = World(first.clock, first.renter, first.supply, f"/rentals/{made['id']}")
    assert entry.found(of.rental.pk) is None
    assert link(of, port=7000)[1]["type"] == "/problems/invalid_transition"
    assert patch(of, [7001])[0] == 200
    add_node(first.supply.group, 2)
    refresh()
    assert place.place() == 1
    assert named(of) == {7001: "token"}


# --- raw TCP --------------------------------------------------------------------------------------

RAW = {"port": 5432, "protocol": "tcp", "name": "db", "access_mode": "public"}


@pytest.fixture
def raw_world(clock: Any, settings: Any) -> World:  # noqa: F811
    settings.GPUYARD_TCP_PORTS = ("tcp.example.net", 20000, 20001)
    raw_ports.prepare()
    return rented(clock, ports=[8000, {"port": 5432, "protocol": "tcp", "name": "db"}])


def addresses(of: World) -> dict[int, str | None]:
    return {port["port"]: port["url"] for port in shown(of)}


def test_a_raw_port_has_a_number_for_life(raw_world: World) -> None:
    assert bare(raw_world) == [WEB, RAW]
    assert set(addresses(raw_world).values()) == {None}, "nobody can be led there yet"
    Cluster.objects.update(relay_seen_at=now())
    assert addresses(raw_world)[5432] == "tcp://tcp.example.net:20000"
    found = entry.found(raw_world.rental.pk)
    assert found is not None
    assert found.ports[5432] == NamedPort(5432, "public", "tcp")
    raw_world.run()
    raw_world.renter.call("POST", f"{raw_world.path}/actions", {"action": "stop"})
    assert addresses(raw_world)[5432] == "tcp://tcp.example.net:20000"
    raw_world.renter.call("DELETE", raw_world.path)
    assert raw_ports.given() == []


def test_a_raw_port_comes_and_goes_while_the_machine_runs(raw_world: World) -> None:
    Cluster.objects.update(relay_seen_at=now())
    raw_world.run()
    assert patch(raw_world, [5432])[0] == 200
    assert raw_ports.given() == []
    assert str(addresses(raw_world)[5432]).startswith("https://")
    assert patch(raw_world, [{"port": 9, "protocol": "tcp"}, RAW])[0] == 200
    assert addresses(raw_world) == {
        9: "tcp://tcp.example.net:20001",
        5432: "tcp://tcp.example.net:20000",
    }
    before = shown(raw_world)
    status, refused = patch(raw_world, [{"port": p, "protocol": "tcp"} for p in (9, 10, 5432)])
    assert (status, refused["type"]) == (409, "/problems/no_free_port")
    assert shown(raw_world) == before


def test_an_order_that_finds_no_number_stores_nothing(raw_world: World) -> None:
    raw_ports.give(rental_ref=uuid4(), ports=[1])
    offer = raw_world.supply.offer
    body = order(offer, ports=[{"port": 1, "protocol": "tcp"}])
    status, refused = raw_world.renter.call("POST", "/rentals", body)
    assert (status, refused["type"]) == (409, "/problems/no_free_port")
    assert len(raw_world.renter.call("GET", "/rentals")[1]["items"]) == 1


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ([{"port": 80, "protocol": "tcp", "access_mode": "token"}], "ports.0.access_mode"),
        ([{"port": 80, "protocol": "tcp", "name": "jupyter"}], "ports.0.access_mode"),
        ([{"port": 80, "protocol": "udp"}], "ports.0.protocol"),
        ([{"port": n, "protocol": "tcp"} for n in range(1, 10)], "ports"),
    ],
)
def test_a_wrong_raw_port_is_named(raw_world: World, given: Any, field: str) -> None:
    body = order(raw_world.supply.offer, ports=given)
    for status, answer in (
        raw_world.renter.call("POST", "/rentals", body),
        patch(raw_world, given),
    ):
        assert (status, list(answer["errors"])) == (422, [field])


def test_where_there_are_no_numbers_raw_ports_are_refused(world: World) -> None:
    body = order(world.supply.offer, ports=[{"port": 80, "protocol": "tcp"}])
    for status, answer in (
        world.renter.call("POST", "/rentals", body),
        patch(world, [{"port": 80, "protocol": "tcp"}]),
    ):
        assert (status, list(answer["errors"])) == (422, ["ports.0.protocol"])
        assert "not offered" in answer["errors"]["ports.0.protocol"][0]


def test_a_raw_port_has_no_link(raw_world: World) -> None:
    status, answer = link(raw_world, port=5432)
    assert (status, list(answer["errors"])) == (422, ["port"])
