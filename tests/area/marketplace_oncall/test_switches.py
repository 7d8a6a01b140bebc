"""Switches: who may turn them, what each keeps from being done, and that nothing is stored then."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.test import Client

from kernel.arrays import array
from kernel.ids import new_id, public
from marketplace.accounts import switches
from marketplace.models import AuditEntry, Project, Quote, Rental, Switch
from marketplace.rentals import charge as charging
from marketplace.rentals import place as placing
from provisioner.contracts import Chargeable
from provisioner.models import Hold
from tests.area.conftest import KEPT_S
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.area.test_every_operation import fit, operations
from tests.market import Renter, Supply, make_renter, make_supply, order, public_get

ROOT = Path(__file__).resolve().parents[3]


def turn(name: str, on: bool = True, cluster: str | None = None) -> None:
    """As the command does, seen by this process at once."""
    with transaction.atomic():
        switches.turn(acting="console", name=name, on=on, cluster=cluster, note="We look into it")
    switches.forget()


@pytest.fixture
def supply(db: None) -> Supply:
    return make_supply(4)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    return make_renter()


# --- turning ----------------------------------------------------------------------------------


def test_staff_turn_one_on_and_off_and_both_are_kept(staff: Api) -> None:
    body = {"name": "stop_charging", "on": True, "note": "Prices are wrong"}
    made = staff.post("staff/switches", body, Idempotency_Key="k-1")
    assert (made.status_code, made.data["note"]) == (200, "Prices are wrong.")
    assert made.data["on_by"].startswith("staff:usr_")
    assert staff.post("staff/switches", body, Idempotency_Key="k-1").content == made.content
    again = staff.post("staff/switches", {**body, "note": "Another"})
    assert again.data == made.data, "it is on already, for the reason given first"

    off = staff.post("staff/switches", {"name": "stop_charging", "on": False})
    assert (off.status_code, off.data["id"]) == (200, made.data["id"])
    assert off.data["off_by"] == made.data["on_by"]
    missing = staff.post("staff/switches", {"name": "stop_charging", "on": False})
    assert (missing.status_code, missing.data["actions"]) == (409, ["on"])
    assert [row["id"] for row in staff.get("staff/switches").data["items"]] == [made.data["id"]]
    actions = AuditEntry.objects.filter(action__startswith="switch.").order_by("id")
    assert [(row.action, row.object) for row in actions] == [
        ("switch.on", made.data["id"]),
        ("switch.off", made.data["id"]),
    ]


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({"name": "stop_charging", "on": True}, 422, "note"),
        ({"name": "stop_charging", "on": True, "note": "\u202e\x07"}, 422, "note"),
        ({"name": "stop_charging", "on": "yes", "note": "x"}, 422, "on"),
        ({"name": "stop_everything", "on": True, "note": "x"}, 422, "name"),
        ({"name": "read_only", "on": True, "note": "x" * 251}, 422, "note"),
        (
            {"name": "read_only", "on": True, "note": "x", "cluster": public("cluster", new_id())},
            422,
            "cluster",
        ),
        (
            {
                "name": "stop_rentals",
                "on": True,
                "note": "x",
                "cluster": public("cluster", new_id()),
            },
            404,
            None,
        ),
        ({"name": "stop_rentals", "on": True, "note": "x", "cluster": "clu_x"}, 404, None),
    ],
)
def test_mistakes_are_named_and_store_nothing(
    staff: Api, body: dict[str, Any], status: int, field: str | None
) -> None:
    answer = staff.post("staff/switches", body)
    assert answer.status_code == status
    assert field is None or field in answer.data["errors"]
    assert not Switch.objects.exists()


@pytest.mark.django_db
def test_the_command_does_the_same() -> None:
    out = StringIO()
    call_command("switch", "on", "stop_rentals", "--note", "Night", stdout=out)
    call_command("switch", "off", "stop_rentals", stdout=out)
    call_command("switch", "list", stdout=out)
    first, second, listed = out.getvalue().splitlines()
    assert first.startswith("stop_rentals everywhere: ON; on ")
    assert second == listed
    assert " by console: Night." in listed
    with pytest.raises(CommandError, match="not on"):
        call_command("switch", "off", "read_only")
    with pytest.raises(CommandError, match="only stop_rentals"):
        call_command("switch", "on", "read_only", "--note", "x", "--cluster", "clu_x")


@pytest.mark.django_db
def test_the_database_keeps_one_on_at_a_time_and_every_row() -> None:
    turn("read_only")
    with pytest.raises(IntegrityError), transaction.atomic():
        Switch.objects.create(name="read_only", note="x", on_by="x")
    with pytest.raises(IntegrityError), transaction.atomic():
        Switch.objects.create(name="read_only", cluster_ref=new_id(), note="x", on_by="x")
    from django.db.utils import InternalError, ProgrammingError

    with pytest.raises((InternalError, ProgrammingError)), transaction.atomic():
        Switch.objects.all().delete()


# --- stop_rentals -----------------------------------------------------------------------------


def test_without_a_cluster_nobody_rents_and_nothing_is_stored(
    supply: Supply, renter: Renter
) -> None:
    body, key = order(supply.offer), str(new_id())
    first = renter.raw("POST", "/rentals", body, key=key)
    turn("stop_rentals")
    status, problem = renter.call("POST", "/rentals", body)
    assert (status, problem["type"]) == (503, "/problems/read_only")
    assert "We look into it." in problem["detail"]
    assert (Rental.objects.count(), Hold.objects.count()) == (1, 1)
    assert renter.raw("POST", "/rentals", body, key=key) == first, "answered before: the same"
    ended = renter.call("DELETE", f"/rentals/{Rental.objects.get().public_id}")
    assert ended[0] == 202, "who wants to end may end"
    turn("stop_rentals", on=False)
    assert renter.call("POST", "/rentals", body)[0] == 202


@pytest.mark.parametrize(("action", "state"), [("start", "stopped"), ("retry", "failed")])
def test_start_and_retry_wait_too(supply: Supply, renter: Renter, action: str, state: str) -> None:
    rental = renter.call("POST", "/rentals", order(supply.offer))[1]["id"]
    Rental.objects.update(state=state, desired_state="stopped")
    turn("stop_rentals")
    status, problem = renter.call("POST", f"/rentals/{rental}/actions", {"action": action})
    assert (status, problem["type"]) == (503, "/problems/read_only")
    assert Rental.objects.get().state == state


def test_the_queue_waits(supply: Supply, renter: Renter) -> None:
    body = order(supply.offer, gpus=4)
    first = renter.call("POST", "/rentals", body)[1]["id"]
    queued = renter.call("POST", "/rentals", {**body, "queue": {"deadline_seconds": 3600}})[1]
    assert queued["state"] == "queued"
    Hold.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute("UPDATE provisioner_slot SET state = 'free'")
        cursor.execute("UPDATE provisioner_nodeshare SET slots_free = slots_total")
        cursor.execute("UPDATE provisioner_devicegroup SET slots_free = 4, largest_block = 4")
    turn("stop_rentals")
    assert placing.place() == 0
    assert Rental.objects.exclude(name="x").get(state="queued").public_id == queued["id"] != first
    turn("stop_rentals", on=False)
    assert placing.place() == 1


def test_one_cluster_only(supply: Supply, renter: Renter) -> None:
    other = make_supply(2, region="us-east", country="US")
    turn("stop_rentals", cluster=public("cluster", supply.cluster.id))
    listed = {row["id"] for row in public_get("/offers")[1]["items"]}
    assert listed == {other.offer.public_id}
    assert public_get(f"/offers/{supply.offer.public_id}")[1]["gpus_available"] == 0
    assert (
        renter.call("POST", "/rentals", order(supply.offer))[1]["type"] == "/problems/no_capacity"
    )
    quote = {"offer": supply.offer.public_id, "gpus": 1}
    assert renter.call("POST", "/quotes", quote)[1]["type"] == "/problems/offer_taken"
    assert renter.call("POST", "/rentals", order(other.offer))[0] == 202


def test_a_quote_from_before_does_not_get_in(supply: Supply, renter: Renter) -> None:
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]["id"]
    turn("stop_rentals", cluster=public("cluster", supply.cluster.id))
    body = order(supply.offer, requirement=..., quote=quote)
    assert renter.call("POST", "/rentals", body)[1]["type"] == "/problems/offer_taken"
    assert Quote.objects.get().used_at is None
    assert not Rental.objects.exists()


# --- stop_charging ----------------------------------------------------------------------------


@pytest.mark.django_db
def test_charging_and_funds_do_nothing_and_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def ask(name: str) -> Any:
        return lambda **_: asked.append(name) or []  # type: ignore[func-returns-value]

    def chargeable(*, limit: int) -> Chargeable:
        asked.append("c")
        return Chargeable(0, *[array(())] * 4)

    monkeypatch.setattr("provisioner.facade.chargeable", chargeable)
    monkeypatch.setattr("billing.facade.exhausted", ask("f"))
    turn("stop_charging")
    before = held("charge")
    assert (charging.charge(), charging.funds(), asked) == (0, 0, [])
    assert held("charge") == before + 1
    turn("stop_charging", on=False)
    charging.charge()
    charging.funds()
    assert asked == ["c", "f"]


def held(what: str) -> float:
    return float(switches.HELD.labels("stop_charging", what)._value.get())


# --- read_only --------------------------------------------------------------------------------

_GO_ON = {"POST session", "DELETE session", "POST staff/switches"}


@pytest.mark.parametrize(
    "operation",
    [found for found in operations() if found.method != "GET" and str(found) not in _GO_ON],
    ids=str,
)
def test_every_change_of_the_api_is_refused(db: None, operation: Any) -> None:
    caller = people.anonymous() if operation.public else fit(operation)
    turn("read_only")
    answer = caller.call(operation.method, operation.at("x"), {})
    assert (answer.status_code, answer.data["type"]) == (503, "/problems/read_only")
    assert answer["Retry-After"] == "60"
    assert "We look into it." in answer.data["detail"]


def test_reads_go_on_and_what_was_answered_is_answered_again(db: None) -> None:
    owner = people.owner()
    made = owner.post("projects", {"name": "One"}, Idempotency_Key="k-1")
    turn("read_only")
    assert owner.get("projects").status_code == 200
    replay = owner.post("projects", {"name": "One"}, Idempotency_Key="k-1")
    assert (replay.status_code, replay.content) == (201, made.content)
    assert owner.post("projects", {"name": "Two"}).status_code == 503
    reused = owner.post("projects", {"name": "Two"}, Idempotency_Key="k-1")
    assert reused.data["type"] == "/problems/idempotency_key_reuse"
    assert Project.objects.filter(name="Two").count() == 0


def test_staff_can_turn_it_off_again(staff: Api) -> None:
    turn("read_only")
    assert staff.post("staff/switches", {"name": "read_only", "on": False}).status_code == 200
    switches.forget()
    assert staff.post("api-keys", {"name": "x", "scopes": ["account:read"]}).status_code == 201


def test_pages_show_and_refuse_with_the_reason(db: None) -> None:
    client = Client()
    user = people.sign_up("ada@example.com")
    turn("read_only")
    entered = client.post("/sign-in", {"email": user.email, "password": people.PASSWORD})
    assert entered.status_code in {302, 303}
    assert client.get("/rentals").status_code == 200
    refused = client.post("/billing/topups", {"amount": "25", "idempotency_key": "k"})
    assert refused.status_code == 503
    assert b"We look into it." in refused.content
    assert (refused["Retry-After"], refused["Cache-Control"]) == ("60", "no-store")
    assert client.post("/sign-up", {"email": "b@example.com"}).status_code == 503
    unsigned = client.post("/webhooks/stripe", b"{}", content_type="application/json")
    assert unsigned.status_code == 400, "Stripe is heard: it was the signature that was wrong"
    assert client.post("/sign-out").status_code in {302, 303}


# --- within five seconds ----------------------------------------------------------------------

_LOOK = """
import sys, time
import django
django.setup()
from marketplace.accounts import switches
print("reading", switches.note_of("read_only"), flush=True)
sys.stdin.readline()
began = time.monotonic()
while switches.note_of("read_only") is None and time.monotonic() - began < 30:
    time.sleep(0.05)
print(time.monotonic() - began, switches.note_of("read_only"), flush=True)
"""


@pytest.mark.django_db(transaction=True)
def test_another_process_obeys_within_five_seconds(database_url: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", _LOOK],
        env={**os.environ, "DATABASE_URL": database_url},
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline().strip() == "reading None"
        turn("read_only")
        other.stdin.write("\n")
        other.stdin.flush()
        seconds, note = other.stdout.readline().split(maxsplit=1)
        assert note.strip() == "We look into it."
        assert float(seconds) < 5


def test_what_was_read_is_kept_for_two_seconds_and_no_longer(
    db: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(switches, "CACHED_S", KEPT_S)
    assert switches.active() == ()
    Switch.objects.create(name="read_only", note="x.", on_by="console")
    clock[0] += 1.9
    assert switches.active() == ()
    clock[0] += 0.2
    assert [view.name for view in switches.active()] == ["read_only"]
