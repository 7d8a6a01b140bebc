"""Problems that renters report, and what staff answer."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, Shown, Text, one_of
from marketplace.http.api.schema import paged
from marketplace.models import ProblemReport
from marketplace.rentals import problems

_STATES = ProblemReport.State.values


class ReportIn(Body):
    """Name a rental or a charge, and only one of them."""

    rental = serializers.CharField(max_length=64, required=False, allow_null=True)
    charge = serializers.CharField(max_length=64, required=False, allow_null=True)
    text = Text(max_length=problems.LONGEST)


class SeenEventOut(Shown):
    at = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField()
    fault = serializers.CharField(allow_null=True)
    text = serializers.CharField()


class SeenRentalOut(Shown):
    state = serializers.CharField()
    reason = serializers.CharField()
    state_since = serializers.CharField()
    ready_at = serializers.CharField(allow_null=True)
    ended_at = serializers.CharField(allow_null=True)
    price_per_hour = serializers.CharField()
    currency = serializers.CharField()
    events = SeenEventOut(many=True, help_text="The newest, newest first")


class SeenChargeOut(Shown):
    # "from" is a word of the language: the field is set below.
    to = serializers.CharField()
    seconds = serializers.IntegerField()
    price_per_hour = serializers.CharField()
    amount = serializers.CharField()
    currency = serializers.CharField()
    transaction = serializers.CharField()


SeenChargeOut._declared_fields["from"] = serializers.CharField()


class SeenOut(Shown):
    """How it stood when it was reported."""

    at = serializers.CharField()
    rental = SeenRentalOut(allow_null=True)
    charge = SeenChargeOut(allow_null=True)


class ProblemReportOut(serializers.Serializer[object]):
    """What ``rentals.problems.describe`` renders."""

    id = serializers.CharField()
    rental = serializers.CharField(allow_null=True)
    charge = serializers.CharField(allow_null=True)
    text = serializers.CharField()
    seen = SeenOut()
    state = serializers.ChoiceField(_STATES)
    answer = serializers.CharField(allow_null=True)
    answered_at = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class Reports(ApiView):
    """Problems with rentals and charges. Whoever may see a rental may say that something is wrong
    with it: a report changes nothing by itself."""

    scopes = {"GET": "rentals:read", "POST": "rentals:read"}
    lists = True

    @extend_schema(responses={200: paged(ProblemReportOut)})
    def get(self, request: Request) -> HttpResponse:
        """The organization's reports with their answers, newest first."""
        return self.page(request, problems.own(self.principal(request)), problems.describe)

    @extend_schema(request=ReportIn, responses={201: ProblemReportOut})
    def post(self, request: Request) -> HttpResponse:
        """Report a problem. How the rental and the charge stand is stored with it, and who reports
        gets the answer by mail. At most twenty of an organization wait at a time."""
        principal, data = self.principal(request), self.body(ReportIn)
        return self.act(
            request,
            lambda: problems.report(
                acting=principal,
                rental_id=data.get("rental"),
                charge_id=data.get("charge"),
                text=data["text"],
            ),
            lambda row: (201, problems.describe(row)),
        )


class PlaceOut(Shown):
    """Empty for a charge of a volume."""

    cluster = serializers.CharField(required=False)
    cluster_name = serializers.CharField(allow_null=True)
    node = serializers.CharField(required=False)
    instance = serializers.CharField(required=False)


class StaffProblemReportOut(ProblemReportOut):
    organization = serializers.CharField()
    organization_name = serializers.CharField()
    reporter = serializers.CharField()
    place = PlaceOut()
    answered_by = serializers.CharField(allow_null=True)
    actions = serializers.ListField(child=serializers.CharField())


class StaffProblemReports(ApiView):
    """Everybody's reports, newest first, with where the machine was."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(
        parameters=[OpenApiParameter("state", str, enum=_STATES)],
        responses={200: paged(StaffProblemReportOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(request, {"state": one_of(_STATES)})
        rows = problems.reports(self.principal(request), **wanted)
        return self.page_many(request, rows, problems.describe_many)


class AnswerIn(Body):
    """answer: the renter reads it. close: there was nothing to do about it."""

    answer = Text(max_length=problems.LONGEST)
    close = Flag(required=False, default=False)


class Answer(ApiView):
    """A report that staff look at."""

    scopes = {"POST": STAFF}

    @extend_schema(request=AnswerIn, responses={200: StaffProblemReportOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        """Answer it, once; whoever made it gets a mail."""
        principal, data = self.principal(request), self.body(AnswerIn)
        return self.act(
            request,
            lambda: problems.answer(
                acting=principal, report_id=id, text=data["answer"], close=data["close"]
            ),
            lambda row: (200, problems.describe_many([row])[0]),
        )


urls = [
    path("problem-reports", Reports.as_view()),
    path("staff/problem-reports", StaffProblemReports.as_view()),
    path("staff/problem-reports/<str:id>/answer", Answer.as_view()),
]
