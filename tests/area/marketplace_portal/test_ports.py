"""The ports of a rental in the portal: ordered, opened, changed, and entered by the team."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django import forms

from kernel.grants import verify
from kernel.ids import parse
from marketplace.accounts.ports import Port, read
from marketplace.http.portal import port_text
from marketplace.models import Membership
from provisioner.contracts.access import enter_verb
from provisioner.models import Cluster
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of


@pytest.fixture(autouse=True)
def _named(settings: Any) -> None:
    settings.GPUYARD_PORTS_URL = ("https", "pods.example.net", 443)


@pytest.fixture
def rental(renter: Visitor, supply: market.Supply) -> str:
    from kernel.clock import now

    body = market.order(supply.offer, ports=[8000, {"port": 3000, "access_mode": "team"}])
    status, made = renter.person.call("POST", "/rentals", body)
    assert status == 202, made
    Cluster.objects.update(relay_seen_at=now())
    return str(made["id"])


def test_the_page_of_a_rental_lists_its_ports_and_holds_no_token(
    renter: Visitor, rental: str
) -> None:
    page = renter.get(f"/rentals/{rental}")
    assert f"https://8000-{rental.removeprefix('ren_')}.pods.example.net/" in page.text
    assert "token=" not in page.text
    assert "token=" not in renter.get(f"/rentals/{rental}/ports").text


def test_open_makes_the_link_and_leads_there(renter: Visitor, rental: str) -> None:
    page = renter.get(f"/rentals/{rental}/ports")
    opened = renter.send(page, f"/rentals/{rental}/ports/8000/open")
    assert opened.status_code == 200
    url = opened["Refresh"].removeprefix("0; url=")
    assert url.startswith(f"https://8000-{rental.removeprefix('ren_')}.pods.example.net/?token=")
    assert opened["Cache-Control"] == "no-store"
    replaced = renter.send(opened, f"/rentals/{rental}/ports/8000/open", replace="yes")
    assert replaced.status_code == 200
    assert url not in replaced.text
    assert "Refresh" not in replaced
    assert renter.get(f"/rentals/{rental}/ports/8000/open").status_code == 405
    assert renter.post(f"/rentals/{rental}/ports/9/open").status_code == 422


def test_ports_are_changed_as_text(renter: Visitor, rental: str) -> None:
    page = renter.get(f"/rentals/{rental}/ports")
    assert "8000 token, 3000 team" in page.text
    path = f"/rentals/{rental}/ports"
    for wrong, said in (
        ("8000 public team", "one name and one of"),
        ("eight", "Write ports as numbers"),
        ("22022", "own SSH server"),
        ("8000 Name", "small letters"),
        ("8000, 8000", "different ports"),
        ("8888 jupyter public", "shell on the machine"),
    ):
        answer = renter.send(page, path, ports=wrong)
        assert answer.status_code == 422
        assert said in answer.text, wrong
    assert renter.send(page, path, ports="9000 api public, 8888").status_code == 303
    ports = renter.person.call("GET", f"/rentals/{rental}")[1]["access"]["ports"]
    assert [(p["port"], p["name"], p["access_mode"]) for p in ports] == [
        (9000, "api", "public"),
        (8888, "", "token"),
    ]


def test_text_and_ports_are_one_another() -> None:
    ports = (
        Port(8000),
        Port(80, name="web", access_mode="public"),
        Port(81, access_mode="team"),
        Port(5432, protocol="tcp", name="db", access_mode="public"),
    )
    text = port_text.write(ports)
    assert text == "8000 token, 80 web public, 81 team, 5432 db tcp"
    assert read(port_text.read(text)) == ports
    assert port_text.read(" 1 ,\n,2 ") == ({"port": 1}, {"port": 2})
    for wrong in ("1 a b", "x", "1 team team", "1 tcp public", "\u0661", "1 2 3 4", "123456"):
        with pytest.raises(forms.ValidationError):
            port_text.read(wrong)


def test_a_member_is_sent_back_with_a_grant(
    renter: Visitor, rental: str, stranger: Visitor, settings: Any
) -> None:
    path = f"/rentals/{rental}/ports/3000/enter?to=%2Flab%3Fa%3D1"
    sent = renter.get(path)
    assert sent.status_code == 303
    target = urlsplit(sent["Location"])
    name = f"3000-{rental.removeprefix('ren_')}.pods.example.net"
    assert (target.scheme, target.netloc, target.path) == ("https", name, "/.gpuyard/enter")
    query = parse_qs(target.query)
    assert query["to"] == ["/lab?a=1"]
    grant = verify(
        query["grant"][0],
        verb=enter_verb(3000),
        key=settings.GPUYARD_GRANT_KEY,
        now=time.time(),
    )
    assert grant.subject == parse("rental", rental)
    asked = stranger.get(path)
    assert asked.status_code == 302
    assert asked["Location"].startswith("/sign-in?next=/rentals/")


def test_others_and_other_ports_are_not_let_in(renter: Visitor, rental: str) -> None:
    other = visitor_of(market.make_renter("Other"))
    for port in ("3000", "8000"):
        assert other.get(f"/rentals/{rental}/ports/{port}/enter").status_code == 404
    assert other.get(f"/rentals/{rental}/ports").status_code == 404
    assert other.post(f"/rentals/{rental}/ports/8000/open").status_code == 404
    for port in ("8000", "9", "03000", "x", "\u0663"):
        assert renter.get(f"/rentals/{rental}/ports/{port}/enter").status_code == 404
    Membership.objects.filter(user=renter.person.principal.user).delete()
    assert renter.get(f"/rentals/{rental}/ports/3000/enter").status_code in (403, 404)


def test_an_order_and_a_template_take_them_too(renter: Visitor, supply: market.Supply) -> None:
    page = renter.get("/templates/new")
    image = "ubuntu:24.04@sha256:" + "0" * 64
    made = renter.send(
        page, "/templates/new", name="mine", image=image, ports="8000, 80 web public"
    )
    assert made.status_code == 303, made.text
    assert "8000 token, 80 web public" in renter.get("/templates/mine").text
