"""The pages of webhooks: the secret once, what was sent, hostile answers as text."""

from __future__ import annotations

import re

from django.db import transaction

from kernel.clock import now
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.events import emit
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, ids, visitor_of

URL = "https://93.184.215.14/hooks"


def add(renter: Visitor) -> str:
    page = renter.send(renter.get("/webhooks"), "/webhooks", url=URL)
    assert page.status_code == 200, page.text
    return ids("whk", page.text)[0]


def test_a_webhook_is_made_and_its_secret_shown_once(renter: Visitor) -> None:
    form = renter.get("/webhooks")
    made = renter.send(form, "/webhooks", url=URL)
    assert re.search(r"whsec_[\w-]{43}", made.text)
    again = renter.send(form, "/webhooks", url=URL)
    assert "its secret was shown once" in again.text
    assert "whsec_" not in again.text
    assert WebhookEndpoint.objects.get().event_types == ["rental.*"]
    assert "whsec_" not in renter.get("/webhooks").text


def test_a_bad_address_is_said_and_the_form_keeps_what_was_written(renter: Visitor) -> None:
    form = renter.get("/webhooks")
    for url, words in [
        ("https://169.254.169.254/", "is not a public address"),
        ("http://93.184.215.14/", "Only https is used"),
        ("https://93.184.215.14/#x", "without a fragment"),
    ]:
        page = renter.send(form, "/webhooks", url=url)
        assert page.status_code == 422
        assert words in page.text
        assert url in page.text
    none = renter.send(form, "/webhooks", url=URL, event_types="")
    assert none.status_code == 422
    assert "at least one type" in none.text
    assert not WebhookEndpoint.objects.exists()


def test_deliveries_show_a_hostile_answer_as_text_and_can_be_sent_again(renter: Visitor) -> None:
    hook = add(renter)
    with transaction.atomic():
        emit(organization=renter.person.org, type="rental.running", object={"id": "x"}, cause="a")
    WebhookDelivery.objects.update(
        state="failed",
        attempts=3,
        reason="status",
        response_code=500,
        duration_ms=12,
        response_body="<script>alert(1)</script>",
        last_at=now(),
    )
    page = renter.get(f"/webhooks/{hook}")
    assert "&lt;script&gt;alert(1)" in page.text
    assert "another status than 2xx" in page.text
    assert "500 · 12 ms" in page.text
    delivery = WebhookDelivery.objects.get().public_id
    sent = renter.send(page, f"/webhooks/{hook}/deliveries/{delivery}/redeliver")
    assert (sent.status_code, sent["Location"]) == (303, f"/webhooks/{hook}")
    assert WebhookDelivery.objects.get().state == "pending"


def test_test_rotate_switch_and_delete(renter: Visitor) -> None:
    hook = add(renter)
    path = f"/webhooks/{hook}"
    assert renter.send(renter.get(path), f"{path}/test").status_code == 303
    assert "webhook.test" in renter.get(path).text
    rotated = renter.send(renter.get(path), f"{path}/rotate-secret")
    assert re.search(r"whsec_[\w-]{43}", rotated.text)
    assert "Old secret until" in rotated.text
    renter.send(renter.get(path), f"{path}/switch")
    off = renter.get(path)
    assert "Disabled as you asked" in off.text
    assert "Send a test event</button>" not in off.text
    renter.send(off, f"{path}/switch")
    assert WebhookEndpoint.objects.get().state == "enabled"
    assert renter.send(renter.get(path), f"{path}/delete")["Location"] == "/webhooks"
    assert renter.get(path).status_code == 404
    assert "No webhook yet" in renter.get("/webhooks").text


def test_another_organization_finds_nothing(renter: Visitor) -> None:
    hook = add(renter)
    other = visitor_of(market.make_renter("Other"))
    assert other.get(f"/webhooks/{hook}").status_code == 404
    for action in ("test", "switch", "delete"):
        page = other.post(f"/webhooks/{hook}/{action}", {"idempotency_key": "a"})
        assert page.status_code == 404
    assert hook not in other.get("/webhooks").text
    assert WebhookEndpoint.objects.get().deleted_at is None
