"""A provider's money over the API, and what staff do about it."""

from __future__ import annotations

import csv
import io
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail
from django.db import transaction

from billing.models import Account, PayoutAccount
from billing.payouts import account
from billing.payouts.facts import AccountFact
from billing.payouts.mature import mature
from kernel.clock import hour_of, now
from kernel.ids import new_id, public
from marketplace.accounts import mail as mails
from marketplace.accounts import second_factor
from marketplace.models import AuditEntry, IdempotencyKey, Provider, User
from tests.area.billing.conftest import USD, limit, open_org, rent, use, window
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import PASSWORD, Api
from tests.authenticator import App, enrol

OPEN = {"password": PASSWORD, "country": "DE"}


@pytest.fixture
def provider(owner: Api) -> Api:
    assert owner.post("provider", {"contact_email": "ops@example.com"}).status_code == 201
    return owner


def me_of(provider: Api) -> User:
    return User.objects.get(email=provider.get("me").data["user"]["email"])


@pytest.fixture
def app(provider: Api) -> App:
    return enrol(me_of(provider))


def open_account(provider: Api) -> None:
    body = {**OPEN, "code": enrol(me_of(provider)).code()}
    assert provider.post("provider/payout-account", body).status_code == 202


def earned(settings: Any, micro: int = 100 * USD) -> Provider:
    """Shares that are due to the only provider, past its first months."""
    row = Provider.objects.get()
    settings.GPUYARD_MATURITY_DAYS = 0
    org = open_org()
    limit(org, 10_000 * USD)
    rental = rent(org, provider_ref=row.id, price_micro_h=micro * 2, provider_micro_h=micro)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    Account.objects.filter(kind="provider_pending").update(created_at=now() - timedelta(days=100))
    assert mature(provider_ref=row.id) is not None
    return row


def receives(row: Provider) -> None:
    account.created(row.id, AccountFact("acct_1", True, ()))
    PayoutAccount.objects.update(held_until=now() - timedelta(seconds=1))


def test_a_payout_account_is_opened_with_password_and_code_and_a_mail(
    provider: Api, app: App
) -> None:
    body = {**OPEN, "code": app.code()}
    made = provider.post("provider/payout-account", body, Idempotency_Key="k-1")
    assert (made.status_code, made.data["state"], made.data["url"]) == (202, "pending", None)
    assert made.data["second_factor"] == "required"
    again = provider.post("provider/payout-account", body, Idempotency_Key="k-1")
    assert again.content == made.content, "the same request needs no other code"
    assert provider.get("provider/payout-account").data == made.data
    mails.deliver()
    me = provider.get("me").data["user"]["email"]
    told = [message.to[0] for message in mail.outbox if "72 hours" in message.body]
    assert sorted(told) == sorted([me, "ops@example.com"])
    assert AuditEntry.objects.filter(action="provider.payout_account").count() == 1
    kept = IdempotencyKey.objects.get(key="k-1")
    assert PASSWORD.encode() not in bytes(kept.answer)


def test_without_a_second_factor_it_is_refused_with_what_to_do(provider: Api) -> None:
    answer = provider.post("provider/payout-account", {**OPEN, "code": "123456"})
    assert (answer.status_code, answer.data["type"]) == (403, "/problems/second_factor_required")
    assert "POST /api/v1/second-factor" in answer.data["detail"]
    assert not PayoutAccount.objects.exists()


def test_a_wrong_and_a_used_code_open_nothing_and_ten_lock(provider: Api, app: App) -> None:
    used = app.code()
    with transaction.atomic():
        second_factor.spend(user=me_of(provider), code=used)
    for code in ["000000", used, *["111111"] * 7]:
        answer = provider.post("provider/payout-account", {**OPEN, "code": code})
        assert (answer.status_code, list(answer.data["errors"])) == (422, ["code"])
    provider.post("provider/payout-account", {**OPEN, "code": "000000"})
    right = provider.post("provider/payout-account", {**OPEN, "code": app.code()})
    assert right.status_code == 429  # locked
    assert not PayoutAccount.objects.exists()
    assert not AuditEntry.objects.filter(action="provider.payout_account").exists()


