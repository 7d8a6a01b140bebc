"""Incidents: whom they touched, worked out by hand; given once, whatever is repeated or killed."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db.models import Sum

from billing import facade as billing
from billing.facade import incidents as door
from billing.models import IncidentCredit, Posting
from kernel.ids import public
from marketplace.models import AuditEntry, EmailToken, Incident, RentalEvent
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import incident_posting
from marketplace.rentals.incident_posting import post_due
from marketplace.rentals.outage import compensate
from marketplace.rentals.reconcile import reconcile
from provisioner.contracts import InstanceState as S
from provisioner.instances.meter import Closing
from provisioner.models import ReadyInterval
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock
from tests.market import USD, Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
__all__ = ["clock"]  # a fixture

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture
def staff(clock: Clock) -> Api:
    return people.api_of(people.staff())


def running(clock: Clock, renter: Renter, supply: Supply) -> World:
    clock.set(NOON - MINUTE)
    made = renter.call("POST", "/rentals", order(supply.offer, max_hours=48))
    assert made[0] == 202, made
    world = World(clock, renter, supply, f"/rentals/{made[1]['id']}")
    world.run(NOON)
    return world


def used_until(hours: float, *worlds: World) -> None:
    """All of them proven and charged until then, and the clock two hours later."""
    for world in worlds:
        world.seen(NOON + hours * HOUR)
    following.follow()
    charging.charge()
    worlds[0].clock.set(NOON + (hours + 2) * HOUR)


def incident(staff: Api, **changes: Any) -> str:
    body = {
        "title": "Slow network",
        "note": "A switch was replaced.",
        "cause": "platform",
        "basis": "whole",
        "percent": 50,
        "from_at": NOON.isoformat(),
        "to_at": (NOON + 2 * HOUR).isoformat(),
        **changes,
    }
    made = staff.post("staff/incidents", body)
    assert made.status_code == 201, made.content
    assert made.data["state"] == "draft"
    return f"staff/incidents/{made.data['id']}"


def degraded(world: World, reason: str, begin: float, end: float) -> None:
    """In minutes after noon; by a host's fault nothing is proven meanwhile."""
    at, back = NOON + begin * MINUTE, NOON + end * MINUTE
    world.seen(at)
    more: dict[str, Any] = {}
    if reason != "ssh_down":
        more["closing"] = Closing(at=at, good_until=at)
    world.step(S.DEGRADED, reason, at, **more)
    following.follow()
    proof = {"proof": {"devices": 1}, "pod_uid": "uid-1"} if more else {}
    world.step(S.READY, "ready", back, **proof)
    world.seen(back)
    following.follow()


def given() -> int:
    legs = Posting.objects.filter(txn__kind="incident_credit", account__kind="tenant")
    return legs.aggregate(total=Sum("amount_micro"))["total"] or 0


def mails() -> list[EmailToken]:
    rows = EmailToken.objects.filter(purpose=EmailToken.Purpose.MONEY, about__contains="incident")
    return list(rows.order_by("id"))


def test_all_of_the_time_of_those_who_ran_there_and_of_nobody_else(
    staff: Api, clock: Clock
) -> None:
    one, two = make_renter("One"), make_renter("Two")
    supply, other = make_supply(3), make_supply(1, region="us-east")
    worlds = [running(clock, one, supply), running(clock, one, supply), running(clock, two, supply)]
    elsewhere = running(clock, two, other)
    used_until(3, *worlds, elsewhere)
    path = incident(staff, clusters=[public("cluster", supply.cluster.pk)])
    seen = staff.get(f"{path}/preview").data
    # Two hours at 2 USD and 50 %, each.
    assert [row["amount"] for row in seen["rentals"]] == ["2.0000"] * 3
    assert [row["affected_seconds"] for row in seen["rentals"]] == [7200] * 3
    assert elsewhere.rental.public_id not in {row["rental"] for row in seen["rentals"]}
    assert [(row["name"], row["rentals"], row["amount"]) for row in seen["organizations"]] == [
        ("One", 2, "4.0000"),
        ("Two", 1, "2.0000"),
    ]
    assert (seen["total"], seen["by_platform"], seen["by_provider"]) == (
        "6.0000", "6.0000", "0.0000"
    )  # fmt: skip
    assert (given(), mails()) == (0, [])
    whole = staff.get(f"{incident(staff)}/preview").data
    assert len(whole["rentals"]) == 4
    before = billing.balance(org_ref=one.org).available_micro

    answer = staff.post(f"{path}/post")
    assert (answer.status_code, answer.data["state"], answer.data["total"]) == (
        202, "posting", "6.0000"
    )  # fmt: skip
    assert post_due() == 3
    assert (given(), post_due(), given()) == (6 * USD, 0, 6 * USD)
    assert billing.balance(org_ref=one.org).available_micro == before + 4 * USD
    assert staff.post(f"{path}/post").status_code == 409
    assert staff.get(path).data["state"] == "posted"
    told = {row.user_id: row.about for row in mails()}
    assert len(told) == len(mails()) == 2
    assert (
        "Slow network, 2026-03-01 12:00 to 2026-03-01 14:00 UTC: 4.0000 USD"
        in (told[one.principal.user.pk])
    )
    assert "our fault" in told[one.principal.user.pk]
    newest = one.call("GET", "/billing/transactions")[1]["items"][0]
    assert newest["text"] == "Credit for an incident: Slow network"
    events = RentalEvent.objects.filter(rental=worlds[0].rental, reason="incident_credit")
    assert [row.state for row in events] == ["running"]
    (own,) = one.call("GET", f"{worlds[0].path}/credits")[1]["items"]
    assert (own["title"], own["seconds"], own["amount"]) == ("Slow network", 7200, "2.0000")
    assert two.call("GET", f"{worlds[0].path}/credits")[0] == 404
    assert [row["posted"] for row in staff.get(f"{path}/preview").data["rentals"]] == ["2.0000"] * 3
    assert (reconcile(full=True), billing.books().balanced) == (0, True)
    done = AuditEntry.objects.filter(action__startswith="incident.").order_by("id")
    assert [row.action for row in done][-2:] == ["incident.order", "incident.post"]


