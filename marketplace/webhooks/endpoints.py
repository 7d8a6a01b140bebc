"""What people do with endpoints: make, change, enable, disable, delete, change the secret.

Giving an address resolves it, which is a network's answer to wait for, so :func:`create` and
:func:`change` open their own transactions; the other actions join the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.db.models import QuerySet

from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import new_id, public
from kernel.sealed import seal, unseal
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible, visible
from marketplace.accounts.idempotency import Claim, Rendered, once, stored
from marketplace.models import Organization, WebhookDelivery, WebhookEndpoint
from marketplace.webhooks import receivers
from marketplace.webhooks.events import TASK
from marketplace.webhooks.signing import new_secret
from marketplace.webhooks.types import canonical, problems_of

# Each costs a sending per event; whoever needs more puts a queue of their own behind one.
LIMIT: Final = 20
# Long enough to deploy the new secret everywhere; an old one that leaked is ended at once with 0.
OVERLAP: Final = timedelta(days=1)
MAX_OVERLAP: Final = timedelta(days=7)
_FIELD: Final = "webhook secret"


@dataclass(frozen=True)
class NewSecret:
    """An endpoint with its fresh secret, which is shown nowhere else."""

    endpoint: WebhookEndpoint
    secret: str


@dataclass(frozen=True)
class Changes:
    """What to change; None leaves it. state: ``enabled`` or ``disabled``."""

    url: str | None = None
    event_types: Sequence[str] | None = None
    state: str | None = None


def endpoints(acting: Principal) -> QuerySet[WebhookEndpoint]:
    """The organization's endpoints."""
    return visible(WebhookEndpoint, acting)


def get(acting: Principal, webhook_id: str) -> WebhookEndpoint:
    """One of them; raises NotFound."""
    return get_visible(WebhookEndpoint, acting, webhook_id)


def create(
    *,
    acting: Principal,
    url: str,
    event_types: Sequence[str],
    claim: Claim | None,
    render: Callable[[NewSecret], tuple[int, Any]],
    secret_fields: Sequence[str],
) -> Rendered:
    """Make an enabled endpoint; opens its own transaction.

    Raises InvalidRequest (url, event_types), Refusal address_forbidden, email_unverified. A name
    that does not resolve yet is no error: attempts will say so.
    """
    if claim is not None and (before := stored(claim)):
        return before
    acting.require_verified()
    _check_types(event_types)
    receivers.check(url)

    def make() -> NewSecret:
        # Locked: two requests must not both pass the limit.
        Organization.objects.select_for_update(no_key=True).get(pk=acting.org.pk)
        if endpoints(acting).count() >= LIMIT:
            raise InvalidRequest({"url": [f"there are {LIMIT} webhooks: delete one first"]})
        secret, identifier = new_secret(), new_id()
        endpoint = WebhookEndpoint.objects.create(
            id=identifier,
            organization=acting.org,
            url=url,
            event_types=canonical(event_types),
            secret_sealed=_sealed(public("webhook", identifier), secret),
            reason="created",
        )
        details = {"url": url, "event_types": endpoint.event_types}
        _record(acting, "webhook.create", endpoint, details)
        return NewSecret(endpoint, secret)

    return once(claim, make, render, secret_fields=secret_fields)


def change(
    *,
    acting: Principal,
    webhook_id: str,
    changes: Changes,
    expected_version: int | None,
    render: Callable[[WebhookEndpoint], tuple[int, Any]],
) -> Rendered:
    """Change address, types or state; opens its own transaction. Repeating changes nothing.

    Raises NotFound, InvalidRequest, Refusal address_forbidden, version_conflict.
    """
    get(acting, webhook_id)
    if changes.event_types is not None:
        _check_types(changes.event_types)
    if changes.url is not None:
        receivers.check(changes.url)

    def apply() -> WebhookEndpoint:
        endpoint = _locked(acting, webhook_id)
        if expected_version is not None and expected_version != endpoint.version:
            raise Refusal(
                "version_conflict",
                "Somebody changed this webhook since you read it. Read it again and repeat your "
                "change.",
                version=endpoint.version,
            )
        details = _apply(endpoint, changes)
        if details:
            endpoint.version += 1
            endpoint.save()
            _record(acting, "webhook.change", endpoint, details)
        return endpoint

    return once(None, apply, render)


