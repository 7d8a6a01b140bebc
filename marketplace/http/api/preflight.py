"""A cluster against the published rules: what was measured, what passes, and what to do."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Shown
from marketplace.providers import onboard
from provisioner.contracts.preflight import Outcome, PreflightState

_OUTCOMES = [outcome.value for outcome in Outcome]


class RuleResultOut(Shown):
    """A rule and how it came out; ``outcome`` null: it was never asked in this cluster."""

    rule = serializers.CharField()
    title = serializers.CharField()
    why = serializers.CharField()
    version = serializers.IntegerField(help_text="Of the table that it was judged by")
    stops = serializers.BooleanField(help_text="Whether failing it takes the cluster off sale")
    measured = serializers.CharField()
    threshold = serializers.CharField()
    outcome = serializers.ChoiceField(_OUTCOMES, allow_null=True)
    fix = serializers.CharField(help_text='What to do; "" where there is nothing to do')
    since = serializers.DateTimeField(allow_null=True)
    checked_at = serializers.DateTimeField(allow_null=True)


class RuleChangeOut(Shown):
    rule = serializers.CharField()
    version = serializers.IntegerField()
    before = serializers.ChoiceField(_OUTCOMES, allow_null=True)
    outcome = serializers.ChoiceField(_OUTCOMES)
    measured = serializers.CharField()
    at = serializers.DateTimeField()


class PreflightOut(Shown):
    """``state``: waiting (not looked at yet, or not since the token was replaced), passed, failed,
    or unanswered (nothing failed, but a rule that matters was not answered: ``takes_rentals`` stays
    as it was)."""

    state = serializers.ChoiceField([state.value for state in PreflightState])
    takes_rentals = serializers.BooleanField(source="sells")
    version = serializers.IntegerField(help_text="Of the table of rules")
    checked_at = serializers.DateTimeField(allow_null=True)
    rules = RuleResultOut(many=True)
    changes = RuleChangeOut(many=True, help_text="Newest first, at most 50")


class NothingIn(Body):
    pass


class Preflight(ApiView):
    """The rules that a cluster is checked against before its cards are on sale, in the table's
    order."""

    scopes = {"GET": "provider:read", "POST": "provider:write"}
    cost = 5.0  # asking anew means some 200 questions to a cluster

    @extend_schema(responses={200: PreflightOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        found = onboard.preflight(acting=self.principal(request), cluster_id=id)
        return self.show(PreflightOut(found).data)

    @extend_schema(request=None, responses={202: PreflightOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        """Look again at once. The answer holds the present results; those of the look that was
        asked for have a later ``checked_at``."""
        principal = self.principal(request)
        self.body(NothingIn)
        return self.act(
            request,
            lambda: onboard.ask_preflight(acting=principal, cluster_id=id),
            lambda found: (202, PreflightOut(found).data),
        )


urls = [path("provider/clusters/<str:id>/preflight", Preflight.as_view())]
