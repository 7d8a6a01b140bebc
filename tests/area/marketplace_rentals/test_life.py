"""From placed to terminated: events become states, proven seconds become money, once each.

Instances are moved by the provisioner's own move(); its clock is set, so hours pass at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from django.db import connection, transaction

from billing import facade as billing
from kernel.ids import parse
from marketplace.models import Rental, RentalEvent, WebhookEvent
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import notice as noticing
from marketplace.rentals import read, stop, timeline
from marketplace.rentals.reasons import REASONS
from marketplace.rentals.state import MOVES
from provisioner import facade as provisioner
from provisioner.contracts import InstanceState as S
from provisioner.instances import meter, release
from provisioner.instances.move import move
from provisioner.instances.reasons import REASONS as INSTANCE_REASONS
from provisioner.instances.state import MOVES as INSTANCE_MOVES
from provisioner.inventory.summary import refresh
from provisioner.models import Hold, Instance, ReadyInterval
from tests.market import USD, Renter, Supply, add_credit, make_renter, make_supply, observe, order

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


class Clock:
    """The platform's clock of this connection."""

    def set(self, moment: datetime) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [moment.isoformat()])


@pytest.fixture
def clock(db: None) -> Clock:
    """At noon; the rollback after the test puts the real one back."""
    clock = Clock()
    clock.set(NOON)
    return clock


@dataclass
class World:
    """One rental and the hands that move its machine."""

    clock: Clock
    renter: Renter
    supply: Supply
    path: str

    @property
    def rental(self) -> Rental:
        return Rental.objects.get(id=parse("rental", self.path.rsplit("/", 1)[-1]))

    @property
    def instance(self) -> Instance:
        return Instance.objects.get(rental_ref=self.rental.id)

    def show(self) -> dict[str, Any]:
        status, body = self.renter.call("GET", self.path)
        assert status == 200
        return dict(body)

    def step(self, to: S, reason: str, at: datetime, **more: Any) -> None:
        self.clock.set(at)
        assert move(self.instance, to=to, reason=reason, at=at, **more)

    def run(self, at: datetime = NOON) -> None:
        """Up to ready at ``at``."""
        for state, reason in (
            (S.CREATING, "creating"), (S.PULLING, "pulling"), (S.STARTING, "starting")
        ):  # fmt: skip
            self.step(state, reason, at)
        self.step(S.READY, "ready", at, proof={"devices": 1}, pod_uid="uid-1")
        self.seen(at)

    def seen(self, at: datetime) -> None:
        """A positive observation of the cluster at ``at``."""
        self.clock.set(at)
        observe(self.supply.cluster)

    def gone(self, at: datetime) -> None:
        """The pod was deleted unchanged and then observed absent."""
        self.clock.set(at)
        meter.confirm(self.instance.pk, unchanged=True)
        assert release.finish(self.instance, at=at, claim=None)


@pytest.fixture
def world(clock: Clock) -> World:
    renter, supply = make_renter(), make_supply(2, relay=True)
    rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=48))[1]
    return World(clock, renter, supply, f"/rentals/{rental['id']}")


def test_events_become_states_with_their_reasons_in_order(world):
    world.run()
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("running", "ready")
    assert shown["ready_at"] == "2026-03-01T12:00:00Z"
    assert shown["continuing_charges"]["per_hour"] == "2.0000"
    events = world.renter.call("GET", f"{world.path}/events")[1]["items"]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5]
    assert [event["state"] for event in events] == [
        "provisioning", "provisioning", "pulling", "starting", "running"
    ]  # fmt: skip
    assert provisioner.behind(limit=10) == []


