"""The second factor of one's own account: switch on, recovery codes, switch off."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import segno
from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts import second_factor
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http import reauth
from marketplace.http.portal.base import (
    DEAR,
    blame,
    claim_of,
    go,
    new_key,
    once_to,
    page,
    show,
    status_of,
)
from marketplace.http.portal.entry_forms import CodeForm, PasswordAndCodeForm, PasswordForm

_HERE = "/settings/second-factor"
# Nobody may guess either from what is remembered of a request.
_SECRET = ("password", "code")


@page()
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """How it stands, with the forms for what can be done."""
    return _overview(request, principal)


def _overview(
    request: HttpRequest,
    principal: Principal,
    *,
    sent: forms.Form | None = None,
    refusal: Refusal | None = None,
    codes: Any = None,
) -> HttpResponse:
    offer = second_factor.offer(principal.user)

    def form(kind: type[forms.Form], name: str) -> forms.Form:
        mine = sent is not None and sent.auto_id == f"{name}_%s"
        return sent if sent is not None and mine else kind(auto_id=f"{name}_%s")

    context = {
        "factor": second_factor.standing(principal.user),
        "offer": offer,
        # As an image of its own: no markup from elsewhere is ever called safe.
        "qr": segno.make(offer.uri).svg_data_uri(scale=5, light="#fff") if offer else "",
        "begin": form(PasswordForm, "begin"),
        "confirm": form(CodeForm, "confirm"),
        "renew": form(CodeForm, "renew"),
        "remove": form(PasswordAndCodeForm, "remove"),
        "refusal": refusal,
        "codes": codes,
        "idempotency_key": new_key(),
    }
    status = 422 if sent is not None and sent.errors else status_of(refusal)
    return show(request, principal, "portal/second_factor.html", context, status=status)


@require_POST
@page(cost=DEAR)
def begin(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The password, and a secret is offered."""

    def act(form: forms.Form) -> HttpResponse:
        reauth.prove(request, principal, form.cleaned_data["password"])
        return once_to(
            claim_of(request, principal, write_only=_SECRET),
            lambda: second_factor.begin(acting=principal),
            lambda _offer: _HERE,
        )

    return _try(request, principal, PasswordForm(request.POST, auto_id="begin_%s"), act)


@require_POST
@page(cost=DEAR)
def confirm(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The first code, and it is on; the recovery codes are on this one answer."""
    form = CodeForm(request.POST, auto_id="confirm_%s")
    return _codes(request, principal, form, second_factor.confirm)


@require_POST
@page(cost=DEAR)
def renew(request: HttpRequest, principal: Principal) -> HttpResponse:
    """New recovery codes."""
    form = CodeForm(request.POST, auto_id="renew_%s")
    return _codes(request, principal, form, second_factor.renew)


@require_POST
@page(cost=DEAR)
def remove(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Password and code, and it is off."""

    def act(form: forms.Form) -> HttpResponse:
        reauth.prove(request, principal, form.cleaned_data["password"])
        code = form.cleaned_data["code"]
        with reauth.counted(request, principal.user):
            once(
                claim_of(request, principal, write_only=_SECRET),
                lambda: second_factor.remove(acting=principal, code=code),
                lambda _none: (200, None),
            )
        reauth.keep_session(request, principal.user)
        messages.success(request, _("Your second factor is off."))
        return go(_HERE)

    return _try(request, principal, PasswordAndCodeForm(request.POST, auto_id="remove_%s"), act)


def _codes(
    request: HttpRequest,
    principal: Principal,
    form: forms.Form,
    make: Callable[..., list[str]],
) -> HttpResponse:
    def act(form: forms.Form) -> HttpResponse:
        with reauth.counted(request, principal.user):
            rendered = once(
                claim_of(request, principal, write_only=_SECRET),
                lambda: make(acting=principal, code=form.cleaned_data["code"]),
                lambda codes: (200, {"recovery_codes": codes}),
                secret_fields=["recovery_codes"],
            )
        reauth.keep_session(request, principal.user)
        return _overview(request, principal, codes=json.loads(rendered.body))

    return _try(request, principal, form, act)


def _try(
    request: HttpRequest,
    principal: Principal,
    form: forms.Form,
    act: Callable[[forms.Form], HttpResponse],
) -> HttpResponse:
    """The action of a filled-in form; a refusal is shown beside it."""
    if not form.is_valid():
        return _overview(request, principal, sent=form)
    try:
        return act(form)
    except Refusal as error:
        return _overview(request, principal, sent=form, refusal=blame(form, error))


urls = [
    path("settings/second-factor", overview),
    path("settings/second-factor/begin", begin),
    path("settings/second-factor/confirm", confirm),
    path("settings/second-factor/recovery-codes", renew),
    path("settings/second-factor/remove", remove),
]
