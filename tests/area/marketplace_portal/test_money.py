"""Balance, top-up and card through Stripe's page, keys, prices, and the work of staff."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from billing.models import AutoTopUp, CardSetup, Invoice, PaymentMethod, TopUp
from kernel.ids import parse
from marketplace.models import ApiKey, Membership, Organization, Provider, User
from provisioner.models import Entry
from tests import market
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, visitor_of
from tests.authenticator import make_staff


def start(renter: Visitor, amount: str = "50.00") -> Any:
    return renter.send(renter.get("/billing"), "/billing/topups", amount=amount)


def topup_id(location: str) -> UUID:
    return parse("topup", location.rsplit("/", 1)[1])


def test_the_balance_page_shows_what_there_is(renter: Visitor) -> None:
    page = renter.get("/billing")
    assert "$1,000.00" in page.text
    assert "Credit added" in page.text


def test_what_can_be_spent_is_said_where_it_is_spent(renter: Visitor, provider: Visitor) -> None:
    """An owner's pages are about what comes in: a balance of $0.00 over them says nothing."""
    assert 'id="chip"' in renter.get("/rentals").text
    assert 'id="chip"' in provider.get("/").text, "where the owner would rent"
    assert 'id="chip"' not in provider.get("/provider").text


def test_a_top_up_goes_to_stripes_page_once_by_itself(renter: Visitor) -> None:
    answer = start(renter)
    assert answer.status_code == 303
    page = renter.get(answer["Location"])
    assert 'data-state="pending"' in page.text
    waiting = renter.get(answer["Location"], htmx=True)
    assert (waiting.status_code, "every 1s" in waiting.text) == (200, True)
    url = "https://checkout.stripe.example/c/pay/1"
    TopUp.objects.filter(id=topup_id(answer["Location"])).update(state="open", checkout_url=url)
    go = renter.get(answer["Location"], htmx=True)
    assert (go.status_code, go["HX-Redirect"]) == (204, url)
    stay = renter.get(answer["Location"], htmx=True)
    assert stay.status_code == 200, "whoever came back by the browser's button can stay"
    assert url in stay.text


def test_coming_back_waits_for_the_confirmation(renter: Visitor) -> None:
    answer = start(renter)
    assert TopUp.objects.latest("id").return_url.endswith("/billing/topups/return")
    back = renter.get("/billing/topups/return")
    assert back["Location"] == f"{answer['Location']}?returned=1"
    TopUp.objects.filter(id=topup_id(answer["Location"])).update(
        state="open", checkout_url="https://checkout.stripe.example/"
    )
    page = renter.get(back["Location"], htmx=True)
    assert "Waiting for Stripe" in page.text
    TopUp.objects.filter(id=topup_id(answer["Location"])).update(state="succeeded")
    done = renter.get(back["Location"], htmx=True)
    assert "Your balance is credited." in done.text
    assert "every" not in done.text
    assert Visitor().get("/billing/topups/return").status_code == 302


@pytest.mark.parametrize("amount", ["4.99", "10000.01", "-5", "ten", "1e3", "5.001", ""])
def test_amounts_that_are_none_are_refused(renter: Visitor, amount: str) -> None:
    before = TopUp.objects.count()
    page = start(renter, amount)
    assert page.status_code == 422
    assert 'aria-invalid="true"' in page.text
    assert TopUp.objects.count() == before


def test_a_form_sent_twice_is_one_top_up(renter: Visitor) -> None:
    page, before = renter.get("/billing"), TopUp.objects.count()
    first, second = (renter.send(page, "/billing/topups", amount="25.00") for _ in range(2))
    assert first["Location"] == second["Location"]
    assert TopUp.objects.count() == before + 1


def test_a_preset_amount_counts(renter: Visitor) -> None:
    answer = renter.send(renter.get("/billing"), "/billing/topups", preset="100")
    assert answer.status_code == 303
    assert TopUp.objects.latest("id").amount_micro == 100 * market.USD


def test_saving_a_card_starts_on_stripes_page(renter: Visitor) -> None:
    answer = renter.send(renter.get("/billing"), "/billing/cards")
    assert answer["Location"].startswith("/billing/cards/csu_")
    assert 'data-state="pending"' in renter.get(answer["Location"]).text
    assert CardSetup.objects.count() == 1


def test_a_viewer_cannot_pay(renter: Visitor) -> None:
    renter.person.principal.user.memberships.update(role="viewer")
    before = TopUp.objects.count()
    assert start(renter).status_code == 403
    assert TopUp.objects.count() == before