def test_hours_are_settled_at_their_end_and_the_rest_at_the_end(world):
    world.run(NOON + timedelta(minutes=50, milliseconds=300))
    following.follow()
    world.seen(NOON + timedelta(minutes=59, seconds=59))
    assert charging.charge() == 0
    world.seen(NOON + timedelta(minutes=61))
    assert charging.charge() == 1
    world.seen(NOON + timedelta(hours=3, minutes=5))
    assert charging.charge() == 2  # 13 and 14 o'clock; the fourth hour is not over
    world.clock.set(NOON + timedelta(hours=3, minutes=6, milliseconds=900))
    assert world.renter.call("DELETE", world.path)[0] == 202
    world.gone(NOON + timedelta(hours=3, minutes=6, seconds=2))
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("terminated", "terminated_by_user")
    charges = world.renter.call("GET", f"{world.path}/charges")[1]["items"]
    # Up from 12:50:00.3 and down to 15:06:00.9: whole seconds, in hours, without a gap.
    assert [(line["from"][11:19], line["to"][11:19]) for line in charges] == [
        ("12:50:01", "13:00:00"),
        ("13:00:00", "14:00:00"),
        ("14:00:00", "15:00:00"),
        ("15:00:00", "15:06:00"),
    ]
    seconds = sum(line["seconds"] for line in charges)
    assert billing.spent(rental_refs=[world.rental.id])[world.rental.id] == (
        2 * USD * seconds // 3600
    )
    assert world.rental.settled_at is not None
    assert world.renter.call("GET", "/billing/balance")[1]["held"] in ("0.00", "0.0000")
    proof = world.renter.call("GET", f"/charges/{charges[0]['id']}/evidence")[1]
    assert proof["pod_uid"] == "uid-1"
    assert len(proof["observations"]) >= 2


def test_a_rental_is_not_shown_as_ended_before_its_seconds_are_charged(world):
    world.run()
    following.follow()
    world.seen(NOON + timedelta(minutes=10))
    world.renter.call("DELETE", world.path)
    world.gone(NOON + timedelta(minutes=10, seconds=1))
    with patch.object(following, "charge", return_value=0):
        following.follow()
    assert world.show()["state"] == "terminating"
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["spent"]) == ("terminated", "0.333333")


def test_a_hold_is_kept_as_long_as_a_second_is_uncharged(world):
    world.run()
    following.follow()
    world.seen(NOON + timedelta(minutes=10))
    world.renter.call("DELETE", world.path)
    world.gone(NOON + timedelta(minutes=10, seconds=1))
    following.follow()
    ReadyInterval.objects.update(settled=False)
    Rental.objects.update(settled_at=None)
    assert charging.settle() == 0
    ReadyInterval.objects.update(settled=True)
    assert charging.settle() == 1


def test_no_second_after_the_acknowledged_stop_is_charged(world, monkeypatch):
    """The transaction may take a while between the two; the renter was told the earlier time."""
    world.run()
    following.follow()
    asked = NOON + timedelta(minutes=10, milliseconds=900)
    world.seen(asked)

    def slow(*given: Any, **named: Any) -> None:
        timeline.move(*given, **named)
        world.clock.set(asked + timedelta(seconds=2))

    monkeypatch.setattr(stop, "move", slow)
    rental = world.renter.call("POST", f"{world.path}/actions", {"action": "stop"})[1]
    assert rental["stop_ack_at"] == "2026-03-01T12:10:00.900000Z"
    world.gone(NOON + timedelta(minutes=11))
    following.follow()
    (line,) = billing.charges(rental_ref=world.rental.id)
    assert line.to_at == NOON + timedelta(minutes=10)


def test_the_meter_stops_at_the_request_and_nothing_before_ready_is_charged(world):
    world.run(NOON + timedelta(minutes=30))
    following.follow()
    stopped_at = NOON + timedelta(minutes=40)
    world.seen(stopped_at)
    rental = world.renter.call("DELETE", world.path)[1]
    assert (rental["state"], rental["stop_ack_at"]) == ("terminating", "2026-03-01T12:40:00Z")
    assert rental["continuing_charges"] == {"per_hour": "0.0000", "currency": "USD", "items": []}
    world.seen(NOON + timedelta(minutes=55))
    world.gone(NOON + timedelta(minutes=56))
    following.follow()
    lines = billing.charges(rental_ref=world.rental.id)
    assert [(line.from_at, line.to_at) for line in lines] == [
        (NOON + timedelta(minutes=30), stopped_at)
    ]


