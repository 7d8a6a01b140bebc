"""The mass brake for staff: what it holds, and letting go."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, NameIn, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.providers import brakes


class BrakeOut(Shown):
    id = IdOut("brake")
    cluster = IdOut("cluster", source="cluster_id", allow_null=True)
    cause = serializers.CharField()
    detail = serializers.CharField()
    tripped_at = serializers.DateTimeField()
    wanted = serializers.IntegerField()
    limit = serializers.IntegerField()
    backup_at = serializers.DateTimeField(allow_null=True)
    released_at = serializers.DateTimeField(allow_null=True)
    released_by = serializers.CharField()
    note = serializers.CharField()


class Brakes(ApiView):
    """Open brakes and those of the last thirty days, newest first. ``cluster`` is null for the
    brake everywhere that a restore of the database sets."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(BrakeOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = brakes.brakes()
        return self.page_of(
            request, rows, shown(BrakeOut), key=lambda view: str(view.id), descending=True
        )


class ReleaseIn(Body):
    note = NameIn(max_length=500)


class Release(ApiView):
    """Let go of a brake after you have looked: what it held is looked at again and decided anew,
    and as much as it held may end. Say in ``note`` what you found."""

    scopes = {"POST": STAFF}

    @extend_schema(request=ReleaseIn, responses={200: BrakeOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(ReleaseIn)
        return self.act(
            request,
            lambda: brakes.release(acting=principal, brake_id=id, note=data["note"]),
            lambda view: (200, BrakeOut(view).data),
        )


urls = [
    path("staff/brakes", Brakes.as_view()),
    path("staff/brakes/<str:id>/release", Release.as_view()),
]
