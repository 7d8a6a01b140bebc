"""Webhooks of the organization: make one, see what was sent to it, test it, change its secret."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    new_key,
    once_to,
    page,
    show,
    show_form,
)
from marketplace.http.portal.forms import WebhookForm
from marketplace.http.portal.words import WEBHOOK_FAMILIES
from marketplace.webhooks import deliveries, endpoints
from marketplace.webhooks.endpoints import Changes, NewSecret
from marketplace.webhooks.present import describe_delivery, describe_endpoint

_SHOWN = 25
_USUAL = ("rental.*",)


@page(scope="account:read")
def webhook_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """POST makes a webhook and shows its secret on this one answer, never again."""
    if request.method != "POST":
        return _list(request, principal, WebhookForm(), chosen=_USUAL)
    principal.require("account:write")
    form = WebhookForm(request.POST)
    chosen = request.POST.getlist("event_types")
    if not form.is_valid():
        return _list(request, principal, form, chosen=chosen)
    try:
        rendered = endpoints.create(
            acting=principal,
            url=form.cleaned_data["url"],
            event_types=chosen,
            claim=claim_of(request, principal),
            render=_made,
            secret_fields=["secret"],
        )
    except InvalidRequest as error:
        return _list(request, principal, form, chosen=chosen, refusal=blame(form, error))
    except Refusal as error:
        return _list(request, principal, form, chosen=chosen, refusal=error)
    made = json.loads(rendered.body)
    return _list(request, principal, WebhookForm(), chosen=_USUAL, made=made)


def _made(new: NewSecret) -> tuple[int, Any]:
    return 201, {"id": new.endpoint.public_id, "url": new.endpoint.url, "secret": new.secret}


def _list(
    request: HttpRequest,
    principal: Principal,
    form: WebhookForm,
    *,
    chosen: Any,
    refusal: Refusal | None = None,
    made: dict[str, Any] | None = None,
) -> HttpResponse:
    context = {
        "webhooks": [describe_endpoint(row) for row in endpoints.endpoints(principal)],
        "may_write": "account:write" in principal.scopes,
        "families": WEBHOOK_FAMILIES.items(),
        "chosen": chosen,
        "made": made,
    }
    return show_form(
        request, principal, "portal/webhooks.html", form, refusal=refusal, context=context
    )


@page(scope="account:read")
def one_webhook(request: HttpRequest, principal: Principal, webhook: str) -> HttpResponse:
    return _one(request, principal, webhook)


def _one(
    request: HttpRequest, principal: Principal, webhook: str, made: dict[str, Any] | None = None
) -> HttpResponse:
    endpoint = endpoints.get(principal, webhook)
    rows, following = keyset_page(
        deliveries.deliveries(principal, webhook),
        order=("-id",),
        cursor=request.GET.get("cursor"),
        limit=_SHOWN,
    )
    context = {
        "webhook": describe_endpoint(endpoint),
        "deliveries": [describe_delivery(row) for row in rows],
        "next_cursor": following,
        "more_query": f"cursor={following}",
        "may_write": "account:write" in principal.scopes,
        "idempotency_key": new_key(),
        "made": made,
    }
    return show(request, principal, "portal/webhook.html", context)


@require_POST
@page(scope="account:write")
def rotate(request: HttpRequest, principal: Principal, webhook: str) -> HttpResponse:
    """Shows the new secret on this one answer, never again."""
    rendered = once(
        claim_of(request, principal),
        lambda: endpoints.rotate_secret(acting=principal, webhook_id=webhook),
        _made,
        secret_fields=["secret"],
    )
    return _one(request, principal, webhook, made=json.loads(rendered.body))


@require_POST
@page(scope="account:write", cost=10.0)
def test(request: HttpRequest, principal: Principal, webhook: str) -> HttpResponse:
    answer = once_to(
        claim_of(request, principal),
        lambda: deliveries.send_test(acting=principal, webhook_id=webhook),
        lambda _made: f"/webhooks/{webhook}",
    )
    messages.success(request, _("A test event is on its way. Look again in a moment."))
    return answer


@require_POST
@page(scope="account:write", cost=10.0)
def redeliver(
    request: HttpRequest, principal: Principal, webhook: str, delivery: str
) -> HttpResponse:
    answer = once_to(
        claim_of(request, principal),
        lambda: deliveries.redeliver(acting=principal, webhook_id=webhook, delivery_id=delivery),
        lambda _again: f"/webhooks/{webhook}",
    )
    messages.success(request, _("The event is sent again, with the same id."))
    return answer


@require_POST
@page(scope="account:write")
def switch(request: HttpRequest, principal: Principal, webhook: str) -> HttpResponse:
    """Enable or disable."""
    enable = request.POST.get("state") == "enabled"
    endpoints.change(
        acting=principal,
        webhook_id=webhook,
        changes=Changes(state="enabled" if enable else "disabled"),
        expected_version=None,
        render=lambda _endpoint: (200, None),
    )
    done = _("The webhook is enabled.") if enable else _("The webhook is disabled.")
    messages.success(request, done)
    return go(f"/webhooks/{webhook}")


@require_POST
@page(scope="account:write")
def delete(request: HttpRequest, principal: Principal, webhook: str) -> HttpResponse:
    once(
        None,
        lambda: endpoints.delete(acting=principal, webhook_id=webhook),
        lambda _nothing: (200, None),
    )
    messages.success(request, _("The webhook is deleted. Nothing more is sent to it."))
    return go("/webhooks")


urls = [
    path("webhooks", webhook_page),
    path("webhooks/<str:webhook>", one_webhook),
    path("webhooks/<str:webhook>/test", test),
    path("webhooks/<str:webhook>/rotate-secret", rotate),
    path("webhooks/<str:webhook>/switch", switch),
    path("webhooks/<str:webhook>/delete", delete),
    path("webhooks/<str:webhook>/deliveries/<str:delivery>/redeliver", redeliver),
]
