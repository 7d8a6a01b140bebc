"""The operations: what they store, what they show once, what they refuse, what they write down."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.conf import settings as configured
from django.core import mail

from kernel.ids import new_id, public
from kernel.sealed import CannotOpen, unseal
from marketplace.accounts.mail import deliver as deliver_mail
from marketplace.models import (
    AuditEntry,
    EmailToken,
    IdempotencyKey,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from marketplace.webhooks import deliver, health
from marketplace.webhooks.endpoints import LIMIT
from tests.area.marketplace_webhooks.hooks import make_hook, states, tell
from tests.market import Renter, make_renter
from tests.receivers import Answer, Receiver

Receive = Callable[..., Receiver]
URL = "https://93.184.215.14/hook"
START = datetime(2026, 3, 2, 9, tzinfo=UTC)


def actions(renter: Renter) -> list[str]:
    rows = AuditEntry.objects.filter(organization_ref=renter.org, action__startswith="webhook")
    return list(rows.order_by("id").values_list("action", flat=True))


def test_a_secret_is_shown_once_and_sealed_at_rest(renter: Renter) -> None:
    body, key = {"url": URL, "event_types": ["rental.*", "rental.running"]}, new_id().hex
    first = renter.call("POST", "/webhooks", body, key=key)
    again = renter.call("POST", "/webhooks", body, key=key)
    status, made = first
    secret = made.pop("secret")
    assert (status, secret[:6], len(secret)) == (201, "whsec_", 49)
    assert again == (201, {**made, "secret": None, "shown_once": True})
    assert made["event_types"] == ["rental.*"], "a wider type holds the narrower one"
    assert (made["state"], made["reason"]) == ("enabled", "created")
    assert made["actions"] == ["disable", "rotate_secret", "test"]
    assert renter.call("GET", f"/webhooks/{made['id']}") == (200, made)
    assert renter.call("GET", "/webhooks")[1]["items"] == [made]
    row = WebhookEndpoint.objects.get()
    assert secret.encode() not in bytes(row.secret_sealed)
    assert secret.encode() not in bytes(IdempotencyKey.objects.get(key=key).answer)
    opened = partial(unseal, key=configured.GPUYARD_SEALING_KEY, field="webhook secret")
    assert opened(bytes(row.secret_sealed), owner=row.public_id) == secret.encode()
    other = public("webhook", new_id())
    with pytest.raises(CannotOpen):
        opened(bytes(row.secret_sealed), owner=other)
    assert actions(renter) == ["webhook.create"]
    assert secret not in str(AuditEntry.objects.values_list("details"))


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"url": URL, "event_types": []}, "event_types"),
        ({"url": URL, "event_types": ["rental.runing"]}, "event_types"),
        ({"url": URL, "event_types": ["webhook.test"]}, "event_types"),
        ({"url": URL, "event_types": "rental.*"}, "event_types"),
        ({"url": URL}, "event_types"),
        ({"event_types": ["*"]}, "url"),
        ({"url": "hook", "event_types": ["*"]}, "type"),
        ({"url": "https://", "event_types": ["*"]}, "url"),
        ({"url": "https://a.example/#x", "event_types": ["*"]}, "url"),
        ({"url": "https://a.example:99999/", "event_types": ["*"]}, "url"),
        ({"url": " https://a.example/", "event_types": ["*"]}, "url"),
        ({"url": "https://a.example/\n", "event_types": ["*"]}, "url"),
        ({"url": "https://" + "a" * 500, "event_types": ["*"]}, "url"),
        ({"url": URL, "event_types": ["*"], "secret": "mine"}, "secret"),
    ],
)
def test_mistakes_are_named_and_nothing_is_stored(
    renter: Renter, body: dict[str, Any], field: str
) -> None:
    status, problem = renter.call("POST", "/webhooks", body)
    assert status == 422, problem
    if field == "type":  # no scheme at all is a matter of the address rules
        assert problem["type"] == "/problems/address_forbidden"
    else:
        assert field in problem["errors"]
    assert not WebhookEndpoint.objects.exists()
    assert not IdempotencyKey.objects.filter(organization_ref=renter.org).exists()


def test_a_mistyped_type_is_answered_with_the_nearest(renter: Renter) -> None:
    _, problem = renter.call("POST", "/webhooks", {"url": URL, "event_types": ["rental.runing"]})
    assert 'did you mean "rental.running"?' in problem["errors"]["event_types"][0]


def test_there_is_a_limit_per_organization(renter: Renter) -> None:
    for number in range(LIMIT):
        make_hook(renter, f"{URL}/{number}")
    status, problem = renter.call("POST", "/webhooks", {"url": URL, "event_types": ["*"]})
    assert (status, "delete one first" in problem["errors"]["url"][0]) == (422, True)
    make_hook(make_renter("Other"), URL)


def test_the_unverified_make_none(transactional_db: None) -> None:
    renter = make_renter(verified=False)
    status, problem = renter.call("POST", "/webhooks", {"url": URL, "event_types": ["*"]})
    assert (status, problem["type"]) == (403, "/problems/email_unverified")


def test_rotation_signs_with_both_until_the_overlap_is_over(
    receive: Receive, renter: Renter, at: Callable[[datetime], None]
) -> None:
    receiver = receive()
    at(START)
    hook = make_hook(renter, receiver.url)
    key = new_id().hex
    path, body = f"/webhooks/{hook['id']}/rotate-secret", {"overlap_seconds": 3600}
    status, rotated = renter.call("POST", path, body, key=key)
    assert (status, rotated["secret"] != hook["secret"]) == (200, True)
    assert rotated["previous_secret_until"] == "2026-03-02T10:00:00Z"
    assert renter.call("POST", path, body, key=key)[1]["secret"] is None
    for minutes in (0, 59, 60):
        at(START + timedelta(minutes=minutes))
        tell(renter)
        deliver.run()
    both, still, after = receiver.requests
    assert both.signed_by(hook["secret"])
    assert both.signed_by(rotated["secret"])
    assert still.headers["Gpuyard-Signature"].count("v1=") == 2
    assert after.headers["Gpuyard-Signature"].count("v1=") == 1
    assert after.signed_by(rotated["secret"])
    assert not after.signed_by(hook["secret"])
    _, last = renter.call("POST", path, {"overlap_seconds": 0})
    tell(renter)
    deliver.run()
    leaked = receiver.requests[-1]
    assert leaked.signed_by(last["secret"])
    assert not leaked.signed_by(rotated["secret"]), "a leaked secret ends at once"
    assert renter.call("POST", path, {"overlap_seconds": -1})[0] == 422
    assert renter.call("POST", path, {"overlap_seconds": 8 * 86400})[0] == 422


def test_a_test_event_comes_whatever_the_endpoint_wants(receive: Receive, renter: Renter) -> None:
    receiver = receive()
    hook = make_hook(renter, receiver.url, "invoice.paid")
    make_hook(renter, f"{receiver.url}/other")
    status, ordered = renter.call("POST", f"/webhooks/{hook['id']}/test")
    assert (status, ordered["state"], ordered["type"]) == (202, "pending", "webhook.test")
    assert deliver.run() == 1
    (request,) = receiver.requests
    assert request.event["id"] == ordered["event"]
    assert request.event["data"]["object"]["id"] == hook["id"]
    assert "secret" not in request.event["data"]["object"]
    _, listed = renter.call("GET", f"/webhooks/{hook['id']}/deliveries")
    (shown,) = listed["items"]
    assert (shown["id"], shown["state"], shown["response_code"]) == (
        ordered["id"], "succeeded", 200,
    )  # fmt: skip
    assert shown["next_at"] is None


def test_an_event_is_sent_again_with_the_same_id(receive: Receive, renter: Renter) -> None:
    receiver = receive()
    hook = make_hook(renter, receiver.url)
    tell(renter)
    deliver.run()
    delivery = WebhookDelivery.objects.get().public_id
    path = f"/webhooks/{hook['id']}/deliveries/{delivery}/redeliver"
    key = new_id().hex
    status, again = renter.call("POST", path, key=key)
    assert (status, again["state"], again["attempts"]) == (202, "pending", 0)
    assert renter.call("POST", path, key=key) == (202, again)
    deliver.run()
    assert receiver.events() == [again["event"]] * 2
    assert (WebhookEvent.objects.count(), states()) == (1, ["succeeded"])
    assert actions(renter) == ["webhook.create", "webhook.redeliver"]


def test_a_delivery_belongs_to_its_endpoint(renter: Renter) -> None:
    mine, second = make_hook(renter, f"{URL}/1"), make_hook(renter, f"{URL}/2", "topup.*")
    tell(renter)
    delivery = WebhookDelivery.objects.get().public_id
    status, _ = renter.call("POST", f"/webhooks/{second['id']}/deliveries/{delivery}/redeliver")
    assert status == 404
    other = make_renter("Other")
    theirs = make_hook(other, URL)
    for hook in (mine, theirs):
        path = f"/webhooks/{hook['id']}/deliveries/{delivery}/redeliver"
        assert other.call("POST", path)[0] == 404


def test_deliveries_are_filtered_by_state_and_paged(renter: Renter) -> None:
    hook = make_hook(renter, URL)
    for _ in range(5):
        tell(renter)
    newest = WebhookDelivery.objects.order_by("-id")[0]
    WebhookDelivery.objects.filter(id=newest.id).update(state="failed", reason="timeout")
    path = f"/webhooks/{hook['id']}/deliveries"
    _, failed = renter.call("GET", f"{path}?state=failed")
    assert [row["id"] for row in failed["items"]] == [newest.public_id]
    assert failed["items"][0]["reason_text"] == "The receiver did not answer within 10 seconds."
    _, first = renter.call("GET", f"{path}?limit=3")
    _, rest = renter.call("GET", f"{path}?limit=3&cursor={first['next_cursor']}")
    assert len({row["id"] for row in first["items"] + rest["items"]}) == 5
    for query in ("state=lost", "type=x", "state=failed&state=failed"):
        assert renter.call("GET", f"{path}?{query}")[0] == 400


def test_a_disabled_endpoint_gets_nothing_and_refuses_tests(
    receive: Receive, renter: Renter
) -> None:
    receiver = receive()
    hook = make_hook(renter, receiver.url)
    tell(renter)
    path = f"/webhooks/{hook['id']}"
    status, off = renter.call("PATCH", path, {"state": "disabled"})
    assert (status, off["state"], off["reason"]) == (200, "disabled", "disabled_by_user")
    assert off["actions"] == ["enable", "rotate_secret"]
    tell(renter)
    assert deliver.run() == 0
    assert (receiver.connections, states()) == (0, ["pending"])
    delivery = WebhookDelivery.objects.get().public_id
    for action in ("/test", f"/deliveries/{delivery}/redeliver"):
        refused, problem = renter.call("POST", path + action)
        assert (refused, problem["type"]) == (409, "/problems/invalid_transition")
        assert problem["actions"] == ["enable", "rotate_secret"]
    renter.call("PATCH", path, {"state": "enabled"})
    assert deliver.run() == 1, "what waited when it was disabled is sent"
    assert states() == ["succeeded"]


def test_changes_keep_to_the_version_that_was_read(renter: Renter) -> None:
    hook = make_hook(renter, URL)
    path = f"/webhooks/{hook['id']}"
    status, changed = renter.call("PATCH", path, {"event_types": ["topup.*"]}, If_Match='"1"')
    assert (status, changed["version"], changed["event_types"]) == (200, 2, ["topup.*"])
    status, problem = renter.call("PATCH", path, {"url": URL + "/2"}, If_Match='"1"')
    assert (status, problem["type"]) == (412, "/problems/version_conflict")
    assert renter.call("PATCH", path, {"event_types": ["topup.*"]})[1]["version"] == 2
    assert actions(renter) == ["webhook.create", "webhook.change"]


def test_a_deleted_endpoint_is_gone_and_gets_nothing_more(receive: Receive, renter: Renter) -> None:
    receiver = receive()
    hook = make_hook(renter, receiver.url)
    tell(renter)
    assert renter.call("DELETE", f"/webhooks/{hook['id']}")[0] == 204
    assert renter.call("DELETE", f"/webhooks/{hook['id']}")[0] == 404
    assert renter.call("GET", f"/webhooks/{hook['id']}/deliveries")[0] == 404
    assert renter.call("GET", "/webhooks")[1]["items"] == []
    tell(renter)
    assert deliver.run() == 0
    assert (receiver.connections, states()) == (0, ["failed"])


def test_days_of_failures_disable_with_a_reason_and_a_mail(
    receive: Receive, renter: Renter, at: Callable[[datetime], None]
) -> None:
    receiver = receive(lambda _: Answer(503))
    hook = make_hook(renter, receiver.url)
    healthy = make_hook(renter, f"{receive().url}/good")
    at(START)
    tell(renter)
    deliver.run()
    at(START + health.DISABLE_AFTER - timedelta(seconds=1))
    deliver.run()
    assert WebhookEndpoint.objects.filter(state="disabled").count() == 0
    at(START + health.DISABLE_AFTER)
    deliver.run()
    _, shown = renter.call("GET", f"/webhooks/{hook['id']}")
    assert (shown["state"], shown["reason"]) == ("disabled", "failing")
    assert "enable it again" in shown["reason_text"]
    assert renter.call("GET", f"/webhooks/{healthy['id']}")[1]["state"] == "enabled"
    assert actions(renter)[-1] == "webhook.disable"
    assert deliver_mail() == 1
    assert receiver.url in str(mail.outbox[-1].body)
    assert mail.outbox[-1].to == [renter.principal.user.email]
    deliver.run()
    assert EmailToken.objects.filter(purpose="webhook").count() == 1
    came = len(receiver.requests)
    at(START + timedelta(days=5))
    tell(renter)
    deliver.run()
    assert len(receiver.requests) == came
    renter.call("PATCH", f"/webhooks/{hook['id']}", {"state": "enabled"})
    receiver.decide = lambda _: Answer(200)
    tell(renter)
    deliver.run()
    assert renter.call("GET", f"/webhooks/{hook['id']}")[1]["failing_since"] is None


def test_what_cannot_be_sent_in_time_ends_too(
    renter: Renter, at: Callable[[datetime], None]
) -> None:
    hook = make_hook(renter, URL)
    at(START)
    tell(renter)
    renter.call("PATCH", f"/webhooks/{hook['id']}", {"state": "disabled"})
    at(START + timedelta(days=3, minutes=14))
    deliver.run()
    assert states() == ["pending"]
    at(START + timedelta(days=3, minutes=15))
    deliver.run()
    row = WebhookDelivery.objects.get()
    assert (row.state, row.reason, row.attempts) == ("failed", "expired", 0)


def test_what_is_old_is_forgotten_but_not_while_it_waits(
    renter: Renter, at: Callable[[datetime], None]
) -> None:
    at(START)
    hook = make_hook(renter, URL)
    tell(renter)
    tell(renter)
    first, second = WebhookDelivery.objects.order_by("id")
    WebhookDelivery.objects.filter(id=first.id).update(state="succeeded")
    at(START + health.KEPT)
    health.forget()
    assert WebhookEvent.objects.count() == 2
    at(START + health.KEPT + timedelta(seconds=1))
    health.forget()
    assert list(WebhookDelivery.objects.all()) == [second]
    renter.call("DELETE", f"/webhooks/{hook['id']}")
    at(START + health.KEPT * 2 + timedelta(seconds=2))
    health.forget()
    assert not WebhookEvent.objects.exists()
    assert not WebhookEndpoint.objects.exists()


def test_a_lost_sealing_key_is_our_fault_and_no_attempt(
    receive: Receive, renter: Renter, settings
) -> None:
    receiver = receive()
    make_hook(renter, receiver.url)
    tell(renter)
    settings.GPUYARD_SEALING_KEY = b"x" * 32
    deliver.run()
    row = WebhookDelivery.objects.get()
    assert (row.state, row.reason, row.attempts) == ("pending", "unsealable", 0)
    assert receiver.connections == 0
    assert WebhookEndpoint.objects.get().failures == 0
