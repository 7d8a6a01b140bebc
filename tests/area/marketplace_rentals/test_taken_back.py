"""Cards that their owner takes back: windows, end dates, maintenance, stop-now, abuse."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from billing import facade as billing
from kernel.clock import now
from kernel.ids import public
from kernel.text import rfc3339
from marketplace.accounts.access import Principal, principal_of
from marketplace.catalog import opening
from marketplace.models import EmailToken, Maintenance, Offer, Rental, RentalEvent, WebhookEvent
from marketplace.rentals import abuse, host, taken_back
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from provisioner.models import Instance, NodeShare
from tests.area.marketplace_rentals.test_life import NOON, World, clock, world  # noqa: F401
from tests.market import Supply, add_node, make_renter, make_supply, order, public_get

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
EVENINGS = {
    "timezone": "UTC",
    "weekly": [
        {
            "days": ["mon", "tue", "wed", "thu", "fri", "sat", "sun"],
            "from": "11:00",
            "to": "20:00",
        }
    ],
}


def set_offer(supply: Supply, **changes: Any) -> tuple[int, Any]:
    return supply.owner.call("PATCH", f"/provider/offers/{supply.offer.public_id}", changes)


def announce(supply: Supply, **changes: Any) -> tuple[int, Any]:
    asked = {
        "cluster": public("cluster", supply.cluster.pk),
        "starts_at": rfc3339(NOON + 50 * HOUR),
        "ends_at": rfc3339(NOON + 54 * HOUR),
        **changes,
    }
    return supply.owner.call("POST", "/provider/maintenance", asked)


def running(world: World) -> World:  # noqa: F811
    world.run()
    following.follow()
    assert world.rental.state == "running"
    return world


def texts(rental: Rental, reason: str) -> list[str]:
    rows = RentalEvent.objects.filter(rental=rental, reason=reason).order_by("seq")
    return list(rows.values_list("text", flat=True))


@pytest.fixture
def evenings(clock) -> Supply:  # noqa: F811
    supply = make_supply(4)
    status, shown = set_offer(supply, windows=EVENINGS)
    assert status == 200, shown
    assert (shown["opens_at"], shown["closes_at"]) == (None, "2026-03-01T20:00:00Z")
    return supply


# --- windows and end dates ------------------------------------------------------------------------


def test_outside_its_windows_an_offer_is_not_sold(evenings, clock) -> None:  # noqa: F811
    renter = make_renter()
    row = public_get("/offers")[1]["items"][0]
    assert row["available_until"] == "2026-03-01T20:00:00Z"
    clock.set(NOON + 8 * HOUR)
    opening.advance()
    assert public_get("/offers")[1]["items"] == []
    assert public_get(f"/offers/{evenings.offer.public_id}")[1]["gpus_available"] == 0
    status, problem = renter.call("POST", "/rentals", order(evenings.offer))
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    shown = evenings.owner.call("GET", "/provider/offers")[1]["items"][0]
    assert shown["listed"] is False
    assert shown["opens_at"] == "2026-03-02T11:00:00Z"
    assert "2026-03-02T11:00:00Z" in shown["reason"]
    clock.set(NOON + 24 * HOUR)
    assert renter.call("POST", "/rentals", order(evenings.offer))[0] == 202


def test_in_the_last_minutes_nobody_is_placed(evenings, clock) -> None:  # noqa: F811
    clock.set(NOON + 8 * HOUR - timedelta(minutes=15))
    assert public_get("/offers")[1]["items"] == []


def test_an_order_goes_only_where_it_can_end(evenings, clock) -> None:  # noqa: F811
    renter = make_renter()
    status, problem = renter.call("POST", "/rentals", order(evenings.offer, max_hours=9))
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    change = problem["relaxations"][0]["changes"][0]
    assert change == {"field": "min_hours", "from": "9", "to": "8"}
    endless = order(evenings.offer, max_hours=..., no_limit=True)
    assert renter.call("POST", "/rentals", endless)[0] == 409
    status, rental = renter.call("POST", "/rentals", order(evenings.offer, max_hours=7))
    assert (status, rental["contract_ends_at"]) == (202, "2026-03-01T20:00:00Z")
    hours = "min_hours=7.5"
    assert len(public_get(f"/offers?{hours}")[1]["items"]) == 1
    assert public_get("/offers?min_hours=8.01")[1]["items"] == []


def test_a_quote_says_until_when_and_holds_it(evenings, clock) -> None:  # noqa: F811
    renter = make_renter()
    asked = {"offer": evenings.offer.public_id, "gpus": 1}
    status, quote = renter.call("POST", "/quotes", asked)
    assert (status, quote["contract_ends_at"]) == (201, "2026-03-01T20:00:00Z")
    late = order(evenings.offer, requirement=..., quote=quote["id"], max_hours=9)
    status, problem = renter.call("POST", "/rentals", late)
    assert status == 422
    assert "2026-03-01T20:00:00Z" in problem["errors"]["expires_at"][0]
    # The owner closes earlier from now on: what was quoted stays.
    set_offer(evenings, ends_at=rfc3339(NOON + 2 * HOUR))
    taken = order(evenings.offer, requirement=..., quote=quote["id"], max_hours=..., no_limit=True)
    status, rental = renter.call("POST", "/rentals", taken)
    assert (status, rental["contract_ends_at"]) == (202, "2026-03-01T20:00:00Z")
    assert renter.call("POST", "/quotes", asked)[1]["contract_ends_at"] == "2026-03-01T14:00:00Z"
    path = f"/rentals/{rental['id']}"
    more = {"action": "extend", "expires_at": "2026-03-01T21:00:00Z"}
    assert renter.call("POST", f"{path}/actions", more)[0] == 422
    assert renter.call("PATCH", path, {"expires_at": "2026-03-01T21:00:00Z"})[0] == 422
    assert renter.call("PATCH", path, {"expires_at": "2026-03-01T19:00:00Z"})[0] == 200


def test_the_contract_ends_with_a_notice_and_keeps_data(world) -> None:  # noqa: F811
    running(world)
    Rental.objects.filter(id=world.rental.id).update(contract_ends_at=NOON + HOUR)
    world.seen(NOON + HOUR - timedelta(minutes=12))
    assert taken_back.sweep() == 0
    assert world.rental.state == "running"
    world.seen(NOON + HOUR - timedelta(minutes=10))
    taken_back.sweep()
    assert (world.rental.state, world.rental.reason) == ("interrupting", "contract_end")
    assert world.show()["interrupt_at"] == rfc3339(NOON + HOUR)
    world.seen(NOON + HOUR)
    assert taken_back.sweep() == 1
    assert (world.rental.state, world.rental.reason) == ("stopping", "contract_end")
    world.gone(NOON + HOUR)
    following.follow()
    assert world.rental.state == "stopped"
    charging.charge()
    assert billing.spent(rental_refs=[world.rental.id])[world.rental.id] == (
        world.rental.price_micro_h
    )


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"windows": "nights"}, "windows"),
        ({"windows": {"timezone": "Mars/Base", "weekly": []}}, "windows"),
        ({"ends_at": "2026-03-01T11:59:59Z"}, "ends_at"),
        ({"ends_at": "soon"}, "ends_at"),
    ],
)
def test_bad_times_are_refused_and_nothing_is_stored(clock, changes, field) -> None:  # noqa: F811
    supply = make_supply(1)
    status, problem = set_offer(supply, **changes)
    assert (status, list(problem["errors"])) == (422, [field])
    offer = supply.offer
    assert (offer.windows, offer.ends_at, offer.closes_at) == (None, None, None)
    assert set_offer(supply, windows=EVENINGS, ends_at="2026-03-05T00:00:00Z")[0] == 200
    shown = set_offer(supply, windows=None, ends_at=None)[1]
    assert (shown["windows"], shown["ends_at"], shown["closes_at"]) == (None, None, None)


# --- maintenance ----------------------------------------------------------------------------------


def test_maintenance_needs_its_notice_where_somebody_rents(world) -> None:  # noqa: F811
    running(world)
    status, problem = announce(world.supply, starts_at=rfc3339(NOON + 47 * HOUR))
    assert status == 422
    assert "stop-now" in problem["errors"]["starts_at"][0]
    assert not Maintenance.objects.exists()
    assert announce(make_supply(1, owner=world.supply.owner), starts_at=rfc3339(NOON + HOUR))[
        0
    ] == (201)


def test_who_is_there_is_told_once_and_stopped_in_time(world) -> None:  # noqa: F811
    running(world)
    status, made = announce(world.supply, note="New power supply")
    assert (status, made["state"], made["actions"]) == (201, "announced", ["withdraw"])
    for _ in range(2):
        taken_back.sweep()
    said = texts(world.rental, "maintenance")
    assert len(said) == 1
    assert "New power supply" in said[0]
    shown = world.show()
    assert (shown["state"], shown["maintenance_at"]) == ("running", rfc3339(NOON + 50 * HOUR))
    mails = EmailToken.objects.filter(
        user=world.renter.principal.user, about__contains="taken down"
    )
    assert mails.count() == 1
    world.seen(NOON + 50 * HOUR - timedelta(minutes=10))
    taken_back.sweep()
    assert (world.rental.state, world.rental.reason) == ("interrupting", "maintenance")
    world.seen(NOON + 50 * HOUR)
    assert taken_back.sweep() == 1
    assert (world.rental.state, world.rental.reason) == ("stopping", "maintenance")


def test_it_can_be_called_off(world) -> None:  # noqa: F811
    running(world)
    made = announce(world.supply)[1]
    world.seen(NOON + 50 * HOUR - timedelta(minutes=9))
    taken_back.sweep()
    assert world.rental.state == "interrupting"
    status, shown = world.supply.owner.call("DELETE", f"/provider/maintenance/{made['id']}")
    assert (status, shown["state"]) == (200, "withdrawn")
    taken_back.sweep()
    assert (world.rental.state, world.rental.maintenance_at) == ("running", None)
    assert world.supply.offer.closes_at is None
    assert world.supply.owner.call("DELETE", f"/provider/maintenance/{made['id']}")[0] == 200


def test_the_offer_of_the_cluster_closes_for_that_time(clock) -> None:  # noqa: F811
    supply, renter = make_supply(2), make_renter()
    announce(supply, starts_at=rfc3339(NOON + 5 * HOUR), ends_at=rfc3339(NOON + 7 * HOUR))
    assert public_get("/offers")[1]["items"][0]["available_until"] == rfc3339(NOON + 5 * HOUR)
    assert renter.call("POST", "/rentals", order(supply.offer, max_hours=6))[0] == 409
    assert renter.call("POST", "/rentals", order(supply.offer, max_hours=4))[0] == 202
    clock.set(NOON + 6 * HOUR)
    opening.advance()
    assert public_get("/offers")[1]["items"] == []
    clock.set(NOON + 7 * HOUR)
    assert len(public_get("/offers")[1]["items"]) == 1
    assert renter.call("POST", "/rentals", order(supply.offer, max_hours=6))[0] == 202


def test_of_one_node_the_others_are_rented(clock) -> None:  # noqa: F811
    supply, renter = make_supply(1), make_renter()
    other = add_node(supply.group, 1)
    share = NodeShare.objects.filter(group=supply.group).exclude(pk=other.pk).get()
    node = public("node", share.node_id)
    made = announce(supply, node=node, starts_at=rfc3339(NOON + 5 * HOUR), ends_at=None)[1]
    assert (made["node"], made["node_name"]) == (node, share.node.name)
    for hours, there in ((8, other.node_id), (4, share.node_id)):
        status, rental = renter.call("POST", "/rentals", order(supply.offer, max_hours=hours))
        assert status == 202
        placed = Instance.objects.latest("id")
        assert placed.share.node_id == there, rental


def test_a_foreign_node_or_cluster_is_not_found(clock) -> None:  # noqa: F811
    mine, theirs = make_supply(1), make_supply(1)
    share = NodeShare.objects.get(group=theirs.group)
    assert announce(mine, node=public("node", share.node_id))[0] == 404
    assert announce(mine, cluster=public("cluster", theirs.cluster.pk))[0] == 404
    made = announce(theirs)[1]
    assert mine.owner.call("GET", f"/provider/maintenance/{made['id']}")[0] == 404
    assert mine.owner.call("DELETE", f"/provider/maintenance/{made['id']}")[0] == 404
    assert mine.owner.call("GET", "/provider/maintenance")[1]["items"] == []


def test_ends_before_it_starts_is_refused(clock) -> None:  # noqa: F811
    supply = make_supply(1)
    status, problem = announce(supply, ends_at=rfc3339(NOON + 50 * HOUR))
    assert (status, list(problem["errors"])) == (422, ["ends_at"])
    status, problem = announce(supply, starts_at=rfc3339(NOON))
    assert (status, list(problem["errors"])) == (422, ["starts_at"])


# --- stop-now -------------------------------------------------------------------------------------


def test_an_owner_sees_what_concerns_its_hardware_and_nothing_else(world) -> None:  # noqa: F811
    running(world)
    rows = world.supply.owner.call("GET", "/provider/rentals")[1]["items"]
    assert [row["id"] for row in rows] == [world.rental.public_id]
    assert rows[0]["actions"] == ["stop-now"]
    shown = str(rows)
    for hidden in (world.rental.name, world.rental.image, "Acme", "ssh-ed25519"):
        assert hidden not in shown
    assert make_supply(1).owner.call("GET", "/provider/rentals")[1]["items"] == []


def test_stop_now_is_paid_up_to_the_second(world) -> None:  # noqa: F811
    running(world)
    world.seen(NOON + timedelta(minutes=30))
    path = f"/provider/rentals/{world.rental.public_id}/stop-now"
    status, shown = world.supply.owner.call("POST", path, {"reason": "maintenance", "text": "Fire"})
    assert (status, shown["state"], shown["reason"]) == (202, "stopping", "maintenance")
    assert "Fire" in texts(world.rental, "maintenance")[-1]
    world.seen(NOON + timedelta(minutes=45))
    world.gone(NOON + timedelta(minutes=46))
    following.follow()
    charging.charge()
    spent = billing.spent(rental_refs=[world.rental.id])[world.rental.id]
    assert spent == world.rental.price_micro_h // 2
    assert world.rental.state == "stopped"
    # Not for abuse: its renter starts it again as soon as cards are free.
    status, _ = world.renter.call("POST", f"{world.path}/actions", {"action": "start"})
    assert status == 202


def test_only_its_owner_stops_a_rental(world) -> None:  # noqa: F811
    running(world)
    path = f"/provider/rentals/{world.rental.public_id}/stop-now"
    stranger = make_supply(1).owner
    assert stranger.call("POST", path, {"reason": "maintenance"})[0] == 404
    assert world.renter.call("POST", path, {"reason": "maintenance"})[0] in (403, 404)
    status, problem = world.supply.owner.call("POST", path, {"reason": "boredom"})
    assert (status, list(problem["errors"])) == (422, ["reason"])
    assert world.rental.state == "running"


def test_a_whole_cluster_stops_at_once_and_stays_shut(world) -> None:  # noqa: F811
    running(world)
    cluster = public("cluster", world.supply.cluster.pk)
    path = f"/provider/clusters/{cluster}/stop-now"
    status, made = world.supply.owner.call("POST", path, {"reason": "maintenance"})
    assert (status, made["urgent"], made["state"]) == (202, True, "under_way")
    assert (world.rental.state, world.rental.stop_ack_at) == ("stopping", NOON)
    assert public_get("/offers")[1]["items"] == []
    again = order(world.supply.offer)
    assert world.renter.call("POST", "/rentals", again)[0] == 409
    world.supply.owner.call("DELETE", f"/provider/maintenance/{made['id']}")
    assert world.renter.call("POST", "/rentals", again)[0] == 202


def test_who_slips_in_while_a_cluster_stops_is_stopped_by_the_loop(world) -> None:  # noqa: F811
    running(world)
    Maintenance.objects.create(
        provider=world.supply.provider,
        cluster_ref=world.supply.cluster.pk,
        starts_at=now(),
        urgent=True,
        reason="maintenance",
    )
    assert taken_back.sweep() == 1
    assert world.rental.state == "stopping"


# --- abuse ----------------------------------------------------------------------------------------


def staff() -> Principal:
    user = make_renter("Staff", credit=0).principal.user
    user.is_staff, user.second_factor_at = True, now()
    user.save(update_fields=["is_staff", "second_factor_at"])
    return principal_of(user)


def test_what_was_stopped_for_abuse_waits_for_staff(world) -> None:  # noqa: F811
    running(world)
    path = f"/provider/rentals/{world.rental.public_id}/stop-now"
    status, problem = world.supply.owner.call("POST", path, {"reason": "abuse"})
    assert (status, list(problem["errors"])) == (422, ["text"])
    said = {"reason": "abuse", "text": "Scans port 22 of the whole internet"}
    assert world.supply.owner.call("POST", path, said)[0] == 202
    assert (world.rental.state, world.rental.reason) == ("stopping", "abuse")
    assert RentalEvent.objects.filter(rental=world.rental, reason="abuse").latest("seq").actor == (
        "host"
    )
    world.gone(NOON + timedelta(minutes=1))
    following.follow()
    status, problem = world.renter.call("POST", f"{world.path}/actions", {"action": "start"})
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    report = world.supply.owner.call("GET", "/provider/abuse-reports")[1]["items"][0]
    assert (report["state"], report["stopped"]) == ("open", True)
    assert "staff have not cleared it" in problem["detail"]
    decided = abuse.decide(acting=staff(), report_id=report["id"], upheld=False, note="A test run")
    assert decided.state == "dismissed"
    assert world.supply.owner.call("GET", "/provider/abuse-reports")[1]["items"][0]["note"] == (
        "A test run"
    )
    assert world.renter.call("POST", f"{world.path}/actions", {"action": "start"})[0] == 202


def test_a_report_alone_stops_nothing(world) -> None:  # noqa: F811
    running(world)
    said = {"rental": world.rental.public_id, "text": "Much traffic"}
    assert world.supply.owner.call("POST", "/provider/abuse-reports", said)[0] == 201
    assert world.rental.state == "running"
    assert make_supply(1).owner.call("POST", "/provider/abuse-reports", said)[0] == 404


def test_the_state_of_a_maintenance_is_its_times(clock) -> None:  # noqa: F811
    row = Maintenance(starts_at=NOON + HOUR, ends_at=NOON + 2 * HOUR)

    def at(moment: datetime) -> str:
        clock.set(moment)
        return host.state_of(row)

    assert at(NOON) == "announced"
    assert at(NOON + HOUR) == "under_way"
    assert at(NOON + 2 * HOUR) == "over"


def test_webhooks_hear_of_it(world) -> None:  # noqa: F811
    world.renter.call(
        "POST", "/webhooks", {"url": "https://example.com/hook", "event_types": ["notice.*"]}
    )
    running(world)
    announce(world.supply)
    for _ in range(2):
        taken_back.sweep()
    assert list(WebhookEvent.objects.values_list("type", flat=True)) == ["notice.maintenance"]


def test_offers_that_ended_are_not_looked_at_for_ever(clock) -> None:  # noqa: F811
    supply = make_supply(1)
    set_offer(supply, ends_at=rfc3339(NOON + HOUR))
    clock.set(NOON + 2 * HOUR)
    assert opening.advance() == 0
    assert Offer.objects.get().closes_at == NOON + HOUR
    assert "end date" in supply.owner.call("GET", "/provider/offers")[1]["items"][0]["reason"]