def test_an_api_keys_secret_is_shown_once(renter: Visitor) -> None:
    page = renter.get("/api-keys")
    fields = {"name": "ci", "scopes": ["rentals:read"], "days": "30"}
    made = renter.send(page, "/api-keys", **fields)
    key = ApiKey.objects.get(name="ci")
    secret = f"gy_live_{key.public_id[4:]}_"
    assert secret in made.text
    assert key.scopes == ["rentals:read"]
    again = renter.send(page, "/api-keys", **fields)
    assert secret not in again.text
    assert "shown once" in again.text
    assert ApiKey.objects.filter(name="ci").count() == 1
    assert secret not in renter.get("/api-keys").text
    renter.send(renter.get("/api-keys"), f"/api-keys/{key.public_id}/revoke")
    key.refresh_from_db()
    assert key.revoked_at is not None


def test_a_key_without_scopes_is_refused(renter: Visitor) -> None:
    page = renter.send(renter.get("/api-keys"), "/api-keys", name="ci", scopes="", days="30")
    assert page.status_code == 422
    assert "at least one scope" in page.text


def test_an_ssh_key_is_added_and_forgotten(renter: Visitor) -> None:
    fields = {"name": "<b>laptop", "public_key": market.SSH_KEY}
    renter.send(renter.get("/ssh-keys"), "/ssh-keys", **fields)
    page = renter.get("/ssh-keys")
    assert "&lt;b&gt;laptop" in page.text
    twice = renter.send(page, "/ssh-keys", **fields)
    assert twice.status_code == 422
    assert "is stored already" in twice.text
    key_id = renter.person.call("GET", "/ssh-keys")[1]["items"][0]["id"]
    renter.send(page, f"/ssh-keys/{key_id}/delete")
    assert renter.person.call("GET", "/ssh-keys")[1]["items"] == []


def test_an_ssh_key_that_is_forgotten_opens_no_machine(
    renter: Visitor, supply: market.Supply
) -> None:
    body = {"name": "laptop", "public_key": market.SSH_KEY}
    key_id = renter.person.call("POST", "/ssh-keys", body)[1]["id"]
    order = market.order(supply.offer, ssh_keys=[key_id])
    rental = renter.person.call("POST", "/rentals", order)[1]["id"]
    assert len(Entry.objects.get().authorized) == 1
    page = renter.get("/ssh-keys")
    assert renter.send(page, f"/ssh-keys/{key_id}/delete").status_code == 303
    assert Entry.objects.get().authorized == []
    assert renter.person.call("GET", f"/rentals/{rental}")[1]["ssh_keys"] == []
    assert "none of your machines lets it in" in renter.get("/ssh-keys").text


def test_a_provider_sees_cards_and_sets_prices(provider: Visitor, supply: market.Supply) -> None:
    assert supply.cluster.name in provider.get("/provider").text
    path = f"/provider/offers/{supply.offer.public_id}/price"
    assert f'action="{path}"' in provider.get("/provider/offers").text
    page = provider.get(f"{path}?price=3.25")
    assert supply.offer.price_micro_h == 2_000_000, "looking sets nothing"
    assert provider.send(page, path)["Location"] == "/provider/offers"
    assert supply.offer.price_micro_h == 3_250_000
    for bad in ("0", "-1", "abc", "5000"):
        refused = provider.send(page, path, price=bad)
        assert refused.status_code == 422
        assert 'id="price-error"' in refused.text
    assert supply.offer.price_micro_h == 3_250_000


def test_a_price_puts_a_draft_on_sale(supply: market.Supply) -> None:
    draft = market.make_supply(1, price=None, owner=supply.owner, region="us-east")
    provider = visitor_of(supply.owner)
    path = f"/provider/offers/{draft.offer.public_id}/price"
    assert provider.get("/provider").text.count("no price") == 1
    page = provider.get(f"{path}?price=0.65")
    assert "Set it and go on sale" in page.text
    provider.send(page, path)
    assert "no price" not in provider.get("/provider").text
    assert draft.offer.state == "active"


def test_nobody_prices_anothers_offer(renter: Visitor, supply: market.Supply) -> None:
    answer = renter.post(f"/provider/offers/{supply.offer.public_id}/price", {"price": "1"})
    assert answer.status_code == 404
    assert supply.offer.price_micro_h == 2 * market.USD


def test_anybody_may_apply_once(renter: Visitor) -> None:
    page = renter.get("/provider")
    answer = renter.send(page, "/provider/apply", description="Eight cards in Hamburg")
    assert answer["Location"] == "/provider/join"
    provider = Provider.objects.get(organization=renter.person.principal.org)
    assert provider.state == "applied"
    assert "Waits for approval" in renter.get("/provider").text


