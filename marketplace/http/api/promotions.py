"""Promotional credit: what the caller's organization has of it, and what staff give."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.refunds import OrderKind
from billing.facade import refunds as door
from marketplace.accounts import returns
from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyIn, MoneyOut, NameIn, Shown, shown
from marketplace.http.api.returns import OrderOut, Pages, decisions
from marketplace.http.api.schema import paged


class PromotionOut(Shown):
    """``left``: not spent yet; it is spent before anything bought and never paid out."""

    id = IdOut("promotion")
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    left = MoneyOut(source="left_micro")
    currency = serializers.CharField()
    expires_at = serializers.DateTimeField()


class StaffPromotionOut(PromotionOut, OrderOut):
    reason = serializers.CharField()


class PromotionIn(Body):
    organization = serializers.CharField(max_length=40)
    amount = MoneyIn()
    expires_at = serializers.DateTimeField()
    reason = NameIn(max_length=500)


class Promotions(ApiView):
    """Credit with a date that the organization was given, newest first."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: paged(PromotionOut)})
    def get(self, request: Request) -> HttpResponse:
        given = door.promotions(org_ref=self.principal(request).org.id)
        rows = [view for view in given if view.state not in {"waiting", "declined"}]
        return self.page_of(
            request, rows, shown(PromotionOut), key=lambda view: str(view.id), descending=True
        )


class StaffPromotions(Pages):
    """Promotions of all, newest first. POST gives one; above a limit it waits for a second
    person."""

    scopes = {"GET": STAFF, "POST": STAFF}

    @extend_schema(responses={200: paged(StaffPromotionOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.pages(request, door.promotions, StaffPromotionOut)

    @extend_schema(request=PromotionIn, responses={201: StaffPromotionOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(PromotionIn)
        return self.act(
            request,
            lambda: returns.order_promotion(
                acting=principal,
                organization_id=data["organization"],
                amount_micro=data["amount"],
                expires_at=data["expires_at"],
                reason=data["reason"],
            ),
            lambda view: (201, StaffPromotionOut(view).data),
        )


urls = [
    path("billing/promotions", Promotions.as_view()),
    path("staff/promotions", StaffPromotions.as_view()),
    *decisions("promotions", OrderKind.PROMOTION, StaffPromotionOut, 200),
]