def test_a_change_is_told_to_the_old_address_and_holds_payouts(provider: Api, app: App) -> None:
    provider.post("provider/payout-account", {**OPEN, "code": app.code()})
    receives(Provider.objects.get())
    provider.patch("provider", {"contact_email": "thief@example.com"})
    mails.deliver()
    mail.outbox.clear()
    changed = provider.post("provider/payout-account", {"password": PASSWORD, "code": app.code()})
    assert changed.data["state"] == "active"
    assert changed.data["held_until"] > now().isoformat()
    mails.deliver()
    told = {message.to[0] for message in mail.outbox}
    assert {"ops@example.com", provider.get("me").data["user"]["email"]} <= told


def test_a_wrong_password_opens_nothing_and_locks_after_ten(provider: Api, app: App) -> None:
    right = OPEN | {"code": app.code()}
    wrong = right | {"password": "not mine at all"}
    for _ in range(9):
        answer = provider.post("provider/payout-account", wrong)
        assert (answer.status_code, list(answer.data["errors"])) == (422, ["password"])
    provider.post("provider/payout-account", wrong)
    assert provider.post("provider/payout-account", right).status_code == 429  # locked
    assert not PayoutAccount.objects.exists()


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"password": PASSWORD},
        {"password": PASSWORD, "country": "de"},
        {"password": PASSWORD, "country": "DE", "return_url": "javascript:alert(1)"},
    ],
)
def test_bad_requests_open_no_account(provider: Api, app: App, body: dict[str, str]) -> None:
    body = body | ({"code": app.code()} if body else {})
    assert provider.post("provider/payout-account", body).status_code == 422
    assert provider.get("provider/payout-account").status_code == 404


def test_earnings_say_how_far_each_share_is_and_when_it_is_paid(
    provider: Api, settings: Any
) -> None:
    earned(settings, 30 * USD)
    seen = provider.get("provider/earnings").data
    assert (seen["pending"], seen["due"], seen["paid"]) == ("0.0000", "30.0000", "0.0000")
    assert seen["blocked_by"] == ["There is no payout account."]
    (day,) = seen["days"]
    assert (day["accelerator"], day["unit_seconds"]) == ("nvidia-h100-80gb-sxm", 7200)
    assert day["share"] == "30.0000"
    assert provider.get("provider/earnings?from=2020-01-01&to=2020-01-31").data["days"] == []
    assert provider.get("provider/earnings?from=2020-01-01").status_code == 422
    assert provider.get("provider/earnings?from=soon").status_code == 400


def test_a_statement_adds_up_to_the_ledger_and_runs_no_formula(
    provider: Api, staff: Api, settings: Any
) -> None:
    row = earned(settings)
    open_account(provider)
    receives(row)
    assert staff.post("staff/payout-runs").status_code == 202
    month = f"{now():%Y-%m}"
    seen = provider.get(f"provider/statements/{month}").data
    assert [seen[name] for name in ("opening", "shares", "credits", "payouts", "closing")] == [
        "0.0000",
        "100.0000",
        "0.0000",
        "-100.0000",
        "0.0000",
    ]
    assert not seen["final"]
    answer = provider.client.get(
        f"/api/v1/provider/statements/{month}/export.csv",
        headers={"Authorization": f"Bearer {provider.key}"},
    )
    table = list(csv.reader(io.StringIO(answer.content.decode())))
    assert table[0] == ["at", "kind", "text", "amount", "currency"]
    assert [line[1] for line in table[1:]] == ["opening", "usage", "payout", "closing"]
    assert sum(float(line[3]) for line in table[2:-1]) == float(table[-1][3])
    for wrong in ("2020-01", "2999-01", "2026-13", "x"):
        assert provider.get(f"provider/statements/{wrong}").status_code == 404
    other = people.owner()
    other.post("provider", {"contact_email": "ops@example.com"})
    assert other.get(f"provider/statements/{month}").status_code == 404
    assert other.get("provider/payouts").data["items"] == []
    (payout,) = provider.get("provider/payouts").data["items"]
    assert (payout["state"], payout["amount"]) == ("clearing", "100.0000")
    assert payout["expected_at"] > now().isoformat()


