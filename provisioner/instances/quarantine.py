"""Cards that are not what their labels say: kept off sale until their owner has put it right.

A check that finds other cards than were ordered costs its renter a start, and the next renter as
well. Where our own program looked, one such finding is evidence. Where the vendor's tool is in the
renter's image, a renter could make it say anything: there it takes the findings of two within a
day. A report that cannot be read is a finding of nothing and counts as the second kind.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db.models import Q

from kernel.errors import InvalidRequest, NotFound
from kernel.text import clean
from provisioner.contracts import InstanceState
from provisioner.contracts.quarantine import QuarantinedView
from provisioner.models import GroupChange, Instance, InstanceEvent, NodeShare

REASON: Final = "order_mismatch"
# Two renters who are deceived at different times still are; a finding of last week may be mended.
TOGETHER: Final = timedelta(days=1)


def found_wrong(
    row: Instance, *, text: str, evidence: Mapping[str, Any], ours: bool, at: datetime
) -> None:
    """In a transaction: the check of ``row`` found something else than was ordered. ours: our own
    program read the cards."""
    share = NodeShare.objects.select_for_update().get(pk=row.share_id)
    proven = ours and bool(evidence.get("devices"))
    if share.quarantined_at is not None or not (proven or _seen_by_another(row, share, at)):
        return
    share.quarantined_at, share.sellable = at, False
    share.quarantine = {"text": clean(text, limit=300), "evidence": dict(evidence)}
    share.save(update_fields=["quarantined_at", "quarantine", "sellable"])
    GroupChange.objects.create(group_id=share.group_id)


def quarantined() -> list[QuarantinedView]:
    """Every host in quarantine, the latest last: one row for each kind of cards in it."""
    shut = NodeShare.objects.filter(quarantined_at__isnull=False, node__missing_since=None)
    rows = shut.select_related("node").order_by("quarantined_at", "id")
    return [
        QuarantinedView(
            cluster_id=row.node.cluster_id,
            node_id=row.node_id,
            name=row.node.name,
            at=row.quarantined_at,
            text=str((row.quarantine or {}).get("text", "")),
        )
        for row in rows
        if row.quarantined_at is not None
    ]


def _seen_by_another(row: Instance, share: NodeShare, at: datetime) -> bool:
    since = max(filter(None, (at - TOGETHER, share.quarantine_lifted_at)))
    # Its end has the same reason again, whenever that is seen.
    found = InstanceEvent.objects.filter(
        instance__share=share, state=InstanceState.STOPPING, reason=REASON, at__gte=since
    )
    return found.exclude(instance__tenant_ref=row.tenant_ref).exists()


def lift(*, cluster_id: UUID, node_id: UUID, at: datetime) -> None:
    """In a transaction: the owner says that the cards of the node are what its labels say; the next
    inventory puts them on sale. NotFound; InvalidRequest where nothing is in quarantine."""
    shares = NodeShare.objects.filter(node_id=node_id, node__cluster_id=cluster_id)
    if not shares.exists():
        raise NotFound("node")
    shut = shares.filter(~Q(quarantined_at=None))
    if not shut.update(quarantined_at=None, quarantine_lifted_at=at):
        raise InvalidRequest({"node": ["is not in quarantine"]})
