"""Which kinds of mail a person gets, and in which language."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts import letters
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Shown
from marketplace.models import User

_OPTIONAL = sorted(name for name, kind in letters.KINDS.items() if not kind.required)
_LANGUAGES = sorted(dict(settings.LANGUAGES))


class PreferencesIn(Body):
    off = serializers.ListField(child=serializers.ChoiceField(_OPTIONAL), max_length=20)
    language = serializers.ChoiceField(_LANGUAGES, required=False)


class KindOut(Shown):
    kind = serializers.ChoiceField(sorted(letters.KINDS))
    text = serializers.CharField()
    always = serializers.BooleanField()
    on = serializers.BooleanField()


class PreferencesOut(Shown):
    items = KindOut(many=True)
    language = serializers.ChoiceField(_LANGUAGES)


def _shown(user: User) -> Any:
    kinds = [
        {
            "kind": name,
            "text": str(kind.text),
            "always": kind.required,
            "on": letters.wants(user, name),
        }
        for name, kind in letters.KINDS.items()
    ]
    return PreferencesOut({"items": kinds, "language": user.language}).data


class MailPreferences(ApiView):
    """The kinds of mail of the person behind the credentials, and their language. PUT names the
    kinds switched off; those that are required cannot be. Without a language it stays."""

    scopes = {"GET": "account:read", "PUT": "account:write"}

    @extend_schema(responses={200: PreferencesOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(_shown(self.principal(request).user))

    @extend_schema(request=PreferencesIn, responses={200: PreferencesOut})
    def put(self, request: Request) -> HttpResponse:
        user, wish = self.principal(request).user, self.body(PreferencesIn)
        off, language = wish["off"], wish.get("language")
        return self.change(
            lambda: letters.choose(user=user, off=off, language=language),
            lambda _none: (200, _shown(user)),
        )


urls = [path("mail-preferences", MailPreferences.as_view())]
