"""Budgets: an amount per calendar month (UTC) for a project or a whole organization.

Each threshold tells its people once a month; ``block_new`` refuses what would pass it, holds
counted, and ``stop`` does that and stops what runs at the very second that reaches it, after a
notice. What a sweep that comes some seconds late lets run is all that a budget is passed by.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Q

from billing.contracts.spending import SpendView
from billing.facade import funds as billing
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from kernel.money import CURRENCY, MAX_MICRO, format_micro
from kernel.turns import turns
from marketplace.accounts import audit, switches
from marketplace.accounts.access import Principal, get_visible
from marketplace.accounts.money_mail import tell
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import Budget, Project, Rental, VolumeMeter
from marketplace.rentals import notice
from marketplace.rentals.state import LEGAL

NOTIFY, BLOCK, STOP = "notify", "block_new", "stop"
ACTIONS: Final = (NOTIFY, BLOCK, STOP)
_MOST: Final = 10  # thresholds: more say nothing that fewer do not
_REASON: Final = "budget"


@dataclass(frozen=True)
class Standing:
    """A budget with what was spent of it this month."""

    budget: Budget
    spend: SpendView
    since: datetime

    def limit(self, *actions: str) -> int | None:
        """The amount at which the first of these actions sets in; None without one."""
        percents = [row["percent"] for row in self.budget.thresholds if row["action"] in actions]
        return self.budget.amount_micro * min(percents) // 100 if percents else None

    @property
    def reached(self) -> list[int]:
        """The percentages that are spent."""
        used = self.spend.used_micro * 100
        return sorted(
            {
                row["percent"]
                for row in self.budget.thresholds
                if used >= self.budget.amount_micro * row["percent"]
            }
        )


def month_of(moment: datetime) -> datetime:
    """The start of its calendar month, UTC."""
    return moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def standings(budgets: Iterable[Budget]) -> list[Standing]:
    """Each with its spending of this month, disks included, in its order. Three queries."""
    rows = list(budgets)
    if not rows:
        return []
    since = month_of(now())
    known: dict[UUID, list[tuple[UUID, UUID | None]]] = {}
    for metered, org, project, _state in what_costs({row.organization_id for row in rows}, since):
        known.setdefault(org, []).append((metered, project))
    groups = {
        row.id: [
            metered
            for metered, project in known.get(row.organization_id, ())
            if row.project_id in (None, project)
        ]
        for row in rows
    }
    spent = billing.spent(groups, since=since)
    return [Standing(row, spent[row.id], since) for row in rows]


def what_costs(orgs: set[UUID], since: datetime) -> Iterator[tuple[UUID, UUID, UUID | None, str]]:
    """What organizations have or had since then that costs: reference, organization, project, and
    the state of what is a rental."""
    rentals = Rental.objects.filter(organization__in=orgs)
    lasting = rentals.filter(Q(ended_at=None) | Q(settled_at=None) | Q(ended_at__gte=since))
    yield from lasting.values_list("id", "organization_id", "project_id", "state")
    disks = VolumeMeter.objects.filter(volume__organization__in=orgs)
    kept = disks.filter(Q(over_at=None) | Q(settled_at=None) | Q(over_at__gte=since))
    for disk, org, project in kept.values_list(
        "id", "volume__organization_id", "volume__project_id"
    ):
        yield disk, org, project, ""


def create(
    *,
    acting: Principal,
    project_id: str | None,
    amount_micro: int,
    thresholds: Sequence[dict[str, Any]],
) -> Budget:
    """A budget of the organization or of a project; joins the caller's transaction.

    Raises NotFound, InvalidRequest: there is one already, or thresholds that say nothing.
    """
    project = get_visible(Project, acting, project_id) if project_id else None
    try:
        with transaction.atomic():
            budget = Budget.objects.create(
                organization=acting.org,
                project=project,
                amount_micro=_amount(amount_micro),
                thresholds=_thresholds(thresholds),
            )
    except IntegrityError as error:
        raise InvalidRequest({"project": ["there is a budget for it already"]}) from error
    _audit(acting, "budget.create", budget)
    return budget


def change(
    *,
    acting: Principal,
    budget_id: str,
    amount_micro: int | None,
    thresholds: Sequence[dict[str, Any]] | None,
) -> Budget:
    """Another amount or other thresholds; joins the caller's transaction. Raises NotFound,
    InvalidRequest. What the new figures reach is told anew; notices they void are withdrawn."""
    budget = get_visible(Budget.objects.select_for_update(of=("self",)), acting, budget_id)
    if amount_micro is not None:
        budget.amount_micro = _amount(amount_micro)
    if thresholds is not None:
        budget.thresholds = _thresholds(thresholds)
    budget.told_month, budget.told_percents = None, []
    budget.version += 1
    budget.save()
    _audit(acting, "budget.change", budget)
    return budget


def remove(*, acting: Principal, budget_id: str) -> None:
    """No budget any more; joins the caller's transaction. Raises NotFound."""
    budget = get_visible(Budget.objects.select_for_update(of=("self",)), acting, budget_id)
    _audit(acting, "budget.delete", budget)
    budget.delete()


