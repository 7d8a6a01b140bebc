"""Endpoints and sendings as API, portal and test events show them. Never a secret."""

from __future__ import annotations

from typing import Any, Final

from kernel.ids import public
from kernel.text import rfc3339
from marketplace.models import WebhookDelivery, WebhookEndpoint

# Why an endpoint is in its state, for people.
ENDPOINT_REASONS: Final[dict[str, str]] = {
    "created": "Made and enabled.",
    "enabled_by_user": "Enabled as you asked.",
    "disabled_by_user": "Disabled as you asked. What happens meanwhile is not sent later.",
    "failing": "It failed for three days without one success, so we stopped sending. Mend the "
    "receiver, then enable it again.",
}

# Why an attempt failed: what happened, and what to look at.
FAILURES: Final[dict[str, str]] = {
    "status": "The receiver answered with another status than 2xx.",
    "redirect": "The receiver redirects, which is not followed. Give the address it leads to.",
    "dns": "The receiver's name does not resolve. Check the address or your DNS.",
    "address_forbidden": "The name leads to an address that must not be used.",
    "connect": "The receiver does not accept connections. Check that it runs and is reachable.",
    "certificate": "The certificate is not valid for this name or not signed by a known authority.",
    "tls": "The receiver does not speak TLS at this address. Check the port.",
    "timeout": "The receiver did not answer within 10 seconds.",
    "broken": "The receiver cut the connection or did not answer in HTTP.",
    "deleted": "The webhook was deleted before this was sent.",
    "expired": "The time for it was over before it could be sent.",
    "unsealable": "We could not read the endpoint's secret; the fault is ours. Rotate it.",
}


def describe_endpoint(endpoint: WebhookEndpoint) -> dict[str, Any]:
    """The contract's webhook object."""
    return {
        "id": endpoint.public_id,
        "url": endpoint.url,
        "event_types": endpoint.event_types,
        "state": str(endpoint.state),
        "reason": endpoint.reason,
        "reason_text": ENDPOINT_REASONS[endpoint.reason],
        "actions": endpoint_actions(endpoint),
        "state_since": rfc3339(endpoint.state_since),
        "failing_since": rfc3339(endpoint.failing_since),
        "previous_secret_until": rfc3339(endpoint.previous_until),
        "created_at": rfc3339(endpoint.created_at),
        "version": endpoint.version,
    }


def endpoint_actions(endpoint: WebhookEndpoint) -> list[str]:
    """What may be asked of it now."""
    if endpoint.state == WebhookEndpoint.State.ENABLED:
        return ["disable", "rotate_secret", "test"]
    return ["enable", "rotate_secret"]


def describe_delivery(delivery: WebhookDelivery) -> dict[str, Any]:
    """One event for one endpoint, with its last attempt. Needs ``event`` loaded."""
    pending = delivery.state == WebhookDelivery.State.PENDING
    return {
        "id": delivery.public_id,
        "webhook": public("webhook", delivery.endpoint_id),
        "event": public("event", delivery.event_id),
        "type": delivery.event.type,
        "state": str(delivery.state),
        "reason": delivery.reason,
        "reason_text": FAILURES.get(delivery.reason, ""),
        "actions": ["redeliver"],
        "attempts": delivery.attempts,
        "next_at": rfc3339(delivery.next_at) if pending else None,
        "give_up_at": rfc3339(delivery.give_up_at) if pending else None,
        "last_attempt_at": rfc3339(delivery.last_at),
        "response_code": delivery.response_code,
        "duration_ms": delivery.duration_ms,
        "response_body": delivery.response_body,
        "created_at": rfc3339(delivery.created_at),
    }
