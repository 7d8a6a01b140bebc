"""Incidents: staff name what happened, look at what it comes to, and give it back once.

A draft is worked out at each look. Ordering it fixes its lines, above the limit for a second person
to agree; then the loop books them batch by batch. A batch is one transaction with its ledger rows,
timelines and mails, so a crash repeats none and loses none.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import QuerySet, Sum

from billing.contracts.incidents import IncidentPart, IncidentQuote, IncidentTerms
from billing.facade import incidents as billing
from kernel import spans
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import BadId, parse
from kernel.money import format_micro
from kernel.wake import wake_on_commit
from marketplace.accounts import audit, staffing
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.models import Incident, IncidentLine, Organization, Provider
from marketplace.models.incident import ALONE
from marketplace.rentals.affected import affected
from provisioner import facade as provisioner

# Proofs of a time come in for minutes after it, and an interruption is credited within minutes of
# its end; an hour is beyond both. Less could count what the next proof denies.
SETTLED: Final = timedelta(hours=1)
# Longer is no incident; and a look at more proofs than a month's would be slow.
_LONGEST: Final = timedelta(days=31)
_OLDEST: Final = timedelta(days=366)
# What one person orders within this time counts together, as for money that goes back.
_TOGETHER: Final = timedelta(days=1)
_MOST_CLUSTERS: Final = 200
State = Incident.State


@dataclass(frozen=True)
class IncidentOrder:
    """What staff say happened. provider, clusters: public ids; neither is the whole platform."""

    title: str
    note: str
    cause: str
    basis: str
    percent: int
    provider: str | None
    clusters: Sequence[str]
    from_at: datetime
    to_at: datetime


@dataclass(frozen=True)
class Line:
    """One rental's part. interrupted and degraded: None where it was ordered and is fixed."""

    rental_ref: UUID
    org_ref: UUID
    quote: IncidentQuote | None
    interrupted_seconds: int | None
    degraded_seconds: int | None
    seconds: int
    amount_micro: int
    provider_micro: int
    posted_micro: int | None
    spans: tuple[spans.Span, ...]


@dataclass(frozen=True)
class OrganizationTotal:
    organization: Organization
    rentals: int
    amount_micro: int


@dataclass(frozen=True)
class Preview:
    """What an incident comes to: per rental and organization, and who pays it."""

    lines: tuple[Line, ...]
    organizations: tuple[OrganizationTotal, ...]
    total_micro: int
    provider_micro: int

    @property
    def platform_micro(self) -> int:
        return self.total_micro - self.provider_micro


def incidents(acting: Principal) -> QuerySet[Incident]:
    """All of them, newest first."""
    acting.require(STAFF)
    return Incident.objects.select_related("provider__organization").order_by("-id")


def one(acting: Principal, incident_id: str) -> Incident:
    return find(incidents(acting), incident_id)


def create(*, acting: Principal, asked: IncidentOrder) -> Incident:
    """A draft; nothing is given before it is ordered. In the caller's transaction."""
    acting.require(STAFF)
    provider = find(Provider.objects.all(), asked.provider) if asked.provider else None
    cluster_refs = _clusters(asked.clusters, provider)
    _check(asked, now(), anywhere=provider is None and not cluster_refs)
    row = Incident.objects.create(
        title=asked.title.strip(),
        note=asked.note.strip(),
        cause=asked.cause,
        basis=asked.basis,
        percent=asked.percent,
        provider=provider,
        cluster_refs=cluster_refs,
        from_at=asked.from_at,
        to_at=asked.to_at,
        made_by=acting.staff_actor[:100],
    )
    _record(acting, row, "incident.create")
    return row


def preview(acting: Principal, incident: Incident) -> Preview:
    """What it comes to now; of one that was ordered, what was fixed then. Stores nothing."""
    acting.require(STAFF)
    fixed = incident.ordered_at is not None
    return _summed(_fixed(incident) if fixed else _worked_out(incident))


