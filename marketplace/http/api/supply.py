"""What owners do about who is on their cards: maintenance, stop-now, reports of abuse."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import STAFF, visible
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, IdOut, NameIn, PublicShown, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.models import AbuseReport, Maintenance
from marketplace.rentals import abuse, host

_WRITE = {"POST": "provider:write"}
_BOTH = {"GET": "provider:read", **_WRITE}


class OwnersRentalOut(Shown):
    """A machine on own cards: nothing of who rents it or what it runs."""

    id = serializers.CharField()
    cluster = serializers.CharField()
    node = serializers.CharField()
    node_name = serializers.CharField()
    accelerator = serializers.CharField()
    gpus = serializers.IntegerField()
    state = serializers.CharField()
    interruptible = serializers.BooleanField()
    earned_per_hour = serializers.CharField(help_text="The owner's share while the meter runs")
    currency = serializers.CharField()
    placed_at = serializers.CharField()
    ready_at = serializers.CharField(allow_null=True)
    expires_at = serializers.CharField(allow_null=True)
    contract_ends_at = serializers.CharField(allow_null=True)
    maintenance_at = serializers.CharField(allow_null=True)
    actions = serializers.ListField(child=serializers.CharField())


class OwnersRentals(ApiView):
    """What runs on the provider's cards now."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(OwnersRentalOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = host.rentals_there(self.principal(request))
        return self.page_of(request, rows, lambda row: row, key=lambda row: str(row["id"]))


class StopNowIn(Body):
    """text: shown to renters for maintenance; what happens, for staff, for abuse."""

    reason = serializers.ChoiceField(host.REASONS)
    text = NameIn(max_length=2000, required=False, allow_blank=True, default="")


class StoppedNowOut(Shown):
    id = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField()


