"""The main job on real parts: what issue by issue is promised to hold, seen from outside."""

from __future__ import annotations

import os
import statistics
import threading
from datetime import datetime, timedelta
from urllib.parse import urlsplit

import pytest

from devstack.kube.witness import Sighting
from devstack.people import Person
from devstack.platform_api import Json, PlatformApi, ProblemError
from devstack.play import SSH_KEY, close_and_pay, play_rental, prove_books, prove_nothing_left
from devstack.ports import free_port
from tests.whole_stack import World

pytestmark = [pytest.mark.live, pytest.mark.slow]


def test_a_prepaid_and_a_postpaid_rental_from_catalogue_to_money(world: World) -> None:
    """The demo's own proofs: pod, meter, charge, invoice, books, nothing left."""
    prepaid = play_rental(
        world.stack, world.people["renter"], world.witnesses["dc-owned"], ownership="owned", gpus=2
    )
    postpaid = play_rental(
        world.stack,
        world.people["postpaid"],
        world.witnesses["dc-partner"],
        ownership="partner",
        gpus=8,
        order="-price",
        worth="0.55",
    )
    invoice = close_and_pay(world.people["staff"], world.people["postpaid"], postpaid)
    prove_books(world.stack, world.people["staff"], [prepaid, postpaid])
    prove_nothing_left(world.witnesses, [prepaid, postpaid])
    assert invoice["number"]
    shares = {line["provider_micro"] for line in postpaid.usage}
    assert all(share > 0 for share in shares), "the partner earns nothing"


@pytest.mark.parametrize("moment", ["answered", "pod_seen", "ready"])
def test_a_killed_worker_in_a_start_converges(world: World, moment: str) -> None:
    """kill -9 at three moments of a start: 30 s after a worker is back there is one running pod."""
    person = world.people["second_renter"]
    if moment == "answered":
        world.stack.kill_process("worker")
        rental = world.rent(person)
    else:
        rental = world.rent(person)
        world.wait_pod(rental["id"], moment)
        world.stack.kill_process("worker")
    world.stack.start_process("worker")
    world.until_state(person, rental["id"], "running", deadline_s=30)
    assert len(world.pods_of(rental["id"])) == 1
    world.end(person, rental["id"])


@pytest.mark.parametrize("moment", ["before", "answered", "deletion_seen"])
def test_a_killed_worker_in_a_stop_converges(world: World, moment: str) -> None:
    """kill -9 at three moments of a stop: 30 s after a worker is back no pod is left."""
    person = world.people["second_renter"]
    rental = world.rent(person)
    world.until_state(person, rental["id"], "running", deadline_s=30)
    if moment == "before":
        world.stack.kill_process("worker")
        person.api.delete(f"/rentals/{rental['id']}")
    else:
        person.api.delete(f"/rentals/{rental['id']}")
        if moment == "deletion_seen":
            world.wait_pod(rental["id"], "deletion")
        world.stack.kill_process("worker")
    world.stack.start_process("worker")
    world.until_state(person, rental["id"], "terminated", deadline_s=30)
    pods = world.pods_of(rental["id"])
    assert len(pods) == 1
    assert pods[0].gone_at is not None
    assert world.open_holds(rental["id"]) == 0


def test_sixty_four_renters_for_the_last_card(world: World) -> None:
    """One rental, 63 clear refusals with alternatives or relaxations, no server error.

    ROUNDS in the environment raises the number of rounds.
    """
    for _ in range(int(os.environ.get("ROUNDS", "3"))):
        world.leave_one_card("nvidia-a100-80gb-pcie")
        answers = world.race("nvidia-a100-80gb-pcie", renters=64)
        won = [answer for answer in answers if isinstance(answer, dict)]
        refused = [answer for answer in answers if isinstance(answer, ProblemError)]
        assert len(won) == 1
        assert len(refused) == 63
        assert {problem.slug for problem in refused} <= {"offer_taken", "no_capacity"}
        assert all(problem.status == 409 for problem in refused)
        for problem in refused:
            assert "alternatives" in problem.body or "relaxations" in problem.body
        world.end(world.people["renter"], won[0]["id"])
    world.free_cards()


def test_stripe_down_changes_nothing_for_the_renter(world: World) -> None:
    """A rental starts, runs, ends and is charged while Stripe answers nothing."""
    person = world.people["renter"]
    with world.stripe_down():
        rental = world.rent(person)
        running = world.until_state(person, rental["id"], "running", deadline_s=30)
        # Windows are whole seconds: a rental that lives a moment owes nothing.
        ready_at = datetime.fromisoformat(running["ready_at"])
        world.until(lambda: world.now() > ready_at + timedelta(seconds=3), "three seconds pass")
        world.end(person, rental["id"])
    charges = person.api.get(f"/rentals/{rental['id']}/charges")["items"]
    assert charges, "not charged"
    before = len(world.stripe.objects("billing.meter_event"))
    # The mirror catches up by itself once Stripe is back.
    world.until(
        lambda: len(world.stripe.objects("billing.meter_event")) > before,
        "the usage is mirrored to Stripe",
        deadline_s=150,
    )


def test_webhooks_twice_and_late_change_nothing(world: World) -> None:
    """Every event of a top-up delivered again, twice: the balance stays."""
    person = world.people["renter"]
    before = person.api.get("/billing/balance")
    events = world.stripe.objects("event")
    assert len(events) > 5
    for event in [*events, *reversed(events)]:
        world.stripe.redeliver(event["id"])
    world.stripe.flush()
    world.until_inbox_is_drained()
    assert person.api.get("/billing/balance") == before


