"""Orders at the full price take cards of interruptible rentals: after the notice, never before."""

from __future__ import annotations

from base64 import b64decode
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from billing import facade as billing
from kernel.ids import parse
from marketplace.models import Rental, RentalEvent, WebhookEvent
from marketplace.rentals import follow as following
from provisioner.instances.release import recycle
from provisioner.inventory.summary import refresh
from provisioner.models import Hold, Slot
from provisioner.reconcile import instance_loop
from tests.flows.stage import NOON, Platform, act, show
from tests.market import USD, Renter, Supply, add_node, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
NOTICE = 2 * MINUTE
QUEUE = {"deadline_seconds": 3600}


@pytest.fixture
def supply(db: None) -> Supply:
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', %s, false)", [NOON.isoformat()])
    return make_supply(4, interruptible=USD)


def cheap(renter: Renter, supply: Supply, gpus: int = 4, **changes: Any) -> str:
    status, made = renter.call(
        "POST", "/rentals", order(supply.offer, gpus, interruptible=True, **changes)
    )
    assert (status, made["interruptible"]) == (202, True), made
    return str(made["id"])


def queue(renter: Renter, supply: Supply, gpus: int, **changes: Any) -> str:
    status, made = renter.call(
        "POST", "/rentals", order(supply.offer, gpus, queue=QUEUE, **changes)
    )
    assert (status, made["state"]) == (202, "queued"), made
    return str(made["id"])


def start_pods(platform: Platform) -> None:
    """Every pod that does not run yet does, with the cards it asked for."""
    for pod in platform.cluster.pods.values():
        if pod["status"]["phase"] != "Running":
            cards = pod["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"]
            platform.cluster.run_pod(pod, platform.moment, cards=int(cards))


def go(platform: Platform, time: timedelta) -> None:
    platform.until(platform.moment + time)


def up(platform: Platform) -> None:
    platform.turn()
    start_pods(platform)
    go(platform, MINUTE)


def states(*rentals: str) -> list[str]:
    return [Rental.objects.get(id=parse("rental", rental)).state for rental in rentals]


def slots(rental: str) -> set[Any]:
    return set(Hold.objects.filter(rental_ref=parse("rental", rental)).values_list("slot"))


def reasons(rental: str) -> list[str]:
    rows = RentalEvent.objects.filter(rental_id=parse("rental", rental)).order_by("seq")
    return [f"{row.state} {row.reason}" for row in rows]


def told(platform: Platform) -> list[str]:
    """What programs read in their notice's file."""
    return [
        b64decode(secret["data"]["interrupt_at"]).decode()
        for (_, name), secret in platform.cluster.secrets.items()
        if name.endswith("-notice")
    ]


