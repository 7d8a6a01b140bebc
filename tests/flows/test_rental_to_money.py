"""HTTP -> reconcile -> follow -> bill: the main job through every area's own code.

Only the cluster's API is replaced; the provisioner's loops, the follower, the charger and the
ledger are the real ones, on PostgreSQL, with the platform's clock set by the test.
"""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing import facade as billing
from kernel.ids import parse
from provisioner.instances.release import recycle
from provisioner.inventory.summary import refresh
from provisioner.models import Hold, Slot
from tests.flows.stage import NOON, rent, show

pytestmark = pytest.mark.django_db


def test_from_the_click_to_the_owners_share(platform, renter, supply):
    rental = rent(renter, supply, env={"MODE": "train"})
    platform.turn()
    pod = platform.cluster.only()
    limits = pod["spec"]["containers"][0]["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "2"
    assert pod["spec"]["automountServiceAccountToken"] is False
    assert show(renter, rental)["state"] == "provisioning"

    platform.at(NOON + timedelta(seconds=10))
    platform.cluster.pull()
    platform.turn()
    platform.until(NOON + timedelta(seconds=100))
    assert show(renter, rental)["state"] == "pulling"
    platform.cluster.run(platform.moment, cards=2)
    platform.until(NOON + timedelta(minutes=2))
    running = show(renter, rental)
    assert (running["state"], running["reason"]) == ("running", "ready")
    assert running["spent"] == "0.0000"

    platform.until(NOON + timedelta(minutes=92), every=50)
    stopped_at = platform.moment
    status, ending = renter.call("DELETE", f"/rentals/{rental}")
    assert (status, ending["state"]) == (202, "terminating")
    platform.until(NOON + timedelta(minutes=94))
    ended = show(renter, rental)
    assert (ended["state"], ended["reason"]) == ("terminated", "terminated_by_user")
    assert platform.cluster.pods == {}
    assert platform.cluster.secrets == {}
    assert platform.cluster.created == 1

    charges = renter.call("GET", f"/rentals/{rental}/charges")[1]["items"]
    assert [line["seconds"] for line in charges] == [58 * 60, 32 * 60]
    assert charges[-1]["to"] == stopped_at.isoformat().replace("+00:00", "Z")
    assert ended["spent"] == "6.0000"  # two cards at 2.0000, an hour and a half
    proof = renter.call("GET", f"/charges/{charges[0]['id']}/evidence")[1]
    assert proof["pod_uid"] == pod["metadata"]["uid"]
    assert len(proof["proof"]["devices"]) == 2

    earned = billing.earnings(provider_ref=supply.provider.id)
    assert earned.pending_micro == 5_100_000  # 85 % of it
    assert billing.books().balanced
    balance = renter.call("GET", "/billing/balance")[1]
    assert (float(balance["available"]), float(balance["held"])) == (994.0, 0.0)

    platform.until(NOON + timedelta(minutes=95))
    recycle()
    refresh()
    assert not Hold.objects.filter(to_ts=None).exists()
    assert Slot.objects.filter(state="free").count() == 4


def test_an_image_that_cannot_be_had_costs_nothing(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.refuse_image(cards=2)
    platform.until(NOON + timedelta(minutes=3))
    failed = show(renter, rental)
    assert (failed["state"], failed["fault"]) == ("failed", "renter"), failed
    assert failed["spent"] == "0.0000"
    assert platform.cluster.pods == {}
    balance = renter.call("GET", "/billing/balance")[1]
    assert (float(balance["available"]), float(balance["held"])) == (1000.0, 0.0)


def test_other_cards_than_ordered_never_run_and_cost_nothing(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.run(NOON, cards=1)
    platform.until(NOON + timedelta(minutes=3))
    failed = show(renter, rental)  # there is no other host to try
    assert (failed["state"], failed["reason"]) == ("failed", "order_mismatch")
    assert failed["fault"] == "host"
    assert (failed["spent"], failed["ready_at"]) == ("0.0000", None)


def test_seconds_in_which_nobody_saw_the_machine_are_free(platform, renter, supply):
    rental = rent(renter, supply)
    platform.turn()
    platform.cluster.run(NOON, cards=2)
    platform.until(NOON + timedelta(minutes=10))
    platform.cluster.down = True
    platform.until(NOON + timedelta(minutes=20))
    blind = show(renter, rental)
    assert (blind["state"], blind["reason"]) == ("unreachable", "cluster_unreachable")
    assert blind["continuing_charges"]["per_hour"] == "0.0000"
    platform.cluster.down = False
    platform.until(NOON + timedelta(minutes=25))
    assert show(renter, rental)["state"] == "running"
    renter.call("DELETE", f"/rentals/{rental}")
    platform.until(NOON + timedelta(minutes=27))
    assert show(renter, rental)["state"] == "terminated"
    lines = billing.charges(rental_ref=parse("rental", rental))
    seen = sum(line.seconds for line in lines)
    # Looks are twenty seconds apart, and a failed one is repeated after a pause: that is lost to
    # us at both edges. Nothing of the gap itself is paid.
    assert 15 * 60 - 100 <= seen <= 15 * 60
    assert all(
        line.to_at <= NOON + timedelta(minutes=10) or line.from_at >= NOON + timedelta(minutes=20)
        for line in lines
    )


def test_a_certificate_says_which_cards_were_proven_and_what_rests_on_labels(
    platform, renter, supply
):
    rental = rent(renter, supply)
    before = renter.call("GET", f"/rentals/{rental}/certificate")[1]
    assert (before["homogeneous"], before["machines"], before["fingerprint"]) == (None, [], None)
    assert before["differences"] == ["Not every machine has been proven yet."]
    platform.turn()
    platform.cluster.run(NOON, cards=2)
    platform.until(NOON + timedelta(minutes=3))
    offer = renter.call("GET", f"/offers/{supply.offer.public_id}")[1]
    # What labels say later changes nothing of what was proven.
    type(supply.group).objects.filter(pk=supply.group.pk).update(driver="999.1")
    status, found = renter.call("GET", f"/rentals/{rental}/certificate")
    assert status == 200
    assert (found["homogeneous"], found["differences"]) == (True, [])
    assert found["fingerprint"] == offer["fingerprint"]
    (machine,) = found["machines"]
    assert (machine["driver"], machine["cuda_max"]) == (offer["driver"], offer["cuda_max"])
    assert len({card["uid"] for card in machine["cards"]}) == found["gpus"] == 2
    assert {card["model"] for card in machine["cards"]} == {"NVIDIA-H100-80GB-HBM3"}
    assert (found["basis"]["model"], found["basis"]["driver"]) == ("measured", "label")
    assert renter.call("GET", f"/rentals/{rental}/certificate?x=1")[0] == 400
