"""What keeps money from running out or away: the standing order to top up, and budgets."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.autotopup import AutoTopUpView, AutoTopUpWish
from billing.facade import autotopup as orders
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from kernel.money import CURRENCY
from marketplace.accounts import auto_topup
from marketplace.accounts.access import get_visible, visible
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, MoneyIn, MoneyOut, Shown
from marketplace.http.api.schema import paged
from marketplace.models import Budget
from marketplace.rentals import budgets


class AutoTopUpIn(Body):
    enabled = Flag()
    threshold = MoneyIn(zero=True)
    target = MoneyIn()
    daily_ceiling = MoneyIn()
    payment_method = serializers.CharField(max_length=40, required=False, allow_null=True)


class AutoTopUpOut(Shown):
    enabled = serializers.BooleanField()
    state = serializers.CharField(help_text="off, on, waiting or action_required")
    reason = serializers.CharField(help_text="why we switched it off: failed, no_card or empty")
    threshold = MoneyOut()
    target = MoneyOut()
    daily_ceiling = MoneyOut()
    charged_today = MoneyOut()
    currency = serializers.CharField()
    payment_method = serializers.CharField(allow_null=True)
    failures = serializers.IntegerField()
    last_topup = serializers.CharField(allow_null=True)
    last_at = serializers.DateTimeField(allow_null=True)
    last_failure = serializers.CharField(allow_null=True)
    version = serializers.IntegerField()


class AutoTopUp(ApiView):
    """Charge a saved card by itself when the balance, or what will be left of it in two hours,
    falls below ``threshold``: one charge up to ``target``, one an hour at most, ``daily_ceiling``
    in any 24 hours, off after three failures. PUT sets all of it."""

    scopes = {"GET": "billing:read", "PUT": "billing:write"}

    @extend_schema(responses={200: AutoTopUpOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(_shown(orders.order(org_ref=self.principal(request).org.id)))

    @extend_schema(request=AutoTopUpIn, responses={200: AutoTopUpOut})
    def put(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(AutoTopUpIn)
        method = data.get("payment_method")
        try:
            method_id = parse("payment_method", method) if method else None
        except BadId as error:
            raise NotFound("payment method") from error
        wish = AutoTopUpWish(
            enabled=data["enabled"],
            threshold_micro=data["threshold"],
            target_micro=data["target"],
            daily_micro=data["daily_ceiling"],
            method_id=method_id,
        )
        return self.change(
            lambda: auto_topup.set_order(acting=principal, wish=wish),
            lambda view: (200, _shown(view)),
        )


def _shown(view: AutoTopUpView) -> Any:
    wish = view.wish
    return AutoTopUpOut(
        {
            "enabled": wish.enabled,
            "state": view.state,
            "reason": view.off_reason,
            "threshold": wish.threshold_micro,
            "target": wish.target_micro,
            "daily_ceiling": wish.daily_micro,
            "charged_today": view.charged_micro,
            "currency": CURRENCY,
            "payment_method": wish.method_id and public("payment_method", wish.method_id),
            "failures": view.failures,
            "last_topup": view.last_topup and public("topup", view.last_topup),
            "last_at": view.last_at,
            "last_failure": view.last_failure,
            "version": view.version,
        }
    ).data


class ThresholdIn(Body):
    percent = serializers.IntegerField(min_value=1, max_value=100)
    action = serializers.ChoiceField(budgets.ACTIONS)


class BudgetIn(Body):
    project = serializers.CharField(max_length=40, required=False, allow_null=True)
    amount = MoneyIn()
    thresholds = ThresholdIn(many=True)


class BudgetChange(Body):
    amount = MoneyIn(required=False)
    thresholds = ThresholdIn(many=True, required=False)


class ThresholdOut(Shown):
    percent = serializers.IntegerField()
    action = serializers.CharField()


class BudgetOut(Shown):
    """spent: by now, to the second. held: what is held for the next hour besides."""

    id = serializers.CharField(source="budget.public_id")
    created_at = serializers.DateTimeField(source="budget.created_at")
    version = serializers.IntegerField(source="budget.version")
    project = serializers.SerializerMethodField()
    amount = MoneyOut(source="budget.amount_micro")
    currency = serializers.SerializerMethodField()
    thresholds = ThresholdOut(many=True, source="budget.thresholds")
    since = serializers.DateTimeField()
    spent = MoneyOut(source="spend.used_micro")
    committed = MoneyOut(source="spend.committed_micro")
    reached = serializers.ListField(child=serializers.IntegerField())

    def get_project(self, one: budgets.Standing) -> str | None:
        return one.budget.project.public_id if one.budget.project else None

    def get_currency(self, one: budgets.Standing) -> str:
        return CURRENCY


def _budget(budget: Budget) -> Any:
    return BudgetOut(budgets.standings([budget])[0]).data


class Budgets(ApiView):
    """Amounts per calendar month (UTC), for the organization or one project. A threshold's action:
    ``notify`` sends a mail, ``block_new`` refuses new rentals, ``stop`` also stops what runs."""

    scopes = {"GET": "billing:read", "POST": "billing:write"}
    lists = True

    @extend_schema(responses={200: paged(BudgetOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(Budget, self.principal(request)).select_related("project")
        return self.page_many(
            request, rows, lambda page: [BudgetOut(one).data for one in budgets.standings(page)]
        )

    @extend_schema(request=BudgetIn, responses={201: BudgetOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(BudgetIn)
        return self.act(
            request,
            lambda: budgets.create(
                acting=principal,
                project_id=data.get("project"),
                amount_micro=data["amount"],
                thresholds=data["thresholds"],
            ),
            lambda budget: (201, _budget(budget)),
        )


class OneBudget(ApiView):
    """One budget. PATCH changes amount or thresholds; DELETE removes it."""

    scopes = {"GET": "billing:read", "PATCH": "billing:write", "DELETE": "billing:write"}

    @extend_schema(responses={200: BudgetOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(_budget(get_visible(Budget, self.principal(request), id)))

    @extend_schema(request=BudgetChange, responses={200: BudgetOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(BudgetChange)
        return self.change(
            lambda: budgets.change(
                acting=principal,
                budget_id=id,
                amount_micro=data.get("amount"),
                thresholds=data.get("thresholds"),
            ),
            lambda budget: (200, _budget(budget)),
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: budgets.remove(acting=principal, budget_id=id), lambda _: (204, None)
        )


urls = [
    path("billing/auto-topup", AutoTopUp.as_view()),
    path("budgets", Budgets.as_view()),
    path("budgets/<str:id>", OneBudget.as_view()),
]
