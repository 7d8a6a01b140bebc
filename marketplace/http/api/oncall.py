"""For people on call: switches, and one rental explained. Scope ``staff`` throughout."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts import switches
from marketplace.accounts.access import STAFF
from marketplace.http.api import desk
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, IdOut, NameIn, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.oncall.explain import explain

NAMES = (switches.STOP_RENTALS, switches.STOP_CHARGING, switches.READ_ONLY)


class SwitchOut(Shown):
    id = IdOut("switch")
    name = serializers.ChoiceField(NAMES)
    cluster = IdOut("cluster", source="cluster_id", allow_null=True)
    note = serializers.CharField()
    on_at = serializers.DateTimeField()
    on_by = serializers.CharField()
    off_at = serializers.DateTimeField(allow_null=True)
    off_by = serializers.CharField()


class SwitchIn(Body):
    """``note`` says why, and is shown to those who are refused; turning off needs none."""

    name = serializers.ChoiceField(NAMES)
    on = Flag()
    cluster = serializers.CharField(required=False, allow_null=True, max_length=64)
    note = NameIn(required=False, max_length=250)


class Switches(ApiView):
    """What is on, and was in the last thirty days, newest first. POST turns one; every process
    obeys within five seconds."""

    scopes = {"GET": STAFF, "POST": STAFF}
    lists = True
    open_while_read_only = True  # or nobody could turn it off

    @extend_schema(responses={200: paged(SwitchOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page_of(
            request,
            switches.history(),
            shown(SwitchOut),
            key=lambda view: str(view.id),
            descending=True,
        )

    @extend_schema(request=SwitchIn, responses={200: SwitchOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(SwitchIn)
        return self.act(
            request,
            lambda: switches.turn(
                acting=principal,
                name=data["name"],
                on=data["on"],
                cluster=data.get("cluster"),
                note=data.get("note", ""),
            ),
            lambda view: (200, SwitchOut(view).data),
        )


class FactOut(Shown):
    """One thing known of a rental."""

    at = serializers.DateTimeField()
    source = serializers.CharField()  # type: ignore[assignment]  # a field, not the option
    id = serializers.CharField()
    text = serializers.CharField()


class Explained(Shown):
    facts = FactOut(many=True)


class Explain(ApiView):
    """Everything known of one rental of any organization, in the order of time, each line with the
    record that says so."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: Explained})
    def get(self, request: Request, id: str) -> HttpResponse:
        facts = explain(id, acting=self.principal(request))
        return self.show(Explained({"facts": facts}).data)


urls = [
    path("staff/switches", Switches.as_view()),
    path("staff/rentals/<str:id>/explain", Explain.as_view()),
    *desk.urls,
]
