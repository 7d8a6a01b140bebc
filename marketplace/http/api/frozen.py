"""Staff: signs of fraud per organization, and letting a frozen one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.facade import refunds as door
from marketplace.accounts import freezing
from marketplace.accounts.access import STAFF
from marketplace.http.api.account import OrganizationOut
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import NameIn, Shown
from marketplace.http.api.schema import paged
from marketplace.http.api.staff import Nothing
from marketplace.models import Organization
from marketplace.providers import review


class SignalsOut(Shown):
    organization = serializers.CharField()
    name = serializers.CharField()
    state = serializers.CharField()
    failed_attempts = serializers.IntegerField()
    cards = serializers.IntegerField()
    disputes = serializers.IntegerField()
    refunds = serializers.IntegerField()
    first_settled_at = serializers.DateTimeField(allow_null=True)


class FraudSignals(ApiView):
    """Counts over the life of each organization, newest organization first. Nothing acts on them:
    a person judges."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(SignalsOut)})
    def get(self, request: Request) -> HttpResponse:
        self.filters(request, {})
        return self.page_many(request, review.organizations(), _signals)


def _signals(rows: Sequence[Organization]) -> list[Any]:
    counts = door.fraud_signals(org_refs=[row.id for row in rows])
    return [
        SignalsOut(
            {
                **asdict(counts[row.id]),
                "organization": row.public_id,
                "name": row.name,
                "state": row.state,
            }
        ).data
        for row in rows
    ]


class FreezeIn(Body):
    """reason: its people read it when something is refused."""

    reason = NameIn(max_length=200)


class Freeze(ApiView):
    """Let an organization spend nothing more until staff let it go. What runs goes on until its
    money ends; stop-now of single rentals is their owners'."""

    scopes = {"POST": STAFF}

    @extend_schema(request=FreezeIn, responses={200: OrganizationOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(FreezeIn)
        return self.act(
            request,
            lambda: freezing.freeze(acting=principal, organization_id=id, reason=data["reason"]),
            lambda organization: (200, OrganizationOut(organization).data),
        )


class Unfreeze(ApiView):
    """Let a frozen organization spend again, as after a lost dispute that was settled otherwise.
    While a dispute is open it is frozen anew."""

    scopes = {"POST": STAFF}

    @extend_schema(request=Nothing, responses={200: OrganizationOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: freezing.unfreeze(acting=principal, organization_id=id),
            lambda organization: (200, OrganizationOut(organization).data),
        )


urls = [
    path("staff/fraud-signals", FraudSignals.as_view()),
    path("staff/organizations/<str:id>/freeze", Freeze.as_view()),
    path("staff/organizations/<str:id>/unfreeze", Unfreeze.as_view()),
]