class StopRental(ApiView):
    """One rental on own cards."""

    scopes = _WRITE

    @extend_schema(request=StopNowIn, responses={202: StoppedNowOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        """Stop it at once: its renter is not charged, and the owner not paid, from that second
        on."""
        principal, data = self.principal(request), self.body(StopNowIn)
        return self.act(
            request,
            lambda: host.stop_rental(
                acting=principal, rental_id=id, reason=data["reason"], text=data["text"]
            ),
            lambda rental: (
                202,
                {"id": rental.public_id, "state": rental.state, "reason": rental.reason},
            ),
        )


class MaintenanceOut(PublicShown):
    cluster = serializers.SerializerMethodField()
    node = serializers.SerializerMethodField()
    node_name = serializers.CharField()
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(allow_null=True)
    urgent = serializers.BooleanField(help_text="Begun without notice, by stop-now")
    reason = serializers.CharField()
    note = serializers.CharField()
    state = serializers.SerializerMethodField()
    actions = serializers.SerializerMethodField()

    def get_cluster(self, row: Maintenance) -> str:
        return IdOut("cluster").to_representation(row.cluster_ref)

    def get_node(self, row: Maintenance) -> str | None:
        return IdOut("node").to_representation(row.node_ref) if row.node_ref else None

    def get_state(self, row: Maintenance) -> str:
        return host.state_of(row)

    def get_actions(self, row: Maintenance) -> list[str]:
        return ["withdraw"] if host.state_of(row) in ("announced", "under_way") else []


class StopCluster(ApiView):
    """A whole cluster."""

    scopes = _WRITE

    @extend_schema(request=StopNowIn, responses={202: MaintenanceOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        """Stop all that runs there at once and let nobody in, until the maintenance in the answer
        is withdrawn."""
        principal, data = self.principal(request), self.body(StopNowIn)
        return self.act(
            request,
            lambda: host.stop_cluster(
                acting=principal, cluster_id=id, reason=data["reason"], text=data["text"]
            ),
            lambda row: (202, MaintenanceOut(row).data),
        )


class MaintenanceIn(Body):
    """node: of the cluster; without it all of the cluster is taken down. ends_at: without it, until
    it is withdrawn; a cluster that leaves has no end."""

    cluster = serializers.CharField(max_length=64)
    node = serializers.CharField(max_length=64, required=False, allow_null=True)
    starts_at = serializers.DateTimeField()
    ends_at = serializers.DateTimeField(required=False, allow_null=True)
    note = NameIn(max_length=300, required=False, allow_blank=True, default="")


class MaintenanceList(ApiView):
    """Times in which a cluster, or a node of it, is taken down."""

    scopes = _BOTH
    lists = True

    @extend_schema(responses={200: paged(MaintenanceOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(Maintenance, self.principal(request))
        return self.page(request, rows, shown(MaintenanceOut))

    @extend_schema(request=MaintenanceIn, responses={201: MaintenanceOut})
    def post(self, request: Request) -> HttpResponse:
        """Announce one, 48 hours ahead where somebody rents; nobody is placed there past its
        beginning."""
        principal, data = self.principal(request), self.body(MaintenanceIn)
        asked = host.Asked(
            cluster=data["cluster"],
            node=data.get("node"),
            starts_at=data["starts_at"],
            ends_at=data.get("ends_at"),
            note=data["note"],
        )
        return self.act(
            request,
            lambda: host.announce(acting=principal, asked=asked),
            lambda row: (201, MaintenanceOut(row).data),
        )


class OneMaintenance(ApiView):
    """One announced maintenance."""

    scopes = {"GET": "provider:read", "DELETE": "provider:write"}

    @extend_schema(responses={200: MaintenanceOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(MaintenanceOut(host.one(self.principal(request), id)).data)

    @extend_schema(responses={200: MaintenanceOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        """Call it off, or end it before its time: the cards are for rent again."""
        principal = self.principal(request)
        return self.change(
            lambda: host.withdraw(acting=principal, maintenance_id=id),
            lambda row: (200, MaintenanceOut(row).data),
        )


class AbuseReportIn(Body):
    rental = serializers.CharField(max_length=64)
    text = NameIn(max_length=2000)


class AbuseReportOut(serializers.Serializer[Any]):
    """What ``rentals.abuse.describe`` renders."""

    id = serializers.CharField()
    rental = serializers.CharField(allow_null=True)
    cluster = serializers.CharField(allow_null=True)
    text = serializers.CharField()
    stopped = serializers.BooleanField()
    state = serializers.ChoiceField(AbuseReport.State.values)
    note = serializers.CharField(allow_null=True, help_text="Why staff decided so")
    decided_at = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class Reports(ApiView):
    """Abuse that the provider reported. To stop the rental as well: its stop-now with that
    reason."""

    scopes = _BOTH
    lists = True

    @extend_schema(responses={200: paged(AbuseReportOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(AbuseReport, self.principal(request))
        return self.page(request, rows, abuse.describe)

    @extend_schema(request=AbuseReportIn, responses={201: AbuseReportOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(AbuseReportIn)
        return self.act(
            request,
            lambda: host.report(acting=principal, rental_id=data["rental"], text=data["text"]),
            lambda row: (201, abuse.describe(row)),
        )


class StaffAbuseReportOut(AbuseReportOut):
    provider = serializers.CharField()
    provider_name = serializers.CharField()
    organization = serializers.CharField(allow_null=True)
    organization_name = serializers.CharField(allow_null=True)
    actions = serializers.ListField(child=serializers.CharField())


class StaffReports(ApiView):
    """Abuse that owners reported."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(StaffAbuseReportOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = abuse.reports(self.principal(request))
        return self.page(request, rows, lambda row: abuse.describe(row, staff=True))


class AbuseDecisionIn(Body):
    """upheld: it stays stopped; else its renter may start it again. note: the owner reads it."""

    upheld = Flag()
    note = NameIn(max_length=500)


class DecideReport(ApiView):
    """A report that staff look at."""

    scopes = {"POST": STAFF}

    @extend_schema(request=AbuseDecisionIn, responses={200: AbuseReportOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(AbuseDecisionIn)
        return self.act(
            request,
            lambda: abuse.decide(
                acting=principal, report_id=id, upheld=data["upheld"], note=data["note"]
            ),
            lambda row: (200, abuse.describe(row)),
        )


urls = [
    path("provider/rentals", OwnersRentals.as_view()),
    path("provider/rentals/<str:id>/stop-now", StopRental.as_view()),
    path("provider/clusters/<str:id>/stop-now", StopCluster.as_view()),
    path("provider/maintenance", MaintenanceList.as_view()),
    path("provider/maintenance/<str:id>", OneMaintenance.as_view()),
    path("provider/abuse-reports", Reports.as_view()),
    path("staff/abuse-reports", StaffReports.as_view()),
    path("staff/abuse-reports/<str:id>/decide", DecideReport.as_view()),
]
