"""Short ways to make endpoints and facts."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from kernel.ids import new_id
from marketplace.models import WebhookDelivery
from marketplace.webhooks.events import emit
from tests.market import Renter


def make_hook(renter: Renter, url: str, *types: str) -> dict[str, Any]:
    """An endpoint over the API, with its secret."""
    body = {"url": url, "event_types": list(types) or ["*"]}
    status, made = renter.call("POST", "/webhooks", body)
    assert status == 201, made
    found: dict[str, Any] = made
    return found


def tell(renter: Renter, type: str = "balance.low", cause: str = "", **object: Any) -> None:
    """A fact, told in a transaction of its own."""
    with transaction.atomic():
        emit(
            organization=renter.org, type=type, object={"id": "x", **object},
            cause=cause or new_id().hex,
        )  # fmt: skip


def states() -> list[str]:
    """The state of every sending, oldest first."""
    return list(WebhookDelivery.objects.order_by("id").values_list("state", flat=True))