def post(*, acting: Principal, incident_id: str) -> Incident:
    """Order a draft, or agree to one that waits. In the caller's transaction.

    Refusal invalid_transition: nothing to give, too early, ordered by the same person, or over.
    """
    acting.require(STAFF)
    incident = find(Incident.objects.select_for_update(), incident_id)
    if incident.state == State.DRAFT:
        _order(acting, incident)
    elif incident.state == State.WAITING:
        _approve(acting, incident)
    else:
        raise _refused(incident, f"It is {incident.get_state_display().lower()} already.")
    if incident.state == State.POSTING:
        wake_on_commit("marketplace.incidents")
    return incident


def withdraw(*, acting: Principal, incident_id: str, reason: str) -> Incident:
    """End a draft or one that waits, by anybody of the staff; nothing was booked."""
    acting.require(STAFF)
    if not 3 <= len(reason.strip()) <= 500:
        raise InvalidRequest({"reason": ["say why, in 3 to 500 letters"]})
    incident = find(Incident.objects.select_for_update(), incident_id)
    if incident.state not in (State.DRAFT, State.WAITING):
        raise _refused(incident, "It was given already, or withdrawn.")
    incident.state = State.WITHDRAWN
    incident.withdrawn_by, incident.withdrawn_for = acting.staff_actor[:100], reason.strip()
    incident.version += 1
    incident.save()
    _record(acting, incident, "incident.withdraw", why=incident.withdrawn_for)
    return incident


def terms_of(incident: Incident) -> IncidentTerms:
    """As billing takes it."""
    return IncidentTerms(
        incident_ref=incident.pk,
        title=incident.title,
        from_at=incident.from_at,
        to_at=incident.to_at,
        percent=incident.percent,
        by_provider=incident.cause == Incident.Cause.HOST,
    )


def actions_of(incident: Incident) -> list[str]:
    """What may be done with it."""
    return ["post", "withdraw"] if incident.state in (State.DRAFT, State.WAITING) else []


def _check(asked: IncidentOrder, present: datetime, *, anywhere: bool) -> None:
    errors: dict[str, list[str]] = {}
    if not 3 <= len(asked.title.strip()) <= 120:
        errors["title"] = ["3 to 120 letters; renters read it"]
    if not 1 <= asked.percent <= 100:
        errors["percent"] = ["from 1 to 100"]
    if not present - _OLDEST < asked.from_at < present:
        errors["from_at"] = ["within the last year"]
    if not (asked.from_at < asked.to_at <= present and asked.to_at - asked.from_at <= _LONGEST):
        errors["to_at"] = ["after its beginning, within 31 days of it, and not in the future"]
    if asked.cause == Incident.Cause.HOST and anywhere:
        errors["cause"] = ["name the provider or its clusters: a host's fault is somebody's"]
    if errors:
        raise InvalidRequest(errors)


def _clusters(names: Sequence[str], provider: Provider | None) -> list[UUID]:
    if len(names) > _MOST_CLUSTERS:
        raise InvalidRequest({"clusters": [f"at most {_MOST_CLUSTERS}"]})
    try:
        wanted = {parse("cluster", name) for name in names}
    except BadId as error:
        raise NotFound("cluster") from error
    found = provisioner.clusters(ids=list(wanted)) if wanted else []
    if {view.id for view in found} != wanted:
        raise NotFound("cluster")
    if provider is not None and any(view.provider_ref != provider.pk for view in found):
        raise InvalidRequest({"clusters": ["are of another provider"]})
    return sorted(wanted)


def _where(incident: Incident) -> Collection[UUID] | None:
    """Its clusters; None: all."""
    if incident.cluster_refs:
        return list(incident.cluster_refs)
    if incident.provider_id is not None:
        return [view.id for view in provisioner.clusters(provider_ref=incident.provider_id)]
    return None


def _worked_out(incident: Incident) -> list[Line]:
    touched = affected(
        cluster_ids=_where(incident),
        from_at=incident.from_at,
        to_at=incident.to_at,
        basis=incident.basis,
    )
    parts = [IncidentPart(row.rental_ref, row.spans) for row in touched]
    quotes = {row.rental_ref: row for row in billing.quote(terms=terms_of(incident), parts=parts)}
    return [
        Line(
            rental_ref=row.rental_ref,
            org_ref=quote.org_ref,
            quote=quote,
            interrupted_seconds=row.interrupted_seconds,
            degraded_seconds=row.degraded_seconds,
            seconds=quote.seconds,
            amount_micro=quote.amount_micro,
            provider_micro=quote.provider_micro,
            posted_micro=None,
            spans=row.spans,
        )
        for row in touched
        if (quote := quotes.get(row.rental_ref)) is not None
    ]


