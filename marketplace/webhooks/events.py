"""Facts become events, and one sending per endpoint that wants them, in the fact's transaction.

Nothing is kept for an organization in which nobody listens, and the object is described only when
somebody does, so a fact that nobody hears costs one indexed read. An event is unique by type and
cause: whoever applies a fact twice after a crash tells of it once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from kernel.clock import now
from kernel.ids import new_id, public
from kernel.text import rfc3339
from kernel.wake import wake_on_commit
from marketplace.accounts.idempotency import encode
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.types import patterns_for

# How long a sending is repeated: the contract's three days. A receiver that broke on a Friday
# evening gets everything on Monday.
GIVE_UP: Final = timedelta(days=3)
# The version of the body's shape, not of the object in it.
BODY_VERSION: Final = 1
TASK: Final = "marketplace.webhooks"

_INSERT = """
INSERT INTO marketplace_webhookevent (id, organization_id, type, cause, body, created_at)
VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (organization_id, type, cause) DO NOTHING
"""


def emit(
    *,
    organization: UUID,
    type: str,
    object: dict[str, Any] | Callable[[], dict[str, Any]],
    cause: str,
) -> None:
    """Tell the organization's endpoints of a fact; joins the caller's transaction, no network.

    type: one of webhooks.types.TYPES (ValueError otherwise). object: what the API shows of it now,
    JSON-ready, or a function that describes it, called only when somebody listens. cause: what
    makes the fact one and the same, such as ``"ren_…:4"``; the same cause is told once per type.
    """
    endpoints = listening(organization, type)
    if endpoints:
        described = object() if callable(object) else object
        store(organization, type, described, cause, endpoints)


def listening(organization: UUID, type: str) -> list[UUID]:
    """Enabled endpoints of the organization that want this type."""
    rows = WebhookEndpoint.objects.filter(
        organization_id=organization,
        state=WebhookEndpoint.State.ENABLED,
        deleted_at=None,
        event_types__overlap=patterns_for(type),
    )
    return list(rows.order_by("id").values_list("id", flat=True))


def store(
    organization: UUID,
    type: str,
    object: dict[str, Any],
    cause: str,
    endpoints: Sequence[UUID],
) -> list[WebhookDelivery]:
    """The event and a sending for each endpoint; none when the cause was told of before."""
    event_id, present = new_id(), now()
    body = encode(
        {
            "id": public("event", event_id),
            "type": type,
            "created_at": rfc3339(present),
            "organization": public("organization", organization),
            "data": {"object": object},
            "version": BODY_VERSION,
        }
    ).decode()
    with transaction.atomic(savepoint=False):
        with connection.cursor() as cursor:
            cursor.execute(_INSERT, [event_id, organization, type, cause, body, present])
            if not cursor.rowcount:
                return []
        made = WebhookDelivery.objects.bulk_create(
            _delivery(event_id, endpoint, present) for endpoint in endpoints
        )
        wake_on_commit(TASK)
    return made


def _delivery(event_id: UUID, endpoint_id: UUID, present: datetime) -> WebhookDelivery:
    return WebhookDelivery(
        event_id=event_id,
        endpoint_id=endpoint_id,
        next_at=present,
        give_up_at=present + GIVE_UP,
    )
