"""Problems that renters report about a rental or a charge, and what staff answer.

A report keeps how things stood when it was made: by the time somebody reads it the rental may have
ended or moved. It changes nothing by itself, neither the rental nor the money; what staff do about
it (a refund, a credit) is an action of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final
from uuid import UUID

from django.db import connection
from django.db.models import QuerySet

from billing.contracts import ChargeView
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.ids import parse, public
from kernel.money import CURRENCY, format_micro
from kernel.text import clean, rfc3339
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal, find, visible
from marketplace.accounts.money_mail import order_said
from marketplace.accounts.phrases import phrase
from marketplace.models import EmailToken, ProblemReport, Rental, RentalEvent, VolumeMeter
from marketplace.rentals import read
from marketplace.rentals.present import describe_charge, describe_event
from provisioner import facade as provisioner

State = ProblemReport.State

# Open ones of an organization. A team with more than twenty questions at once needs a talk, and
# without a bound one script fills the desk of everybody; fewer would stop a day of honest trouble.
MOST_OPEN: Final = 20
LONGEST: Final = 2000
# Enough to see how it came to where it is; the whole course is in its own list.
_EVENTS: Final = 5
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))"


def report(
    *, acting: Principal, rental_id: str | None, charge_id: str | None, text: str
) -> ProblemReport:
    """Store what somebody says about a rental or a charge of theirs; joins the caller's
    transaction. Raises InvalidRequest, NotFound, quota_exceeded."""
    said = clean(text, limit=LONGEST, lines=True)
    if not said:
        raise InvalidRequest({"text": ["say what is wrong"]})
    if (rental_id is None) == (charge_id is None):
        raise InvalidRequest({"rental": ["name a rental or a charge, and only one of them"]})
    rental, charge, size = _named(acting, rental_id, charge_id)
    row = ProblemReport.objects.create(
        organization=acting.org,
        reporter=acting.user,
        rental=rental,
        charge_ref=charge.id if charge else None,
        text=said,
        seen=_seen(rental, charge, size),
        place=_place(rental),
    )
    audit.record(
        acting=acting,
        action="problem.report",
        object=row.public_id,
        organization_ref=acting.org.id,
        details={"rental": rental.public_id if rental else None, "charge": charge_id},
    )
    _check_room(acting.org.id)
    return row


def _named(
    acting: Principal, rental_id: str | None, charge_id: str | None
) -> tuple[Rental | None, ChargeView | None, VolumeMeter | None]:
    """What a report is about. A charge of cards brings its rental along."""
    if charge_id is None:
        return read.get(acting, str(rental_id)), None, None
    charge, size, _ = read.evidence(acting, charge_id)
    if size is not None:
        return None, charge, size
    return read.rentals(acting).get(id=charge.rental_ref), charge, None


def _seen(
    rental: Rental | None, charge: ChargeView | None, size: VolumeMeter | None
) -> dict[str, Any]:
    """How it stands now, as the renter may see it."""
    shown: dict[str, Any] = {"at": rfc3339(now()), "rental": None, "charge": None}
    if rental is not None:
        events = RentalEvent.objects.filter(rental=rental).order_by("-seq")[:_EVENTS]
        shown["rental"] = {
            "state": rental.state,
            "reason": rental.reason,
            "state_since": rfc3339(rental.state_since),
            "ready_at": rfc3339(rental.ready_at),
            "ended_at": rfc3339(rental.ended_at),
            "price_per_hour": format_micro(rental.price_micro_h),
            "currency": rental.currency,
            "events": [_event(event) for event in events],
        }
    if charge is not None:
        told = describe_charge(charge, CURRENCY, size)
        names = ("from", "to", "seconds", "price_per_hour", "amount", "currency", "transaction")
        shown["charge"] = {name: told[name] for name in names}
    return shown


def _event(event: RentalEvent) -> dict[str, Any]:
    told = describe_event(event)
    return {name: told[name] for name in ("at", "state", "reason", "fault", "text")}


def _place(rental: Rental | None) -> dict[str, str]:
    """Where it runs or ran last, for staff."""
    found = provisioner.instances(rental_ref=rental.id) if rental is not None else []
    current = next((view for view in found if rental and view.id == rental.instance_ref), None)
    if current is None:
        return {}
    return {
        "cluster": public("cluster", current.cluster_id),
        "node": current.node,
        "instance": public("instance", current.id),
    }


def _check_room(organization_id: UUID) -> None:
    """Raise quota_exceeded above the bound, this transaction's row counted. Reports of one
    organization queue here; nothing else is waited for behind it."""
    with connection.cursor() as cursor:
        cursor.execute(_LOCK, [f"problem_reports/{organization_id}"])
    waiting = ProblemReport.objects.filter(organization_id=organization_id, state=State.OPEN)
    if waiting.count() > MOST_OPEN:
        raise Refusal(
            "quota_exceeded",
            f"{MOST_OPEN} of your organization's reports wait for an answer already. Nothing was "
            "stored. Wait for some of them, or write to support.",
            limit=MOST_OPEN,
        )


def own(acting: Principal) -> QuerySet[ProblemReport]:
    """The acting organization's reports."""
    return visible(ProblemReport, acting).select_related("rental")


