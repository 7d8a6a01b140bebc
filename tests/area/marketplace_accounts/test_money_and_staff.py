"""Billing operations of a renter, and what staff do with organizations."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from marketplace.models import AuditEntry, Organization
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api
from tests.market import add_credit


def test_a_fresh_organization_has_nothing(owner: Api) -> None:
    balance = owner.get("billing/balance").data
    assert (balance["available"], balance["credit_limit"]) == ("0.0000", "0.0000")
    assert (balance["currency"], balance["funds_end_at"]) == ("USD", None)
    for path in ("transactions", "topups", "payment-methods", "invoices", "usage"):
        assert owner.get(f"billing/{path}").data == {"items": [], "next_cursor": None}


def test_a_top_up_is_accepted_before_stripe_was_asked(owner: Api) -> None:
    body = {"amount": "25.00", "return_url": "https://example.com/back"}
    made = owner.post("billing/topups", body, Idempotency_Key="k-1")
    assert (made.status_code, made.data["amount"]) == (202, "25.0000")
    assert made.data["checkout_url"] is None
    assert owner.post("billing/topups", body, Idempotency_Key="k-1").content == made.content
    assert owner.get(f"billing/topups/{made.data['id']}").data == made.data
    assert [row["id"] for row in owner.get("billing/topups").data["items"]] == [made.data["id"]]
    other = people.owner()
    assert other.get(f"billing/topups/{made.data['id']}").status_code == 404
    assert other.get("billing/topups").data["items"] == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"amount": "0"}, 422),
        ({"amount": "-5"}, 422),
        ({"amount": 25}, 422),
        ({"amount": "25.005"}, 422),
        ({"amount": "1e3"}, 422),
        ({"amount": "9" * 30}, 422),
        ({"amount": "25", "currency": "EUR"}, 422),
        ({"amount": "25", "return_url": "javascript:alert(1)"}, 422),
        ({"amount": "25", "payment_method": "pay_unknown"}, 404),
        ({}, 422),
    ],
)
def test_bad_top_ups_are_refused(owner: Api, body: dict[str, Any], status: int) -> None:
    assert owner.post("billing/topups", body).status_code == status
    assert owner.get("billing/topups").data["items"] == []


def test_money_needs_a_proven_address(db: None) -> None:
    stranger = people.api_of(people.sign_up(verified=False))
    for path, body in (("topups", {"amount": "25"}), ("payment-methods", {})):
        answer = stranger.post(f"billing/{path}", body)
        assert (answer.status_code, answer.data["type"]) == (403, "/problems/email_unverified")


def test_saving_a_card_starts_on_stripes_page(owner: Api) -> None:
    made = owner.post("billing/payment-methods", {"return_url": "https://example.com/back"})
    assert (made.status_code, made.data["url"]) == (202, None)
    assert owner.get(f"billing/payment-methods/setups/{made.data['id']}").data == made.data
    other = people.owner()
    assert other.get(f"billing/payment-methods/setups/{made.data['id']}").status_code == 404


def test_staff_set_limits_and_say_so(owner: Api, staff: Api) -> None:
    me = owner.get("me").data
    address = f"staff/organizations/{me['organization']['id']}"
    found = staff.get(f"staff/organizations?email={me['user']['email'].upper()}").data["items"]
    assert [row["id"] for row in found] == [me["organization"]["id"]]
    assert found[0]["owner_email"] == me["user"]["email"]

    body = {"credit_limit": "500", "quota_gpus": 8, "spend_limit_per_hour": "40"}
    answer = staff.post(f"{address}/limit", body)
    assert (answer.status_code, answer.data["credit_limit"]) == (200, "500.0000")
    assert owner.get("billing/balance").data["spendable"] == "500.0000"
    after = owner.get("me").data
    assert (after["limits"]["quota_gpus"], after["spend_limit"]["per_hour"]) == (8, "40.0000")
    entry = AuditEntry.objects.get(action="organization.limit")
    assert (entry.actor[:10], entry.details["credit_limit"]) == ("staff:usr_", "500.0000")
    assert owner.get("audit-log?action=organization.limit").data["items"] != []

    assert staff.post(f"{address}/limit", {}).status_code == 422
    assert staff.post(f"{address}/limit", {"credit_limit": "-1"}).status_code == 422
    unknown = staff.post("staff/organizations/org_unknown/limit", {"credit_limit": "1"})
    assert unknown.status_code == 404


def test_the_list_of_organizations_asks_no_more_for_more_of_them(staff: Api, owner: Api) -> None:
    def asked() -> int:
        with CaptureQueriesContext(connection) as queries:
            listed = staff.get("staff/organizations").data["items"]
        assert all(row["owner_email"] and row["spend_limit_per_hour"] for row in listed)
        return len(queries)

    asked()
    one = asked()
    for _ in range(3):
        people.owner()
    assert asked() == one


def test_closing_an_empty_period_makes_no_invoice(owner: Api, staff: Api) -> None:
    organization = owner.get("me").data["organization"]["id"]
    staff.post(f"staff/organizations/{organization}/limit", {"credit_limit": "100"})
    answer = staff.post(f"staff/organizations/{organization}/close-period")
    assert (answer.status_code, answer.data["type"]) == (409, "/problems/invalid_transition")
    assert staff.get(f"staff/organizations/{organization}/invoices").data["items"] == []
    assert AuditEntry.objects.filter(action="organization.close_period").count() == 0


def test_the_books_balance(staff: Api, owner: Api) -> None:
    books = staff.get("staff/books").data
    assert (books["balanced"], books["unbalanced"]) == (True, 0)


def test_staff_have_no_organization_and_owners_are_no_staff(owner: Api, staff: Api) -> None:
    assert staff.get("me").data["organization"] is None
    for path in ("billing/balance", "provider", "rentals"):
        assert staff.get(path).status_code == 403
    assert staff.get("api-keys").status_code == 200
    for path in ("staff/providers", "staff/organizations", "staff/books"):
        assert owner.get(path).status_code == 403
    own = Organization.objects.get()
    mine = owner.post(f"staff/organizations/{own.public_id}/limit", {"credit_limit": "9"})
    assert mine.status_code == 403


def test_staff_lock_a_month_and_save_its_journal(db: None) -> None:
    person = people.staff()
    staff = people.api_of(person)
    assert staff.get("staff/months").data["items"] == []
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('gpuyard.now', '2026-03-05T00:00:00Z', false)")
        add_credit(people.acting(people.sign_up()).org.id, 25_000_000)
        cursor.execute("SELECT set_config('gpuyard.now', '', false)")
    listed = staff.get("staff/months").data["items"]
    assert listed[-1]["month"] == "2026-03"
    month = staff.get("staff/months/2026-03").data
    assert (month["state"], month["debit"], month["credit"]) == ("open", "25.0000", "25.0000")
    assert [line["code"] for line in month["accounts"]] == ["1000", "2000"]
    text = b"".join(staff.call("GET", "staff/journal?month=2026-03").streaming_content).decode()
    assert text.count("\r\n") == 3
    for bad in ("", "?month=2026-3", "?month=x"):
        assert staff.call("GET", f"staff/journal{bad}").status_code == 400
    locked = staff.post("staff/months/2026-03/lock", {})
    assert (locked.status_code, locked.data["state"]) == (202, "closing")
    again = staff.post("staff/months/2026-03/lock", {})
    assert (again.status_code, again.data["type"]) == (409, "/problems/invalid_transition")
    entry = AuditEntry.objects.get(action="month.lock")
    assert (entry.object, entry.actor) == ("2026-03", people.acting(person).staff_actor)
    client = Client()
    client.force_login(person)
    for page in ("/staff/months", "/staff/months/2026-03"):
        assert "Being locked" in client.get(page).content.decode()