def test_an_order_at_the_full_price_gets_the_very_cards_after_the_notice_and_never_before(
    platform, renter, supply
):
    payer = make_renter("Payer")
    for one in (renter, payer):
        hook = {"url": "https://93.184.215.14/x", "event_types": ["notice.interruption"]}
        assert one.call("POST", "/webhooks", hook)[0] == 201
    victim = cheap(renter, supply)
    up(platform)
    assert states(victim) == ["running"]
    go(platform, 10 * MINUTE)
    waiting = queue(payer, supply, 2)
    platform.turn()
    given = platform.moment
    notice = show(renter, victim)
    assert (notice["state"], notice["reason"]) == ("interrupting", "outbid")
    assert notice["interrupt_at"] == (given + NOTICE).isoformat().replace("+00:00", "Z")
    assert notice["continuing_charges"]["per_hour"] == "4.0000"
    platform.turn()
    assert told(platform) == [f"{notice['interrupt_at']}\n"], "the file, from then on"
    emitted = WebhookEvent.objects.filter(type="notice.interruption")
    assert [event.organization_id for event in emitted] == [renter.org]
    while platform.moment < given + NOTICE - SECOND:
        platform.at(platform.moment + SECOND)
        platform.turn()
        assert states(victim, waiting) == ["interrupting", "queued"]
        assert platform.cluster.graces == []
    platform.at(given + NOTICE)
    platform.turn()
    assert states(victim) == ["stopping"]
    for seconds in (20, 40, 60):
        platform.at(given + NOTICE + seconds * SECOND)
        instance_loop.run(connect=platform.connect)
        following.follow()
        recycle()
        refresh()
    assert Slot.objects.filter(state="free").count() == 4
    # Whoever asks in that moment, the interrupted renter first of all, does not get them.
    again = renter.call("POST", "/rentals", order(supply.offer, 4, interruptible=True))
    assert again[0] == 409
    assert act(renter, victim, "start")[0] == 409
    assert make_renter("Quick").call("POST", "/rentals", order(supply.offer, 1))[0] == 409
    platform.turn()
    assert platform.cluster.graces == [30], "SIGTERM, and time to write a checkpoint"
    assert states(victim, waiting) == ["stopped", "provisioning"]
    assert slots(waiting) < slots(victim)
    kept = show(renter, victim)
    assert (kept["reason"], kept["fault"]) == ("outbid", "none")
    assert "start" in kept["actions"]
    assert told(platform) == []
    assert kept["stop_ack_at"] == notice["interrupt_at"], "the meter ran until the announced moment"
    lines = billing.charges(rental_ref=parse("rental", victim))
    assert lines[-1].to_at == given + NOTICE
    assert not WebhookEvent.objects.filter(type="notice.interruption", organization_id=payer.org)
    assert billing.books().balanced
    # What is left over is anybody's once the order has its own.
    assert act(renter, victim, "start")[0] == 409
    assert make_renter("Quick").call("POST", "/rentals", order(supply.offer, 2))[0] == 202


def test_two_orders_interrupt_no_more_than_both_need_and_the_youngest_go(platform, supply):
    tenants = [make_renter(f"Cheap {n}") for n in range(4)]
    running = []
    for tenant in tenants:
        running.append(cheap(tenant, supply, 1))
        platform.at(platform.moment + SECOND)
    up(platform)
    orders = [queue(make_renter("One"), supply, 1), queue(make_renter("Two"), supply, 1)]
    platform.turn()
    assert states(*running) == ["running", "running", "interrupting", "interrupting"]
    # A cheaper machine of one's own is never taken for one's order.
    own = queue(tenants[0], supply, 2)
    platform.turn()
    assert states(*running) == ["running", "running", "interrupting", "interrupting"]
    go(platform, 3 * MINUTE)
    assert states(*running, *orders, own) == [
        *("running", "running", "stopped", "stopped"),
        *("provisioning", "provisioning", "queued"),
    ]
    assert slots(orders[0]) | slots(orders[1]) == slots(running[2]) | slots(running[3])


def test_the_fewest_are_interrupted_even_where_they_are_older(platform, supply):
    share = add_node(supply.group, 4)
    big = cheap(make_renter("Big"), supply, 4)
    small = [cheap(make_renter("Small"), supply, 2) for _ in range(2)]
    up(platform)
    assert share.slots_total == 4
    waiting = queue(make_renter("Payer"), supply, 3)
    platform.turn()
    assert states(big, *small) == ["interrupting", "running", "running"]
    go(platform, 3 * MINUTE)
    assert states(waiting) == ["provisioning"]


