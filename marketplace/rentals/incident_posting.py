"""The loop that books ordered incidents: batch by batch, each a transaction of its own.

What a batch books, notes and mails is committed together, so whoever is killed between two of them,
or within one, leaves nothing to be done twice: the next pass takes the lines without a posting.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Sum
from django.utils.translation import gettext_noop as _

from billing.contracts.incidents import IncidentPart
from billing.facade import incidents as billing
from kernel import spans
from kernel.clock import now
from kernel.money import format_micro
from kernel.turns import each
from marketplace.accounts import audit, money_mail, switches
from marketplace.accounts.phrases import phrase
from marketplace.models import Incident, IncidentLine, Organization, Rental
from marketplace.rentals.affected import NOTE
from marketplace.rentals.incidents import State, terms_of
from marketplace.rentals.timeline import note

# The locks of so many rentals, meters and tenants are held while a batch is written: a hundred take
# tens of milliseconds. More would hold up renters, fewer cost a transaction each.
BATCH: Final = 100
_WHOSE: Final = {
    Incident.Cause.PLATFORM: _("It was our fault."),
    Incident.Cause.HOST: _("It was the fault of the owner of the cards."),
}


def post_due() -> int:
    """Book what was ordered and, where it had to be, agreed to; how many lines. None while charging
    is stopped."""
    waiting = Incident.objects.filter(state=State.POSTING).order_by("id")
    refs = list(waiting.values_list("id", flat=True))
    if not refs or switches.holds_charging("incidents"):
        return 0
    return sum(each("incident", refs, _post))


def _post(incident_ref: UUID) -> int:
    done = 0
    while booked := _batch(incident_ref):
        done += booked
    return done


def _batch(incident_ref: UUID) -> int:
    with transaction.atomic(durable=True):
        rows = Incident.objects.select_for_update(skip_locked=True)
        incident = rows.filter(id=incident_ref, state=State.POSTING).first()
        if incident is None:
            return 0  # somebody else books it, or it is done
        left = incident.lines.filter(posted_at=None)
        order = left.select_related("rental").order_by("rental__organization_id", "id")
        lines = list(order[:BATCH])
        _book(incident, lines)
        _tell(incident, {line.rental.organization_id for line in lines})
        if not left.exists():
            _finish(incident)
        return len(lines)


def _book(incident: Incident, lines: Sequence[IncidentLine]) -> None:
    locked = Rental.objects.select_for_update(of=["self"]).order_by("id")
    rentals = {row.pk: row for row in locked.filter(id__in=[line.rental_id for line in lines])}
    parts = [IncidentPart(line.rental_id, tuple(spans.read(line.spans))) for line in lines]
    given = billing.credit(terms=terms_of(incident), parts=parts)
    present = now()
    for line in lines:
        line.posted_micro, line.posted_at = given.get(line.rental_id, 0), present
        if line.posted_micro:
            text = (
                f"Credit for an incident, “{incident.title}”: {format_micro(line.posted_micro)} "
                f"{rentals[line.rental_id].currency}. {_WHOSE[Incident.Cause(incident.cause)]}"
            )
            note(rentals[line.rental_id], at=present, reason=NOTE, actor="platform", text=text)
    IncidentLine.objects.bulk_update(lines, ["posted_micro", "posted_at"])


def _tell(incident: Incident, org_refs: set[UUID]) -> None:
    """One mail to each organization, with its last line."""
    for organization in Organization.objects.filter(id__in=org_refs).order_by("id"):
        own = incident.lines.filter(rental__organization=organization)
        given = own.filter(posted_micro__gt=0)
        total = given.aggregate(total=Sum("posted_micro"))["total"]
        if own.filter(posted_at=None).exists() or not total:
            continue
        text = [
            phrase(
                "{title}, {start} to {end} UTC: {amount} USD before tax were credited to your "
                "balance, for {count} of your rentals.",
                title=incident.title,
                start=f"{incident.from_at:%Y-%m-%d %H:%M}",
                end=f"{incident.to_at:%Y-%m-%d %H:%M}",
                amount=format_micro(total),
                count=given.count(),
            ),
            phrase(_WHOSE[Incident.Cause(incident.cause)]),
            incident.note,
        ]
        money_mail.tell(
            organization.pk,
            "incident.credited",
            subject=phrase("Credit for an incident"),
            text=text,
        )


def _finish(incident: Incident) -> None:
    incident.state, incident.posted_at = State.POSTED, now()
    incident.version += 1
    incident.save(update_fields=["state", "posted_at", "version"])
    total = incident.lines.aggregate(total=Sum("posted_micro"))["total"] or 0
    audit.record(
        acting="platform",
        action="incident.post",
        object=incident.public_id,
        organization_ref=None,
        details={"title": incident.title, "amount": format_micro(total)},
    )
