"""A provider's money in the browser, and the staff page that pays it out."""

from __future__ import annotations

from datetime import timedelta

import pytest

from billing.contracts.payouts import LineState
from billing.models import PayoutAccount, PayoutLine
from billing.payouts import account
from billing.payouts.facts import AccountFact
from billing.payouts.mature import mature
from kernel.clock import hour_of, now
from marketplace.models import Provider, User
from tests.area.billing.conftest import USD, limit, open_org, rent, use, window
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, set_password, visitor_of
from tests.authenticator import enrol, make_staff
from tests.market import make_renter

BACKEND = "django.contrib.auth.backends.ModelBackend"


@pytest.fixture
def provider(transactional_db: None) -> Visitor:
    renter = make_renter("Cards Ltd", credit=0)
    set_password(renter.principal.user)
    status, _ = renter.call("POST", "/provider", {"contact_email": "ops@example.com"})
    assert status == 201
    return visitor_of(renter)


@pytest.fixture
def staff(transactional_db: None) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def earned(settings, micro: int) -> Provider:
    row = Provider.objects.get()
    settings.GPUYARD_MATURITY_DAYS = 0
    org = open_org()
    limit(org, 10_000 * USD)
    rental = rent(org, provider_ref=row.id, price_micro_h=micro * 2, provider_micro_h=micro)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    mature(provider_ref=row.id)
    return row


def test_a_provider_opens_its_account_and_is_paid(provider, staff, settings):
    row = earned(settings, 100 * USD)
    page = provider.get("/provider/payouts")
    assert "There is no payout account." in page.text
    assert 'href="/settings/second-factor"' in page.text
    bare = {"country": "DE", "password": PASSWORD, "code": "1", "idempotency_key": "a"}
    refused = provider.post("/provider/payouts", bare)
    assert (refused.status_code, "Your second factor is needed" in refused.text) == (403, True)
    app = enrol(provider.person.principal.user)
    provider.client.force_login(provider.person.principal.user, backend=BACKEND)
    page = provider.get("/provider/payouts")
    right = {"country": "DE", "password": PASSWORD, "code": app.code()}
    for wrong in ({"password": "not mine at all"}, {"code": "000000"}):
        assert provider.send(page, "/provider/payouts", **{**right, **wrong}).status_code == 422
    assert not PayoutAccount.objects.exists()
    sent = provider.send(page, "/provider/payouts", **right)
    assert (sent.status_code, sent["Location"]) == (303, "/provider/payouts")
    PayoutAccount.objects.update(
        link_url="https://connect.stripe.com/setup/x", link_expires_at=now() + timedelta(minutes=5)
    )
    page = provider.get("/provider/payouts")
    assert 'href="https://connect.stripe.com/setup/x"' in page.text
    assert 'name="country"' not in page.text

    account.created(row.id, AccountFact("acct_1", True, ()))
    page = provider.get("/provider/payouts")
    assert "connect.stripe.com" not in page.text, "its page opens once, and was used"
    assert "Payouts are held until" in page.text
    PayoutAccount.objects.update(held_until=now() - timedelta(seconds=1))
    assert "Payouts are held until" not in provider.get("/provider/payouts").text
    overview = staff.get("/staff/payouts")
    assert "Cards Ltd" in overview.text
    action = f"/staff/payouts/providers/{row.public_id}"
    assert staff.send(overview, f"{action}/hold", reason="a dispute").status_code == 303
    overview = staff.get("/staff/payouts")
    assert "Held by the platform: a dispute" in overview.text
    assert staff.send(overview, "/staff/payouts/run").status_code == 409
    assert staff.send(overview, f"{action}/release").status_code == 303
    assert staff.send(staff.get("/staff/payouts"), "/staff/payouts/run").status_code == 303
    line = PayoutLine.objects.get()
    assert (line.state, line.amount_micro) == (LineState.CLEARING, 90 * USD)
    assert "90.00" in provider.get("/provider/payouts").text

    month = f"{now():%Y-%m}"
    assert "Statement" in provider.get(f"/provider/statements/{month}").text
    answer = provider.client.get(f"/provider/statements/{month}/export.csv")
    assert b"closing" in answer.content


def test_two_agree_on_a_large_run_in_the_browser(provider, staff, settings):
    settings.GPUYARD_PAYOUT_APPROVAL_MICRO = 10 * USD
    row = earned(settings, 100 * USD)
    app = enrol(provider.person.principal.user)
    provider.client.force_login(provider.person.principal.user, backend=BACKEND)
    form = {"country": "DE", "password": PASSWORD, "code": app.code()}
    provider.send(provider.get("/provider/payouts"), "/provider/payouts", **form)
    account.created(row.id, AccountFact("acct_1", True, ()))
    PayoutAccount.objects.update(held_until=now() - timedelta(seconds=1))
    staff.send(staff.get("/staff/payouts"), "/staff/payouts/run")
    overview = staff.get("/staff/payouts")
    assert "staff@example.com" in overview.text
    assert "starts by itself" in overview.text  # there is no second person
    (line,) = PayoutLine.objects.all()
    from kernel.ids import public

    action = f"/staff/payouts/{public('payout_run', line.run_id)}"
    assert staff.send(overview, f"{action}/approve").status_code == 409
    make_staff(email="second@example.com", password=PASSWORD)
    second = Visitor()
    second.client.force_login(
        User.objects.get(email="second@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    assert second.send(second.get("/staff/payouts"), f"{action}/approve").status_code == 303
    line.refresh_from_db()
    assert line.state == LineState.CLEARING
    again = second.post(f"{action}/cancel", {"idempotency_key": "x"})
    assert again.status_code == 409


def test_staff_release_a_renter_on_review(provider, staff, settings):
    row = Provider.objects.get()
    renter = make_renter("New Renter", credit=100 * USD)
    rental = rent(renter.org, provider_ref=row.id, price_micro_h=8 * USD, provider_micro_h=4 * USD)
    use(window(rental, hour_of(now()) - timedelta(hours=1), 3600))
    overview = staff.get("/staff/payouts")
    assert "New Renter" in overview.text
    action = f"/staff/payouts/renters/{renter.principal.org.public_id}/release"
    assert staff.send(overview, action, note="knows them").status_code == 303
    assert "New Renter" not in staff.get("/staff/payouts").text


def test_statements_begin_with_the_first_share(provider: Visitor) -> None:
    page = provider.get("/provider/payouts").text
    assert "The first one comes with the first share." in page
    assert "/provider/statements/" not in page
    missing = provider.get(f"/provider/statements/{now():%Y-%m}")
    assert missing.status_code == 404
    assert missing.text.count("Open the catalogue") == 1