def test_following_twice_or_from_any_crash_changes_nothing(world):
    world.run()
    world.seen(NOON + timedelta(minutes=5))

    class Killed(BaseException):
        """The process dies here: nothing after this line runs."""

    def events() -> list[tuple[int, str]]:
        return list(RentalEvent.objects.order_by("seq").values_list("seq", "reason"))

    steps = ["provisioner.take_events", "provisioner.ack_events", "billing.meter_started"]
    for name in steps:
        before = (events(), world.rental.version)
        area, function = name.split(".")
        module = provisioner if area == "provisioner" else billing
        with patch.object(module, function, side_effect=Killed), pytest.raises(Killed):
            following.follow()
        assert (events(), world.rental.version) == before, name
    following.follow()
    after = (events(), world.rental.version)
    assert [reason for _, reason in after[0]] == [
        "placed", "creating", "pulling", "starting", "ready"
    ]  # fmt: skip
    following.follow()
    assert (events(), world.rental.version) == after


def test_charging_from_any_crash_charges_each_second_once(world):
    world.run()
    following.follow()
    world.seen(NOON + timedelta(minutes=20))
    world.renter.call("DELETE", world.path)
    world.gone(NOON + timedelta(minutes=20, seconds=1))

    class Killed(BaseException):
        """The process dies here."""

    for module, name in (
        (provisioner, "chargeable"),
        (billing, "post_usage"),
        (provisioner, "ack_charged"),
    ):
        real = getattr(module, name)

        def dies(*args: Any, _real: Any = real, **kwargs: Any) -> None:
            _real(*args, **kwargs)  # the effect happens, the commit does not
            raise Killed

        with patch.object(module, name, dies), pytest.raises(Killed):
            charging.charge()
        assert billing.charges(rental_ref=world.rental.id) == []
    assert charging.charge() == 1
    assert charging.charge() == 0
    following.follow()
    Rental.objects.update(settled_at=None)
    with patch.object(billing, "end_rental", side_effect=Killed), pytest.raises(Killed):
        charging.settle()
    assert world.rental.settled_at is None
    assert charging.settle() == 1
    assert charging.settle() == 0
    assert [line.seconds for line in billing.charges(rental_ref=world.rental.id)] == [1200]


def test_a_machine_that_never_came_up_fails_costs_nothing_and_returns_its_hold(world):
    world.step(S.CREATING, "creating", NOON)
    row = world.instance
    with transaction.atomic():
        release.end(row, reason="image_not_found", fault=None, at=NOON + timedelta(seconds=5))
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"], shown["fault"]) == (
        "provisioning", "image_not_found", "renter"
    )  # fmt: skip
    assert release.finish(world.instance, at=NOON + timedelta(seconds=9), claim=None)
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"], shown["spent"]) == (
        "failed", "image_not_found", "0.0000"
    )  # fmt: skip
    assert shown["actions"] == ["extend", "retry", "terminate"]
    assert not Hold.objects.filter(to_ts=None).exists()
    assert world.rental.settled_at is not None
    shown = world.renter.call("DELETE", world.path)[1]
    assert (shown["state"], shown["actions"]) == ("terminated", [])


def test_a_blind_gap_is_shown_and_not_charged(world):
    world.run()
    following.follow()
    lost, back = NOON + timedelta(minutes=10), NOON + timedelta(minutes=25)
    world.seen(lost)
    closing = meter.closing_at_last_proof(world.instance)
    world.step(S.UNREACHABLE, "cluster_unreachable", lost + timedelta(minutes=1), closing=closing)
    following.follow()
    assert world.show()["state"] == "unreachable"
    assert world.renter.call("GET", "/billing/balance")[1]["funds_end_at"] is None
    world.step(S.READY, "recovered", back, proof={"devices": 1})
    following.follow()
    assert world.show()["state"] == "running"
    world.seen(back + timedelta(minutes=5))
    world.renter.call("DELETE", world.path)
    world.gone(back + timedelta(minutes=6))
    following.follow()
    assert sum(line.seconds for line in billing.charges(rental_ref=world.rental.id)) == 900


def test_the_end_date_ends_it(world):
    world.run()
    following.follow()
    status, shown = world.renter.call(
        "PATCH", world.path, {"expires_at": "2026-03-01T13:00:00Z", "name": "short"}
    )
    assert (status, shown["name"], shown["expires_at"]) == (200, "short", "2026-03-01T13:00:00Z")
    world.seen(NOON + timedelta(minutes=59))
    following.follow()
    assert world.show()["state"] == "running"
    world.seen(NOON + timedelta(minutes=60))
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("terminating", "end_date")
    assert world.instance.desired == "end"
    world.gone(NOON + timedelta(minutes=61))
    following.follow()
    assert (world.show()["state"], world.show()["reason"]) == ("terminated", "end_date")


