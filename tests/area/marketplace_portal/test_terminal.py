"""Who gets a terminal: whoever may change the rental, of a machine that can be entered."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from django.conf import settings as django_settings

from kernel.grants import verify
from kernel.ids import parse
from marketplace.accounts import switches
from marketplace.models import Membership, Rental
from provisioner.contracts.streaming import TERMINAL
from provisioner.instances import entry
from provisioner.inventory.summary import refresh
from provisioner.models import Instance
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of


@pytest.fixture(autouse=True)
def _gateway(settings: Any) -> None:
    settings.GPUYARD_SSH_GATEWAY = ("ssh.example.com", 2222)


@pytest.fixture
def rental(renter: Visitor, supply: market.Supply) -> str:
    market.give_relay(supply.cluster)
    refresh()
    status, made = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202
    return str(made["id"])


def machine_of(rental: str) -> Instance:
    return Instance.objects.get(rental_ref=parse("rental", rental))


def run(rental: str) -> Instance:
    """It runs, and its way in was found open."""
    machine = machine_of(rental)
    Instance.objects.filter(pk=machine.pk).update(state="ready", pod_uid="uid-1")
    Rental.objects.filter(pk=machine.rental_ref).update(state="running")
    entry.tried(machine.pk, error="")
    return machine


def test_the_page_of_a_machine_that_runs(renter: Visitor, rental: str) -> None:
    run(rental)
    answer = renter.get(f"/rentals/{rental}/terminal")
    assert answer.status_code == 200
    assert "js/terminal.js" in answer.text
    assert "<noscript>" in answer.text
    assert f"ssh -p 2222 {rental}@ssh.example.com" in answer.text
    policy = answer["Content-Security-Policy"]
    (styles,) = [part for part in policy.split("; ") if part.startswith("style-src")]
    nonce = styles.split("'nonce-")[1].rstrip("'")
    assert f'nonce="{nonce}"' in answer.text
    assert "unsafe" not in policy
    assert "nonce" not in renter.get(f"/rentals/{rental}")["Content-Security-Policy"]
    assert f"/rentals/{rental}/terminal" in renter.get(f"/rentals/{rental}").text


def test_a_machine_that_cannot_be_entered_has_no_terminal_yet(renter: Visitor, rental: str) -> None:
    answer = renter.get(f"/rentals/{rental}/terminal")
    assert answer.status_code == 200
    assert "js/terminal.js" not in answer.text
    assert renter.post(f"/rentals/{rental}/terminal").status_code == 409
    assert "Open a terminal" not in renter.get(f"/rentals/{rental}").text


def test_a_grant_is_for_this_person_and_machine(renter: Visitor, rental: str) -> None:
    machine = run(rental)
    answer = renter.post(f"/rentals/{rental}/terminal")
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"
    given = json.loads(answer.text)
    assert given["address"] == f"/streams/terminal?grant={given['grant']}"
    key = django_settings.GPUYARD_GRANT_KEY
    grant = verify(given["grant"], verb=TERMINAL, key=key, now=time.time())
    person = renter.person.principal
    assert (grant.subject, grant.owner, grant.user) == (machine.pk, person.org.pk, person.user.pk)


def test_a_grant_needs_the_forms_token(renter: Visitor, rental: str) -> None:
    from django.test import Client

    run(rental)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = renter.client.cookies
    assert strict.post(f"/rentals/{rental}/terminal").status_code == 403


@pytest.mark.parametrize("role", [Membership.Role.VIEWER, Membership.Role.BILLING])
def test_whoever_may_only_look_gets_none(renter: Visitor, rental: str, role: str) -> None:
    run(rental)
    Membership.objects.filter(user=renter.person.principal.user).update(role=role)
    assert renter.get(f"/rentals/{rental}/terminal").status_code == 403
    assert renter.post(f"/rentals/{rental}/terminal").status_code == 403


def test_strangers_and_others_get_none(stranger: Visitor, renter: Visitor, rental: str) -> None:
    run(rental)
    for answer in (
        stranger.get(f"/rentals/{rental}/terminal"),
        stranger.post(f"/rentals/{rental}/terminal"),
    ):
        assert answer.status_code == 302
        assert answer["Location"].startswith("/sign-in")
    other = visitor_of(market.make_renter("Other"))
    assert other.get(f"/rentals/{rental}/terminal").status_code == 404
    assert other.post(f"/rentals/{rental}/terminal").status_code == 404


def test_whoever_is_put_out_gets_no_new_grant(renter: Visitor, rental: str) -> None:
    run(rental)
    assert renter.post(f"/rentals/{rental}/terminal").status_code == 200
    Membership.objects.filter(user=renter.person.principal.user).delete()
    assert renter.post(f"/rentals/{rental}/terminal").status_code in (403, 404)


def test_terminals_stay_while_changes_are_switched_off(
    renter: Visitor, rental: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from kernel.errors import Refusal

    run(rental)
    monkeypatch.setattr(switches, "read_only", lambda: Refusal("read_only", "Later."))
    assert renter.post(f"/rentals/{rental}/terminal").status_code == 200
    assert renter.post(f"/rentals/{rental}/terminate").status_code == 503
