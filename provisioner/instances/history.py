"""All that is kept of one rental's machines, for people who have to explain it. Reads only."""

from __future__ import annotations

from uuid import UUID

from provisioner.contracts import IntervalView, SlotHoldView
from provisioner.models import Hold, ReadyInterval


def holds(*, rental_ref: UUID) -> list[SlotHoldView]:
    """Every card that was held for it, oldest first."""
    rows = Hold.objects.filter(instance__rental_ref=rental_ref)
    return [
        SlotHoldView(
            instance_id=row.instance_id,
            slot_id=row.slot_id,
            node=row.slot.share.node.name,
            number=row.slot.number,
            from_at=row.from_ts,
            to_at=row.to_ts,
        )
        for row in rows.select_related("slot__share__node").order_by("from_ts", "id")
    ]


def intervals(*, rental_ref: UUID) -> list[IntervalView]:
    """Every interval in which its cards were proven ready, oldest first."""
    rows = ReadyInterval.objects.filter(rental_ref=rental_ref)
    return [
        IntervalView(
            interval_id=row.id,
            instance_id=row.instance_id,
            pod_uid=row.pod_uid,
            gpus=row.gpus,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
            close_reason=row.close_reason,
            good_until=row.good_until,
            charged_to=row.charged_to,
            settled=row.settled,
            proof=row.proof,
        )
        for row in rows.order_by("opened_at", "id")
    ]
