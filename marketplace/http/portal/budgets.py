"""Budgets: what may be spent in a month, what was, and what happens at the end of it."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts.access import Principal, visible
from marketplace.http.portal.base import (
    blame,
    claim_of,
    once_to,
    page,
    posted,
    show_form,
)
from marketplace.http.portal.money_forms import BudgetForm
from marketplace.models import Budget, Project
from marketplace.rentals import budgets

_HOME = "/billing/budgets"


@page(scope="billing:read")
def budget_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The list; POST adds one."""
    projects = [(one.public_id, one.name) for one in visible(Project, principal).order_by("name")]
    form = BudgetForm(posted(request), projects=projects)
    refusal = None
    if request.method == "POST":
        principal.require("billing:write")
        if form.is_valid():
            try:
                return once_to(
                    claim_of(request, principal),
                    lambda: budgets.create(
                        acting=principal,
                        project_id=form.cleaned_data["project"] or None,
                        amount_micro=form.cleaned_data["amount"],
                        thresholds=form.thresholds(),
                    ),
                    lambda _made: _HOME,
                )
            except Refusal as error:
                refusal = blame(form, error)
    rows = visible(Budget, principal).select_related("project", "organization").order_by("id")
    context = {
        "budgets": [(one, budgets.name_of(one.budget)) for one in budgets.standings(rows)],
        "may_pay": "billing:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/budgets.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="billing:write")
def remove(request: HttpRequest, principal: Principal, budget: str) -> HttpResponse:
    return once_to(
        None, lambda: budgets.remove(acting=principal, budget_id=budget), lambda _: _HOME
    )


urls = [
    path("billing/budgets", budget_page),
    path("billing/budgets/<str:budget>/delete", remove),
]
