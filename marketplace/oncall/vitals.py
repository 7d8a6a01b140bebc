"""Every vital sign of the platform: the marketplace's own and those of the two areas below.

Set-based over partial indexes of unfinished work; the number of queries is fixed, whatever exists.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Min
from django.db.models.functions import Coalesce

from billing import facade as billing
from kernel.clock import now
from kernel.vitals import COUNT, Vital
from marketplace.accounts import audit, letters, mail, switches
from marketplace.models import AbuseReport, Incident, ProblemReport, Rental
from marketplace.rentals import state as states
from provisioner import facade as provisioner

# Should leave their state by themselves. Interrupting waits for its notice to take effect and is
# told like the others; the index rental_moving holds exactly these.
MOVING = (
    states.PROVISIONING,
    states.PULLING,
    states.STARTING,
    states.INTERRUPTING,
    states.STOPPING,
    states.MIGRATING,
    states.TERMINATING,
)


def everything() -> list[Vital]:
    """All vital signs, in a fixed order."""
    present = now()
    own = [*_rentals(present), *_accounts(present), *_desk(present), *_switches(present)]
    return [*provisioner.vitals(), *billing.vitals(), *own]


def _rentals(present: datetime) -> list[Vital]:
    waiting = Rental.objects.filter(state__in=states.WAITING).aggregate(
        count=Count("id"), oldest=Min("queued_at")
    )
    moving = (
        Rental.objects.filter(state__in=MOVING)
        .order_by("state")
        .values_list("state")
        .annotate(oldest=Min("state_since"))
    )
    text = "Longest that a rental is in a state that it should leave by itself"
    return [
        Vital("rentals_waiting", waiting["count"], "Rentals that wait for cards", COUNT),
        Vital("rentals_waiting_age", _age(present, waiting["oldest"]), "Since the first of them"),
        *(
            Vital("rental_moving_age", _age(present, oldest), text, labels=(("state", state),))
            for state, oldest in moving
        ),
    ]


def _accounts(present: datetime) -> list[Vital]:
    unsealed, oldest_entry = audit.unsealed()
    ordered, oldest_mail = mail.unsent()
    facts, oldest_fact = letters.unposted()
    unsent = ordered + facts
    oldest_mail = min(filter(None, (oldest_mail, oldest_fact)), default=None)
    return [
        Vital("audit_unsealed", unsealed, "Audit rows not chained yet", COUNT),
        Vital("audit_unsealed_age", _age(present, oldest_entry), "Since the oldest of them"),
        Vital("mail_unsent", unsent, "E-mails not sent, and facts waiting for theirs", COUNT),
        Vital("mail_unsent_age", _age(present, oldest_mail), "Since the oldest of them"),
    ]


def _desk(present: datetime) -> list[Vital]:
    """What people were promised and nobody has done."""
    posting = Incident.objects.filter(state=Incident.State.POSTING)
    oldest = posting.aggregate(oldest=Min(Coalesce("approved_at", "ordered_at")))["oldest"]
    text = "Since an incident's credits were agreed to that are not booked"
    return [
        Vital("incident_unposted_age", _age(present, oldest), text),
        *(
            Vital(
                "report_open_age",
                _age(present, rows.aggregate(oldest=Min("created_at"))["oldest"]),
                "Since the oldest report that staff have not answered",
                labels=(("of", of),),
            )
            for of, rows in (
                ("abuse", AbuseReport.objects.filter(state=AbuseReport.State.OPEN)),
                ("problem", ProblemReport.objects.filter(state=ProblemReport.State.OPEN)),
            )
        ),
    ]


def _switches(present: datetime) -> list[Vital]:
    text = "Since a switch is on"
    return [
        Vital(
            "switch_on",
            _age(present, view.on_at),
            text,
            labels=(
                ("switch", view.name),
                ("cluster", str(view.cluster_id) if view.cluster_id else "everywhere"),
            ),
        )
        for view in switches.active()
    ]


def _age(present: datetime, since: datetime | None) -> float:
    return 0.0 if since is None else max((present - since).total_seconds(), 0.0)