def test_two_of_staff_pay_a_large_run(provider: Api, staff: Api, settings: Any) -> None:
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    second = people.api_of(people.staff())
    row = earned(settings)
    open_account(provider)
    receives(row)
    preview = staff.get("staff/payout-runs/preview").data
    assert (preview["total"], preview["approvals_needed"]) == ("100.0000", 2)
    assert preview["cash_available"] is None
    run = staff.post("staff/payout-runs").data
    assert (run["state"], run["actions"]) == ("waiting", ["approve", "cancel"])
    assert run["starts_at"] is None
    assert run["lines"][0]["provider"] == row.public_id
    mine = staff.post(f"staff/payout-runs/{run['id']}/approve")
    assert (mine.status_code, mine.data["type"]) == (409, "/problems/invalid_transition")
    done = second.post(f"staff/payout-runs/{run['id']}/approve")
    assert (done.status_code, done.data["state"]) == (202, "started")
    assert [one["id"] for one in staff.get("staff/payout-runs").data["items"]] == [run["id"]]
    assert staff.get(f"staff/payout-runs/{run['id']}").data["lines"][0]["state"] == "clearing"
    actions = AuditEntry.objects.filter(object=run["id"]).values_list("action", flat=True)
    assert sorted(actions) == ["payout_run.approve", "payout_run.make"]


def test_one_of_staff_alone_waits_a_day_with_an_audit_row(
    provider: Api, staff: Api, settings: Any
) -> None:
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 99 * USD
    row = earned(settings)
    open_account(provider)
    receives(row)
    assert User.objects.filter(is_staff=True).count() == 1
    run = staff.post("staff/payout-runs").data
    assert run["state"] == "waiting"
    assert run["starts_at"] > (now() + timedelta(hours=23)).isoformat()
    entry = AuditEntry.objects.get(action="payout_run.make")
    assert entry.details["starts_at"] is not None
    people.staff()
    assert staff.get(f"staff/payout-runs/{run['id']}").data["starts_at"] is None, "there are two"
    body = {"reason": "a wrong amount"}
    canceled = staff.post(f"staff/payout-runs/{run['id']}/cancel", body).data
    assert canceled["state"] == "canceled"
    assert canceled["lines"][0]["reason"] == "The run was given up. a wrong amount"
    assert AuditEntry.objects.get(action="payout_run.cancel").details["why"] == "a wrong amount"


def test_staff_hold_a_provider_and_release_it(provider: Api, staff: Api, settings: Any) -> None:
    row = earned(settings)
    body = {"provider": row.public_id, "reason": "a dispute"}
    for _ in range(2):
        assert staff.post("staff/payout-runs/hold", body).status_code == 200
    seen = provider.get("provider/earnings").data["blocked_by"]
    assert "Held by the platform: a dispute" in seen
    assert staff.post("staff/payout-runs", {}).status_code == 409
    for _ in range(2):
        answer = staff.post("staff/payout-runs/release", {"provider": row.public_id})
        assert answer.status_code == 200
    unknown = {"provider": public("provider", new_id()), "reason": "x"}
    assert staff.post("staff/payout-runs/hold", unknown).status_code == 404
    actions = AuditEntry.objects.filter(object=row.public_id).values_list("action", flat=True)
    assert sorted(set(actions)) == [
        "provider.apply",
        "provider.payout_hold",
        "provider.payout_release",
    ]
    assert len(actions) == 3


def test_staff_release_what_a_new_renter_used(provider: Api, staff: Api, settings: Any) -> None:
    row = Provider.objects.get()
    renter = people.owner().get("me").data["organization"]["id"]
    from kernel.ids import parse
    from tests.market import add_credit

    org = parse("organization", renter)
    add_credit(org, 100 * USD)
    rental = rent(org, provider_ref=row.id, price_micro_h=8 * USD, provider_micro_h=4 * USD)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    settings.GPUYARD_MATURITY_DAYS = 0
    assert mature(provider_ref=row.id) is None
    assert provider.get("provider/earnings").data["on_review"] == "4.0000"
    (review,) = staff.get("staff/earnings-reviews").data["items"]
    assert (review["organization"], review["share"], review["paid"]) == (
        renter,
        "4.0000",
        "100.0000",
    )
    answer = staff.post(f"staff/earnings-reviews/{renter}/release", {"note": "knows them"})
    assert answer.status_code == 200
    assert staff.get("staff/earnings-reviews").data["items"] == []
    with transaction.atomic():
        assert mature(provider_ref=row.id) is not None