def test_it_stops_when_nothing_pays_it_any_more(clock):
    renter, supply = make_renter(credit=3 * USD), make_supply(1)
    rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=400))[1]
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run()
    following.follow()
    for minutes, told in ((59, 0), (61, 0), (79, 0), (80, 1), (89, 0)):
        world.seen(NOON + timedelta(minutes=minutes))
        charging.charge()
        assert charging.funds() == 0, minutes
        assert noticing.announce() == told, minutes
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("interrupting", "funds")
    assert shown["interrupt_at"] == "2026-03-01T13:30:00Z"
    assert shown["continuing_charges"]["per_hour"] == "2.0000"
    world.seen(NOON + timedelta(minutes=90))
    assert charging.funds() == 1
    shown = world.show()
    assert (shown["state"], shown["reason"], shown["fault"]) == ("stopping", "funds", "funds")
    assert charging.funds() == 0
    world.gone(NOON + timedelta(minutes=90, seconds=2))
    following.follow()
    shown = world.show()
    assert (shown["state"], shown["spent"]) == ("stopped", "3.0000")
    world.clock.set(NOON + timedelta(minutes=91))
    release.recycle()
    refresh()
    status, problem = renter.call("POST", f"{world.path}/actions", {"action": "start"})
    assert (status, problem["type"]) == (402, "/problems/insufficient_funds")
    assert world.show() == shown
    balance = renter.call("GET", "/billing/balance")[1]
    assert float(balance["available"]) == float(balance["held"]) == 0


def test_a_top_up_in_time_withdraws_the_notice(clock):
    renter, supply = make_renter(credit=3 * USD), make_supply(1)
    rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=48))[1]
    world = World(clock, renter, supply, f"/rentals/{rental['id']}")
    world.run()
    following.follow()
    world.seen(NOON + timedelta(minutes=85))
    charging.charge()
    assert noticing.announce() == 1
    assert noticing.announce() == 0
    add_credit(renter.org, 10 * USD)
    assert noticing.announce() == 1
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("running", "notice_withdrawn")
    assert shown["interrupt_at"] is None


def test_the_end_date_is_announced_and_moving_it_withdraws_that(world):
    hook = {"url": "https://93.184.215.14/hook", "event_types": ["notice.*"]}
    assert world.renter.call("POST", "/webhooks", hook)[0] == 201
    world.run()
    following.follow()
    end = NOON + timedelta(hours=2)
    world.renter.call("PATCH", world.path, {"expires_at": end.isoformat()})
    for minutes, state in ((109, "running"), (110, "interrupting")):
        world.seen(NOON + timedelta(minutes=minutes))
        noticing.announce()
        assert world.show()["state"] == state
    assert world.show()["interrupt_at"] == "2026-03-01T14:00:00Z"
    (told,) = WebhookEvent.objects.all()
    assert told.type == "notice.end_date"
    body = {"action": "extend", "hours": "1.5"}
    status, shown = world.renter.call("POST", f"{world.path}/actions", body)
    assert (status, shown["state"], shown["expires_at"]) == (202, "running", "2026-03-01T15:30:00Z")


def test_a_lock_keeps_its_people_from_stopping_it_and_nothing_else(world):
    assert world.renter.call("PATCH", world.path, {"lock": True})[1]["lock"] is True
    before = world.show()
    assert before["actions"] == ["extend"]
    for call in (
        ("DELETE", world.path, None),
        ("POST", f"{world.path}/actions", {"action": "terminate"}),
        ("POST", f"{world.path}/actions", {"action": "stop"}),
    ):
        status, problem = world.renter.call(*call)
        assert (status, problem["type"]) == (423, "/problems/locked")
    assert world.show() == before
    world.clock.set(NOON + timedelta(hours=49))
    following.expire()
    assert world.show()["reason"] == "end_date"


