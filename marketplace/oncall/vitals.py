"""Every vital sign of the platform: the marketplace's own and those of the two areas below.

Set-based over partial indexes of unfinished work; the number of queries is fixed, whatever exists.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import Count, Min

from billing import facade as billing
from kernel.clock import now
from kernel.vitals import COUNT, Vital
from marketplace.accounts import audit, mail, switches
from marketplace.models import Rental
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
    own = [*_rentals(present), *_accounts(present), *_switches(present)]
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
    unsent, oldest_mail = mail.unsent()
    return [
        Vital("audit_unsealed", unsealed, "Audit rows not chained yet", COUNT),
        Vital("audit_unsealed_age", _age(present, oldest_entry), "Since the oldest of them"),
        Vital("mail_unsent", unsent, "E-mails ordered and not sent", COUNT),
        Vital("mail_unsent_age", _age(present, oldest_mail), "Since the oldest was ordered"),
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
