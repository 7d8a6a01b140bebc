"""Mirror settled usage to Stripe's meters: decide here what one event covers, send it elsewhere.

Every settled line of a rental goes into exactly one batch; a batch is one event per customer and
card type of what was settled since the last. The mirror is compared with the ledger and never
charged from.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

from django.db import connection, transaction
from django.db.models import F, Max

from billing.contracts.meters import MeterKind
from billing.models import CallKind, MeterBatch, MeterSpan, RentalMeter, StripeMeter
from billing.payments.intents import intend
from kernel.clock import AppNow

# Rentals taken at once: enough for an hour's tick of a busy platform in a few rounds.
AT_ONCE = 5000


class _Span(NamedTuple):
    rental_ref: UUID
    org_ref: UUID
    accelerator: str
    first: int
    last: int
    gpu_seconds: int
    until: datetime


def collect() -> int:
    """Make batches and their intents of all settled and not yet mirrored lines; their number."""
    made = 0
    while True:
        batches, full = _collect_once()
        made += batches
        if not full:
            return made


def sent(identifier: str) -> None:
    """Stripe has the event."""
    MeterBatch.objects.filter(identifier=identifier, sent_at__isnull=True).update(sent_at=AppNow())


def _collect_once() -> tuple[int, bool]:
    with transaction.atomic():
        meters = list(
            RentalMeter.objects.select_for_update(skip_locked=True)
            .filter(kind=MeterKind.GPU, mirrored_seq__lt=F("next_seq") - 1)
            .order_by("rental_ref")[:AT_ONCE]
        )
        groups: dict[tuple[UUID, str], list[_Span]] = defaultdict(list)
        for span in _spans(meters):
            groups[span.org_ref, span.accelerator].append(span)
        _open_meters({accelerator for _, accelerator in groups})
        for (org_ref, accelerator), spans in sorted(groups.items()):
            _store(org_ref, accelerator, spans)
        for meter in meters:
            meter.mirrored_seq = meter.next_seq - 1
        RentalMeter.objects.bulk_update(meters, ["mirrored_seq"], batch_size=1000)
    return len(groups), len(meters) == AT_ONCE


def _spans(meters: Sequence[RentalMeter]) -> list[_Span]:
    with connection.cursor() as cursor:
        cursor.execute(
            """
            SELECT m.rental_ref, m.org_ref, m.accelerator, min(u.seq), max(u.seq),
                   sum(u.seconds * u.gpus)::bigint, max(u.to_at)
              FROM billing_rentalmeter m
              JOIN billing_usageline u ON u.rental_ref = m.rental_ref AND u.seq > m.mirrored_seq
             WHERE m.rental_ref = ANY(%s)
             GROUP BY m.rental_ref
            """,
            [[meter.rental_ref for meter in meters]],
        )
        return [_Span(*row) for row in cursor.fetchall()]


def _open_meters(accelerators: set[str]) -> None:
    """A row and an intent per new card type; locks the rows, so numbers are given one by one."""
    for accelerator in sorted(accelerators):
        name = "gpu_seconds_" + re.sub(r"[^a-z0-9]+", "_", accelerator.lower())
        _, created = StripeMeter.objects.get_or_create(
            accelerator=accelerator, defaults={"event_name": name[:100]}
        )
        if created:
            intend(CallKind.METER, key=f"meter:{accelerator}", subject=accelerator)
    list(StripeMeter.objects.select_for_update().filter(pk__in=accelerators).order_by("pk"))


def _store(org_ref: UUID, accelerator: str, spans: Sequence[_Span]) -> None:
    last = MeterBatch.objects.filter(org_ref=org_ref, accelerator=accelerator).aggregate(
        Max("seq")
    )["seq__max"]
    seq = (last or 0) + 1
    batch = MeterBatch.objects.create(
        org_ref=org_ref,
        accelerator=accelerator,
        seq=seq,
        gpu_seconds=sum(span.gpu_seconds for span in spans),
        identifier=f"mtr:{org_ref}:{accelerator[:50]}:{seq}",
        at=max(span.until for span in spans),
    )
    MeterSpan.objects.bulk_create(
        MeterSpan(batch=batch, meter_id=span.rental_ref, first_seq=span.first, last_seq=span.last)
        for span in spans
    )
    intend(CallKind.METER_EVENT, key=batch.identifier, subject=batch.id, org_ref=org_ref)
