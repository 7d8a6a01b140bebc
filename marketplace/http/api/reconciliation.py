"""The nightly reconciliation for staff: what differs, and what people do about it."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.facade import reconciliation as billing
from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyOut, NameIn, Shown, one_of, shown
from marketplace.http.api.schema import paged
from marketplace.providers import breaks

_STATES = ["open", "resolved"]


class BreakOut(Shown):
    """``amount``: found less expected, in ``unit`` (micro: millionths of a US dollar)."""

    id = IdOut("break")
    rule = serializers.CharField()
    check = serializers.CharField(source="name")
    subject = serializers.CharField()
    state = serializers.ChoiceField(_STATES)
    expected = serializers.CharField()
    found = serializers.CharField()
    text = serializers.CharField()
    amount = serializers.IntegerField(allow_null=True)
    unit = serializers.CharField()
    owner = serializers.CharField()
    note = serializers.CharField()
    first_seen_at = serializers.DateTimeField()
    last_seen_at = serializers.DateTimeField()
    resolved_at = serializers.DateTimeField(allow_null=True)
    resolved_by = serializers.CharField()


class LegOut(Shown):
    account = serializers.CharField()
    owner = serializers.UUIDField(allow_null=True)
    amount = MoneyOut(source="amount_micro")


class TracedOut(Shown):
    """A transaction with its postings, its cause and the object at Stripe ("" without one)."""

    id = IdOut("transaction")
    kind = serializers.CharField()
    at = serializers.DateTimeField()
    cause_type = serializers.CharField()
    cause_id = serializers.UUIDField()
    linked = IdOut("transaction", allow_null=True)
    postings = LegOut(many=True, source="legs")
    stripe_id = serializers.CharField(allow_blank=True)


class BreakDetail(BreakOut):
    transactions = TracedOut(many=True)


class Breaks(ApiView):
    """Differences of the nightly reconciliation, newest first. One that is open for more than 72
    hours holds payouts back."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(
        parameters=[OpenApiParameter("state", str, enum=_STATES)],
        responses={200: paged(BreakOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(request, {"state": one_of(_STATES)})
        rows = billing.breaks(**wanted)
        return self.page_of(
            request, rows, shown(BreakOut), key=lambda view: str(view.id), descending=True
        )


class OneBreak(ApiView):
    """A break with the newest transactions that it is about."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: BreakDetail})
    def get(self, request: Request, id: str) -> HttpResponse:
        view = breaks.find(id)
        traced = billing.traced(break_id=view.id)
        return self.show(
            {**BreakOut(view).data, "transactions": [TracedOut(one).data for one in traced]}
        )


class NoteIn(Body):
    note = NameIn(max_length=5000)


class OwnerIn(Body):
    """``owner``: who looks after it; empty for nobody."""

    owner = NameIn(max_length=100, allow_blank=True)


class Note(ApiView):
    """Write down what was found so far."""

    scopes = {"POST": STAFF}

    @extend_schema(request=NoteIn, responses={200: BreakOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(NoteIn)
        return self.act(
            request,
            lambda: breaks.note(acting=principal, break_id=id, note=data["note"]),
            lambda view: (200, BreakOut(view).data),
        )


class Owner(ApiView):
    """Say who looks after a break."""

    scopes = {"POST": STAFF}

    @extend_schema(request=OwnerIn, responses={200: BreakOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(OwnerIn)
        return self.act(
            request,
            lambda: breaks.own(acting=principal, break_id=id, owner=data["owner"]),
            lambda view: (200, BreakOut(view).data),
        )


class Resolve(ApiView):
    """Explain a break, and payouts go on. If it is still there, the next run opens it again with
    its age."""

    scopes = {"POST": STAFF}

    @extend_schema(request=NoteIn, responses={200: BreakOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(NoteIn)
        return self.act(
            request,
            lambda: breaks.resolve(acting=principal, break_id=id, note=data["note"]),
            lambda view: (200, BreakOut(view).data),
        )


class CoverageOut(Shown):
    cash = MoneyOut(source="cash_micro")
    tenants = MoneyOut(source="tenants_micro")
    providers = MoneyOut(source="providers_micro")
    tax = MoneyOut(source="tax_micro")
    short = MoneyOut(source="short_micro")


class ReconciliationOut(Shown):
    """Up to when each part was compared last, null for never; cash against all that is owed."""

    books_to = serializers.DateTimeField(allow_null=True)
    usage_to = serializers.DateTimeField(allow_null=True)
    stripe_to = serializers.DateTimeField(allow_null=True)
    payouts_blocked = serializers.BooleanField()
    coverage = CoverageOut()


class Reconciliation(ApiView):
    """How far everything is compared, and whether breaks hold payouts back."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: ReconciliationOut})
    def get(self, request: Request) -> HttpResponse:
        compared = billing.reconciled()
        shown_: dict[str, Any] = {
            "books_to": compared.books_to,
            "usage_to": compared.usage_to,
            "stripe_to": compared.stripe_to,
            "payouts_blocked": billing.payouts_blocked(),
            "coverage": billing.coverage(),
        }
        return self.show(ReconciliationOut(shown_).data)


urls = [
    path("staff/reconciliation", Reconciliation.as_view()),
    path("staff/breaks", Breaks.as_view()),
    path("staff/breaks/<str:id>", OneBreak.as_view()),
    path("staff/breaks/<str:id>/note", Note.as_view()),
    path("staff/breaks/<str:id>/owner", Owner.as_view()),
    path("staff/breaks/<str:id>/resolve", Resolve.as_view()),
]
