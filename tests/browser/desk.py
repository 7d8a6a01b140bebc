"""People who watch the same money from different sides: each at a page of their own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from playwright.sync_api import Browser, Locator, Page

from devstack.people import RENTER_SCOPES, Person, join, make_staff, top_up
from devstack.play import SSH_KEY, uuid_of
from devstack.ports import free_port
from devstack.process import answers_at, wait_until
from devstack.stack import ROOT
from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

# What a loop of the product does within half a minute, on a machine that is busy with more.
LOOP_S = 75
# A step that goes over the stand-in of Stripe and its webhooks.
STRIPE_S = 60


@contextmanager
def seat(
    browser: Browser, world: World, person: str, *, refused: frozenset[int] = frozenset()
) -> Iterator[Page]:
    """A page of somebody who is signed in, in whose console nothing complains but of the statuses
    ``refused``, which the browser reports there."""
    context = browser.new_context(
        viewport={"width": 1280, "height": 900}, storage_state=signed_in(browser, world, person)
    )
    context.set_default_timeout(15_000)
    page = context.new_page()
    complaints = complaints_of(page, world.stack.base_url)
    try:
        yield page
    finally:
        context.close()
    expected = {f"status of {status} " for status in refused}
    assert [each for each in complaints if not any(one in each for one in expected)] == []


def newcomer(world: World, name: str, amount: str, *, card: str = "4242424242424242") -> Person:
    """An organization of this test's own, with so much purchased credit."""
    person = join(world.stack, f"{name}@example.com", f"{name.capitalize()} Labs", RENTER_SCOPES)
    world.people[name] = person
    top_up(world.stack, person, amount, card=card)
    return person


def second_of_staff(world: World) -> Person:
    """Another member of the staff; made once."""
    if "staff_two" not in world.people:
        world.people["staff_two"] = make_staff(world.stack, "staff-two@example.com")
    return world.people["staff_two"]


@contextmanager
def an_hour_later(world: World) -> Iterator[str]:
    """Where the portal is served by a process for which it is an hour later, and a bit: the
    platform's only clock is the database's, and has a setting for that. All else is as it was."""
    port, moment = free_port(), world.now() + timedelta(hours=1, minutes=3)
    command = [
        *(sys.executable, "-m", "granian", "config.wsgi:application", "--interface", "wsgi"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *("--blocking-threads", "2", "--no-access-log", "--log-level", "warning"),
    ]
    clock = {"GPUYARD_PROCESS": "web", "PGOPTIONS": f"-c gpuyard.now={moment.isoformat()}"}
    supervisor = world.stack.supervisor
    later = supervisor.start("later", command, env={**world.stack.env, **clock}, cwd=ROOT)
    try:
        base = f"http://127.0.0.1:{port}"
        wait_until(answers_at(f"{base}/healthz"), "it is later", child=later, deadline_s=120)
        yield base
    finally:
        supervisor.discard(later)


def rent_dearest(world: World, person: Person) -> dict[str, Any]:
    """A whole machine of a partner's dearest cards, running: seconds of it are worth cents."""
    query = "/offers?ownership=partner&gpus=8&order=-price&limit=1"
    (offer,) = person.api.get(query)["items"]
    quote = person.api.post("/quotes", {"offer": offer["id"], "gpus": 8})
    wanted = {"name": "dear", "template": "ubuntu", "ssh_keys": [SSH_KEY], "max_hours": 2}
    rental = person.api.post("/rentals", {"quote": quote["id"], **wanted})
    world.until_state(person, rental["id"], "running", deadline_s=90)
    world.wait_pod(rental["id"], "ready")
    return rental


def used(world: World, rental: dict[str, Any]) -> dict[str, int]:
    """Sums of an ended rental's windows, once the last one is charged."""
    sums = (
        "SELECT extract(epoch FROM sum(to_ts - from_ts))::bigint AS seconds,"
        " max(u.price_micro_h)::bigint AS price_micro_h, sum(amount_micro)::bigint AS amount,"
        " sum(provider_micro)::bigint AS share,"
        " max(to_ts) > max(r.stop_ack_ts) - interval '5 seconds' AS whole"
        " FROM facts.usage u JOIN facts.rental r USING (rental_id) WHERE rental_id = %s"
    )
    found: list[dict[str, Any]] = []

    def charged() -> bool:
        found[:] = world.query(sums, uuid_of(rental["id"]))
        return bool(found[0]["whole"])

    world.until(charged, "its last second is charged", deadline_s=LOOP_S)
    return found[0]


def press(where: Page | Locator, name: str) -> None:
    where.get_by_role("button", name=name, exact=True).click()


def row_of(page: Page, text: str) -> Locator:
    """The row of a table in the page's content that says this."""
    return page.locator("main tbody tr", has_text=text)


def reload_until(
    world: World, page: Page, path: str, target: Locator, *, deadline_s: float = STRIPE_S
) -> None:
    """Look at a page again and again, as a person would, until it shows ``target``."""

    def shown() -> bool:
        page.goto(world.stack.base_url + path)
        return target.count() > 0

    world.until(shown, f"{path} shows {target}", deadline_s=deadline_s)


def moved(world: World, person: Person, kind: str) -> int:
    """What transactions of this kind moved on an organization's balance, in millionths."""
    rows = world.query(
        "SELECT coalesce(sum(e.amount_micro), 0)::bigint AS moved FROM facts.entry e"
        " JOIN facts.txn t USING (txn_id) JOIN facts.account a USING (account_id)"
        " WHERE a.kind = 'tenant' AND a.owner_id = %s AND t.kind = %s",
        uuid_of(person.organization),
        kind,
    )
    return int(rows[0]["moved"])


def paid(world: World, person: Person) -> str:
    """The id at Stripe of an organization's only payment."""
    (row,) = world.query(
        "SELECT stripe_id FROM facts.payment WHERE tenant_id = %s", uuid_of(person.organization)
    )
    return str(row["stripe_id"])


def contest(world: World, person: Person) -> dict[str, Any]:
    """The bank of whoever paid takes the payment back; the dispute as Stripe has it."""
    payment = paid(world, person)
    (charge,) = [one for one in world.stripe.objects("charge") if one["payment_intent"] == payment]
    return dict(world.stripe.order("dispute", charge=charge["id"]))
