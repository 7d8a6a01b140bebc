"""The second factor of the acting person: switch on, recovery codes, switch off.

It belongs to the person, not to the organization; what changes it takes the password or a code. A
role without ``account:write`` does it in the portal.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts import second_factor
from marketplace.http import reauth
from marketplace.http.api.base import Body
from marketplace.http.api.fields import Shown
from marketplace.http.api.secrets import WriteOnlyView

_DEAR = 10.0


class CodeIn(Body):
    code = serializers.CharField(max_length=40)


class PasswordIn(Body):
    """``password`` is the acting person's own, given anew."""

    password = serializers.CharField(max_length=128, trim_whitespace=False)


class PasswordAndCodeIn(PasswordIn):
    code = serializers.CharField(max_length=40)


class StandingOut(Shown):
    """``offered``: a secret waits for its first code and counts for nothing yet."""

    state = serializers.ChoiceField(["off", "offered", "on"])
    since = serializers.DateTimeField(allow_null=True)
    recovery_codes = serializers.IntegerField(help_text="How many are unused")


class OfferOut(Shown):
    """Shown once: in base 32, as authenticator apps take it (SHA-1, six digits, thirty seconds)."""

    secret = serializers.CharField(allow_null=True)


class CodesOut(Shown):
    """Shown once; each works once in place of the app's code."""

    recovery_codes = serializers.ListField(child=serializers.CharField(), allow_null=True)


class Factor(WriteOnlyView):
    """How it stands. POST offers a new secret; it counts once its first code was given."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    write_only = ("password",)
    cost = _DEAR

    @extend_schema(responses={200: StandingOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(StandingOut(second_factor.standing(self.principal(request).user)).data)

    @extend_schema(request=PasswordIn, responses={201: OfferOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(PasswordIn)
        self.claim(request)  # a request without a key is wrong before anybody's password is
        reauth.prove(request._request, principal, data["password"])
        return self.act(
            request,
            lambda: second_factor.begin(acting=principal),
            lambda offer: (201, OfferOut(offer).data),
            secret_fields=["secret"],
        )


class Confirm(WriteOnlyView):
    """Switch it on with the first code. Every other session of the person ends."""

    scopes = {"POST": "account:write"}
    write_only = ("code",)
    cost = _DEAR
    make = staticmethod(second_factor.confirm)

    @extend_schema(request=CodeIn, responses={200: CodesOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(CodeIn)
        with reauth.counted(request._request, principal.user):
            answer = self.act(
                request,
                lambda: self.make(acting=principal, code=data["code"]),
                _codes,
                secret_fields=["recovery_codes"],
            )
        if principal.key is None:
            reauth.keep_session(request._request, principal.user)
        return answer


class Renew(Confirm):
    """New recovery codes; the old ones are worth nothing any more."""

    make = staticmethod(second_factor.renew)


class Remove(WriteOnlyView):
    """Switch it off. Every other session of the person ends."""

    scopes = {"POST": "account:write"}
    write_only = ("password", "code")
    cost = _DEAR

    @extend_schema(request=PasswordAndCodeIn, responses={200: StandingOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(PasswordAndCodeIn)
        self.claim(request)
        reauth.prove(request._request, principal, data["password"])
        with reauth.counted(request._request, principal.user):
            answer = self.act(
                request,
                lambda: second_factor.remove(acting=principal, code=data["code"]),
                lambda _none: (200, StandingOut(second_factor.standing(principal.user)).data),
            )
        if principal.key is None:
            reauth.keep_session(request._request, principal.user)
        return answer


def _codes(codes: list[str]) -> tuple[int, Any]:
    return 200, {"recovery_codes": codes}


urls = [
    path("second-factor", Factor.as_view()),
    path("second-factor/confirm", Confirm.as_view()),
    path("second-factor/recovery-codes", Renew.as_view()),
    path("second-factor/remove", Remove.as_view()),
]
