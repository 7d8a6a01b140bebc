"""Which sendings are attempted now, by whom, and what is written down afterwards.

A claim is a fence token and an expiry: a worker that dies leaves its claims to run out, and one
that was too slow finds its token gone and writes nothing. What was sent meanwhile is sent again:
receivers see an event at least once, with the same id each time.

Fair shares are in the query. Endpoints that fail or take long are a lane of their own with one
attempt at a time; in both lanes an organization has at most its share of the attempts in flight;
and every endpoint's first waiting sending comes before anybody's second.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import connection, transaction

from kernel.clock import now
from kernel.retry import backoff
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks.send import CALL_SECONDS, Outcome

# Twice the longest attempt: a claim that expires while its attempt still runs sends twice; much
# longer and a killed worker's sendings stand still.
CLAIM: Final = timedelta(seconds=2 * CALL_SECONDS)
# Attempts in flight per endpoint: more would overrun small receivers that all go to one process.
PER_ENDPOINT: Final = 4
# Attempts in flight per organization and lane: half, so that two can never shut out a third.
PER_ORGANIZATION: Final = 4
# An answer that takes this long puts the endpoint on the slow lane; a good receiver needs a tenth.
SLOW_SECONDS: Final = 2.0
# Between attempts of one sending: quick at first, then six times a day until its time is over.
RETRY_FIRST, RETRY_LONGEST = 10.0, 4 * 3600.0
# An endpoint that failed so often in a row rests as a whole: its next attempt may be any sending.
RESTS_AFTER: Final = 3
REST_FIRST, REST_LONGEST = 5.0, 300.0

_CLAIM = """
UPDATE marketplace_webhookdelivery SET claim_token = %(token)s, claim_until = %(until)s
WHERE id = ANY(ARRAY(
  SELECT d.id FROM marketplace_webhookdelivery d JOIN (
    SELECT due.id, due.place, due.next_at,
      coalesce(busy.n, 0) + row_number() OVER (
        PARTITION BY e.organization_id ORDER BY due.place, due.next_at) AS of_organization
    FROM marketplace_webhookendpoint e
    LEFT JOIN unnest(%(organizations)s::uuid[], %(counts)s::int[]) AS busy(organization, n)
      ON busy.organization = e.organization_id
    CROSS JOIN LATERAL (
      SELECT w.id, w.next_at, row_number() OVER (ORDER BY w.next_at) + (
        SELECT count(*) FROM marketplace_webhookdelivery c
        WHERE c.endpoint_id = e.id AND c.claim_token IS NOT NULL AND c.claim_until >= %(now)s
      ) AS place
      FROM (
        SELECT id, next_at FROM marketplace_webhookdelivery
        WHERE endpoint_id = e.id AND state = 'pending' AND next_at <= %(now)s
          AND (claim_until IS NULL OR claim_until < %(now)s)
        ORDER BY next_at LIMIT %(share)s
      ) w
    ) due
    WHERE e.state = 'enabled' AND e.deleted_at IS NULL AND e.slow = %(slow)s
      AND (e.rest_until IS NULL OR e.rest_until <= %(now)s) AND due.place <= %(share)s
  ) ranked ON ranked.id = d.id
  -- Asked again of the row that is locked: a claim committed meanwhile is seen here only.
  WHERE ranked.of_organization <= %(per_organization)s AND d.state = 'pending'
    AND d.next_at <= %(now)s AND (d.claim_until IS NULL OR d.claim_until < %(now)s)
  ORDER BY ranked.place, ranked.next_at LIMIT %(limit)s
  FOR UPDATE OF d SKIP LOCKED
))
"""


def claim(
    *, slow: bool, limit: int, running: Mapping[UUID, int] | None = None
) -> list[WebhookDelivery]:
    """Sendings of one lane that are due, now ours until their ``claim_until``.

    running: attempts in flight per organization in this lane.
    """
    token, present, busy = uuid.uuid4(), now(), running or {}
    values: dict[str, Any] = {
        "token": token,
        "until": present + CLAIM,
        # A parameter, not app_now(): a volatile function would keep the index out of it.
        "now": present,
        "organizations": list(busy),
        "counts": list(busy.values()),
        "slow": slow,
        "share": 1 if slow else PER_ENDPOINT,
        "per_organization": PER_ORGANIZATION,
        "limit": limit,
    }
    with connection.cursor() as cursor:
        cursor.execute(_CLAIM, values)
        if not cursor.rowcount:
            return []
    rows = WebhookDelivery.objects.filter(claim_token=token).select_related("event", "endpoint")
    return list(rows.order_by("next_at", "id"))


def finish(job: WebhookDelivery, outcome: Outcome) -> bool:
    """Write an attempt down, if the claim is still ours; False when it is somebody else's."""
    with transaction.atomic():
        rows = WebhookEndpoint.objects.select_for_update(no_key=True)
        endpoint = rows.filter(id=job.endpoint_id).first()
        if endpoint is None:
            return False  # forgotten with its organization while the attempt was under way
        present = now()
        fields = _after(job, outcome, present)
        owned = WebhookDelivery.objects.filter(
            id=job.id, claim_token=job.claim_token, state=WebhookDelivery.State.PENDING
        ).update(
            **fields,
            claim_token=None,
            claim_until=None,
            attempts=job.attempts + 1,
            last_at=present,
            reason=outcome.reason,
            response_code=outcome.code,
            duration_ms=round(outcome.seconds * 1000),
            response_body=outcome.body,
        )
        if owned:
            _note_health(endpoint, outcome, present)
    return bool(owned)


