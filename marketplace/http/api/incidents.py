"""Staff: incidents, what they come to, and the credits for them."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyOut, NameIn, PublicShown, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.http.api.staff import Nothing
from marketplace.models import Incident
from marketplace.rentals import incidents


class IncidentIn(Body):
    """provider and clusters: where it was; neither is the whole platform. basis: measured counts
    what was interrupted or degraded, whole all of the time in which a rental ran. percent: of the
    price. title and note: renters read them."""

    title = NameIn(max_length=120)
    note = NameIn(max_length=500, required=False, allow_blank=True, default="")
    cause = serializers.ChoiceField(Incident.Cause.values)
    basis = serializers.ChoiceField(Incident.Basis.values, default=Incident.Basis.MEASURED)
    percent = serializers.IntegerField(min_value=1, max_value=100, default=100)
    provider = serializers.CharField(max_length=40, required=False, allow_null=True)
    clusters = serializers.ListField(
        child=serializers.CharField(max_length=40), default=list, max_length=200
    )
    from_at = serializers.DateTimeField()
    to_at = serializers.DateTimeField()


class IncidentOut(PublicShown):
    """state: draft, waiting (for a second person), posting, posted, withdrawn. total: as it was
    ordered."""

    title = serializers.CharField()
    note = serializers.CharField()
    cause = serializers.CharField()
    basis = serializers.CharField()
    percent = serializers.IntegerField()
    provider = serializers.CharField(source="provider.public_id", default=None, allow_null=True)
    clusters = serializers.SerializerMethodField()
    from_at = serializers.DateTimeField()
    to_at = serializers.DateTimeField()
    made_by = serializers.CharField()
    state = serializers.CharField()
    total = MoneyOut(source="total_micro")
    needs_second = serializers.BooleanField()
    ordered_by = serializers.CharField()
    ordered_at = serializers.DateTimeField(allow_null=True)
    approved_by = serializers.CharField()
    alone = serializers.BooleanField()
    withdrawn_for = serializers.CharField()
    posted_at = serializers.DateTimeField(allow_null=True)
    actions = serializers.SerializerMethodField()

    def get_clusters(self, incident: Incident) -> list[str]:
        return [IdOut("cluster").to_representation(ref) for ref in incident.cluster_refs]

    def get_actions(self, incident: Incident) -> list[str]:
        return incidents.actions_of(incident)


class IncidentLineOut(Shown):
    """seconds: what is paid of the affected ones; of an incident that was ordered the rest is null.
    posted: as booked, null before."""

    rental = IdOut("rental", source="rental_ref")
    organization = IdOut("organization", source="org_ref")
    interrupted_seconds = serializers.IntegerField(allow_null=True)
    degraded_seconds = serializers.IntegerField(allow_null=True)
    affected_seconds = serializers.IntegerField(
        source="quote.affected_seconds", default=None, allow_null=True
    )
    credited_seconds = serializers.IntegerField(
        source="quote.credited_seconds", default=None, allow_null=True
    )
    seconds = serializers.IntegerField()
    amount = MoneyOut(source="amount_micro")
    provider_share = MoneyOut(source="provider_micro")
    posted = MoneyOut(source="posted_micro", allow_null=True)


class OrganizationTotalOut(Shown):
    organization = serializers.CharField(source="organization.public_id")
    name = serializers.CharField(source="organization.name")
    rentals = serializers.IntegerField()
    amount = MoneyOut(source="amount_micro")


class IncidentPreviewOut(Shown):
    """Before tax. by_provider and by_platform: who pays."""

    total = MoneyOut(source="total_micro")
    by_provider = MoneyOut(source="provider_micro")
    by_platform = MoneyOut(source="platform_micro")
    organizations = OrganizationTotalOut(many=True)
    rentals = IncidentLineOut(many=True, source="lines")


class WithdrawIn(Body):
    reason = NameIn(max_length=500)


def _order(data: dict[str, Any]) -> incidents.IncidentOrder:
    return incidents.IncidentOrder(**{"provider": None, **data})


class Incidents(ApiView):
    """What happened to renters and was given back, newest first."""

    scopes = {"GET": STAFF, "POST": STAFF}
    lists = True

    @extend_schema(responses={200: paged(IncidentOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, incidents.incidents(self.principal(request)), shown(IncidentOut))

    @extend_schema(request=IncidentIn, responses={201: IncidentOut})
    def post(self, request: Request) -> HttpResponse:
        """Name one. Nothing is given before it is posted."""
        principal, data = self.principal(request), self.body(IncidentIn)
        return self.act(
            request,
            lambda: incidents.create(acting=principal, asked=_order(data)),
            lambda row: (201, IncidentOut(row).data),
        )


class OneIncident(ApiView):
    """One incident."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: IncidentOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(IncidentOut(incidents.one(self.principal(request), id)).data)


class IncidentPreview(ApiView):
    """Whom it touched, what each is given and who pays; once ordered, what was fixed then."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: IncidentPreviewOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        found = incidents.preview(principal, incidents.one(principal, id))
        return self.show(IncidentPreviewOut(found).data)


class PostIncident(ApiView):
    """Order the credits of a draft: they are booked at once or, above the limit, when another
    member of the staff posts as well."""

    scopes = {"POST": STAFF}

    @extend_schema(request=Nothing, responses={202: IncidentOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: incidents.post(acting=principal, incident_id=id),
            lambda row: (202, IncidentOut(row).data),
        )


class WithdrawIncident(ApiView):
    """End a draft or one that waits; nothing was booked."""

    scopes = {"POST": STAFF}

    @extend_schema(request=WithdrawIn, responses={200: IncidentOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(WithdrawIn)
        return self.act(
            request,
            lambda: incidents.withdraw(acting=principal, incident_id=id, reason=data["reason"]),
            lambda row: (200, IncidentOut(row).data),
        )


urls = [
    path("staff/incidents", Incidents.as_view()),
    path("staff/incidents/<str:id>", OneIncident.as_view()),
    path("staff/incidents/<str:id>/preview", IncidentPreview.as_view()),
    path("staff/incidents/<str:id>/post", PostIncident.as_view()),
    path("staff/incidents/<str:id>/withdraw", WithdrawIncident.as_view()),
]
