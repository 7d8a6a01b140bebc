"""Budgets with rows: what counts, what is refused, and to the second what is stopped."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from billing import facade as billing
from marketplace.models import Budget, EmailToken, Project, Rental
from marketplace.rentals import budgets
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from tests.area.marketplace_portal.visitors import visitor_of
from tests.area.marketplace_rentals.test_life import NOON, World, clock, world  # noqa: F401
from tests.market import USD, Renter, add_credit, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
NOTIFY = {"percent": 50, "action": "notify"}
STOP = {"percent": 100, "action": "stop"}
BLOCK = {"percent": 100, "action": "block_new"}


def make(renter: Renter, amount: str, *thresholds: dict[str, Any], **more: Any) -> dict[str, Any]:
    body = {"amount": amount, "thresholds": list(thresholds), **more}
    status, made = renter.call("POST", "/budgets", body)
    assert status == 201, made
    return dict(made)


def mails() -> list[str]:
    rows = EmailToken.objects.filter(purpose="money").order_by("id")
    return [about.partition("\n")[0] for about in rows.values_list("about", flat=True)]


def at(world: World, **after: float) -> int:  # noqa: F811
    world.seen(NOON + timedelta(**after))
    charging.charge()
    return budgets.sweep()


def test_a_budget_is_not_passed_by_more_than_the_sweep_lets_run(world):  # noqa: F811
    """2 USD an hour on a budget of 3: spent at 13:30, swept every 5 s, here at the worst moment."""
    made = make(world.renter, "3", NOTIFY, STOP)
    assert (made["spent"], made["committed"], made["reached"]) == ("0.0000", "2.0000", [])
    world.run()
    following.follow()
    assert at(world, minutes=44) == 0
    assert mails() == []
    at(world, minutes=45)
    at(world, minutes=61)
    assert mails() == ["50 % of the budget Acme is spent"]
    assert at(world, minutes=79) == 0
    assert world.show()["state"] == "running"
    at(world, minutes=80)
    shown = world.show()
    assert (shown["state"], shown["reason"]) == ("interrupting", "budget")
    assert shown["interrupt_at"] == "2026-03-01T13:30:00Z"
    assert at(world, minutes=89, seconds=59) == 0
    assert at(world, minutes=90, seconds=4) == 1
    shown = world.show()
    assert (shown["state"], shown["reason"], shown["fault"]) == ("stopping", "budget", "funds")
    assert at(world, minutes=90, seconds=9) == 0
    world.gone(NOON + timedelta(minutes=90, seconds=6))
    following.follow()
    spent = billing.spent(rental_refs=[world.rental.id])[world.rental.id]
    assert 3 * USD <= spent <= 3 * USD + 5 * 2 * USD // 3600
    assert mails()[-1] == "100 % of the budget Acme is spent"

    status, problem = world.renter.call("POST", f"{world.path}/actions", {"action": "start"})
    assert (status, problem["type"]) != (202, None)
    status, problem = world.renter.call("POST", "/rentals", order(world.supply.offer))
    assert (status, problem["type"]) == (403, "/problems/budget_exceeded")
    assert (problem["limit"], problem["budget"]) == ("3.0000", made["id"])
    assert Rental.objects.count() == 1


def test_a_raised_budget_withdraws_the_notice(world):  # noqa: F811
    made = make(world.renter, "3", STOP)
    world.run()
    following.follow()
    at(world, minutes=81)
    assert world.show()["state"] == "interrupting"
    assert world.renter.call("PATCH", f"/budgets/{made['id']}", {"amount": "9"})[0] == 200
    at(world, minutes=82)
    assert (world.show()["state"], world.show()["reason"]) == ("running", "notice_withdrawn")


def test_the_next_month_begins_at_nothing(world):  # noqa: F811
    make(world.renter, "100", BLOCK)
    add_credit(world.renter.org, 1000 * USD)
    world.run()
    following.follow()
    at(world, hours=3)
    (shown,) = world.renter.call("GET", "/budgets")[1]["items"]
    assert (shown["since"], shown["spent"]) == ("2026-03-01T00:00:00Z", "6.0000")
    at(world, days=30, hours=13)  # 1 April, 01:00
    (shown,) = world.renter.call("GET", "/budgets")[1]["items"]
    assert (shown["since"], shown["spent"]) == ("2026-04-01T00:00:00Z", "2.0000")


def test_holds_count_against_new_rentals_and_projects_apart(clock):  # noqa: F811
    renter, supply = make_renter(), make_supply(4)
    project = renter.call("POST", "/projects", {"name": "research"})[1]["id"]
    make(renter, "5", BLOCK, project=project)
    on_it = order(supply.offer, project=project)
    assert [renter.call("POST", "/rentals", on_it)[0] for _ in range(3)] == [202, 202, 403]
    assert renter.call("POST", "/rentals", order(supply.offer))[0] == 202
    assert Rental.objects.filter(project=Project.objects.get()).count() == 2


def test_budgets_that_say_nothing_are_refused(clock):  # noqa: F811
    renter = make_renter()
    make(renter, "5", NOTIFY)
    for body in (
        {"amount": "5", "thresholds": [NOTIFY]},  # there is one
        {"amount": "0", "thresholds": [NOTIFY]},
        {"amount": "5", "thresholds": []},
        {"amount": "5", "thresholds": [{"percent": 101, "action": "stop"}]},
        {"amount": "5", "thresholds": [{"percent": 10, "action": "delete"}]},
    ):
        assert renter.call("POST", "/budgets", body)[0] == 422, body
    foreign = make_renter().call("POST", "/projects", {"name": "theirs"})[1]["id"]
    body = {"amount": "5", "thresholds": [NOTIFY], "project": foreign}
    assert renter.call("POST", "/budgets", body)[0] == 404
    assert Budget.objects.count() == 1


def test_the_portal_sets_shows_and_removes_them(clock):  # noqa: F811
    visitor = visitor_of(make_renter())
    page = visitor.get("/billing/budgets")
    fields = {"amount": "25", "notify_at": "80", "then": "stop"}
    assert visitor.send(page, "/billing/budgets", **fields).status_code == 303
    (budget,) = Budget.objects.all()
    assert budget.thresholds == [{"percent": 80, "action": "notify"}, STOP]
    page = visitor.get("/billing/budgets")
    assert "$25.00" in page.text
    assert visitor.send(page, "/billing/budgets", **fields).status_code == 422
    visitor.send(page, f"/billing/budgets/{budget.public_id}/delete")
    assert Budget.objects.count() == 0