def test_the_notice_is_withdrawn_when_the_order_is_cancelled_or_served_elsewhere(
    platform, renter, supply
):
    victim = cheap(renter, supply)
    up(platform)
    payer = make_renter("Payer")
    waiting = queue(payer, supply, 2)
    platform.turn()
    assert states(victim) == ["interrupting"]
    payer.call("DELETE", f"/rentals/{waiting}")
    platform.turn()
    assert show(renter, victim)["interrupt_at"] is None
    platform.turn()
    assert told(platform) == []
    waiting = queue(payer, supply, 2)
    platform.turn()
    assert states(victim) == ["interrupting"]
    add_node(supply.group, 2)
    go(platform, MINUTE)
    assert states(victim, waiting) == ["running", "provisioning"]
    assert reasons(victim)[-4:] == [
        "interrupting outbid",
        "running notice_withdrawn",
        "interrupting outbid",
        "running notice_withdrawn",
    ]
    start_pods(platform)
    go(platform, 5 * MINUTE)
    assert states(victim) == ["running"]
    assert told(platform) == []
    assert platform.cluster.graces == []


def test_without_a_queue_nobody_is_interrupted_and_the_answer_says_what_would_help(
    platform, renter, supply
):
    victim = cheap(renter, supply)
    up(platform)
    payer = make_renter("Payer")
    quote = {"offer": supply.offer.public_id, "gpus": 2}
    assert payer.call("POST", "/quotes", quote)[0] == 409
    status, problem = payer.call("POST", "/rentals", order(supply.offer, 2))
    assert (status, problem["type"]) == (409, "/problems/no_capacity")
    nearest = problem["relaxations"][0]
    assert nearest["changes"] == [{"field": "queue", "from": None, "to": {"deadline_seconds": 360}}]
    assert (nearest["ready_in_seconds"], nearest["price_per_gpu_hour"]) == (180, "2.0000")
    platform.turn()
    assert states(victim) == ["running"]
    # As the answer says, so it is.
    status, made = payer.call(
        "POST", "/rentals", order(supply.offer, 2, queue=nearest["changes"][0]["to"])
    )
    promised = platform.moment + timedelta(seconds=nearest["ready_in_seconds"])
    while platform.moment < promised:
        platform.at(platform.moment + 5 * SECOND)
        platform.turn()
    assert states(made["id"]) == ["provisioning"]


@pytest.mark.parametrize("case", ["own", "interruptible", "ordinary", "too many"])
def test_for_these_no_queue_would_help_and_none_is_offered(platform, renter, supply, case):
    mine = {} if case == "ordinary" else {"interruptible": True}
    assert renter.call("POST", "/rentals", order(supply.offer, 4, **mine))[0] == 202
    up(platform)
    asker = renter if case == "own" else make_renter("Payer")
    wish = order(supply.offer, 5 if case == "too many" else 2)
    problem = asker.call("POST", "/rentals", {**wish, "interruptible": case == "interruptible"})[1]
    fields = [change["field"] for r in problem["relaxations"] for change in r["changes"]]
    assert "queue" not in fields


def test_ending_ones_program_does_not_win_time(platform, renter, supply):
    victim = cheap(renter, supply)
    up(platform)
    waiting = queue(make_renter("Payer"), supply, 4)
    platform.turn()
    given = platform.moment
    go(platform, 20 * SECOND)
    platform.cluster.crash()
    go(platform, 40 * SECOND)
    hidden = show(renter, victim)
    assert (hidden["state"], hidden["reason"]) == ("degraded", "container_exited")
    assert hidden["interrupt_at"] == (given + NOTICE).isoformat().replace("+00:00", "Z")
    start_pods(platform)
    for pod in platform.cluster.pods.values():
        platform.cluster.run_pod(pod, platform.moment, cards=4)
    go(platform, 20 * SECOND)
    assert states(victim) == ["interrupting"], "shown again, with the same time"
    go(platform, 2 * MINUTE)
    assert states(victim, waiting) == ["stopped", "provisioning"]
    assert show(renter, victim)["stop_ack_at"] == (given + NOTICE).isoformat().replace(
        "+00:00", "Z"
    )


