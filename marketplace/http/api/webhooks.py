"""Webhooks: endpoints of the organization, their secrets, and what was sent to them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Shown, one_of
from marketplace.http.api.schema import paged
from marketplace.models import WebhookDelivery, WebhookEndpoint
from marketplace.webhooks import deliveries, endpoints
from marketplace.webhooks.endpoints import Changes, NewSecret
from marketplace.webhooks.present import describe_delivery, describe_endpoint
from marketplace.webhooks.receivers import MAX_URL
from marketplace.webhooks.types import PATTERNS

_STATES = list(WebhookEndpoint.State.values)
_DELIVERY_STATES = list(WebhookDelivery.State.values)
# Tests make us speak to a server of the caller's choice: at a tenth of the usual rate.
_DEAR = 10.0


class TypesIn(serializers.ListField):
    """Event types, families such as ``rental.*``, or ``*``; which exist is the domain's list."""

    def __init__(self, **options: Any) -> None:
        child = serializers.CharField(max_length=40)
        super().__init__(child=child, max_length=len(PATTERNS), **options)


class WebhookIn(Body):
    url = serializers.CharField(max_length=MAX_URL, trim_whitespace=False)
    event_types = TypesIn()


class WebhookChange(Body):
    url = serializers.CharField(max_length=MAX_URL, trim_whitespace=False, required=False)
    event_types = TypesIn(required=False)
    state = serializers.ChoiceField(_STATES, required=False)


class RotateIn(Body):
    overlap_seconds = serializers.IntegerField(
        required=False,
        min_value=0,
        max_value=int(endpoints.MAX_OVERLAP.total_seconds()),
        default=int(endpoints.OVERLAP.total_seconds()),
    )


class NothingIn(Body):
    pass


class WebhookOut(Shown):
    """Where events go, which, and how that endpoint fares."""

    id = serializers.CharField()
    url = serializers.CharField()
    event_types = serializers.ListField(child=serializers.CharField())
    state = serializers.ChoiceField(_STATES)
    reason = serializers.CharField()
    reason_text = serializers.CharField()
    actions = serializers.ListField(child=serializers.CharField())
    state_since = serializers.CharField()
    failing_since = serializers.CharField(allow_null=True)
    previous_secret_until = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class NewWebhookOut(WebhookOut):
    secret = serializers.CharField(allow_null=True)


class DeliveryOut(Shown):
    """One event for one endpoint, with its last attempt."""

    id = serializers.CharField()
    webhook = serializers.CharField()
    event = serializers.CharField()
    type = serializers.CharField()
    state = serializers.ChoiceField(_DELIVERY_STATES)
    reason = serializers.CharField(allow_blank=True)
    reason_text = serializers.CharField(allow_blank=True)
    actions = serializers.ListField(child=serializers.CharField())
    attempts = serializers.IntegerField()
    next_at = serializers.CharField(allow_null=True)
    give_up_at = serializers.CharField(allow_null=True)
    last_attempt_at = serializers.CharField(allow_null=True)
    response_code = serializers.IntegerField(allow_null=True)
    duration_ms = serializers.IntegerField(allow_null=True)
    response_body = serializers.CharField(allow_blank=True)
    created_at = serializers.CharField()


def _with_secret(status: int) -> Any:
    def render(new: NewSecret) -> tuple[int, Any]:
        return status, {**describe_endpoint(new.endpoint), "secret": new.secret}

    return render


class Webhooks(ApiView):
    """Endpoints of the organization that are told what happens."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True

    @extend_schema(responses={200: paged(WebhookOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = endpoints.endpoints(self.principal(request))
        return self.page(request, rows, describe_endpoint)

    @extend_schema(request=WebhookIn, responses={201: NewWebhookOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(WebhookIn)
        return self.answer(
            endpoints.create(
                acting=principal,
                url=data["url"],
                event_types=data["event_types"],
                claim=self.claim(request),
                render=_with_secret(201),
                secret_fields=["secret"],
            )
        )


class OneWebhook(ApiView):
    """One webhook. PATCH changes address, types or state; DELETE ends it."""

    scopes = {"GET": "account:read", "PATCH": "account:write", "DELETE": "account:write"}

    @extend_schema(responses={200: WebhookOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        endpoint = endpoints.get(self.principal(request), id)
        return self.tagged(self.show(describe_endpoint(endpoint)), endpoint.version)

    @extend_schema(request=WebhookChange, responses={200: WebhookOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        changes = Changes(**self.body(WebhookChange))
        return self.answer(
            endpoints.change(
                acting=self.principal(request),
                webhook_id=id,
                changes=changes,
                expected_version=self.expected_version(request),
                render=lambda endpoint: (200, describe_endpoint(endpoint)),
            )
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: endpoints.delete(acting=principal, webhook_id=id), lambda _: (204, None)
        )


class WebhookTest(ApiView):
    """Send an event of type ``webhook.test``; what came of it is among the deliveries."""

    scopes = {"POST": "account:write"}
    cost = _DEAR

    @extend_schema(request=None, responses={202: DeliveryOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        self.body(NothingIn)
        return self.act(
            request,
            lambda: deliveries.send_test(acting=principal, webhook_id=id),
            lambda delivery: (202, describe_delivery(delivery)),
        )


class WebhookSecret(ApiView):
    """A new secret, shown once; the old one signs as well for ``overlap_seconds``."""

    scopes = {"POST": "account:write"}

    @extend_schema(request=RotateIn, responses={200: NewWebhookOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(RotateIn)
        overlap = timedelta(seconds=data["overlap_seconds"])
        return self.act(
            request,
            lambda: endpoints.rotate_secret(acting=principal, webhook_id=id, overlap=overlap),
            _with_secret(200),
            secret_fields=["secret"],
        )


class WebhookDeliveries(ApiView):
    """What was and will be sent to this webhook, newest first."""

    scopes = {"GET": "account:read"}
    lists = True

    @extend_schema(
        parameters=[OpenApiParameter("state", str, enum=_DELIVERY_STATES)],
        responses={200: paged(DeliveryOut)},
    )
    def get(self, request: Request, id: str) -> HttpResponse:
        wanted = self.filters(request, {"state": one_of(_DELIVERY_STATES)})
        rows = deliveries.deliveries(self.principal(request), id).filter(**wanted)
        return self.page(request, rows, describe_delivery)


class WebhookRedelivery(ApiView):
    """Send the same event once more, with the same id."""

    scopes = {"POST": "account:write"}
    cost = _DEAR

    @extend_schema(request=None, responses={202: DeliveryOut})
    def post(self, request: Request, id: str, delivery_id: str) -> HttpResponse:
        principal = self.principal(request)
        self.body(NothingIn)
        return self.act(
            request,
            lambda: deliveries.redeliver(acting=principal, webhook_id=id, delivery_id=delivery_id),
            lambda delivery: (202, describe_delivery(delivery)),
        )


urls = [
    path("webhooks", Webhooks.as_view()),
    path("webhooks/<str:id>", OneWebhook.as_view()),
    path("webhooks/<str:id>/test", WebhookTest.as_view()),
    path("webhooks/<str:id>/rotate-secret", WebhookSecret.as_view()),
    path("webhooks/<str:id>/deliveries", WebhookDeliveries.as_view()),
    path("webhooks/<str:id>/deliveries/<str:delivery_id>/redeliver", WebhookRedelivery.as_view()),
]
