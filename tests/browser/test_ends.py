"""What a renter sees when a rental ends that nobody ended: it was forgotten, or the money ran out.

Only time is shortened, by moving back when the machine began, fell quiet or was to be stopped. All
else is done as it is done outside: reports with the machine's own token, limits set by staff.
"""

from __future__ import annotations

import base64
import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from devstack.people import Person
from devstack.platform_api import PlatformApi, ProblemError
from devstack.play import SSH_KEY, uuid_of
from tests.browser.people import signed_in
from tests.browsers import complaints_of
from tests.whole_stack import World

# The usual limit holds the start of the stack as well, which takes minutes where cores are few.
pytestmark = [pytest.mark.browser, pytest.mark.live, pytest.mark.timeout(600)]

START_S = 90
IDLE_MINUTES = 15
# Idle cards are looked for every fifteen seconds, money every five; the machine is busy meanwhile.
LOOK_MS = 60_000
STOP_MS = 120_000
# Until when data is kept is settled once a minute.
KEPT_MS = 90_000
# What happened waits twenty seconds for more of its kind, and mails are sent every half minute.
MAIL_S = 120
# What is left when the notice comes; shorter, and a busy machine shows only the stop.
LEFT = timedelta(seconds=60)
HOUR = timedelta(hours=1)

# Of a rental, by so much, as `earlier` gives them.
_GIVEN = "WITH given AS (SELECT %s::uuid AS rental, %s::interval AS ago)"
# As if it had begun so much earlier: the proof of its cards, and its meter with it.
BEGAN = f"""{_GIVEN}, proof AS (
  UPDATE provisioner_readyinterval SET opened_at = opened_at - ago, charged_to = charged_to - ago
    FROM given WHERE rental_ref = rental AND closed_at IS NULL RETURNING 1
), meter AS (
  UPDATE billing_rentalmeter SET running_since = running_since - ago,
         paid_until = paid_until - ago
    FROM given WHERE rental_ref = rental AND charged_until IS NULL RETURNING 1
), shown AS (
  UPDATE marketplace_rental SET ready_at = ready_at - ago, created_at = created_at - ago,
         state_since = state_since - ago
    FROM given WHERE id = rental RETURNING 1
) SELECT * FROM proof, meter, shown
"""
FELL_QUIET = f"""{_GIVEN}
UPDATE provisioner_reporter SET quiet_since = quiet_since - ago
  FROM given, provisioner_instance i
 WHERE rental_ref = rental AND instance_id = i.id AND quiet_since IS NOT NULL RETURNING 1
"""
FALLS_DUE = f"""{_GIVEN}
UPDATE marketplace_rental SET interrupt_at = interrupt_at - ago
  FROM given WHERE id = rental AND state = 'interrupting' RETURNING 1
"""


def test_forgotten_cards_are_told_of_and_stopped(browser: Browser, world: World) -> None:
    person = world.people["second_renter"]
    rental = world.rent(person)
    try:
        world.until_state(person, rental["id"], "running", deadline_s=START_S)
        machine = Machine(world, rental["id"])
        with opened(browser, world, "second_renter", f"/rentals/{rental['id']}/edit") as page:
            page.get_by_label("Stop when idle").select_option(str(IDLE_MINUTES))
            page.locator("main").get_by_role("button", name="Save").click()
            page.wait_for_url(f"**/rentals/{rental['id']}")
            page.evaluate("window.unchanged = true")
            earlier(world, BEGAN, rental, timedelta(minutes=IDLE_MINUTES + 5))
            idle_for(world, machine, rental, timedelta(minutes=IDLE_MINUTES + 5))
            told_of_idleness(page, world)
            machine.report(90)
            expect(state(page)).to_have_attribute("data-state", "running", timeout=LOOK_MS)
            expect(page.locator("#rental-head .notice")).to_have_count(0)
            idle_for(world, machine, rental, timedelta(minutes=IDLE_MINUTES + 5))
            told_of_idleness(page, world)
            earlier(world, FALLS_DUE, rental, timedelta(minutes=6))
            machine.report(0)
            stopped_for_idleness(page, world, person, rental)
            assert page.evaluate("window.unchanged"), "the page follows without being loaded again"
        mailed(world, person, rental, "Its cards do nothing: it will be stopped at")
        mailed(world, person, rental, "It was idle for as long as you set.")
    finally:
        world.end(person, rental["id"])