def test_a_broken_program_can_be_interrupted_as_well(platform, renter, supply):
    victim = cheap(renter, supply)
    up(platform)
    platform.cluster.crash()
    go(platform, MINUTE)
    assert states(victim) == ["degraded"]
    waiting = queue(make_renter("Payer"), supply, 4)
    go(platform, 20 * SECOND)
    assert states(victim) == ["interrupting"]
    go(platform, 3 * MINUTE)
    assert states(victim, waiting) == ["stopped", "provisioning"]


def test_orders_at_the_full_price_are_served_before_interruptible_ones_that_waited_longer(
    platform, renter, supply
):
    holder = make_renter("Holder")
    held = holder.call("POST", "/rentals", order(supply.offer, 4))[1]["id"]
    early = renter.call(
        "POST", "/rentals", order(supply.offer, 4, interruptible=True, queue=QUEUE)
    )[1]["id"]
    late = queue(make_renter("Payer"), supply, 4)
    holder.call("DELETE", f"/rentals/{held}")
    go(platform, MINUTE)
    assert states(early, late) == ["queued", "provisioning"]
    assert Rental.objects.get(id=parse("rental", early)).price_micro_h == 4 * USD


def given_back(renter: Renter) -> list[float]:
    listed = renter.call("GET", "/billing/transactions?limit=200")[1]["items"]
    return [
        float(one["amount"])
        for one in listed
        if one["kind"] == "outage_credit" and one["cause_type"] == "usage"
    ]


@pytest.mark.parametrize("noticed", [False, True])
def test_lost_before_its_notice_was_over_its_last_hour_is_free_once(
    platform, renter, supply, noticed
):
    victim = cheap(renter, supply, max_hours=10)
    up(platform)
    ref = parse("rental", victim)
    running = platform.moment
    platform.until(running + 90 * MINUTE, every=50)
    if noticed:
        queue(make_renter("Payer"), supply, 4)
        platform.until(running + 91 * MINUTE)
        assert states(victim) == ["interrupting"]
    platform.cluster.pods.clear()
    platform.until(running + 95 * MINUTE)
    lost = show(renter, victim)
    assert (lost["state"], lost["reason"]) == ("failed", "host_lost")
    lines = billing.charges(rental_ref=ref)
    last = lines[-1].to_at
    charged = sum(line.amount_micro for line in lines)
    assert (last - NOON) > 90 * MINUTE, "it was charged for more than the free hour"
    (given,) = given_back(renter)
    assert given == pytest.approx(4.0, abs=0.00001), "rounded down per charge"
    assert float(lost["spent"]) == pytest.approx(charged / USD - given, abs=0.0001)
    earned = billing.earnings(provider_ref=supply.provider.id).pending_micro
    shares = sum(line.provider_micro for line in lines)
    assert 0 < earned < shares, "the host gives back its share of that hour"
    assert any("given back" in row.text for row in RentalEvent.objects.filter(rental_id=ref))
    assert billing.books().balanced
    platform.until(running + 100 * MINUTE)
    with transaction.atomic():
        again = billing.credit(
            rental_ref=ref, from_at=last - 60 * MINUTE, to_at=last, by_provider=True
        )
    assert (again, given_back(renter)) == (0, [given])


def test_who_pays_the_full_price_or_ended_it_gets_no_hour_free(platform, renter, supply):
    plain = renter.call("POST", "/rentals", order(supply.offer, 2))[1]["id"]
    mine = cheap(renter, supply, 2)
    up(platform)
    go(platform, 10 * MINUTE)
    renter.call("DELETE", f"/rentals/{mine}")
    go(platform, MINUTE)
    platform.cluster.pods.clear()
    go(platform, 3 * MINUTE)
    assert states(plain, mine) == ["failed", "terminated"]
    assert given_back(renter) == []
    assert billing.books().balanced


def test_a_kept_notice_gives_nothing_back(platform, renter, supply):
    victim = cheap(renter, supply)
    up(platform)
    queue(make_renter("Payer"), supply, 4)
    go(platform, 4 * MINUTE)
    assert states(victim) == ["stopped"]
    assert given_back(renter) == []
