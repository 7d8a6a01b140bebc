"""The page that an invitation's link leads to: join with one's account, or make one."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import get_language, gettext_lazy
from django.utils.translation import gettext as _

from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts import invitations
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import DEAR, blame, go, page, show_form
from marketplace.http.portal.deeds import ROLES
from marketplace.http.portal.entering import enter
from marketplace.http.portal.entry_forms import TermsForm, password_field
from marketplace.http.seeing import CHOSEN
from marketplace.models import Invitation, User

_DONE = (200, None)


class JoinForm(TermsForm):
    name = forms.CharField(
        label=gettext_lazy("Your name"),
        max_length=120,
        widget=forms.TextInput(attrs={"autocomplete": "name"}),
    )
    password = password_field(
        gettext_lazy("Password"),
        "new-password",
        min_length=10,
        help_text=gettext_lazy("At least 10 characters."),
    )
    field_order = ("name", "password", "accept", "accepted_terms_version")


@page(public=True, cost=DEAR)
def invitation_page(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """GET shows what is offered and takes nothing: mail scanners open links."""
    token = request.GET.get("token", "")
    invitation = _behind(token)
    if request.method != "POST":
        return _show(request, principal, invitation, JoinForm())
    if principal is not None:
        return _join(request, principal, token)
    form = JoinForm(request.POST)
    if not form.is_valid():
        return _show(request, None, invitation, form)
    try:
        user = _make(token, form)
    except InvalidRequest as error:
        # Of the link it is said in whole sentences; a wrong field stands beside its field.
        about_link = "token" in error.extra["errors"]
        refusal = error if about_link else blame(form, error)
        return _show(request, None, invitation, form, refusal)
    messages.success(request, _("Welcome. You belong to the organization now."))
    return enter(request, user, "/")


def _behind(token: str) -> Invitation:
    held: list[Invitation] = []
    once(None, lambda: held.append(invitations.behind(token)), lambda _none: _DONE)
    return held[0]


def _join(request: HttpRequest, principal: Principal, token: str) -> HttpResponse:
    held: list[Invitation] = []
    once(
        None,
        lambda: held.append(invitations.accept(acting=principal, token=token)),
        lambda _none: _DONE,
    )
    request.session[CHOSEN] = str(held[0].organization_id)
    text = _("You belong to %(name)s now, and work for it in this session.")
    messages.success(request, text % {"name": held[0].organization.name})
    return go("/")


def _make(token: str, form: JoinForm) -> User:
    held: list[User] = []
    given = form.cleaned_data
    once(
        None,
        lambda: held.append(
            invitations.accept_new(
                token=token,
                name=given["name"],
                password=given["password"],
                terms_version=given["accepted_terms_version"],
                language=get_language() or "en",
            )
        ),
        lambda _none: _DONE,
    )
    return held[0]


def _show(
    request: HttpRequest,
    principal: Principal | None,
    invitation: Invitation,
    form: JoinForm,
    refusal: Refusal | None = None,
) -> HttpResponse:
    context: dict[str, Any] = {
        "invitation": invitation,
        "role": ROLES[invitation.role],
        "mine": principal is not None and principal.user.email.lower() == invitation.email,
        "terms_version": settings.TERMS_VERSION,
    }
    return show_form(
        request, principal, "portal/invitation.html", form, refusal=refusal, context=context
    )


urls = [path("invitation", invitation_page)]