def test_what_was_credited_as_an_outage_is_not_given_again(staff: Api, clock: Clock) -> None:
    renter, supply = make_renter(), make_supply(1)
    world = running(clock, renter, supply)
    degraded(world, "gpu_lost", 30, 75)
    used_until(3, world)
    path = incident(staff)
    (open_,) = staff.get(f"{path}/preview").data["rentals"]
    # The 45 minutes are the automatic credit's to give; what is left is 75 minutes at 50 %.
    assert (open_["amount"], open_["degraded_seconds"]) == ("1.2500", 2700)
    measured = incident(staff, basis="measured")
    assert staff.get(f"{measured}/preview").data["rentals"][0]["amount"] == "0.0000"
    assert compensate() == 1
    (row,) = staff.get(f"{path}/preview").data["rentals"]
    assert (row["affected_seconds"], row["credited_seconds"], row["seconds"]) == (7200, 2700, 4500)
    assert row["amount"] == "1.2500"
    assert staff.post(f"{measured}/post").status_code == 409  # it comes to nothing
    staff.post(f"{path}/post")
    post_due()
    assert given() == 1_250_000


def test_degraded_counts_unless_its_renter_made_it_so(staff: Api, clock: Clock) -> None:
    renter, supply = make_renter(), make_supply(2)
    hosts, renters = running(clock, renter, supply), running(clock, renter, supply)
    degraded(hosts, "gpu_lost", 30, 75)
    degraded(renters, "ssh_down", 80, 110)
    ReadyInterval.objects.update(interrupts=False)  # nobody credited it
    used_until(3, hosts, renters)
    path = incident(staff, basis="measured", percent=100)
    (row,) = staff.get(f"{path}/preview").data["rentals"]
    assert row["rental"] == hosts.rental.public_id
    assert (row["degraded_seconds"], row["amount"]) == (2700, "1.5000")


def test_a_hosts_fault_is_its_owners_to_pay_up_to_a_days_earnings(staff: Api, clock: Clock) -> None:
    renter, supply = make_renter(), make_supply(1)
    world = running(clock, renter, supply)
    used_until(3, world)
    path = incident(
        staff,
        cause="host",
        provider=supply.provider.public_id,
        percent=100,
        from_at=(NOON + HOUR).isoformat(),
        to_at=(NOON + 3 * HOUR).isoformat(),
    )
    seen = staff.get(f"{path}/preview").data
    # 4 USD; in the hour before it the rental brought its owner 1.70.
    assert (seen["total"], seen["by_provider"], seen["by_platform"]) == (
        "4.0000", "1.7000", "2.3000"
    )  # fmt: skip


