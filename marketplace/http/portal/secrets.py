"""Secrets and registry users: what is stored is listed, a value is never shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts import registry_credentials, secrets
from marketplace.accounts.access import Principal, visible
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    new_key,
    once_to,
    page,
    posted,
    show,
    status_of,
)
from marketplace.http.portal.forms import CredentialForm, SecretForm
from marketplace.models import RegistryCredential, Secret
from marketplace.rentals import uses
from marketplace.rentals.uses import Forgotten

_HOME = "/secrets"


@page(scope="account:read")
def secret_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Both lists; POST adds a secret."""
    form = SecretForm(posted(request))
    if request.method != "POST":
        return _page(request, principal, secret_form=form)
    return _add(
        request,
        principal,
        form,
        write_only="value",
        act=lambda data: secrets.create_secret(acting=principal, **data),
        said=_("The secret is stored. Choose it when you rent."),
    )


@require_POST
@page(scope="account:write")
def add_credential(request: HttpRequest, principal: Principal) -> HttpResponse:
    return _add(
        request,
        principal,
        CredentialForm(request.POST),
        write_only="password",
        act=lambda data: registry_credentials.create_credential(acting=principal, **data),
        said=_("The registry user is stored. Choose it with an image."),
    )


@require_POST
@page(scope="account:write")
def delete_secret(request: HttpRequest, principal: Principal, secret: str) -> HttpResponse:
    return _forget(request, lambda: uses.forget_secret(acting=principal, secret_id=secret))


@require_POST
@page(scope="account:write")
def delete_credential(request: HttpRequest, principal: Principal, credential: str) -> HttpResponse:
    return _forget(
        request, lambda: uses.forget_credential(acting=principal, credential_id=credential)
    )


def _add(
    request: HttpRequest,
    principal: Principal,
    form: SecretForm | CredentialForm,
    *,
    write_only: str,
    act: Callable[[dict[str, Any]], object],
    said: str,
) -> HttpResponse:
    principal.require("account:write")
    refusal = None
    if form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal, write_only=[write_only]),
                lambda: act(form.cleaned_data),
                lambda _made: _HOME,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, said)
            return answer
    if isinstance(form, SecretForm):
        return _page(request, principal, secret_form=form, refusal=refusal)
    return _page(request, principal, credential_form=form, refusal=refusal)


def _forget(request: HttpRequest, act: Callable[[], Forgotten]) -> HttpResponse:
    found: list[Forgotten] = []
    once(None, lambda: found.append(act()), lambda _nothing: (200, None))
    live = len(found[0].live_rentals)
    text = _("It is forgotten. Nothing that runs had it.")
    if live:
        text = ngettext(
            "It is forgotten. %(live)s live rental was given it and keeps its copy.",
            "It is forgotten. %(live)s live rentals were given it and keep their copies.",
            live,
        ) % {"live": live}
    messages.success(request, text)
    return go(_HOME)


def _page(
    request: HttpRequest,
    principal: Principal,
    *,
    secret_form: Form | None = None,
    credential_form: Form | None = None,
    refusal: Refusal | None = None,
) -> HttpResponse:
    sent = secret_form if secret_form is not None else credential_form
    context = {
        "secrets": visible(Secret, principal).order_by("name"),
        "credentials": visible(RegistryCredential, principal).order_by("registry", "username"),
        "may_write": "account:write" in principal.scopes,
        "secret_form": secret_form or SecretForm(),
        "credential_form": credential_form or CredentialForm(auto_id="id_registry_%s"),
        "secret_key": new_key(),
        "credential_key": new_key(),
        "refusal": refusal,
    }
    status = 422 if sent is not None and sent.errors else status_of(refusal)
    return show(request, principal, "portal/secrets.html", context, status=status)


urls = [
    path("secrets", secret_page),
    path("secrets/<str:secret>/delete", delete_secret),
    path("registry-credentials", add_credential),
    path("registry-credentials/<str:credential>/delete", delete_credential),
]
