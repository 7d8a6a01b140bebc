"""Projects at a glance: what lives on each, what it cost this month, and of which budget."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import OuterRef, Subquery

from billing.contracts.spending import SpendView
from billing.facade import funds as billing
from kernel.clock import now
from marketplace.accounts.access import Principal, visible
from marketplace.models import Budget, Project
from marketplace.rentals.budgets import Standing, month_of, what_costs
from marketplace.rentals.state import COMMITTED

# In place of a project's id: what is booked on none.
_NONE = UUID(int=0)


@dataclass(frozen=True)
class ProjectView:
    """project None: what is booked on no project. live: rentals that cost or may in a moment."""

    project: Project | None
    live: int
    spend: SpendView
    budget: Standing | None


def overview(acting: Principal) -> tuple[list[ProjectView], datetime]:
    """Every project by name, then what has none; and since when is counted. As many queries for
    two hundred projects as for one."""
    since = month_of(now())
    projects = _with_budgets(acting)
    groups: dict[UUID, list[UUID]] = {one.id: [] for one in projects}
    groups[_NONE] = []
    live: Counter[UUID] = Counter()
    for reference, _org, project, state in what_costs({acting.org.id}, since):
        groups[project or _NONE].append(reference)
        live[project or _NONE] += state in COMMITTED
    spent = billing.spent(groups, since=since)

    def view(project: Any) -> ProjectView:
        key = project.id if project else _NONE
        return ProjectView(project, live[key], spent[key], _standing(project, spent[key], since))

    return [view(one) for one in (*projects, None)], since


def _with_budgets(acting: Principal) -> list[Project]:
    """Each with the amount and thresholds of its budget, in one query."""
    budget = Budget.objects.filter(project=OuterRef("pk"))
    rows = visible(Project, acting).annotate(
        amount=Subquery(budget.values("amount_micro")[:1]),
        thresholds=Subquery(budget.values("thresholds")[:1]),
    )
    return list(rows.order_by("name"))


def _standing(project: Any, spend: SpendView, since: datetime) -> Standing | None:
    if project is None or project.amount is None:
        return None
    budget = Budget(project=project, amount_micro=project.amount, thresholds=project.thresholds)
    return Standing(budget, spend, since)
