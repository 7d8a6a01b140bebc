"""The main job, step by step, with what each step proved on the other side.

A claim that does not hold raises Disproved and ends the demo with status 1: nothing is printed as
proven that was not compared.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import psycopg

from devstack.console import say
from devstack.kube.witness import Sighting, Witness
from devstack.people import Person
from devstack.process import ProcessError
from devstack.stack import Stack

Json = dict[str, Any]

# A public key whose private half was thrown away: access comes with a later release.
SSH_KEY = (
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEs5QS9ZDjnLsgvfl74wIq/0Ev5OJOlPw2EC"
    "3X3T/+30 demo@example.com"
)
# Long enough for the meter to count something, short enough for someone who watches.
RUN_S = 6.0


class Disproved(ProcessError):
    """Two independent sources disagree about what happened."""


@dataclass(frozen=True)
class Played:
    """A rental that was played to its end, and the pod that the witness saw."""

    rental: Json
    pod: Sighting
    usage: list[Json]
    post_to_pod_ms: float


def check(holds: bool, claim: str) -> None:
    """Say the claim when it holds; raise when it does not."""
    if not holds:
        raise Disproved(f"not true: {claim}")
    say(f"  proven: {claim}")


def play_rental(
    stack: Stack,
    person: Person,
    witness: Witness,
    *,
    ownership: str,
    gpus: int,
    order: str = "price",
    worth: str = "0",
) -> Played:
    """Catalogue -> quote -> rent -> running -> terminate -> money, for one rental.

    It runs a few seconds, or until it is worth ``worth`` in the offer's currency.
    """
    api = person.api
    found = api.get(f"/offers?ownership={ownership}&gpus={gpus}&order={order}&limit=1")
    offer = found["items"][0]
    quote = api.post("/quotes", {"offer": offer["id"], "gpus": gpus})
    say(
        f"{person.email} takes {gpus} x {offer['accelerator']} in {offer['region']} "
        f"for {quote['total_per_hour']} {quote['currency']} per hour"
    )
    before = {sighting.uid for sighting in witness.sightings.values()}
    wanted = {
        "quote": quote["id"],
        "name": f"demo-{ownership}",
        "template": "ubuntu",
        "ssh_keys": [SSH_KEY],
        "max_hours": 4,
    }
    key = f"demo-{quote['id']}"
    asked_at = datetime.now(UTC)
    rental = api.post("/rentals", wanted, idempotency_key=key)
    again = api.post("/rentals", wanted, idempotency_key=key)
    check(again == rental, "the same request with the same key gives the same answer")
    pod = _await_pod(witness, before)
    took = (pod.appeared_at - asked_at) / timedelta(milliseconds=1)
    say(f"  POST /rentals to Pod object on the API server: {took:.0f} ms")
    rental = await_state(person, rental["id"], "running")
    _check_pod(pod, offer, gpus)
    new = [s for s in witness.sightings.values() if s.uid not in before]
    check(len(new) == 1, "exactly one pod was created for it")
    run_s = max(RUN_S, float(Decimal(worth) / Decimal(quote["total_per_hour"]) * 3600) + 1)
    say(f"  runs for {run_s:.0f} s")
    threading.Event().wait(run_s)
    api.delete(f"/rentals/{rental['id']}")
    ended_at = datetime.now(UTC)
    rental = await_state(person, rental["id"], "terminated")
    check(pod.gone_at is not None, "the API server no longer has the pod")
    say(f"  terminated in {(datetime.now(UTC) - ended_at).total_seconds():.1f} s")
    usage = _usage(stack, rental["id"])
    _check_usage(pod, usage, gpus)
    charges = api.get(f"/rentals/{rental['id']}/charges")["items"]
    evidence = api.get(f"/charges/{charges[0]['id']}/evidence")
    check(evidence["pod_uid"] == pod.uid, "the charge points to the observations of this pod")
    _check_interval(pod, evidence)
    say(f"  charged {rental['spent']} {rental['currency']}")
    return Played(rental, pod, usage, took)


def close_and_pay(staff: Person, payer: Person, played: Played) -> Json:
    """Staff closes the period; the saved card pays the invoice at Stripe."""
    closed = staff.api.post(f"/staff/organizations/{payer.organization}/close-period")
    path = f"/billing/invoices/{closed['id']}"
    invoice = payer.api.until(
        path, lambda i: i["state"] == "paid", "the invoice is paid", deadline_s=60
    )
    cents = Decimal(played.rental["spent"]).quantize(Decimal("0.01"), rounding="ROUND_DOWN")
    check(
        Decimal(invoice["total"]) == cents,
        f"invoice {invoice['number']} over {invoice['total']} is paid and equals the usage",
    )
    return invoice


def prove_books(stack: Stack, staff: Person, played: list[Played]) -> None:
    """The ledger balances, and what renters paid is what owners and platform got."""
    with psycopg.connect(stack.postgres.url) as database:
        row = database.execute("SELECT count(*), sum(amount_micro) FROM facts.entry").fetchone()
        assert row is not None
        check(row[1] == 0, f"{row[0]} ledger entries sum to zero")
        row = database.execute(
            "SELECT count(*) FROM facts.usage WHERE amount_micro <> provider_micro + fee_micro"
        ).fetchone()
        assert row is not None
        check(row[0] == 0, "renter price = provider share + fee, line by line")
    for each in played:
        share = sum(line["provider_micro"] for line in each.usage)
        total = sum(line["amount_micro"] for line in each.usage)
        say(f"  {each.rental['name']}: paid {total} micro-USD, owner's share {share}")
    books = staff.api.get("/staff/books")
    check(bool(books["balanced"]), "the books page says so too")


def prove_nothing_left(witnesses: dict[str, Witness], played: list[Played]) -> None:
    """After terminate no pod of ours is on any API server."""
    for name, witness in witnesses.items():
        left = [
            sighting.name
            for sighting in witness.sightings.values()
            if sighting.gone_at is None and sighting.labels.get("gpuyard.io/rental")
        ]
        check(left == [], f"no pod is left on {name}")
    times = sorted(each.post_to_pod_ms for each in played)
    say(f"POST /rentals to Pod: {', '.join(f'{ms:.0f} ms' for ms in times)} (goal: under 300)")


def _await_pod(witness: Witness, before: set[str]) -> Sighting:
    def new() -> Sighting | None:
        return next((s for s in witness.sightings.values() if s.uid not in before), None)

    with witness.changed:
        if not witness.changed.wait_for(lambda: new() is not None, timeout=30):
            raise Disproved("no pod appeared on the API server within 30 s")
        found = new()
    assert found is not None
    return found


def await_state(person: Person, rental_id: str, state: str) -> Json:
    """Long-poll until `state`; says each state on the way. Raises at a state of no return."""
    shown = ""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        found = person.api.get(f"/rentals/{rental_id}?wait_state={state}&timeout=5")
        if found["state"] != shown:
            shown = found["state"]
            say(f"  {shown} ({found['reason']})")
        if shown == state:
            return found
        if shown in {"failed", "terminated"}:
            break
    raise Disproved(f"the rental is {shown}, not {state}")


def _check_pod(pod: Sighting, offer: Json, gpus: int) -> None:
    container = pod.spec["containers"][0]
    limits = container["resources"]["limits"]
    counts = {
        name: int(value) for name, value in limits.items() if "/" in name and name.count("/") == 1
    }
    check(list(counts.values()) == [gpus], f"the pod has exactly {counts}")
    check(container["resources"]["requests"] == limits, "its requests equal its limits for all")
    check(pod.spec.get("automountServiceAccountToken") is False, "it has no service account token")
    check(bool(pod.spec.get("nodeName")), f"the scheduler put it on {pod.spec.get('nodeName')}")


def _usage(stack: Stack, rental_id: str) -> list[Json]:
    with psycopg.connect(stack.postgres.url) as database:
        cursor = database.execute(
            "SELECT from_ts, to_ts, gpus, amount_micro, provider_micro, fee_micro"
            " FROM facts.usage WHERE rental_id = %s ORDER BY from_ts",
            [uuid_of(rental_id)],
        )
        names = [column.name for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def _check_interval(pod: Sighting, evidence: Json) -> None:
    """The interval behind the charge, not yet rounded to whole seconds, against the witness."""
    end = pod.deletion_at or pod.gone_at
    assert pod.ready_at
    assert end
    opened = datetime.fromisoformat(evidence["opened_at"]) - pod.ready_at
    closed = datetime.fromisoformat(evidence["closed_at"]) - end
    check(
        max(abs(opened.total_seconds()), abs(closed.total_seconds())) <= 1,
        f"its ready interval is that of the watch: {opened.total_seconds():+.3f} s at the start, "
        f"{closed.total_seconds():+.3f} s at the end",
    )


def _check_usage(pod: Sighting, usage: list[Json], gpus: int) -> None:
    """Windows are whole seconds inside what the witness saw."""
    check(bool(usage), "its seconds were charged")
    assert pod.ready_at
    assert pod.deletion_at or pod.gone_at
    end = pod.deletion_at or pod.gone_at
    assert end
    start_gap = (usage[0]["from_ts"] - pod.ready_at).total_seconds()
    end_gap = (end - usage[-1]["to_ts"]).total_seconds()
    # _check_interval allows a second, and rounding takes up to another, in the renter's favour.
    check(
        -0.2 <= start_gap <= 2 and -0.2 <= end_gap <= 2,
        f"charged from {start_gap:+.2f} s after ready to {end_gap:.2f} s before the end that an "
        "independent watch saw",
    )
    check(all(line["gpus"] == gpus for line in usage), f"for {gpus} GPU")


_DIGITS = "0123456789abcdefghjkmnpqrstvwxyz"


def uuid_of(public_id: str) -> str:
    """The UUID in a public id (26 base-32 digits), as facts shows it."""
    number = 0
    for letter in public_id.split("_")[1]:
        number = number * 32 + _DIGITS.index(letter)
    text = f"{number:032x}"
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