def test_versions_guard_changes(world):
    shown = world.show()
    status, problem = world.renter.call(
        "PATCH", world.path, {"name": "x"}, If_Match=f'"{shown["version"] + 1}"'
    )
    assert (status, problem["type"]) == (412, "/problems/version_conflict")
    status, changed = world.renter.call(
        "PATCH", world.path, {"labels": {"team": "a"}}, If_Match=f'"{shown["version"]}"'
    )
    assert (status, changed["version"]) == (200, shown["version"] + 1)
    for label, count in (("team=a", 1), ("team=b", 0), ("team", 1), ("crew", 0)):
        page = world.renter.call("GET", f"/rentals?label={label}")[1]
        assert len(page["items"]) == count, label
    assert world.renter.call("DELETE", world.path, If_Match='"99"')[0] == 412
    assert world.show()["state"] == "provisioning"


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""},
        {"expires_at": "2020-01-01T00:00:00Z"},
        {"expires_at": None},
        {"labels": {"": "x"}},
        {"ports": [22022]},
        {"lock": "yes"},
        {"idle_stop_minutes": 5},
        {"gpus": 2},
    ],
)
def test_what_cannot_be_changed_is_said(world, body):
    before = world.show()
    status, problem = world.renter.call("PATCH", world.path, body)
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    assert world.show() == before


def test_actions_not_possible_name_those_that_are(world):
    for action in ("start", "restart", "retry"):
        status, problem = world.renter.call("POST", f"{world.path}/actions", {"action": action})
        assert (status, problem["type"]) == (409, "/problems/invalid_transition")
        assert problem["state"] == "provisioning"
        assert problem["actions"] == ["extend", "stop", "terminate"]
    assert world.renter.call("POST", f"{world.path}/actions", {"action": "fly"})[0] == 422


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "extend"}, "expires_at"),
        ({"action": "extend", "hours": "1", "expires_at": "2030-01-01T00:00:00Z"}, "expires_at"),
        ({"action": "extend", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at"),
        ({"action": "stop", "hours": "1"}, "hours"),
        ({"action": "terminate", "queue": {"deadline_seconds": 60}}, "queue"),
    ],
)
def test_an_action_with_what_does_not_belong_to_it_changes_nothing(world, body, field):
    before = world.show()
    status, problem = world.renter.call("POST", f"{world.path}/actions", body)
    assert (status, problem["type"]) == (422, "/problems/invalid_request")
    assert field in problem["errors"]
    assert world.show() == before


def test_terminate_repeats_harmlessly_through_both_doors(world):
    first = world.renter.call("DELETE", world.path)[1]
    again = world.renter.call("DELETE", world.path)[1]
    third = world.renter.call("POST", f"{world.path}/actions", {"action": "terminate"})[1]
    assert first == again == third
    world.clock.set(NOON + timedelta(minutes=1))
    with transaction.atomic():
        assert release.finish(world.instance, at=NOON + timedelta(minutes=1), claim=None)
    following.follow()
    final = world.renter.call("DELETE", world.path)
    assert (final[0], final[1]["state"]) == (202, "terminated")


def test_waiting_for_a_state_answers_when_it_is_there_or_can_never_be(world):
    principal = world.renter.principal
    identifier = world.path.rsplit("/", 1)[-1]
    looks = []

    def pause(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 2:
            world.run()
            following.follow()

    rental = read.wait_for(principal, identifier, "running", 30, pause=pause)
    assert (rental.state, len(looks)) == ("running", 2)
    assert read.wait_for(principal, identifier, "stopped", 0).state == "running"
    status, _ = world.renter.call("GET", f"{world.path}?wait_state=flying")
    assert status == 400
    assert world.renter.call("GET", f"{world.path}?wait_state=running&timeout=61")[0] == 400


def test_waiters_never_take_the_whole_process(world):
    taken = 0
    while read._waiting.acquire(blocking=False):
        taken += 1
    try:
        paused: list[float] = []
        found = read.wait_for(
            world.renter.principal, world.path.rsplit("/", 1)[-1], "running", 60,
            pause=paused.append,
        )  # fmt: skip
    finally:
        read._waiting.release(taken)
    assert (taken, found.state, paused) == (8, "provisioning", [])


def test_every_reason_and_move_of_an_instance_has_its_place_here():
    assert set(INSTANCE_REASONS) <= set(REASONS)
    shown = following._SHOWN_AS
    for source, targets in INSTANCE_MOVES.items():
        for target in targets - {S.STOPPING, S.GONE}:
            if shown[source] != shown[target]:
                assert shown[target] in MOVES[shown[source]], (source, target)