def check(rental: Rental) -> None:
    """Raise budget_exceeded when this rental, its hold already taken, passes a budget.

    Behind the tenant's lock, as limits are: what others committed is counted.
    """
    mine = Budget.objects.filter(organization=rental.organization_id)
    for one in standings(mine.filter(Q(project=None) | Q(project=rental.project_id))):
        limit = one.limit(BLOCK, STOP)
        if limit is not None and one.spend.committed_micro > limit:
            raise _exceeded(one, limit)


def sweep() -> int:
    """Tell what was reached, give and withdraw notices, stop what is at its budget; how many stops.

    None while charging is stopped: what nobody charges is not spent.
    """
    if switches.holds_charging(_REASON):
        return 0
    budgets = Budget.objects.select_related("project", "organization")
    found = standings(budgets.order_by("id"))
    with turns("budget") as turn:
        for one in found:
            with turn(one.budget):
                if set(one.reached) - set(_told(one)):
                    _tell(one)
        return _stop(found)


def _stop(found: Sequence[Standing]) -> int:
    at, due = now(), dict[UUID, datetime]()
    for one in found:
        until = _ends_at(one, at)
        if until is None or until > at + notice.LEAD:
            continue
        live = Rental.objects.filter(_whose(one.budget), state__in=LEGAL["stop"])
        for rental_id in live.order_by("id").values_list("id", flat=True):
            due[rental_id] = min(until, due.get(rental_id, until))
    return notice.enforce(_REASON, due, withdrawn="The budget allows it again.")


def _ends_at(one: Standing, at: datetime) -> datetime | None:
    """When what runs reaches the amount at which it is stopped; None: it does not."""
    limit = one.limit(STOP)
    if limit is None:
        return None
    left = limit - one.spend.used_micro
    if left <= 0:
        return at
    burn = one.spend.burn_micro_h
    # Rounded down: a second too many would be spent beyond the budget.
    return at + timedelta(seconds=left * 3600 // burn) if burn else None


def _whose(budget: Budget) -> Q:
    whole = Q(organization=budget.organization_id)
    return whole if budget.project_id is None else whole & Q(project=budget.project_id)


def _told(one: Standing) -> list[int]:
    return one.budget.told_percents if one.budget.told_month == one.since else []


def _tell(one: Standing) -> None:
    with transaction.atomic(durable=True):
        budget = Budget.objects.select_for_update().filter(pk=one.budget.pk).first()
        if budget is None or budget.version != one.budget.version:
            return  # changed since: the next sweep judges the new one
        fresh = set(one.reached) - set(_told(Standing(budget, one.spend, one.since)))
        if not fresh:
            return
        budget.told_month, budget.told_percents = one.since, one.reached
        budget.save(update_fields=["told_month", "told_percents"])
        percent = max(fresh)
        does = {row["action"] for row in budget.thresholds if row["percent"] == percent}
        tell(
            budget.organization_id,
            "budget.reached",
            subject=phrase(
                "{percent} % of the budget {name} is spent",
                percent=percent,
                name=name_of(one.budget),
            ),
            text=[
                phrase(
                    "{spent} of {amount} were spent since {day}.",
                    spent=_usd(one.spend.used_micro),
                    amount=_usd(budget.amount_micro),
                    day=f"{one.since:%Y-%m-%d}",
                ),
                _consequence(does),
            ],
        )


def _consequence(does: set[str]) -> Said:
    if STOP in does:
        return phrase("What runs on it is stopped; volumes are kept. Raise the budget to go on.")
    if BLOCK in does:
        return phrase("New rentals on it are refused until next month, or until you raise it.")
    return phrase("Nothing is stopped by this.")


def name_of(budget: Budget) -> str:
    """What people call it: its project's name, or that of the organization."""
    return budget.project.name if budget.project else budget.organization.name


def _exceeded(one: Standing, limit: int) -> Refusal:
    return Refusal(
        "budget_exceeded",
        f"The budget {name_of(one.budget)} allows {_usd(limit)} this month; with this rental "
        f"{_usd(one.spend.committed_micro)} would be spent or held. Nothing was rented. Raise the "
        "budget, end a rental, or wait for next month.",
        budget=one.budget.public_id,
        limit=format_micro(limit),
        needed=format_micro(one.spend.committed_micro),
        currency=CURRENCY,
    )


def _amount(micro: int) -> int:
    if not 0 < micro <= MAX_MICRO:
        raise InvalidRequest({"amount": ["more than zero"]})
    return micro


def _thresholds(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sorted, each once; InvalidRequest for none, too many, or one that says nothing."""
    wanted = {(row["percent"], row["action"]) for row in rows}
    if not 1 <= len(wanted) <= _MOST:
        raise InvalidRequest({"thresholds": [f"1 to {_MOST}, such as 80 % notify, 100 % stop"]})
    if any(not 1 <= percent <= 100 or action not in ACTIONS for percent, action in wanted):
        text = f"a percent from 1 to 100 and one of {', '.join(ACTIONS)}"
        raise InvalidRequest({"thresholds": [text]})
    return [{"percent": percent, "action": action} for percent, action in sorted(wanted)]


def _audit(acting: Principal, action: str, budget: Budget) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=budget.public_id,
        organization_ref=budget.organization_id,
        details={
            "project": budget.project.public_id if budget.project else None,
            "amount": format_micro(budget.amount_micro),
            "thresholds": budget.thresholds,
        },
    )


def _usd(micro: int) -> str:
    return f"{format_micro(micro, places=2)} {CURRENCY}"