def test_a_dead_cluster_a_wrong_token_and_a_wrong_ca_are_told_apart(world: World) -> None:
    """Each has a state and a sentence of its own; the other cluster still rents."""
    provider = world.people["provider"]
    found = join_broken_clusters(world, provider)
    assert found["wrong_token"]["state"] == "credential_rejected"
    assert found["wrong_ca"]["state"] == "tls_rejected"
    assert found["nobody_there"]["state"] == "unreachable"
    for cluster in found.values():
        assert len(cluster["detail"]) > 20
    person = world.people["second_renter"]
    rental = world.rent(person, ownership="partner")
    world.until_state(person, rental["id"], "running", deadline_s=30)
    world.end(person, rental["id"])


def join_broken_clusters(world: World, provider: Person) -> dict[str, Json]:
    """Three clusters that cannot work, each registered as a provider would; their last state."""
    good = world.stack.clusters["dc-partner"]
    other = world.stack.clusters["dc-owned"]
    port = urlsplit(good.api_url).port
    dead = free_port()
    provider_id = provider.api.get("/provider")["id"]
    world.people["staff"].api.post(
        f"/staff/providers/{provider_id}/approve",
        {"ownership": "partner", "networks": ["127.0.0.0/8"], "ports": [port, dead]},
    )
    datacenter = provider.api.get("/provider/datacenters")["items"][0]["id"]
    given = {
        "wrong_token": {"api_url": good.api_url, "ca_pem": good.ca_pem, "token": "not-a-token"},
        "wrong_ca": {"api_url": good.api_url, "ca_pem": other.ca_pem, "token": good.token},
        "nobody_there": {
            "api_url": f"https://127.0.0.1:{dead}",
            "ca_pem": good.ca_pem,
            "token": good.token,
        },
    }
    found = {}
    for name, values in given.items():
        made = provider.api.post(
            "/provider/clusters",
            {"name": name, "datacenter": datacenter, "mode": "direct", **values},
        )
        found[name] = provider.api.until(
            f"/provider/clusters/{made['id']}",
            lambda cluster: cluster["state"] != "connecting",
            f"{name} is judged",
        )
    return found


def test_time_from_post_to_pod(world: World) -> None:
    """The wake-up works, not the poll: median under 300 ms on an otherwise idle stack.

    Between rentals the same pod is made by nothing but a POST to the API server. Where even that
    takes long, the machine does, and the goal is eight times as long.
    """
    person = world.people["second_renter"]
    took, plain = [], []
    for number in range(7):
        order = world.order(person)
        asked = world.now()
        rental = person.api.post("/rentals", order)
        pod = world.wait_pod(rental["id"], "pod_seen")
        took.append((pod.appeared_at - asked) / timedelta(milliseconds=1))
        world.until_state(person, rental["id"], "running", deadline_s=30)
        world.end(person, rental["id"])
        plain.append(_plain_pod_ms(world, pod, f"plain-{number}"))
    ours, floor = statistics.median(took), statistics.median(plain)
    print(
        f"POST /rentals to Pod: median {ours:.0f} ms, all {[round(ms) for ms in sorted(took)]};"
        f" a plain POST of the pod {floor:.0f} ms, all {[round(ms) for ms in sorted(plain)]}"
    )
    assert ours < max(300, 8 * floor)


def _plain_pod_ms(world: World, like: Sighting, name: str) -> float:
    """Milliseconds until the cluster shows a pod of this spec that was simply posted to it."""
    witness = next(each for each in world.witnesses.values() if like.uid in each.sightings)
    path = f"/api/v1/namespaces/{like.namespace}/pods"
    meta = {"name": name, "labels": {"plain": name}}
    asked = world.now()
    witness.api.post(path, {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": like.spec})
    world.until(lambda: bool(witness.for_label("plain", name)), f"{name} is seen")
    witness.api.delete(f"{path}/{name}", {"gracePeriodSeconds": 0})
    return (witness.for_label("plain", name)[0].appeared_at - asked) / timedelta(milliseconds=1)


def test_foreign_rentals_are_not_there(world: World) -> None:
    """Another organization's id is a 404 for every call, as an unknown one is."""
    mine = world.rent(world.people["second_renter"])
    other = world.people["renter"].api
    for call in (
        lambda: other.get(f"/rentals/{mine['id']}"),
        lambda: other.get(f"/rentals/{mine['id']}/events"),
        lambda: other.delete(f"/rentals/{mine['id']}"),
        lambda: other.post(f"/rentals/{mine['id']}/actions", {"action": "terminate"}),
        lambda: PlatformApi(world.stack.base_url, other.key).get(f"/rentals/{mine['id']}/charges"),
    ):
        with pytest.raises(ProblemError) as caught:
            call()
        assert caught.value.status == 404
    owner = world.people["second_renter"].api
    assert owner.get(f"/rentals/{mine['id']}")["state"] not in {"terminating", "terminated"}
    world.end(world.people["second_renter"], mine["id"])


def test_the_same_key_sixty_four_times_at_once_is_one_rental(world: World) -> None:
    """64 concurrent POSTs with one key: the same answer for all that are answered, one pod."""
    person = world.people["second_renter"]
    order = world.order(person)
    answers: list[object] = []

    def go() -> None:
        try:
            answers.append(person.api.post("/rentals", order, idempotency_key="same-key-64")["id"])
        except ProblemError as problem:
            answers.append(problem.slug)

    threads = [threading.Thread(target=go) for _ in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = {answer for answer in answers if str(answer).startswith("ren_")}
    assert len(ids) == 1
    assert set(answers) - ids <= {"in_progress"}
    rental_id = ids.pop()
    assert isinstance(rental_id, str)
    world.until_state(person, rental_id, "running", deadline_s=30)
    assert len(world.pods_of(rental_id)) == 1
    assert SSH_KEY  # stored with the rental, not yet usable: access comes later
    world.end(person, rental_id)