def test_a_crash_between_batches_doubles_nothing_and_loses_nothing(
    staff: Api, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = make_renter("One"), make_renter("Two")
    supply = make_supply(3)
    worlds = [running(clock, one, supply), running(clock, one, supply), running(clock, two, supply)]
    used_until(3, *worlds)
    path = incident(staff)
    staff.post(f"{path}/post")
    monkeypatch.setattr(incident_posting, "BATCH", 1)
    booked = door.credit
    calls: list[int] = []

    def dies(**given: Any) -> Any:
        calls.append(1)
        answer = booked(**given)
        if len(calls) in (2, 4):
            raise MemoryError("killed after booking, before the commit")
        return answer

    monkeypatch.setattr(door, "credit", dies)
    for _ in range(2):
        with pytest.raises(MemoryError):
            post_due()
    assert (IncidentCredit.objects.count(), staff.get(path).data["state"]) == (2, "posting")
    post_due()
    assert (given(), len(mails()), staff.get(path).data["state"]) == (6 * USD, 2, "posted")
    assert len(calls) == 5
    assert billing.books().balanced


def test_above_the_limit_another_person_has_to_agree(
    staff: Api, clock: Clock, settings: Any
) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 3 * USD
    world = running(clock, make_renter(), make_supply(1))
    used_until(3, world)
    small = incident(staff)
    assert staff.post(f"{small}/post").data["state"] == "posting"
    # Together with what the same person ordered in a day it is above the limit.
    path = incident(staff, from_at=(NOON + HOUR).isoformat(), to_at=(NOON + 3 * HOUR).isoformat())
    assert staff.post(f"{path}/post").data["state"] == "waiting"
    assert post_due() == 1
    refused = staff.post(f"{path}/post")
    assert (refused.status_code, refused.data["type"]) == (409, "/problems/invalid_transition")
    assert "only member" in refused.data["detail"]
    other = people.api_of(people.staff())
    assert "another member" in staff.post(f"{path}/post").data["detail"]
    assert other.post(f"{path}/post").data["state"] == "posting"
    post_due()
    # The hour from one to two was given by the first: of the 2 USD that were agreed to, 1 is left.
    assert [row["posted"] for row in other.get(f"{path}/preview").data["rentals"]] == ["1.0000"]
    assert given() == 3 * USD


def test_whoever_is_alone_carries_it_out_a_day_later(
    staff: Api, clock: Clock, settings: Any
) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    world = running(clock, make_renter(), make_supply(1))
    used_until(3, world)
    path = incident(staff)
    staff.post(f"{path}/post")
    assert staff.post(f"{path}/post").status_code == 409
    clock.set(NOON + 30 * HOUR)
    answer = staff.post(f"{path}/post")
    assert (answer.status_code, answer.data["state"], answer.data["alone"]) == (
        202,
        "posting",
        True,
    )


def test_withdrawn_it_is_never_given(staff: Api, clock: Clock, settings: Any) -> None:
    settings.GPUYARD_SECOND_PERSON_ABOVE = 0
    world = running(clock, make_renter(), make_supply(1))
    used_until(3, world)
    path = incident(staff)
    staff.post(f"{path}/post")
    gone = staff.post(f"{path}/withdraw", {"reason": "it was planned"})
    assert (gone.data["state"], gone.data["actions"]) == ("withdrawn", [])
    assert staff.post(f"{path}/post").status_code == 409
    assert (post_due(), given()) == (0, 0)
    assert staff.post(f"{path}/withdraw", {"reason": "once more"}).status_code == 409


def test_not_before_its_last_proofs_are_in(staff: Api, clock: Clock) -> None:
    world = running(clock, make_renter(), make_supply(1))
    used_until(3, world)
    clock.set(NOON + 3 * HOUR - timedelta(seconds=1))
    path = incident(staff)
    refused = staff.post(f"{path}/post")
    assert (refused.status_code, refused.data["state"]) == (409, "draft")
    assert "2026-03-01 15:00" in refused.data["detail"]
    clock.set(NOON + 3 * HOUR)
    assert staff.post(f"{path}/post").status_code == 202


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"cause": "host"}, "cause"),
        ({"percent": 0}, "percent"),
        ({"percent": 101}, "percent"),
        ({"title": "x"}, "title"),
        ({"to_at": NOON.isoformat()}, "to_at"),
        ({"to_at": (NOON + 5 * HOUR).isoformat()}, "to_at"),
        ({"from_at": (NOON - timedelta(days=32)).isoformat()}, "to_at"),
    ],
)
def test_a_wrong_incident_is_refused(
    staff: Api, clock: Clock, change: dict[str, Any], field: str
) -> None:
    clock.set(NOON + 4 * HOUR)
    body = {
        "title": "Slow network",
        "cause": "platform",
        "from_at": NOON.isoformat(),
        "to_at": (NOON + 2 * HOUR).isoformat(),
        **change,
    }
    answer = staff.post("staff/incidents", body)
    assert (answer.status_code, list(answer.data["errors"])) == (422, [field])
    assert not Incident.objects.exists()
