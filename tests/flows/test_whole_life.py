"""Stop, start, restart, retry, another host, the queue: a rental's life beyond its first machine.

As in test_rental_to_money only the cluster's API is replaced; clocks and loops are the platform's.
"""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db.models import F

from billing import facade as billing
from kernel.ids import parse
from marketplace.models import Offer, Rental, RentalEvent
from marketplace.rentals.follow import follow
from provisioner import facade as provisioner
from provisioner.models import Cluster, Hold, Instance, Node, Slot
from tests.flows.stage import NOON, act, rent, show
from tests.market import USD, add_node, make_renter, make_supply, order

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


def charged(rental: str) -> list[tuple[int, int]]:
    """Charged windows in minutes and seconds from noon."""
    lines = billing.charges(rental_ref=parse("rental", rental))
    return [
        (int((line.from_at - NOON).total_seconds()), int((line.to_at - NOON).total_seconds()))
        for line in lines
    ]


def up(platform, renter, supply, **changes) -> str:
    rental = rent(renter, supply, **changes)
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "running"
    return rental


def test_stopped_it_costs_nothing_and_starts_again_with_all_that_it_ran(platform, renter, supply):
    rental = up(platform, renter, supply, env={"TOKEN": "s3cret"}, max_hours=100)
    first = platform.cluster.only()["metadata"]["uid"]
    platform.until(NOON + 10 * MINUTE)
    status, stopping = act(renter, rental, "stop")
    assert (status, stopping["state"], stopping["desired_state"]) == (202, "stopping", "stopped")
    assert stopping["continuing_charges"]["per_hour"] == "0.0000"
    assert stopping["restart_forecast"]["data"] == "not_kept"
    assert stopping["restart_forecast"]["gpus_free"] == 2
    platform.until(NOON + 12 * MINUTE)
    stopped = show(renter, rental)
    assert (stopped["state"], stopped["reason"]) == ("stopped", "stopped_by_user")
    assert stopped["actions"] == ["extend", "start", "terminate"]
    assert stopped["stop_ack_at"] == "2026-03-01T12:10:00Z"
    assert platform.cluster.pods == platform.cluster.secrets == {}
    assert Slot.objects.filter(state="free").count() == 4
    assert float(renter.call("GET", "/billing/balance")[1]["held"]) == 0
    assert act(renter, rental, "stop")[1] == stopped, "asking again changes nothing"

    platform.until(NOON + 30 * MINUTE)
    status, starting = act(renter, rental, "start")
    assert (status, starting["state"], starting["reason"]) == (
        202,
        "provisioning",
        "started_by_user",
    )
    assert starting["stop_ack_at"] is None
    assert starting["price"] == stopped["price"]
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + 40 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    second = platform.cluster.only()
    assert second["metadata"]["uid"] != first
    (secret,) = platform.cluster.secrets.values()
    assert set(secret["data"]) == {"TOKEN", "report-token", "host-key", "gateway.pub"}
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(NOON + 42 * MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    windows = charged(rental)
    assert windows[0][1] == 600
    assert all(start >= 1800 or end <= 600 for start, end in windows)
    assert windows[-1][1] == 2400
    seconds = sum(end - start for start, end in windows)
    assert billing.spent(rental_refs=[parse("rental", rental)])[parse("rental", rental)] == (
        4 * USD * seconds // 3600
    )
    assert billing.books().balanced


def test_a_restart_keeps_its_very_cards_while_others_wait_for_them(platform, renter, supply):
    rental = up(platform, renter, supply)
    owner = make_renter("Others")
    others = rent(owner, supply)  # takes the two cards that are left
    platform.turn()
    for pod in platform.cluster.pods.values():
        platform.cluster.run_pod(pod, platform.moment, cards=2)
    held = set(Hold.objects.filter(rental_ref=parse("rental", rental)).values_list("slot"))
    platform.until(NOON + 5 * MINUTE)
    status, restarting = act(renter, rental, "restart")
    assert (status, restarting["state"], restarting["reason"]) == (
        202,
        "starting",
        "restarted_by_user",
    )
    assert act(renter, rental, "restart")[0] == 409
    platform.until(platform.moment + MINUTE)
    mine = Instance.objects.filter(rental_ref=parse("rental", rental)).exclude(state="gone").get()
    pod = next(
        pod for pod in platform.cluster.pods.values() if pod["metadata"]["name"] == mine.pod_name
    )
    platform.cluster.run_pod(pod, platform.moment, cards=2)
    platform.until(NOON + 8 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    after = Hold.objects.filter(rental_ref=parse("rental", rental), to_ts=None)
    assert set(after.values_list("slot")) == held
    assert after.count() == 2
    before = Hold.objects.filter(rental_ref=parse("rental", rental)).exclude(to_ts=None)
    ends = set(before.values_list("slot", "to_ts"))
    assert set(after.values_list("slot", "from_ts")) == ends, "never free in between"
    assert show(owner, others)["state"] == "running"
    states = list(RentalEvent.objects.filter(rental_id=parse("rental", rental)).order_by("seq"))
    assert [event.state for event in states][-2:] == ["starting", "running"]


def test_the_end_of_the_machine_before_a_restart_may_be_read_late(platform, renter, supply):
    """The machine after it has seconds that are not charged for as long as it runs."""
    rental = up(platform, renter, supply)
    platform.until(NOON + 5 * MINUTE)
    act(renter, rental, "restart")
    platform.until(platform.moment + MINUTE)
    for pod in platform.cluster.pods.values():
        platform.cluster.run_pod(pod, platform.moment, cards=2)
    platform.until(NOON + 8 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    ended = Instance.objects.filter(rental_ref=parse("rental", rental), state="gone")
    assert ended.update(followed_seq=F("event_seq") - 1) == 1
    follow()
    assert provisioner.behind(limit=10) == []
    assert show(renter, rental)["state"] == "running"


def test_ended_while_restarting_leaves_nothing(platform, renter, supply):
    rental = up(platform, renter, supply)
    act(renter, rental, "restart")
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    assert platform.cluster.pods == {}
    assert not Hold.objects.filter(to_ts=None).exists()
    assert Instance.objects.filter(rental_ref=parse("rental", rental)).count() == 1


def test_a_host_that_fails_it_is_not_tried_twice(platform, renter, supply):
    add_node(supply.group, 4)
    rental = rent(renter, supply)
    platform.turn()
    first = Instance.objects.get(rental_ref=parse("rental", rental))
    platform.cluster.run(platform.moment, cards=1)  # the wrong number of cards
    platform.until(platform.moment + MINUTE)
    second = Instance.objects.exclude(pk=first.pk).get(rental_ref=parse("rental", rental))
    assert second.share.node_id != first.share.node_id
    shown = show(renter, rental)
    assert shown["state"] == "provisioning"
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(platform.moment + MINUTE)
    running = show(renter, rental)
    assert (running["state"], running["spent"]) == ("running", "0.0000")
    reasons = [
        event.reason
        for event in RentalEvent.objects.filter(rental_id=parse("rental", rental)).order_by("seq")
    ]
    assert reasons.count("order_mismatch") == 2  # found, then another host was tried
    assert reasons[-1] == "ready"
    assert Rental.objects.get().tried_nodes is None, "it ran: what failed before is forgotten"


def test_three_hosts_are_enough(platform, renter, supply):
    for _ in range(4):
        add_node(supply.group, 4)
    rental = rent(renter, supply)
    for _ in range(3):
        platform.turn()
        platform.cluster.run(platform.moment, cards=1)
        platform.until(platform.moment + MINUTE)
    failed = show(renter, rental)
    assert (failed["state"], failed["reason"]) == ("failed", "order_mismatch")
    assert Instance.objects.filter(rental_ref=parse("rental", rental)).count() == 3
    assert float(renter.call("GET", "/billing/balance")[1]["held"]) == 0


def test_what_the_renter_got_wrong_is_not_tried_elsewhere_and_can_be_retried(
    platform, renter, supply
):
    add_node(supply.group, 4)
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.refuse_image(cards=2)
    platform.until(NOON + 2 * MINUTE)
    failed = show(renter, rental)
    assert (failed["state"], failed["fault"]) == ("failed", "renter")
    assert failed["actions"] == ["extend", "retry", "terminate"]
    status, again = act(renter, rental, "retry")
    assert (status, again["state"], again["reason"]) == (202, "provisioning", "retried")
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "running"


def test_the_queue_is_served_in_its_order_when_cards_come_back(platform, renter, supply):
    holder = [rent(renter, supply), rent(renter, supply)]
    body = {**order(supply.offer, gpus=2), "queue": {"deadline_seconds": 3600}}
    queued = []
    for position in (1, 2):
        status, waiting = renter.call("POST", "/rentals", body)
        assert (status, waiting["state"], waiting["reason"]) == (202, "queued", "no_capacity")
        assert waiting["queue"]["position"] == position
        queued.append(waiting["id"])
        platform.at(platform.moment + timedelta(seconds=1))
    assert float(renter.call("GET", "/billing/balance")[1]["held"]) == 8.0, "two run, none waits"
    platform.until(NOON + MINUTE)
    assert [show(renter, one)["state"] for one in queued] == ["queued", "queued"]
    renter.call("DELETE", f"/rentals/{holder[0]}")
    platform.until(NOON + 3 * MINUTE)
    first, second = (show(renter, one) for one in queued)
    assert (first["state"], first["queue"]) == ("provisioning", None)
    assert (second["state"], second["queue"]["position"]) == ("queued", 1)
    # Its hours count from the moment it has cards, not from the moment it asked.
    assert first["expires_at"] > "2026-03-01T16:01"
    renter.call("DELETE", f"/rentals/{queued[1]}")
    assert show(renter, queued[1])["state"] == "terminated"


def test_who_waited_too_long_is_told_so_and_paid_nothing(platform, renter, supply):
    rent(renter, supply, gpus=4)
    body = {**order(supply.offer), "queue": {"deadline_seconds": 60}}
    waiting = renter.call("POST", "/rentals", body)[1]
    platform.until(NOON + 2 * MINUTE)
    late = show(renter, waiting["id"])
    assert (late["state"], late["reason"], late["spent"]) == ("failed", "queue_deadline", "0.0000")


def test_nobody_waits_who_could_not_pay_the_first_hour(platform, supply):
    rent(make_renter("Rich"), supply, gpus=4)
    poor = make_renter("Poor", credit=1 * USD)
    body = {**order(supply.offer), "queue": {"deadline_seconds": 60}}
    assert poor.call("POST", "/rentals", body)[0] == 402
    assert not Rental.objects.filter(organization=poor.org).exists()


def test_a_dark_cluster_fails_it_after_its_grace_and_only_observed_absence_frees_a_retry(
    platform, renter, supply
):
    rental = up(platform, renter, supply)
    make_supply(1)
    platform.until(NOON + 5 * MINUTE)
    platform.cluster.down = True
    platform.until(NOON + 15 * MINUTE)
    assert show(renter, rental)["state"] == "unreachable"
    # The other cluster is seen: it is not we who are blind.
    other = Cluster.objects.exclude(pk=supply.cluster.pk)
    assert other.update(last_positive_at=NOON + 18 * MINUTE) == 1
    platform.until(NOON + 18 * MINUTE)
    failed = show(renter, rental)
    assert (failed["state"], failed["reason"]) == ("failed", "host_lost")
    assert failed["actions"] == ["extend", "terminate"], "its machine may still run over there"
    status, problem = act(renter, rental, "retry")
    assert (status, problem["type"]) == (409, "/problems/invalid_transition")
    assert "observed" in problem["detail"]
    platform.cluster.down = False
    platform.until(NOON + 22 * MINUTE)
    assert platform.cluster.pods == {}
    assert "retry" in show(renter, rental)["actions"]
    assert max(end for _, end in charged(rental)) <= 300


def test_with_failover_it_goes_on_elsewhere_once_its_absence_was_observed(platform, renter, supply):
    add_node(supply.group, 4)
    rental = up(platform, renter, supply, failover=True)
    first = Instance.objects.get(rental_ref=parse("rental", rental))
    platform.until(NOON + 5 * MINUTE)
    platform.cluster.pods.clear()  # the host is gone and its cluster says so
    platform.until(NOON + 7 * MINUTE)
    second = Instance.objects.exclude(pk=first.pk).get(rental_ref=parse("rental", rental))
    assert second.share.node_id != first.share.node_id
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + 9 * MINUTE)
    assert show(renter, rental)["state"] == "running"


def test_without_another_host_it_waits_as_long_as_was_allowed_and_nothing_is_held_for_it(
    platform, renter, supply
):
    rental = rent(renter, supply, failover=True, queue={"deadline_seconds": 3600})
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + 5 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    rent(make_renter("Other"), supply)  # with it all four cards of the only node are let
    platform.cluster.pods.clear()
    platform.until(NOON + 8 * MINUTE)
    waiting = show(renter, rental)
    assert (waiting["state"], waiting["queue"]["position"]) == ("queued", 1)
    assert float(renter.call("GET", "/billing/balance")[1]["held"]) == 0.0
    platform.until(NOON + 69 * MINUTE, every=50)
    late = show(renter, rental)
    assert (late["state"], late["reason"]) == ("failed", "queue_deadline")
    assert max(end for _, end in charged(rental)) <= 300


def test_ending_ones_program_does_not_end_the_meter(platform, renter, supply):
    rental = up(platform, renter, supply)
    platform.until(NOON + 5 * MINUTE)
    platform.cluster.crash()
    platform.until(NOON + 15 * MINUTE)
    down = show(renter, rental)
    assert (down["state"], down["reason"], down["fault"]) == (
        "degraded",
        "container_exited",
        "renter",
    )
    assert down["continuing_charges"]["per_hour"] == "4.0000"
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(NOON + 17 * MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    assert max(end for _, end in charged(rental)) >= 14 * 60


def test_a_program_that_is_down_on_a_silent_node_costs_nothing_beyond_the_last_look_at_it(
    platform, renter, supply, monkeypatch
):
    rental = up(platform, renter, supply)
    platform.until(NOON + 5 * MINUTE)
    platform.cluster.crash()
    platform.until(NOON + 8 * MINUTE)
    # Its pod looks the same from now on, and nobody has looked at the node yet.
    monkeypatch.setattr(platform, "look_at_nodes", lambda: None)
    platform.until(NOON + 9 * MINUTE)
    assert show(renter, rental)["state"] == "degraded"
    Node.objects.filter(shares__group=supply.group).update(ready=False)
    platform.until(NOON + 11 * MINUTE)
    assert show(renter, rental)["reason"] == "node_not_ready"
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(NOON + 13 * MINUTE)
    assert max(end for _, end in charged(rental)) == 8 * 60


def test_while_we_see_no_cluster_at_all_nobody_is_given_up(platform, renter, supply):
    rental = up(platform, renter, supply)
    make_supply(1)
    platform.until(NOON + 5 * MINUTE)
    other = Cluster.objects.exclude(pk=supply.cluster.pk)
    assert other.update(last_positive_at=platform.moment) == 1
    platform.cluster.down = True
    platform.until(NOON + 30 * MINUTE)
    assert show(renter, rental)["state"] == "unreachable"
    platform.cluster.down = False
    platform.until(NOON + 33 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    assert platform.cluster.created == 1


def test_with_failover_a_dark_cluster_is_left_only_once_the_lease_ran_out_there(
    platform, renter, supply
):
    other = make_supply(4, owner=supply.owner)
    for row in (other.cluster, other.group):
        type(row).objects.filter(pk=row.pk).update(datacenter_ref=supply.datacenter.pk)
    Offer.objects.filter(pk=other.offer.pk).update(datacenter=supply.datacenter)
    platform.add(other.cluster)
    Cluster.objects.update(reaper_state="running")
    rental = up(platform, renter, supply, failover=True)
    first = Instance.objects.get(rental_ref=parse("rental", rental))
    platform.until(NOON + 5 * MINUTE)
    platform.cluster.down = True
    held = Instance.objects.get(pk=first.pk).lease_held_until
    assert held is not None
    assert held <= platform.moment + 10 * MINUTE
    platform.until(held + timedelta(seconds=40))
    assert Instance.objects.filter(rental_ref=parse("rental", rental)).count() == 1
    platform.until(NOON + 18 * MINUTE)
    second = Instance.objects.exclude(pk=first.pk).get(rental_ref=parse("rental", rental))
    assert second.cluster_id == other.cluster.pk
    assert second.created_at >= held + MINUTE, "never two pods within a live lease"
    lapsed = Instance.objects.get(pk=first.pk)
    assert (lapsed.state, lapsed.lapsed_at is not None) == ("stopping", True)
    assert lapsed.holds.filter(to_ts=None).count() == 2, "held until absence is observed"
    platform.clusters[other.cluster.pk].run(platform.moment, cards=2)
    platform.cluster.down = False  # the old pod is still there, as after a reaper that was slow
    platform.until(NOON + 24 * MINUTE)
    assert show(renter, rental)["state"] == "running"
    assert platform.cluster.pods == {}
    assert Instance.objects.get(pk=first.pk).state == "gone"
