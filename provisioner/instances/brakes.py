"""The brake's rows: pulled by the loops or by a restore, let go by a person or by what they see.

What is counted and when it is too much is decided in reconcile/brake.py. Everything here joins the
caller's transaction.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.db.models import Count, Min, Q, QuerySet, Sum

from kernel import clock
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.text import clean
from kernel.wake import wake_on_commit
from provisioner.contracts import BrakeView, UnknownPodView
from provisioner.instances.reasons import LOOK_FIRST
from provisioner.instances.state import TROUBLED
from provisioner.models import Brake, ClusterLoop, Instance, UnknownPod

log = structlog.get_logger(__name__)

# Who lets go when a later look shows the cause gone.
PLATFORM = "platform"


def holding(cluster_id: UUID) -> list[Brake]:
    """The open brakes that hold this cluster: its own, and the one everywhere."""
    open_ones = Brake.objects.filter(released_at__isnull=True)
    return list(open_ones.filter(Q(cluster=cluster_id) | Q(cluster__isnull=True)))


def trip(
    cluster_id: UUID, *, cause: Brake.Cause, wanted: int, limit: int, detail: str, at: datetime
) -> None:
    """Pull the cluster's brake, which must not be pulled yet, and call somebody."""
    Brake.objects.create(
        cluster_id=cluster_id,
        cause=cause.value,
        tripped_at=at,
        wanted=wanted,
        limit=limit,
        detail=clean(detail, limit=500),
    )
    log.error(
        "mass_brake",
        cluster=str(cluster_id),
        cause=cause.value,
        wanted=wanted,
        limit=limit,
        detail=detail,
    )


def wanted_more(brake: Brake, wanted: int) -> None:
    """Remember the most that was wanted: a person who lets go allows that much."""
    if wanted > brake.wanted:
        Brake.objects.filter(pk=brake.pk, wanted__lt=wanted).update(wanted=wanted)
        brake.wanted = wanted


def allowed_by_people(cluster_id: UUID, *, since: datetime) -> int:
    """How much people allowed by letting go since then: they saw what was held and said yes."""
    released = Brake.objects.filter(cluster=cluster_id, released_at__gt=since)
    return int(released.exclude(released_by=PLATFORM).aggregate(sum=Sum("wanted"))["sum"] or 0)


def let_go(brake: Brake, *, by: str, note: str, at: datetime) -> None:
    """Close the brake. What it held is looked at again at once and decided anew."""
    at = max(at, brake.tripped_at)  # a clock set back must not keep it pulled
    Brake.objects.filter(pk=brake.pk, released_at__isnull=True).update(
        released_at=at, released_by=by[:100], note=clean(note, limit=500)
    )
    brake.refresh_from_db()
    rows = Instance.objects.filter(state__in=TROUBLED, reason__in=LOOK_FIRST)
    loops = ClusterLoop.objects.filter(kind=ClusterLoop.Kind.ORPHANS)
    if brake.cluster_id is not None:
        rows, loops = rows.filter(cluster=brake.cluster_id), loops.filter(cluster=brake.cluster_id)
    rows.update(due_at=at)
    loops.update(due_at=at)
    wake_on_commit("provisioner.instances")
    wake_on_commit("provisioner.orphans")
    log.warning("mass_brake_released", brake=str(brake.pk), by=by, cause=brake.cause)


def release(*, brake_id: UUID, by: str, note: str) -> BrakeView:
    """A person lets go. NotFound; invalid_transition when somebody did before; InvalidRequest
    without a note."""
    brake = Brake.objects.select_for_update().filter(pk=brake_id).first()
    if brake is None:
        raise NotFound("brake")
    if not clean(note, limit=500):
        raise InvalidRequest({"note": ["say what you looked at and why it may go on"]})
    if brake.released_at is not None:
        raise Refusal(
            "invalid_transition",
            f"This brake was released by {brake.released_by} at {brake.released_at:%Y-%m-%d %H:%M}"
            " UTC. Nothing was changed; list the open ones.",
            state="released",
            actions=[],
        )
    let_go(brake, by=by, note=note, at=clock.now())
    return _view(brake)


def mark_restored(*, backup_at: datetime) -> BrakeView:
    """The database is as old as ``backup_at``: nothing older than now is ended or deleted.

    Repeating it while the mark stands changes nothing. InvalidRequest for a time to come.
    """
    at = clock.now()
    if backup_at > at:
        raise InvalidRequest({"backup_time": [f"lies in the future; it is {at.isoformat()} now"]})
    brake, made = Brake.objects.get_or_create(
        cluster=None,
        released_at=None,
        defaults={
            "cause": Brake.Cause.RESTORED.value,
            "tripped_at": at,
            "wanted": 0,
            "limit": 0,
            "backup_at": backup_at,
            "detail": f"restored from a backup of {backup_at.isoformat()}",
        },
    )
    if made:
        log.error("database_restored", backup_at=backup_at.isoformat())
    return _view(brake)


def brakes() -> list[BrakeView]:
    """Open ones first, then the newest."""
    return [_view(row) for row in _recent()]


def _recent() -> QuerySet[Brake]:
    kept = Q(released_at__isnull=True) | Q(released_at__gt=clock.now() - timedelta(days=30))
    return Brake.objects.filter(kept).order_by("-id")


def waiting() -> tuple[int, datetime | None]:
    """How many nobody let go, and since when the oldest holds."""
    rows = Brake.objects.filter(released_at__isnull=True)
    found = rows.aggregate(count=Count("id"), oldest=Min("tripped_at"))
    return found["count"], found["oldest"]


def unknown_pods() -> list[UnknownPodView]:
    """Pods with our label and an instance we do not know, oldest first."""
    return [
        UnknownPodView(
            cluster_id=row.cluster_id,
            cluster=row.cluster.name,
            namespace=row.namespace,
            name=row.name,
            uid=row.uid,
            label=row.label,
            first_seen_at=row.first_seen_at,
            last_seen_at=row.last_seen_at,
        )
        for row in UnknownPod.objects.select_related("cluster").order_by("first_seen_at", "pk")
    ]


def _view(row: Brake) -> BrakeView:
    return BrakeView(
        id=row.pk,
        cluster_id=row.cluster_id,
        cause=row.cause,
        detail=row.detail,
        tripped_at=row.tripped_at,
        wanted=row.wanted,
        limit=row.limit,
        backup_at=row.backup_at,
        released_at=row.released_at,
        released_by=row.released_by,
        note=row.note,
    )
