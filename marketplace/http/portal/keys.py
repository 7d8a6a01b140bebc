"""Keys of the organization: API keys, whose secret is shown once, and SSH public keys."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts import keys as api_keys
from marketplace.accounts import ssh_keys
from marketplace.accounts.access import SCOPES, STAFF, Principal, visible
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    once_to,
    page,
    posted,
    show_form,
)
from marketplace.http.portal.forms import ApiKeyForm, SshKeyForm
from marketplace.models import ApiKey, SshKey
from marketplace.rentals import ssh_keys as rental_keys

_SHOWN = 100
_USUAL = ("rentals:read", "rentals:write")


@page(scope="account:read")
def api_key_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """POST makes a key and shows its secret on this one answer, never again."""
    if request.method != "POST":
        return _api_keys(request, principal, ApiKeyForm(), chosen=_USUAL)
    principal.require("account:write")
    form = ApiKeyForm(request.POST)
    chosen = request.POST.getlist("scopes")
    if not form.is_valid():
        return _api_keys(request, principal, form, chosen=chosen)
    days = form.cleaned_data["days"]
    try:
        rendered = once(
            claim_of(request, principal),
            lambda: api_keys.create_key(
                acting=principal,
                name=form.cleaned_data["name"],
                scopes=chosen,
                expires_at=now() + timedelta(days=int(days)) if days else None,
            ),
            lambda new: (201, {"name": new.key.name, "secret": new.secret}),
            secret_fields=["secret"],
        )
    except Refusal as error:
        return _api_keys(request, principal, form, chosen=chosen, refusal=blame(form, error))
    made = json.loads(rendered.body)
    return _api_keys(request, principal, ApiKeyForm(), chosen=_USUAL, made=made)


def _api_keys(
    request: HttpRequest,
    principal: Principal,
    form: ApiKeyForm,
    *,
    chosen: Any,
    refusal: Refusal | None = None,
    made: dict[str, Any] | None = None,
) -> HttpResponse:
    context = {
        "keys": visible(ApiKey, principal).order_by("-id")[:_SHOWN],
        "may_write": "account:write" in principal.scopes,
        "scopes": [
            (scope, text)
            for scope, text in SCOPES.items()
            if scope in principal.scopes and scope != STAFF
        ],
        "chosen_scopes": chosen,
        "made": made,
    }
    return show_form(
        request, principal, "portal/api_keys.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="account:write")
def revoke_api_key(request: HttpRequest, principal: Principal, key: str) -> HttpResponse:
    answer = once_to(
        None,
        lambda: api_keys.revoke_key(acting=principal, key_id=key),
        lambda _key: "/api-keys",
    )
    messages.success(request, _("The key is revoked. It is refused from now on."))
    return answer


@page(scope="account:read")
def ssh_key_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = SshKeyForm(posted(request))
    refusal = None
    if request.method == "POST":
        principal.require("account:write")
        if form.is_valid():
            try:
                answer = once_to(
                    claim_of(request, principal),
                    lambda: ssh_keys.add_key(acting=principal, **form.cleaned_data),
                    lambda _key: "/ssh-keys",
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("The key is stored. Choose it when you rent."))
                return answer
    context = {
        "keys": visible(SshKey, principal).order_by("-id")[:_SHOWN],
        "may_write": "account:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/ssh_keys.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="account:write")
def delete_ssh_key(request: HttpRequest, principal: Principal, key: str) -> HttpResponse:
    once(
        None,
        lambda: rental_keys.delete_key(acting=principal, key_id=key),
        lambda _nothing: (200, None),
    )
    messages.success(request, _("The key is forgotten, and none of your machines lets it in."))
    return go("/ssh-keys")


urls = [
    path("api-keys", api_key_page),
    path("api-keys/<str:key>/revoke", revoke_api_key),
    path("ssh-keys", ssh_key_page),
    path("ssh-keys/<str:key>/delete", delete_ssh_key),
]
