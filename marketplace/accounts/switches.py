"""Switches that people on call turn: stop new rentals, stop charging, show only.

Every process reads them at most every two seconds, so a switch acts everywhere well within five.
Turning one writes a row, which stays as history, and an audit row. Limit: what was let through in
the two seconds before is let through; a switch is a brake, not a lock.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

import structlog
from django.db import IntegrityError, transaction
from django.db.models import Q
from prometheus_client import Counter

from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, parse, public
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal
from marketplace.models import Switch
from provisioner import facade as provisioner

log = structlog.get_logger(__name__)
HELD = Counter(
    "gpuyard_switch_held_total", "What a switch kept from being done", ["switch", "what"]
)

STOP_RENTALS: Final = Switch.Name.STOP_RENTALS.value
STOP_CHARGING: Final = Switch.Name.STOP_CHARGING.value
READ_ONLY: Final = Switch.Name.READ_ONLY.value
# Five seconds are promised. Shorter asks the database more often for nothing; longer leaves no room
# for a slow request that read it just before.
CACHED_S: Final = 2.0
# How far back the list goes: as far as that of the mass brake.
SHOWN: Final = timedelta(days=30)
# People turn switches: asking each second would only add load to whatever is wrong.
RETRY_AFTER_S: Final = 60
_NOTE: Final = 250


@dataclass(frozen=True)
class SwitchView:
    """One time that a switch is or was on. cluster_id None: everywhere."""

    id: UUID
    name: str
    cluster_id: UUID | None
    note: str
    on_at: datetime
    on_by: str
    off_at: datetime | None
    off_by: str


class _Cache:
    """What is on, as this process last read it. Replaced as a whole, so threads need no lock."""

    def __init__(self) -> None:
        self._held: tuple[float, tuple[SwitchView, ...]] | None = None

    def get(self) -> tuple[SwitchView, ...]:
        held = self._held
        if held is None or time.monotonic() - held[0] >= CACHED_S:
            # The age counts from before the question: an answer must not look younger than it is.
            held = (time.monotonic(), tuple(_view(row) for row in _on()))
            self._held = held
        return held[1]

    def clear(self) -> None:
        self._held = None


_cache = _Cache()


# --- reading ----------------------------------------------------------------------------------


def active() -> tuple[SwitchView, ...]:
    """What is on, at most two seconds old."""
    return _cache.get()


def forget() -> None:
    """Read anew at the next question."""
    _cache.clear()


def note_of(name: str) -> str | None:
    """The note of this switch if it is on everywhere, else None."""
    found = (view.note for view in active() if view.name == name and view.cluster_id is None)
    return next(found, None)


def stopped_clusters() -> frozenset[UUID]:
    """Clusters that take no new rentals."""
    return frozenset(
        view.cluster_id
        for view in active()
        if view.name == STOP_RENTALS and view.cluster_id is not None
    )


def stopped_now() -> Q:
    """A condition for offers whose cluster takes no new rentals: part of the question itself, so
    that the catalogue stays one query and never shows what cannot be rented."""
    off_sale = Switch.objects.filter(
        name=STOP_RENTALS, off_at__isnull=True, cluster_ref__isnull=False
    )
    return Q(group__cluster_id__in=off_sale.values("cluster_ref"))


def refuse_rentals() -> None:
    """Raise Refusal read_only with the note while no new rentals are taken anywhere."""
    note = note_of(STOP_RENTALS)
    if note is not None:
        HELD.labels(STOP_RENTALS, "request").inc()
        raise Refusal(
            "read_only",
            f"No new rentals are taken for the moment: {note} Nothing was done and nothing is "
            "charged. What runs goes on. Try again later.",
            retry_after=RETRY_AFTER_S,
        )


def read_only() -> Refusal | None:
    """The refusal of every change while the platform only shows, else None."""
    note = note_of(READ_ONLY)
    if note is None:
        return None
    return Refusal(
        "read_only",
        f"The platform only shows for the moment: {note} Nothing was done. What runs goes on. "
        "Send the same request again later.",
        retry_after=RETRY_AFTER_S,
    )


def holds_charging(what: str) -> bool:
    """Whether charging is stopped; says so in log and metric, since nobody sees it elsewhere."""
    note = note_of(STOP_CHARGING)
    if note is None:
        return False
    HELD.labels(STOP_CHARGING, what).inc()
    log.warning("charging_is_stopped", what=what, note=note)
    return True


def holds_queue() -> bool:
    """Whether waiting rentals get no cards because no new rentals are taken."""
    held = note_of(STOP_RENTALS) is not None
    if held:
        HELD.labels(STOP_RENTALS, "queue").inc()
    return held


def history() -> list[SwitchView]:
    """Those that are on and those of the last thirty days, newest first; never cached."""
    recent = Q(off_at__isnull=True) | Q(on_at__gt=now() - SHOWN)
    return [_view(row) for row in Switch.objects.filter(recent).order_by("-id")]


# --- turning ----------------------------------------------------------------------------------


def turn(
    *, acting: Principal | str, name: str, on: bool, cluster: str | None = None, note: str = ""
) -> SwitchView:
    """Turn a switch; joins the caller's transaction. ``acting``: staff, or "console".

    Turning on what is on changes nothing. InvalidRequest without a note, or for a cluster where
    the switch takes none; NotFound for an unknown cluster; Refusal invalid_transition when what is
    to be turned off is not on.
    """
    if isinstance(acting, Principal):
        acting.require(STAFF)
    cluster_ref = _check(name, on, cluster, note)
    by = acting.staff_actor if isinstance(acting, Principal) else acting
    where = Q(cluster_ref__isnull=True) if cluster_ref is None else Q(cluster_ref=cluster_ref)
    present = Switch.objects.select_for_update().filter(where, name=name, off_at__isnull=True)
    row = present.first()
    if on and row is not None:
        return _view(row)
    row = _turn_on(name, cluster_ref, by, note) if on else _turn_off(row, by)
    audit.record(
        acting=acting,
        action=f"switch.{'on' if on else 'off'}",
        object=public("switch", row.id),
        organization_ref=None,
        details={"name": name, "cluster": cluster, "note": row.note},
    )
    # This process at once, the others within their two seconds.
    transaction.on_commit(forget)
    return _view(row)


def _check(name: str, on: bool, cluster: str | None, note: str) -> UUID | None:
    mistakes: dict[str, list[str]] = {}
    if name not in Switch.Name.values:
        mistakes["name"] = [f"one of {', '.join(sorted(Switch.Name.values))}"]
    if cluster is not None and name != STOP_RENTALS:
        mistakes["cluster"] = ["only stop_rentals is for one cluster"]
    if on and not clean(note, limit=_NOTE):
        mistakes["note"] = ["say why: it is shown to those who are refused"]
    if len(note) > _NOTE:
        mistakes["note"] = [f"at most {_NOTE} characters"]
    if mistakes:
        raise InvalidRequest(mistakes)
    if cluster is None:
        return None
    try:
        cluster_ref = parse("cluster", cluster)
    except BadId as error:
        raise NotFound("cluster") from error
    if not provisioner.clusters(ids=[cluster_ref]):
        raise NotFound("cluster")
    return cluster_ref


def _turn_on(name: str, cluster_ref: UUID | None, by: str, note: str) -> Switch:
    said = clean(note, limit=_NOTE)
    said = said if said[-1] in ".!?" else f"{said}."  # it stands between two sentences
    try:
        with transaction.atomic():
            return Switch.objects.create(
                name=name, cluster_ref=cluster_ref, on_at=now(), on_by=by, note=said
            )
    except IntegrityError as error:
        raise Refusal(
            "in_progress", "Somebody else is turning this switch on. Look at the list again."
        ) from error


def _turn_off(row: Switch | None, by: str) -> Switch:
    if row is None:
        raise Refusal(
            "invalid_transition",
            "This switch is not on. Nothing was changed; see the list of those that are.",
            state="off",
            actions=["on"],
        )
    row.off_at, row.off_by = now(), by
    row.save(update_fields=["off_at", "off_by"])
    return row


def _on() -> list[Switch]:
    return list(Switch.objects.filter(off_at__isnull=True).order_by("id"))


def _view(row: Switch) -> SwitchView:
    return SwitchView(
        id=row.id,
        name=row.name,
        cluster_id=row.cluster_ref,
        note=row.note,
        on_at=row.on_at,
        on_by=row.on_by,
        off_at=row.off_at,
        off_by=row.off_by,
    )