def release(job: WebhookDelivery, *, reason: str, delay: timedelta) -> None:
    """Give a claim back without an attempt: what went wrong is ours, not the receiver's."""
    WebhookDelivery.objects.filter(id=job.id, claim_token=job.claim_token).update(
        claim_token=None, claim_until=None, reason=reason, next_at=now() + delay
    )


def _after(job: WebhookDelivery, outcome: Outcome, present: datetime) -> dict[str, object]:
    if not outcome.reason:
        return {"state": WebhookDelivery.State.SUCCEEDED}
    if present >= job.give_up_at:
        return {"state": WebhookDelivery.State.FAILED}
    pause = backoff(
        job.attempts,
        base=RETRY_FIRST,
        cap=RETRY_LONGEST,
        fraction=random.random(),  # noqa: S311
    )
    # The last attempt is made when the time is over, so that three days are three days.
    return {"next_at": min(present + timedelta(seconds=pause), job.give_up_at)}


def _note_health(endpoint: WebhookEndpoint, outcome: Outcome, present: datetime) -> None:
    before = (endpoint.failures, endpoint.rest_until, endpoint.slow)
    if outcome.reason:
        endpoint.failures += 1
        endpoint.failing_since = endpoint.failing_since or present
        endpoint.slow = True
        if endpoint.failures >= RESTS_AFTER:
            endpoint.rest_until = present + _rest(endpoint.failures - RESTS_AFTER)
    else:
        if endpoint.failures >= RESTS_AFTER:
            _catch_up(endpoint, present)
        endpoint.failures, endpoint.failing_since, endpoint.rest_until = 0, None, None
        endpoint.slow = outcome.seconds >= SLOW_SECONDS
    if before != (endpoint.failures, endpoint.rest_until, endpoint.slow):
        endpoint.save(update_fields=["failures", "failing_since", "rest_until", "slow"])


def _rest(times: int) -> timedelta:
    fraction = random.random()  # noqa: S311
    return timedelta(seconds=backoff(times, base=REST_FIRST, cap=REST_LONGEST, fraction=fraction))


def _catch_up(endpoint: WebhookEndpoint, present: datetime) -> None:
    """It is back: what waits for it need not wait for each sending's own pause."""
    WebhookDelivery.objects.filter(
        endpoint=endpoint, state=WebhookDelivery.State.PENDING, next_at__gt=present
    ).update(next_at=present)