def delete(*, acting: Principal, webhook_id: str) -> None:
    """Forget an endpoint: nothing more is sent to it. Joins the caller's transaction."""
    endpoint = _locked(acting, webhook_id)
    endpoint.deleted_at = now()
    endpoint.version += 1
    endpoint.save(update_fields=["deleted_at", "version"])
    waiting = WebhookDelivery.objects.filter(endpoint=endpoint, state=WebhookDelivery.State.PENDING)
    waiting.update(state=WebhookDelivery.State.FAILED, reason="deleted")
    _record(acting, "webhook.delete", endpoint, {"url": endpoint.url})


def rotate_secret(*, acting: Principal, webhook_id: str, overlap: timedelta = OVERLAP) -> NewSecret:
    """A new secret; the old one signs as well for ``overlap``. Joins the caller's transaction.

    An older one that was still on its way out ends now: there are never more than two.
    """
    if not timedelta(0) <= overlap <= MAX_OVERLAP:
        most = int(MAX_OVERLAP.total_seconds())
        raise InvalidRequest({"overlap_seconds": [f"from 0 to {most} seconds"]})
    endpoint = _locked(acting, webhook_id)
    secret = new_secret()
    kept = overlap > timedelta(0)
    endpoint.previous_sealed = endpoint.secret_sealed if kept else None
    endpoint.previous_until = now() + overlap if kept else None
    endpoint.secret_sealed = _sealed(endpoint.public_id, secret)
    endpoint.version += 1
    endpoint.save(update_fields=["previous_sealed", "previous_until", "secret_sealed", "version"])
    details = {"overlap_seconds": int(overlap.total_seconds())}
    _record(acting, "webhook.rotate_secret", endpoint, details)
    return NewSecret(endpoint, secret)


def signing_keys(endpoint: WebhookEndpoint) -> list[str]:
    """The secrets that sign now, newest first; raises kernel.sealed.CannotOpen."""
    keys = [_opened(endpoint, bytes(endpoint.secret_sealed))]
    until = endpoint.previous_until
    if endpoint.previous_sealed is not None and until is not None and until > now():
        keys.append(_opened(endpoint, bytes(endpoint.previous_sealed)))
    return keys


def _apply(endpoint: WebhookEndpoint, changes: Changes) -> dict[str, Any]:
    """Set what differs; what it is now, for the audit row."""
    changed: dict[str, Any] = {}
    if changes.url is not None and changes.url != endpoint.url:
        endpoint.url = changed["url"] = changes.url
    if changes.event_types is not None:
        wanted = canonical(changes.event_types)
        if wanted != endpoint.event_types:
            endpoint.event_types = changed["event_types"] = wanted
    if changes.state is not None and changes.state != endpoint.state:
        endpoint.state = changed["state"] = changes.state
        endpoint.reason = f"{changes.state}_by_user"
        endpoint.state_since = now()
    if endpoint.state == WebhookEndpoint.State.ENABLED and changed.keys() & {"url", "state"}:
        _try_again(endpoint)
    return changed


def _try_again(endpoint: WebhookEndpoint) -> None:
    """A mended receiver has no past, and what still waits for it is due at once."""
    present = now()
    endpoint.failures, endpoint.failing_since, endpoint.rest_until = 0, None, None
    waiting = WebhookDelivery.objects.filter(
        endpoint=endpoint, state=WebhookDelivery.State.PENDING, next_at__gt=present
    )
    waiting.update(next_at=present)
    wake_on_commit(TASK)


def _locked(acting: Principal, webhook_id: str) -> WebhookEndpoint:
    rows = WebhookEndpoint.objects.select_for_update(no_key=True, of=("self",))
    return get_visible(rows, acting, webhook_id)


def _check_types(event_types: Sequence[str]) -> None:
    problems = problems_of(event_types)
    if problems:
        raise InvalidRequest({"event_types": problems})


def _sealed(owner: str, secret: str) -> bytes:
    return seal(secret.encode(), key=settings.GPUYARD_SEALING_KEY, owner=owner, field=_FIELD)


def _opened(endpoint: WebhookEndpoint, sealed: bytes) -> str:
    key = settings.GPUYARD_SEALING_KEY
    return unseal(sealed, key=key, owner=endpoint.public_id, field=_FIELD).decode()


def _record(
    acting: Principal, action: str, endpoint: WebhookEndpoint, details: dict[str, Any]
) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=endpoint.public_id,
        organization_ref=acting.owner_ref,
        details=details,
    )
