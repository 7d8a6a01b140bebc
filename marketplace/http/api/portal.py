"""Stripe's own pages, where an organization's cards and invoices are kept."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.portal import PortalSessionView
from billing.facade import portal as billing
from kernel.ids import public
from marketplace.accounts import audit
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.billing import back_to_billing, id_in
from marketplace.http.api.fields import IdOut, Shown


class PortalSessionIn(Body):
    return_url = serializers.CharField(max_length=2000, required=False)


class PortalSessionOut(Shown):
    id = IdOut("portal_session")
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    reason = serializers.CharField(source="failure", allow_null=True)
    url = serializers.CharField(allow_null=True)
    expires_at = serializers.DateTimeField(allow_null=True)


class PortalSessions(ApiView):
    """Open Stripe's pages for cards and invoices. It answers before Stripe was asked: read the
    session until ``url`` is there. The address lets whoever has it in, and is shown for minutes."""

    scopes = {"POST": "billing:write"}

    @extend_schema(request=PortalSessionIn, responses={202: PortalSessionOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(PortalSessionIn)
        principal.require_verified()

        def start() -> PortalSessionView:
            view = billing.start_portal_session(
                org_ref=principal.org.id, return_url=data.get("return_url") or back_to_billing()
            )
            audit.record(
                acting=principal,
                action="portal_session.start",
                object=public("portal_session", view.id),
                organization_ref=principal.org.id,
            )
            return view

        return self.act(request, start, lambda view: (202, PortalSessionOut(view).data))


class OnePortalSession(ApiView):
    """How the opening of Stripe's pages stands."""

    scopes = {"GET": "billing:write"}

    @extend_schema(responses={200: PortalSessionOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        org = self.principal(request).org
        view = billing.portal_session(org_ref=org.id, session_id=id_in("portal_session", id))
        return self.show(PortalSessionOut(view).data)


urls = [
    path("billing/portal", PortalSessions.as_view()),
    path("billing/portal/<str:id>", OnePortalSession.as_view()),
]
