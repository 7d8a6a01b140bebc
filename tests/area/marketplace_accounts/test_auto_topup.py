"""The standing order through API and portal, and the mails about it."""

from __future__ import annotations

from django.core import mail as outbox
from django.test import RequestFactory

from billing.models import AutoTopUp, PaymentMethod, TopUp
from kernel.ids import parse, public
from marketplace.accounts import auto_topup, mail
from marketplace.http.address import client_address
from marketplace.models import AuditEntry, EmailToken, Organization
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api

BODY = {"enabled": True, "threshold": "10", "target": "50", "daily_ceiling": "100"}


def save_card(owner: Api) -> PaymentMethod:
    organization = parse("organization", owner.get("me").data["organization"]["id"])
    return PaymentMethod.objects.create(
        customer_id=organization,
        stripe_id=f"pm_{organization.hex}",
        brand="visa",
        last4="4242",
        exp_month=1,
        exp_year=2030,
    )


def test_the_order_is_set_shown_and_carried_out(owner: Api) -> None:
    assert owner.get("billing/auto-topup").data["state"] == "off"
    assert owner.call("PUT", "billing/auto-topup", BODY).status_code == 422  # no card yet
    card = save_card(owner)
    body = {**BODY, "payment_method": public("payment_method", card.id)}
    set_ = owner.call("PUT", "billing/auto-topup", body)
    assert (set_.status_code, set_.data["state"], set_.data["target"]) == (200, "on", "50.0000")
    assert owner.get("billing/auto-topup").data == set_.data
    assert AuditEntry.objects.get(action="auto_topup.set").details["target"] == "50.0000"
    assert auto_topup.run() == 1
    assert auto_topup.run() == 0
    shown = owner.get("billing/auto-topup").data
    assert (shown["state"], shown["charged_today"]) == ("waiting", "50.0000")
    assert owner.get("billing/topups").data["items"][0]["id"] == shown["last_topup"]
    foreign = people.owner()
    assert foreign.call("PUT", "billing/auto-topup", body).status_code == 404


def test_a_frozen_organizations_card_is_left_alone(owner: Api) -> None:
    save_card(owner)
    owner.call("PUT", "billing/auto-topup", BODY)
    Organization.objects.update(state=Organization.State.FROZEN)
    assert auto_topup.run() == 0
    assert owner.call("PUT", "billing/auto-topup", BODY).status_code == 403


def test_what_failed_is_told_by_mail_once(owner: Api) -> None:
    save_card(owner)
    owner.call("PUT", "billing/auto-topup", BODY)
    PaymentMethod.objects.update(state="detached")
    for _ in range(3):
        assert auto_topup.run() == 0
    assert AutoTopUp.objects.get().enabled is False
    assert EmailToken.objects.filter(purpose="money").count() == 1
    EmailToken.objects.exclude(purpose="money").delete()
    mail.deliver()
    (sent,) = outbox.outbox
    assert sent.subject == "Automatic top-up is switched off"
    assert "Save a card" in sent.body
    assert TopUp.objects.count() == 0


def test_too_many_attempts_are_429_with_the_time_to_wait(owner: Api) -> None:
    for _ in range(20):
        assert owner.post("billing/topups", {"amount": "5"}).status_code == 202
    answer = owner.post("billing/topups", {"amount": "5"})
    assert (answer.status_code, answer.data["type"]) == (429, "/problems/rate_limited")
    assert 0 < int(answer["Retry-After"]) <= 3600
    assert TopUp.objects.count() == 20


def test_only_a_trusted_proxy_says_whose_address_it_is(settings) -> None:
    def seen(peer: str, forwarded: str = "") -> str | None:
        headers = {"X-Forwarded-For": forwarded} if forwarded else {}
        return client_address(RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers))

    from ipaddress import ip_network

    assert seen("93.184.215.14") == "93.184.215.14"
    assert seen("93.184.215.14", "1.1.1.1") == "93.184.215.14", "anybody can write that header"
    assert seen("10.0.0.7", "1.1.1.1") is None, "everybody behind it looks the same"
    settings.GPUYARD_TRUSTED_PROXIES = (ip_network("10.0.0.0/8"),)
    assert seen("10.0.0.7", "1.1.1.1") == "1.1.1.1"
    assert seen("10.0.0.7", "8.8.8.8, 1.1.1.1, 10.0.0.9") == "1.1.1.1"
    assert seen("10.0.0.7", "nonsense") is None
