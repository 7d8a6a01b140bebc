"""Coming in: sign-up, proof of the e-mail address, session, forgotten password.

Strangers act here: answers never tell whether an address has an account, and each call costs ten
of the caller's request tokens.
"""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.errors import Refusal
from marketplace.accounts import join, second_factor
from marketplace.accounts.access import principal_of
from marketplace.http import reauth
from marketplace.http.api.account import MeOut, describe_me
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import NameIn, Shown
from marketplace.models import User

_ACCEPTED = {"state": "accepted"}
# Tokens of the caller's bucket: a stranger's sign-ups and guesses run at a tenth of the rate.
_DEAR = 10.0


class Password(serializers.CharField):
    """At most 128 characters: hashing a megabyte would be a way to burn a processor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=128, trim_whitespace=False, **options)


class Accepted(Shown):
    """Taken note of; what follows comes by e-mail."""

    state = serializers.ChoiceField(["accepted"])


class SignUpIn(Body):
    email = serializers.EmailField(max_length=254)
    password = Password()
    organization = NameIn(max_length=120)
    accepted_terms_version = serializers.CharField(max_length=20)
    name = NameIn(max_length=120, required=False, allow_blank=True)


class SignUp(ApiView):
    """Make a person and an organization.

    The answer is the same whether or not the address has an account; what to do next is in the
    e-mail. ``accepted_terms_version`` must be the version in force, which a wrong one is told.
    """

    public = True
    cost = _DEAR

    @extend_schema(request=SignUpIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(SignUpIn)
        return self.change(
            lambda: join.sign_up(
                email=data["email"],
                password=data["password"],
                organization=data["organization"],
                terms_version=data["accepted_terms_version"],
                name=data.get("name", ""),
            ),
            lambda _: (202, _ACCEPTED),
        )


class AddressIn(Body):
    email = serializers.EmailField(max_length=254)


class ResendProof(ApiView):
    """Send the link that confirms an e-mail address again, if it is known and unconfirmed."""

    public = True
    cost = _DEAR

    @extend_schema(request=AddressIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        email = self.body(AddressIn)["email"]
        return self.change(lambda: join.resend_proof(email=email), lambda _: (202, _ACCEPTED))


class ProofIn(Body):
    token = serializers.CharField(max_length=200)
    password = Password()


class Verified(Shown):
    """The address is proven."""

    email = serializers.EmailField(read_only=True)
    email_verified_at = serializers.DateTimeField(read_only=True)


class VerifyEmail(ApiView):
    """Confirm an e-mail address with the token from the mail and the account's password."""

    public = True
    cost = _DEAR

    @extend_schema(request=ProofIn, responses={200: Verified})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(ProofIn)
        return self.change(
            lambda: join.verify_email(token=data["token"], password=data["password"]),
            lambda user: (200, Verified(user).data),
        )


class AskReset(ApiView):
    """Ask for a mail with a link to set a new password; the answer is always the same."""

    public = True
    cost = _DEAR

    @extend_schema(request=AddressIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        email = self.body(AddressIn)["email"]
        return self.change(lambda: join.ask_reset(email=email), lambda _: (202, _ACCEPTED))


class ConfirmReset(ApiView):
    """Set a new password with the token from the mail; ends all sessions of the person."""

    public = True
    cost = _DEAR

    @extend_schema(request=ProofIn, responses={200: Verified})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(ProofIn)
        return self.change(
            lambda: join.reset_password(token=data["token"], password=data["password"]),
            lambda user: (200, Verified(user).data),
        )


class SignInIn(Body):
    """``code``: of the app, or a recovery code, once the person's second factor is on."""

    email = serializers.EmailField(max_length=254)
    password = Password()
    code = serializers.CharField(max_length=40, required=False)


class SignedInOut(Shown):
    csrf_token = serializers.CharField()
    me = MeOut()


class Session(ApiView):
    """POST signs in: a session cookie and its CSRF token. DELETE signs out."""

    public = frozenset({"POST"})
    cost = _DEAR
    open_while_read_only = True

    @extend_schema(request=SignInIn, responses={200: SignedInOut})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(SignInIn)
        user = authenticate(
            request._request, username=data["email"].lower(), password=data["password"]
        )
        if not isinstance(user, User):
            raise Refusal(
                "unauthenticated",
                "E-mail address and password do not belong together, or there were too many "
                "wrong tries. Check both, wait a while, or ask for a new password.",
            )
        if user.second_factor_at is not None:
            self._second_step(request, user, data.get("code"))
        login(request._request, user)
        return self.show(
            {"csrf_token": get_token(request._request), "me": describe_me(principal_of(user))}
        )

    def _second_step(self, request: Request, user: User, code: str | None) -> None:
        if code is None:
            raise Refusal(
                "unauthenticated",
                "The password is right, and this person has a second factor. Send `code` as well: "
                "the six digits of the app, or a recovery code.",
                second_factor="required",
            )
        with reauth.counted(request._request, user):
            self.change(
                lambda: second_factor.spend(user=user, code=code), lambda _none: (204, None)
            )

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> HttpResponse:
        # The REST framework put the principal there; Django's own code expects the person.
        request._request.user = self.principal(request).user
        logout(request._request)
        return HttpResponse(status=204)


urls = [
    path("signup", SignUp.as_view()),
    path("email-verification", VerifyEmail.as_view()),
    path("email-verification/resend", ResendProof.as_view()),
    path("password-reset", AskReset.as_view()),
    path("password-reset/confirm", ConfirmReset.as_view()),
    path("session", Session.as_view()),
]
