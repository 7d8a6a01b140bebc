"""What time does to endpoints and sendings: given up, disabled with a mail, forgotten."""

from __future__ import annotations

from datetime import timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import transaction
from django.db.models import Case, F, Q, Value, When

from kernel.clock import now
from marketplace.accounts import audit
from marketplace.accounts.tokens import order_notice
from marketplace.models import (
    EmailToken,
    Membership,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEvent,
)
from marketplace.webhooks.events import GIVE_UP

log = structlog.get_logger(__name__)

# Failing for so long without one success: nobody looks after the receiver, and each attempt costs
# us a thread. Shorter would come before the last attempt of the sending that failed first.
DISABLE_AFTER: Final = GIVE_UP + timedelta(hours=1)
# The attempt at the end of a sending's time may wait for its endpoint's rest and its turn.
_LAST_ATTEMPT: Final = timedelta(minutes=15)
# What was sent can be looked up this long.
KEPT: Final = timedelta(days=30)
# Rows per statement: locks are held for milliseconds, and the next run goes on.
_BATCH: Final = 1000


def sweep() -> None:
    """Disable what failed for days, give up what is past its time."""
    present = now()
    failing = WebhookEndpoint.objects.filter(
        state=WebhookEndpoint.State.ENABLED, failing_since__lte=present - DISABLE_AFTER
    )
    for endpoint_id in failing.order_by("id").values_list("id", flat=True)[:_BATCH]:
        _disable(endpoint_id)
    unclaimed = Q(claim_until=None) | Q(claim_until__lt=present)
    WebhookDelivery.objects.filter(
        unclaimed,
        state=WebhookDelivery.State.PENDING,
        give_up_at__lte=present - _LAST_ATTEMPT,
    ).update(
        state=WebhookDelivery.State.FAILED,
        reason=Case(When(reason="", then=Value("expired")), default=F("reason")),
        claim_token=None,
        claim_until=None,
    )


def _disable(endpoint_id: UUID) -> None:
    """With the reason, an audit row and a mail to every owner, unless it was mended meanwhile."""
    with transaction.atomic(durable=True):
        present = now()
        endpoint = WebhookEndpoint.objects.select_for_update(no_key=True).get(id=endpoint_id)
        since = endpoint.failing_since
        enabled = endpoint.state == WebhookEndpoint.State.ENABLED and endpoint.deleted_at is None
        if since is None or since > present - DISABLE_AFTER or not enabled:
            return
        endpoint.state = WebhookEndpoint.State.DISABLED
        endpoint.reason = "failing"
        endpoint.state_since = present
        endpoint.version += 1
        endpoint.save(update_fields=["state", "reason", "state_since", "version"])
        audit.record(
            acting="platform",
            action="webhook.disable",
            object=endpoint.public_id,
            organization_ref=endpoint.organization_id,
            details={"reason": "failing", "failures": endpoint.failures},
        )
        owners = Membership.objects.select_related("user").filter(
            organization_id=endpoint.organization_id, role=Membership.Role.OWNER
        )
        for membership in owners:
            order_notice(membership.user, EmailToken.Purpose.WEBHOOK, about=endpoint.url)
    log.info("webhook_disabled", webhook=endpoint.public_id, failures=endpoint.failures)


def forget() -> int:
    """Delete events past their time with their sendings, and endpoints deleted so long ago."""
    limit = now() - KEPT
    old = WebhookEvent.objects.filter(created_at__lt=limit).exclude(
        deliveries__state=WebhookDelivery.State.PENDING
    )
    gone, _ = WebhookEvent.objects.filter(
        id__in=list(old.order_by("created_at").values_list("id", flat=True)[:_BATCH])
    ).delete()
    WebhookEndpoint.objects.filter(deleted_at__lt=limit).delete()
    return gone
