"""Sendings as people see and ask for them: the list, a test, the same event once more."""

from __future__ import annotations

from uuid import UUID

from django.db.models import QuerySet

from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import new_id
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.endpoints import get
from marketplace.webhooks.events import GIVE_UP, TASK, store
from marketplace.webhooks.present import describe_endpoint, endpoint_actions
from marketplace.webhooks.types import TEST


def deliveries(acting: Principal, webhook_id: str) -> QuerySet[WebhookDelivery]:
    """What was and will be sent to one of the caller's endpoints; raises NotFound."""
    endpoint = get(acting, webhook_id)
    return _loaded(acting).filter(endpoint=endpoint)


def send_test(*, acting: Principal, webhook_id: str) -> WebhookDelivery:
    """Order an event of type ``webhook.test``; joins the caller's transaction.

    Its object is the webhook itself. Raises NotFound, Refusal invalid_transition when disabled.
    """
    endpoint = get(acting, webhook_id)
    _require_enabled(endpoint)
    (made,) = store(
        endpoint.organization_id,
        TEST,
        describe_endpoint(endpoint),
        f"test:{new_id()}",
        [endpoint.id],
    )
    _record(acting, "webhook.test", endpoint, made)
    return _reloaded(acting, made.id)


def redeliver(*, acting: Principal, webhook_id: str, delivery_id: str) -> WebhookDelivery:
    """Send the same event again, or at once if it still waits; joins the caller's transaction.

    Raises NotFound, Refusal invalid_transition when the endpoint is disabled.
    """
    endpoint = get(acting, webhook_id)
    _require_enabled(endpoint)
    rows = WebhookDelivery.objects.select_for_update(of=("self",)).filter(endpoint=endpoint)
    delivery = get_visible(rows, acting, delivery_id)
    present = now()
    delivery.next_at = present
    if delivery.state != WebhookDelivery.State.PENDING:
        delivery.state = WebhookDelivery.State.PENDING
        delivery.attempts = 0
        delivery.give_up_at = present + GIVE_UP
    delivery.save(update_fields=["next_at", "state", "attempts", "give_up_at"])
    _record(acting, "webhook.redeliver", endpoint, delivery)
    wake_on_commit(TASK)
    return _reloaded(acting, delivery.id)


def _loaded(acting: Principal) -> QuerySet[WebhookDelivery]:
    rows = WebhookDelivery.objects.select_related("event").defer("event__body")
    return visible(rows, acting)


def _reloaded(acting: Principal, delivery_id: UUID) -> WebhookDelivery:
    return _loaded(acting).get(id=delivery_id)


def _require_enabled(endpoint: WebhookEndpoint) -> None:
    if endpoint.state != WebhookEndpoint.State.ENABLED:
        raise Refusal(
            "invalid_transition",
            "This webhook is disabled, so nothing is sent to it. Enable it first.",
            state=str(endpoint.state),
            actions=endpoint_actions(endpoint),
        )


def _record(
    acting: Principal, action: str, endpoint: WebhookEndpoint, delivery: WebhookDelivery
) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=endpoint.public_id,
        organization_ref=acting.owner_ref,
        details={"delivery": delivery.public_id},
    )
