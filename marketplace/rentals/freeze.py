"""While a bank contests an organization's payment, the organization spends nothing more.

Open disputes are pulled from billing. A frozen organization rents, starts and tops up nothing; its
running rentals get a notice and are stopped when that is over; what waits for cards waits on. Won,
or an inquiry that was closed: it is unfrozen by itself. After a lost one staff decide. What staff
froze for another reason is left alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from django.db import transaction
from django.db.models import Q, QuerySet

from billing.facade import disputes
from kernel.clock import AppNow
from kernel.turns import Turn, turns
from marketplace.accounts.freezing import DISPUTE, freeze_disputed, thaw
from marketplace.accounts.phrases import phrase
from marketplace.models import Organization, Rental
from marketplace.rentals.notice import LEAD, give, withdraw
from marketplace.rentals.state import INTERRUPTING, LEGAL, RUNNING
from marketplace.rentals.stop import halt_for

REASON: Final = "admin"
_BATCH: Final = 500
_STOPPED: Final = phrase(
    "A payment of your organization is contested at its bank: stopped after its notice. What a "
    "stop keeps is kept. Write to support."
)
_FROZEN: Final = Q(organization__state=Organization.State.FROZEN, organization__frozen_for=DISPUTE)


def freeze() -> int:
    """Bring organizations and their rentals to what open disputes ask for; how many changed."""
    contested = disputes.open_orgs()
    held = Organization.objects.filter(state=Organization.State.FROZEN, frozen_for=DISPUTE)
    frozen = Rental.objects.filter(_FROZEN)
    late = Q(organization__frozen_at__lte=AppNow() - LEAD)
    told = Rental.objects.filter(state=INTERRUPTING, reason=REASON)
    changed = 0
    with turns("freeze") as turn:
        for org_ref in contested:
            with turn(org_ref):
                changed += _freeze(org_ref)
        for org_ref in list(held.exclude(id__in=contested).values_list("id", flat=True)):
            with turn(org_ref):
                changed += _thaw(org_ref)
        changed += _act(frozen.filter(~late, state=RUNNING), _warn, turn)
        changed += _act(frozen.filter(late, state__in=LEGAL["stop"]), _stop, turn)
        changed += _act(told.exclude(_FROZEN), _take_back, turn)
    return changed


def _freeze(org_ref: UUID) -> bool:
    with transaction.atomic(durable=True):
        return freeze_disputed(org_ref)


def _thaw(org_ref: UUID) -> bool:
    with transaction.atomic(durable=True):
        org = Organization.objects.select_for_update().get(id=org_ref)
        if org.frozen_for != DISPUTE or org.frozen_at is None:
            return False
        if disputes.lost_since(org_ref=org.id, at=org.frozen_at):
            return False
        thaw(org, acting="platform")
        return True


def _act(rows: QuerySet[Rental], act: Callable[[Rental], object], turn: Turn) -> int:
    """Act on each that is still so when its lock is taken; how many."""
    done = 0
    for rental_id in list(rows.order_by("id").values_list("id", flat=True)[:_BATCH]):
        with turn(rental_id), transaction.atomic(durable=True):
            locked = Rental.objects.select_for_update(skip_locked=True, of=("self",))
            rental = (
                locked.select_related("organization")
                .filter(id__in=rows.filter(id=rental_id).values("id"))
                .first()
            )
            if rental is not None:
                act(rental)
                done += 1
    return done


def _warn(rental: Rental) -> None:
    frozen_at = rental.organization.frozen_at
    assert frozen_at is not None, "frozen for a dispute has its time"
    give(rental, REASON, at=frozen_at + LEAD)


def _stop(rental: Rental) -> None:
    halt_for(rental, REASON, text=_STOPPED)


def _take_back(rental: Rental) -> None:
    withdraw(rental, REASON, text="The payment is not contested any more.")