def reports(acting: Principal, *, state: str | None = None) -> QuerySet[ProblemReport]:
    """Everybody's, for staff; of one state where given."""
    acting.require(STAFF)
    rows = ProblemReport.objects.select_related("rental", "organization", "reporter")
    return rows if state is None else rows.filter(state=state)


def answer(*, acting: Principal, report_id: str, text: str, close: bool) -> ProblemReport:
    """Answer a report and mail that to who made it; joins the caller's transaction. ``close``:
    there was nothing to do about it. Raises NotFound, InvalidRequest, invalid_transition."""
    acting.require(STAFF)
    said = clean(text, limit=LONGEST, lines=True)
    if not said:
        raise InvalidRequest({"answer": ["say what you found: the renter reads it"]})
    row = find(ProblemReport.objects.select_for_update(of=("self",)), report_id)
    if row.state != State.OPEN:
        raise Refusal(
            "invalid_transition",
            f"The report is {row.state} already. Nothing was changed.",
            state=row.state,
            actions=[],
        )
    row.state = State.CLOSED if close else State.ANSWERED
    row.answer, row.answered_at, row.answered_by = said, now(), acting.staff_actor
    row.version += 1
    row.save()
    audit.record(
        acting=acting,
        action=f"problem.{row.state}",
        object=row.public_id,
        organization_ref=row.organization_id,
        details={"answer": said},
    )
    order_said(
        row.reporter,
        EmailToken.Purpose.REPORT,
        subject=phrase("Your report {id} was answered", id=row.public_id),
        text=phrase("You wrote:\n\n{text}\n\nWe answer:\n\n{answer}", text=row.text, answer=said),
    )
    return row


def describe(row: ProblemReport) -> dict[str, Any]:
    """A report as its renter sees it."""
    return {
        "id": row.public_id,
        "rental": public("rental", row.rental_id) if row.rental_id else None,
        "charge": public("charge", row.charge_ref) if row.charge_ref else None,
        "text": row.text,
        "seen": row.seen,
        "state": row.state,
        "answer": row.answer or None,
        "answered_at": rfc3339(row.answered_at),
        "created_at": rfc3339(row.created_at),
        "version": row.version,
    }


def describe_many(rows: Iterable[ProblemReport]) -> list[dict[str, Any]]:
    """Reports as staff see them: of whom, and where it was."""
    listed = list(rows)
    refs = {parse("cluster", row.place["cluster"]) for row in listed if row.place}
    found = provisioner.clusters(ids=list(refs)) if refs else []
    names = {public("cluster", view.id): view.name for view in found}
    return [
        {
            **describe(row),
            "organization": row.organization.public_id,
            "organization_name": row.organization.name,
            "reporter": row.reporter.email,
            "place": {**row.place, "cluster_name": names.get(row.place.get("cluster", ""))},
            "answered_by": row.answered_by or None,
            "actions": ["answer"] if row.state == State.OPEN else [],
        }
        for row in listed
    ]