def test_money_that_runs_out_is_told_of_and_stops_without_a_debt(
    browser: Browser, world: World
) -> None:
    person, staff = world.people["postpaid"], world.people["staff"]
    allowed = person.api.get("/billing/balance")["credit_limit"]
    rental = rent_a_dear_machine(person)
    try:
        world.until_state(person, rental["id"], "running", deadline_s=START_S)
        with opened(browser, world, "postpaid", f"/rentals/{rental['id']}") as page:
            page.evaluate("window.unchanged = true")
            limit = limit_to_what_is_held(person, staff)
            earlier(world, BEGAN, rental, HOUR - LEFT)
            told_of_lacking_money(page, world)
            stopped_for_lack_of_money(page, world)
            assert page.evaluate("window.unchanged"), "the page follows without being loaded again"
            spent = settled(world, person, rental)
            assert Decimal(rental["price"]) * 9 / 10 < spent <= limit, "most of an hour, no debt"
            assert Decimal(person.api.get("/billing/balance")["spendable"]) >= 0
            assert sum(exported(page, world, rental)) == spent, "the file holds what was charged"
            set_limit(person, staff, allowed)
            start_again(page, world, rental)
        mailed(world, person, rental, "The balance lasts until")
        mailed(world, person, rental, "Stopped, and not charged since")
    finally:
        set_limit(person, staff, allowed)
        world.end(person, rental["id"])


@contextmanager
def opened(browser: Browser, world: World, person: str, path: str) -> Iterator[Page]:
    """A page of this person's, about which nothing may complain."""
    context = browser.new_context(storage_state=signed_in(browser, world, person))
    try:
        page = context.new_page()
        complaints = complaints_of(page, world.stack.base_url)
        page.goto(world.stack.base_url + path)
        yield page
        assert complaints == []
    finally:
        context.close()


def earlier(world: World, statement: str, rental: dict[str, Any], ago: timedelta) -> None:
    """Move what the statement names back by so much."""
    moved = world.query(statement, uuid_of(rental["id"]), ago)
    assert len(moved) == 1, "time passed for exactly one thing"


def state(page: Page) -> Locator:
    return page.locator("#rental-head .badge")


def soon(page: Page, world: World, *, within: timedelta) -> None:
    """The notice at the head of the page names a moment that is to come, and so soon."""
    shown = page.locator("#rental-head .notice time").first
    at = datetime.fromisoformat(str(shown.get_attribute("datetime")))
    assert timedelta(0) < at - world.now() <= within, at


# --- idle


class Machine:
    """The reporter of a rental's machine, with the token that its pod was given."""

    def __init__(self, world: World, rental_id: str) -> None:
        pod = world.wait_pod(rental_id, "ready")
        node = str(pod.spec["nodeName"])
        (witness,) = (each for name, each in world.witnesses.items() if node.startswith(name))
        path = f"/api/v1/namespaces/{pod.namespace}/secrets/{pod.name}-env"
        secret = witness.api.get(path)
        token = base64.b64decode(secret["data"]["report-token"]).decode()
        self._world, self._api = world, PlatformApi(world.stack.base_url, token)

    def report(self, percent: int) -> None:
        """So much does its one card do. Taken as soon as it may be: more than one in five seconds
        is refused."""
        self._world.until(lambda: self._taken(percent), "the report is taken")

    def _taken(self, percent: int) -> bool:
        card = {"gpu_percent": percent, "memory_used_bytes": 0, "memory_total_bytes": 2**30}
        body = {"at": self._world.now().isoformat(), "devices": [{"id": "GPU-0", **card}]}
        try:
            self._api.post("/instance-reports", body)
        except ProblemError as problem:
            if problem.status != 429:
                raise
            return False
        return True


def idle_for(world: World, machine: Machine, rental: dict[str, Any], ago: timedelta) -> None:
    machine.report(0)
    earlier(world, FELL_QUIET, rental, ago)
    machine.report(0)


def told_of_idleness(page: Page, world: World) -> None:
    expect(state(page)).to_have_attribute("data-state", "interrupting", timeout=LOOK_MS)
    notice = page.locator("#rental-head .notice")
    expect(notice).to_contain_text("Will be stopped at")
    expect(notice).to_contain_text("Its cards do nothing. When one of them works before that")
    soon(page, world, within=timedelta(minutes=5))
    expect(notice.get_by_role("link", name="Change the idle stop")).to_be_visible()


def stopped_for_idleness(page: Page, world: World, person: Person, rental: dict[str, Any]) -> None:
    expect(state(page)).to_have_attribute("data-state", "stopped", timeout=STOP_MS)
    head = page.locator("#rental-head")
    expect(head).to_contain_text("Its cards did nothing for as long as you set.")
    expect(head.get_by_role("link", name="Start", exact=True)).to_be_visible()
    costs = page.locator("#rental-stats .stat", has_text="Per hour while stopped")
    expect(costs.locator(".stat__value")).to_have_text("$0.00")
    expect(page.locator("#rental-timeline")).to_contain_text("It was idle for as long as you set.")
    spent, shown = settled(world, person, rental), page.locator("#rental-stats .stat__value").first
    world.until(lambda: Decimal(shown.inner_text().lstrip("$")) == spent > 0, "it says its cost")


