"""One rental explained: everything in the order of time, with its source, and no secret."""

from __future__ import annotations

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from kernel.ids import new_id, parse, public
from kernel.text import rfc3339
from marketplace.models import Rental
from marketplace.oncall.explain import Fact, explain
from marketplace.rentals.timeline import note
from provisioner.models import InstanceEvent
from tests.area.marketplace_accounts.people import Api
from tests.flows.stage import NOON, Platform, show
from tests.market import Renter, Supply, make_renter, make_supply, order

SECRET = "hunter2-not-for-anybody"


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [NOON.isoformat()])
    return make_supply(4)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    return make_renter()


@pytest.fixture
def lived(supply: Supply, renter: Renter) -> str:
    """A rental that ran past the hour and was ended."""
    platform = Platform(supply)
    body = order(supply.offer, gpus=2, env={"PASSWORD": SECRET})
    rental = str(renter.call("POST", "/rentals", body, key="the-key")[1]["id"])
    platform.turn()
    platform.at(NOON + timedelta(seconds=20))
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + timedelta(minutes=61))
    assert renter.call("DELETE", f"/rentals/{rental}")[0] == 202
    platform.until(NOON + timedelta(minutes=63))
    assert show(renter, rental)["state"] == "terminated"
    return rental


def first(facts: list[Fact], source: str, text: str) -> int:
    """Where the first fact of this source with this text stands."""
    return next(
        place for place, fact in enumerate(facts) if fact.source == source and text in fact.text
    )


def test_it_is_told_in_the_order_of_time_from_every_record(lived: str) -> None:
    facts = explain(lived)
    assert [fact.at for fact in facts] == sorted(fact.at for fact in facts)
    assert {fact.source for fact in facts} == {
        "key",
        "rental",
        "audit",
        "slot",
        "instance",
        "hold",
        "instance_event",
        "interval",
        "event",
        "usage",
    }
    told = [
        first(facts, "key", "the-key (kept)"),
        first(facts, "rental", "ordered by usr_"),
        first(facts, "audit", "rental.start by"),
        first(facts, "slot", "held: seat"),
        first(facts, "instance", "placed on node-"),
        first(facts, "hold", "hold 4.0000"),
        first(facts, "interval", "meter opened for 2 GPUs"),
        first(facts, "event", "running (ready"),
        first(facts, "audit", "rental.terminate by"),
        first(facts, "slot", "given back: seat"),
        first(facts, "rental", "settled: every proven second charged"),
    ]
    assert told == sorted(told), [(fact.source, fact.text) for fact in facts]
    assert first(facts, "usage", "transaction txn_") >= 0
    assert first(facts, "hold", "hold_release -") >= 0


def test_no_secret_is_told_and_hostile_text_is_harmless(lived: str) -> None:
    rental = Rental.objects.get(id=parse("rental", lived))
    note(
        rental,
        at=NOON,
        reason="ready",
        actor="host",
        text="x",
        evidence={"said": "\x1b[31m\u202egnp.exe\nrm -rf /"},
    )
    instance = rental.instance_ref
    assert instance is not None
    InstanceEvent.objects.create(
        instance_id=instance,
        seq=99,
        at=NOON,
        state="ready",
        reason="ready",
        fault="none",
        text="\x1b]0;owned\x07\nsecond line",
    )
    out = StringIO()
    call_command("explain", lived, stdout=out)
    printed = out.getvalue()
    assert SECRET not in printed
    assert not set("\x1b\u202e\x07") & set(printed)
    assert "\\n" in printed, "a line feed of theirs is shown, not obeyed"
    lines = printed.splitlines()
    assert len(lines) == len(explain(lived))
    assert all(line[:4] == "2026" for line in lines)


def test_staff_read_it_over_the_api_and_others_do_not(lived: str, staff: Api) -> None:
    answer = staff.get(f"staff/rentals/{lived}/explain")
    assert answer.status_code == 200
    facts = explain(lived)
    assert [row["text"] for row in answer.data["facts"]] == [fact.text for fact in facts]
    out = StringIO()
    call_command("explain", lived, "--json", stdout=out)
    assert json.loads(out.getvalue())[0]["at"] == rfc3339(facts[0].at)
    owner = make_renter()
    assert owner.call("GET", f"/staff/rentals/{lived}/explain")[0] == 403


@pytest.mark.django_db
def test_an_unknown_rental_is_said_to_be_none(staff: Api) -> None:
    unknown = public("rental", new_id())
    assert staff.get(f"staff/rentals/{unknown}/explain").status_code == 404
    for name in (unknown, "ren_x", "x"):
        with pytest.raises(CommandError, match="no rental"):
            call_command("explain", name)