def _fixed(incident: Incident) -> list[Line]:
    rows = incident.lines.select_related("rental").order_by("rental_id")
    return [
        Line(
            rental_ref=row.rental_id,
            org_ref=row.rental.organization_id,
            quote=None,
            interrupted_seconds=None,
            degraded_seconds=None,
            seconds=row.seconds,
            amount_micro=row.amount_micro,
            provider_micro=row.provider_micro,
            posted_micro=row.posted_micro,
            spans=(),
        )
        for row in rows
    ]


def _summed(lines: Sequence[Line]) -> Preview:
    sums: dict[UUID, list[int]] = {}
    for line in lines:
        found = sums.setdefault(line.org_ref, [0, 0])
        found[0] += 1
        found[1] += line.amount_micro
    organizations = Organization.objects.in_bulk(list(sums))
    totals = [OrganizationTotal(organizations[ref], *found) for ref, found in sums.items()]
    return Preview(
        lines=tuple(sorted(lines, key=lambda line: (-line.amount_micro, line.rental_ref))),
        organizations=tuple(sorted(totals, key=lambda row: -row.amount_micro)),
        total_micro=sum(line.amount_micro for line in lines),
        provider_micro=sum(line.provider_micro for line in lines),
    )


def _order(acting: Principal, incident: Incident) -> None:
    present = now()
    ready = incident.to_at + SETTLED
    if present < ready:
        raise _refused(incident, f"Its last proofs come in until {ready:%Y-%m-%d %H:%M} UTC.")
    due = [line for line in _worked_out(incident) if line.amount_micro > 0]
    if not due:
        raise _refused(incident, "It comes to nothing: there is nobody to give anything back to.")
    IncidentLine.objects.bulk_create(
        IncidentLine(
            incident=incident,
            rental_id=line.rental_ref,
            spans=spans.stored(line.spans),
            seconds=line.seconds,
            amount_micro=line.amount_micro,
            provider_micro=line.provider_micro,
        )
        for line in due
    )
    incident.total_micro = sum(line.amount_micro for line in due)
    incident.ordered_by, incident.ordered_at = acting.staff_actor[:100], present
    incident.needs_second = _needs_second(incident, present)
    incident.state = State.WAITING if incident.needs_second else State.POSTING
    incident.version += 1
    incident.save()
    _record(acting, incident, "incident.order", amount=format_micro(incident.total_micro))


def _needs_second(incident: Incident, present: datetime) -> bool:
    before = Incident.objects.filter(
        ordered_by=incident.ordered_by, needs_second=False, ordered_at__gt=present - _TOGETHER
    ).aggregate(total=Sum("total_micro"))["total"]
    limit: int = settings.GPUYARD_SECOND_PERSON_ABOVE
    return (before or 0) + incident.total_micro > limit


def _approve(acting: Principal, incident: Incident) -> None:
    actor, present = acting.staff_actor[:100], now()
    assert incident.ordered_at is not None
    if incident.ordered_by == actor:
        since = incident.ordered_at + ALONE
        if not staffing.alone():
            raise _refused(
                incident, "You ordered it yourself: another member of the staff has to agree."
            )
        if present < since:
            raise _refused(
                incident,
                "You ordered it yourself and are the only member of the staff: you can carry it "
                f"out from {since:%Y-%m-%d %H:%M} UTC on, unless somebody joins.",
            )
        incident.alone = True
    incident.approved_by, incident.approved_at = actor, present
    incident.state = State.POSTING
    incident.version += 1
    incident.save()
    more = {"alone": True} if incident.alone else {}
    _record(acting, incident, "incident.approve", amount=format_micro(incident.total_micro), **more)


def _refused(incident: Incident, why: str) -> Refusal:
    return Refusal(
        "invalid_transition",
        f"{why} Nothing was moved.",
        state=incident.state,
        actions=actions_of(incident),
    )


def _record(
    acting: Principal | str, incident: Incident, action: str, **details: str | bool
) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=incident.public_id,
        organization_ref=None,
        details={"title": incident.title, "cause": incident.cause, **details},
    )