def settled(world: World, person: Person, rental: dict[str, Any]) -> Decimal:
    """Wait until its last second is charged, none of them after the stop; what it cost."""
    ref = uuid_of(rental["id"])
    world.until(
        lambda: bool(
            world.query(
                "SELECT 1 FROM marketplace_rental WHERE id = %s AND settled_at IS NOT NULL", ref
            )
        ),
        "its last second is charged",
    )
    found = person.api.get(f"/rentals/{rental['id']}")
    (last,) = world.query("SELECT max(to_ts) AS at FROM facts.usage WHERE rental_id = %s", ref)
    assert last["at"] <= datetime.fromisoformat(found["stop_ack_at"])
    assert world.open_holds(rental["id"]) == 0, "its cards are given back"
    return Decimal(found["spent"])


# --- money


def rent_a_dear_machine(person: Person) -> dict[str, Any]:
    """A whole one of a partner's, so that seconds show in cents."""
    found = person.api.get("/offers?ownership=partner&gpus=8&order=-price&limit=1")["items"]
    quote = person.api.post("/quotes", {"offer": found[0]["id"], "gpus": 8})
    what = {"quote": quote["id"], "template": "ubuntu", "ssh_keys": [SSH_KEY]}
    return person.api.post("/rentals", {**what, "name": "dear", "max_hours": 4})


def set_limit(person: Person, staff: Person, limit: str) -> None:
    path = f"/staff/organizations/{person.organization}/limit"
    staff.api.post(path, {"credit_limit": limit})


def limit_to_what_is_held(person: Person, staff: Person) -> Decimal:
    """The least that staff can set: what is held for the first hour stays held."""
    balance = person.api.get("/billing/balance")
    owed = Decimal(balance["credit_limit"]) - Decimal(balance["spendable"])
    set_limit(person, staff, str(owed))
    return owed


def told_of_lacking_money(page: Page, world: World) -> None:
    expect(state(page)).to_have_attribute("data-state", "interrupting", timeout=LOOK_MS)
    notice = page.locator("#rental-head .notice")
    expect(notice).to_contain_text("Will be stopped at")
    expect(notice).to_contain_text("The balance lasts until then.")
    soon(page, world, within=LEFT)
    expect(page.locator("#funds-notice")).to_contain_text("Your balance lasts until")
    top_up = notice.get_by_role("link", name="Top up")
    expect(top_up).to_have_attribute("href", "/billing#top-up")
    expect(page.locator("#rental-timeline")).to_contain_text("The balance lasts until")


def stopped_for_lack_of_money(page: Page, world: World) -> None:
    expect(state(page)).to_have_attribute("data-state", "stopped", timeout=STOP_MS)
    notice = page.locator("#rental-head .notice")
    expect(notice).to_contain_text("The balance is used up. Top up, then start it again.")
    expect(notice).to_contain_text("It is kept, with its volumes, until", timeout=KEPT_MS)
    soon(page, world, within=timedelta(days=7))
    expect(page.locator("#funds-notice")).to_contain_text("Your balance is used up")
    expect(notice.get_by_role("link", name="Top up")).to_be_visible()
    expect(page.locator("#rental-timeline")).to_contain_text("The balance is used up.")


def exported(page: Page, world: World, rental: dict[str, Any]) -> list[Decimal]:
    """The rental's amounts in the file that the page of usage offers."""
    page.goto(f"{world.stack.base_url}/billing/usage?from={world.now() - 2 * HOUR:%Y-%m-%d}")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save as CSV").click()
    saved = Path(download.value.path())
    with saved.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["rental"] == rental["id"]]
    assert rows, "what was charged is in the file"
    return [Decimal(row["amount"]) for row in rows]


def start_again(page: Page, world: World, rental: dict[str, Any]) -> None:
    page.goto(f"{world.stack.base_url}/rentals/{rental['id']}")
    page.locator("#start").click()
    page.get_by_role("dialog").get_by_role("button", name="Start", exact=True).click()
    expect(state(page)).to_have_attribute("data-state", "running", timeout=START_S * 1000)


# --- mail


def mailed(world: World, person: Person, rental: dict[str, Any], words: str) -> None:
    """A mail to this person with these words, and what the rental is called."""

    def there() -> bool:
        for path in world.stack.mail.glob("*"):
            text = path.read_text(errors="replace").replace("=\n", "")
            for part in re.split(r"^-{70,}$", text, flags=re.MULTILINE):
                plain = " ".join(part.split())
                if f"To: {person.email}" in plain and words in plain and rental["name"] in plain:
                    return True
        return False

    world.until(there, f"a mail with: {words}", deadline_s=MAIL_S)
