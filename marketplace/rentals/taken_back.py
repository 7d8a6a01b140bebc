"""Cards that their owner takes back: maintenance as announced, and the end of what was agreed.

A loop, not the announcement, finds whom a maintenance concerns: whoever is placed there while it
is being announced is found a moment later. Everybody is told once when it is known, again ten
minutes before, and stopped at the time; what is on volumes is kept.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q

from kernel.clock import AppNow, now
from kernel.text import rfc3339
from kernel.turns import Turn, turns
from marketplace.accounts.money_mail import tell
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import Maintenance, Rental
from marketplace.rentals.announce import announce_notice
from marketplace.rentals.notice import LEAD, enforce
from marketplace.rentals.state import HOLDS_CARDS, LEGAL
from marketplace.rentals.timeline import note
from provisioner.facade import supply

_BATCH: Final = 500
# Both codes that an owner takes a host down for.
_REASONS: Final = ("maintenance", "abuse")
_WITHDRAWN: Final = "The maintenance was called off."


def sweep(limit: int = _BATCH) -> int:
    """Tell and stop whom an owner's maintenance or contract concerns; how many were stopped."""
    concerned = _concerned()
    soon = now() + LEAD
    stopped = 0
    with turns("taken_back") as turn:
        _mark(concerned, turn)
        for reason in _REASONS:
            due = {
                rental: each.starts_at
                for rental, each in concerned.items()
                if each.reason == reason and each.starts_at <= soon
            }
            with turn(reason):
                stopped += enforce(reason, due, withdrawn=_WITHDRAWN)
        over = Rental.objects.filter(
            state__in=LEGAL["stop"], ended_at=None, contract_ends_at__lte=AppNow() + LEAD
        )
        ends = dict(over.order_by("contract_ends_at").values_list("id", "contract_ends_at")[:limit])
        with turn("contract_end"):
            stopped += enforce("contract_end", _dated(ends), withdrawn="Its contract goes on.")
    return stopped


def open_maintenance() -> list[Maintenance]:
    """What is announced or under way, the earliest first."""
    rows = Maintenance.objects.filter(
        Q(ends_at__isnull=True) | Q(ends_at__gt=AppNow()), withdrawn_at=None
    )
    return list(rows.order_by("starts_at", "id"))


def _concerned() -> dict[UUID, Maintenance]:
    """By rental with a machine there, the first maintenance that ends it."""
    announced = open_maintenance()
    there = supply.occupants(cluster_ids={each.cluster_ref for each in announced})
    found: dict[UUID, Maintenance] = {}
    for each in announced:
        for occupant in there:
            here = occupant.cluster_id == each.cluster_ref
            if here and each.node_ref in (None, occupant.node_id) and not occupant.ending:
                found.setdefault(occupant.rental_ref, each)
    return found


def _mark(concerned: Mapping[UUID, Maintenance], turn: Turn) -> None:
    """Bring the rentals' own dates in line, and tell those for whom one is new."""
    marked = Rental.objects.filter(maintenance_at__isnull=False, ended_at=None)
    told: dict[UUID, datetime | None] = dict(marked.values_list("id", "maintenance_at"))
    wrong = {ref for ref, each in concerned.items() if told.get(ref) != each.starts_at}
    wrong |= told.keys() - concerned.keys()
    together: dict[tuple[UUID, UUID | None], list[UUID]] = defaultdict(list)
    owners = Rental.objects.filter(id__in=wrong).order_by("id").values_list("id", "organization_id")
    by_id = {each.id: each for each in concerned.values()}
    for rental_id, organization in owners if wrong else ():
        each = concerned.get(rental_id)
        together[organization, each.id if each else None].append(rental_id)
    for (organization, maintenance), ids in together.items():
        with turn(ids), transaction.atomic(durable=True):
            if maintenance is None:
                _clear(ids)
            else:
                _tell(organization, ids, by_id[maintenance])


def _locked(ids: Sequence[UUID]) -> list[Rental]:
    rows = Rental.objects.select_for_update(skip_locked=True, of=("self",))
    return list(rows.filter(id__in=ids).order_by("id"))


def _clear(ids: Sequence[UUID]) -> None:
    """No host of theirs is taken down any more, or they are not there any more."""
    for rental in _locked(ids):
        ahead = rental.maintenance_at is not None and rental.maintenance_at > now()
        rental.maintenance_at = None
        _save(rental)
        if ahead and rental.state in HOLDS_CARDS:
            note(rental, at=now(), reason="maintenance", actor="host", text=_WITHDRAWN)


def _tell(organization: UUID, ids: Sequence[UUID], each: Maintenance) -> None:
    """One mail, however many rentals it is; what is stopped at once is told by its stop."""
    told = [rental for rental in _locked(ids) if rental.maintenance_at != each.starts_at]
    for rental in told:
        rental.maintenance_at = each.starts_at
        _save(rental)
        if not each.urgent:
            note(rental, at=now(), reason="maintenance", actor="host", text=_said(each))
            announce_notice(rental, notice="maintenance")
    if told and not each.urgent:
        names = ", ".join(f"{rental.name} ({rental.public_id})" for rental in told)
        tell(
            organization,
            "host.maintenance",
            subject=phrase("A host of your rentals is taken down for maintenance"),
            text=[f"{names}:", *_said(each), phrase("Nothing is charged after the stop.")],
            also={rental.created_by_id for rental in told},
        )


def _save(rental: Rental) -> None:
    rental.version += 1
    rental.save(update_fields=["maintenance_at", "version"])


def _said(each: Maintenance) -> list[Said]:
    start = rfc3339(each.starts_at)
    if each.ends_at is None:
        when = phrase("Its host is taken down from {start}.", start=start)
    else:
        end = rfc3339(each.ends_at)
        when = phrase("Its host is taken down from {start} to {end}.", start=start, end=end)
    kept = phrase("It will be stopped then, and what is on volumes is kept.")
    note = phrase("The owner says: {note}", note=each.note) if each.note else ""
    return [when, kept, note]


def _dated(ends: Mapping[UUID, datetime | None]) -> dict[UUID, datetime]:
    return {rental: at for rental, at in ends.items() if at is not None}
