"""Coming in and going out: sign-up, proof of the address, sign-in, passwords, settings."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import authenticate, logout
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts import join, second_factor
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.accounts.spend_limit import spend_limit
from marketplace.http.portal.base import DEAR, blame, go, next_url, page, posted, show, status_of
from marketplace.http.portal.entering import enter
from marketplace.http.portal.entry_forms import (
    AddressForm,
    NewPasswordForm,
    SignInForm,
    SignUpForm,
    VerifyForm,
)
from marketplace.models import User

_DONE = (200, None)


def _form_page(
    request: HttpRequest,
    form: Form,
    *,
    title: str,
    submit: str,
    lead: str = "",
    template: str = "portal/form_page.html",
    refusal: Refusal | None = None,
    status: int | None = None,
) -> HttpResponse:
    context = {
        "form": form,
        "title": title,
        "submit": submit,
        "lead": lead,
        "refusal": refusal,
        "next": next_url(request),
    }
    if status is None:
        status = 422 if form.errors else status_of(refusal)
    return show(request, None, template, context, status=status)


@page(public=True, cost=DEAR)
def sign_up(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """The answer never tells whether the address has an account: the mail does."""
    if principal is not None:
        return go(next_url(request))
    form = SignUpForm(posted(request))
    refusal = None
    if request.method == "POST" and form.is_valid():
        data = form.cleaned_data
        try:
            once(
                None,
                lambda: join.sign_up(
                    email=data["email"],
                    password=data["password"],
                    organization=data["organization"],
                    terms_version=data["accepted_terms_version"],
                    language=get_language() or "en",
                ),
                lambda _result: _DONE,
            )
        except InvalidRequest as error:
            refusal = blame(form, error)
        else:
            request.session["after_proof"] = next_url(request)
            return _mail_sent(request, data["email"], _("Look into your mailbox"), resend=True)
    return _form_page(
        request,
        form,
        title=_("Create an account"),
        lead=_("You see the whole price before you rent. No card is needed to look around."),
        submit=_("Sign up"),
        template="portal/sign_up.html",
        refusal=refusal,
    )


def _mail_sent(request: HttpRequest, email: str, title: str, *, resend: bool) -> HttpResponse:
    context = {"title": title, "email": email, "resend": resend}
    return show(request, None, "portal/mail_sent.html", context)


@page(public=True, cost=DEAR)
def verify_email(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """The link in the mail leads here; the password makes the proof count, and signs in."""
    form = VerifyForm(posted(request))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            user = _verify(request.GET.get("token", ""), form.cleaned_data["password"])
        except InvalidRequest as error:
            refusal = _about_link(form, error)
        else:
            following = request.session.get("after_proof", "/")
            messages.success(request, _("Your e-mail address is confirmed. You can rent now."))
            return enter(request, user, following)
    return _form_page(
        request,
        form,
        title=_("Confirm your e-mail address"),
        submit=_("Confirm and sign in"),
        refusal=refusal,
    )


def _verify(token: str, password: str) -> User:
    held: list[User] = []

    def act() -> None:
        held.append(join.verify_email(token=token, password=password))

    once(None, act, lambda _result: _DONE)
    return held[0]


def _about_link(form: Form, error: InvalidRequest) -> Refusal | None:
    """A useless link is said in whole sentences; a wrong field stands beside its field."""
    return error if "token" in error.extra["errors"] else blame(form, error)


@require_POST
@page(public=True, cost=DEAR)
def resend(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """The same answer for every address."""
    form = AddressForm(request.POST)
    if not form.is_valid():
        return go("/sign-in")
    email = form.cleaned_data["email"]
    once(None, lambda: join.resend_proof(email=email), lambda _result: _DONE)
    return _mail_sent(request, email, _("Look into your mailbox"), resend=True)


@page(public=True, cost=DEAR)
def sign_in(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    if principal is not None and request.method == "GET":
        return go(next_url(request))
    form = SignInForm(posted(request))
    if request.method == "POST" and form.is_valid():
        user = authenticate(
            request,
            username=form.cleaned_data["email"].lower(),
            password=form.cleaned_data["password"],
        )
        if isinstance(user, User):
            return enter(request, user, next_url(request))
        form.add_error(None, _why_not(request))
    return _form_page(
        request, form, title=_("Sign in"), submit=_("Sign in"), template="portal/sign_in.html"
    )


def _why_not(request: HttpRequest) -> str:
    # Set by django-axes; said apart, since the right password does not help until then.
    if getattr(request, "axes_locked_out", False):
        return _(
            "Too many wrong passwords for this address from here. Wait a quarter of an hour, or "
            "set a new password."
        )
    return _(
        "E-mail address and password do not belong together. Check both, or set a new password."
    )


@require_POST
@page(public=True)
def sign_out(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    logout(request)
    return go("/")


@page(public=True, cost=DEAR)
def reset_password(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """Without a token: ask for the mail. With the token from the mail: the new password."""
    token = request.GET.get("token", "")
    if not token:
        return _ask_reset(request)
    form = NewPasswordForm(posted(request))
    refusal = None
    if request.method == "POST" and form.is_valid():
        password = form.cleaned_data["password"]
        try:
            once(
                None,
                lambda: join.reset_password(token=token, password=password),
                lambda _user: _DONE,
            )
        except InvalidRequest as error:
            refusal = _about_link(form, error)
        else:
            logout(request)
            messages.success(request, _("The new password is set. Sign in with it."))
            return go("/sign-in")
    return _form_page(
        request,
        form,
        title=_("Choose a new password"),
        lead=_("Every open session of this account ends."),
        submit=_("Set password"),
        refusal=refusal,
    )


def _ask_reset(request: HttpRequest) -> HttpResponse:
    form = AddressForm(posted(request))
    if request.method == "POST" and form.is_valid():
        email = form.cleaned_data["email"]
        once(None, lambda: join.ask_reset(email=email), lambda _result: _DONE)
        return _mail_sent(request, email, _("Look into your mailbox"), resend=False)
    return _form_page(
        request,
        form,
        title=_("Set a new password"),
        lead=_("We send a link to your address, if it has an account."),
        submit=_("Send the link"),
    )


@page()
def account_settings(request: HttpRequest, principal: Principal) -> HttpResponse:
    allowed = spend_limit(principal.organization) if principal.organization else None
    context = {"allowed": allowed, "factor": second_factor.standing(principal.user)}
    return show(request, principal, "portal/settings.html", context)


@page(public=True)
def terms(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    context: dict[str, Any] = {"terms_version": settings.TERMS_VERSION}
    return show(request, principal, "portal/terms.html", context)


urls = [
    path("sign-up", sign_up),
    path("sign-in", sign_in),
    path("sign-out", sign_out),
    path("verify-email", verify_email),
    path("verify-email/resend", resend),
    path("reset-password", reset_password),
    path("settings", account_settings),
    path("terms", terms),
]