def staff_member() -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def test_staff_approve_and_bind_a_provider(renter: Visitor) -> None:
    renter.send(renter.get("/provider"), "/provider/apply", description="x")
    provider = Provider.objects.get(organization=renter.person.principal.org)
    staff = staff_member()
    others = market.make_renter("Others").principal.org
    person = User.objects.get(email="staff@example.com")
    Membership.objects.create(user=person, organization=others, role=Membership.Role.OWNER)
    assert renter.person.principal.org.name in staff.get("/staff/providers").text
    path = f"/staff/providers/{provider.public_id}"
    page = staff.get(path)
    areas = [each["area"].name for each in page.context["nav"]["areas"]]
    assert "provide" not in areas, "whoever looks at an owner is none"
    fields = {
        "idempotency_key": page.context["idempotency_key"],
        "ownership": "partner",
        "networks": "10.1.0.0/16\n10.2.0.0/16",
        "ports": "6443, 443",
    }
    refused = staff.post(path, {**fields, "networks": "not a network"})
    assert refused.status_code == 422
    assert staff.post(path, fields)["Location"] == path
    provider.refresh_from_db()
    assert provider.state == "approved"
    assert provider.allowed_networks == ["10.1.0.0/16", "10.2.0.0/16"]
    assert provider.allowed_ports == [6443, 443]


def test_staff_set_limits_and_close_a_period(renter: Visitor) -> None:
    staff, org = staff_member(), renter.person.principal.org
    path = f"/staff/organizations/{org.public_id}"
    page = staff.get(path)
    key = {"idempotency_key": page.context["idempotency_key"]}
    answer = staff.post(path, {**key, "credit_limit_micro": "500", "quota_gpus": "8"})
    assert answer["Location"] == path
    assert Organization.objects.get(pk=org.pk).quota_gpus == 8
    assert "$500.00" in staff.get(path).text
    closed = staff.send(staff.get(path), f"{path}/close-period")
    assert closed.status_code == 409
    assert "data-slug=" in closed.text, "nothing was charged, so there is nothing to invoice"
    assert not Invoice.objects.exists()
    assert staff.get("/staff/organizations/org_x").status_code == 404
    found = staff.get(f"/staff/organizations?email={renter.person.principal.user.email}")
    assert org.public_id in found.text


def test_a_renter_cannot_do_what_staff_do(renter: Visitor) -> None:
    org = renter.person.principal.org
    path = f"/staff/organizations/{org.public_id}"
    assert renter.post(path, {"credit_limit_micro": "500"}).status_code == 403
    assert renter.post(f"{path}/close-period", {"idempotency_key": "k"}).status_code == 403


def test_automatic_top_up_is_set_on_the_billing_page(renter: Visitor) -> None:
    form = {"enabled": "on", "threshold": "10", "target": "50", "daily_ceiling": "100"}
    refused = renter.send(renter.get("/billing"), "/billing/auto-topup", **form)
    assert (refused.status_code, "save a card first" in refused.text) == (422, True)
    PaymentMethod.objects.create(
        customer_id=renter.person.org,
        stripe_id="pm_1",
        brand="visa",
        last4="4242",
        exp_month=1,
        exp_year=2030,
    )
    page = renter.send(renter.get("/billing"), "/billing/auto-topup", **form)
    assert page.status_code == 303
    assert AutoTopUp.objects.get().target_micro == 50 * market.USD
    assert "On. $0.00 in the last 24 hours." in renter.get("/billing").text
    wrong = renter.send(renter.get("/billing"), "/billing/auto-topup", **{**form, "target": "5"})
    assert (wrong.status_code, 'aria-invalid="true"' in wrong.text) == (422, True)


def test_the_billing_address_is_asked_for_stored_and_shown(renter: Visitor, settings: Any) -> None:
    settings.GPUYARD_TAX_POINT = "use"
    assert "with each charge" in renter.get("/billing/tax").text
    form = {"country": "de", "postal_code": "10115", "tax_ids": "eu_vat DE123456789, us_ein 1-2"}
    wrong = renter.send(renter.get("/billing/tax"), "/billing/tax", **{**form, "tax_ids": "DE1"})
    assert (wrong.status_code, "with a space" in wrong.text) == (422, True)
    assert renter.send(renter.get("/billing/tax"), "/billing/tax", **form).status_code == 303
    page = renter.get("/billing/tax").text
    for part in ('value="DE"', 'value="10115"', "eu_vat DE123456789, us_ein 1-2", "not known yet"):
        assert part in page, part
    wrong = renter.send(renter.get("/billing/tax"), "/billing/tax", country="US", postal_code="")
    assert (wrong.status_code, "United States" in wrong.text) == (422, True)
