"""Staff: the journal of a month, its trial balance, and its lock."""

from __future__ import annotations

from datetime import date

from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.journal import MonthView
from billing.facade import journal as billing
from kernel.errors import NotFound, Refusal
from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import MoneyOut, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.http.api.staff import Nothing
from marketplace.http.api.usage import csv_file
from marketplace.providers import review


class TrialLineOut(Shown):
    code = serializers.CharField()
    name = serializers.CharField()
    debit = MoneyOut(source="debit_micro")
    credit = MoneyOut(source="credit_micro")
    balance = MoneyOut(source="balance_micro")


class MonthOut(Shown):
    """A month; the list leaves its sums out."""

    month = serializers.SerializerMethodField()
    state = serializers.CharField()
    transactions = serializers.IntegerField(allow_null=True)
    debit = MoneyOut(source="debit_micro")
    credit = MoneyOut(source="credit_micro")
    accounts = TrialLineOut(source="lines", many=True)
    locked_by = serializers.CharField(allow_null=True)
    locked_at = serializers.DateTimeField(allow_null=True)
    digest = serializers.CharField(allow_null=True)

    def get_month(self, view: MonthView) -> str:
        return f"{view.month:%Y-%m}"


class Journal(ApiView):
    """A month's journal as CSV: one line per leg, debit and credit, with account numbers."""

    scopes = {"GET": STAFF}

    @extend_schema(
        parameters=[OpenApiParameter("month", str, required=True, description="2026-10")],
        responses={(200, "text/csv"): OpenApiTypes.STR},
    )
    def get(self, request: Request) -> HttpResponseBase:
        wanted = self.filters(request, {"month": billing.parse_month})
        if "month" not in wanted:
            raise Refusal("invalid_filter", 'Say which: "month=2026-10".', filter="month")
        first_day = wanted["month"]
        return csv_file(billing.journal_rows(first_day), f"journal-{first_day:%Y-%m}.csv")


class Months(ApiView):
    """Months of the ledger, newest first, and which are locked."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(MonthOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.months()
        key = {view.month: f"{view.month:%Y-%m}" for view in rows}
        return self.page_of(
            request, rows, shown(MonthOut), key=lambda view: key[view.month], descending=True
        )


class OneMonth(ApiView):
    """The trial balance of a month: debits and credits are equal."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: MonthOut})
    def get(self, request: Request, month: str) -> HttpResponse:
        return self.show(MonthOut(billing.month(month_in(month))).data)


class LockMonth(ApiView):
    """Lock a month for good. It is ``closing`` until its digest is known, a minute at most."""

    scopes = {"POST": STAFF}

    @extend_schema(request=Nothing, responses={202: MonthOut})
    def post(self, request: Request, month: str) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: review.lock_month(acting=principal, month=month_in(month)),
            lambda view: (202, MonthOut(view).data),
        )


def month_in(text: str) -> date:
    """The month in an address; NotFound for anything that is none."""
    try:
        return billing.parse_month(text)
    except ValueError as error:
        raise NotFound("month") from error


urls = [
    path("staff/journal", Journal.as_view()),
    path("staff/months", Months.as_view()),
    path("staff/months/<str:month>", OneMonth.as_view()),
    path("staff/months/<str:month>/lock", LockMonth.as_view()),
]
