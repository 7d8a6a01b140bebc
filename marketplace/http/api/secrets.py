"""Secrets and registry credentials: values go in and never come out.

An answer names a value and never holds it; the fingerprint that remembers a request for its
Idempotency-Key is made from a keyed digest of it, so that nobody can guess it from the table.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts import registry_credentials, secrets, vault
from marketplace.accounts.access import get_visible, visible
from marketplace.accounts.idempotency import blinded
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import PublicShown, Shown, Text, shown
from marketplace.http.api.schema import paged
from marketplace.models import RegistryCredential, Secret
from marketplace.rentals import uses
from marketplace.rentals.uses import Forgotten


class WriteOnlyView(ApiView):
    """An operation that takes values nobody may read again."""

    write_only: ClassVar[tuple[str, ...]] = ()

    def hashed_body(self, request: Request) -> Any:
        return blinded(request.data, self.write_only)


class ForgottenOut(Shown):
    """What was deleted, and what had been given it before."""

    id = serializers.CharField()
    deleted = serializers.BooleanField()
    live_rentals = serializers.ListField(
        child=serializers.CharField(), help_text="They keep the copy that they were given"
    )
    templates = serializers.ListField(
        child=serializers.CharField(), help_text="They name no credentials any more"
    )
    detail = serializers.CharField()


def _forgotten(forgotten: Forgotten) -> tuple[int, Any]:
    detail = "Deleted. Nothing that runs had it."
    if forgotten.live_rentals:
        detail = (
            f"Deleted. {len(forgotten.live_rentals)} live rentals were given it and keep their "
            "copy until they end. If it leaked, replace it where it came from."
        )
    return 200, {
        "id": forgotten.id,
        "deleted": True,
        "live_rentals": forgotten.live_rentals,
        "templates": forgotten.templates,
        "detail": detail,
    }


class SecretIn(Body):
    name = Text(max_length=128, help_text="As a variable is named: HF_TOKEN")
    value = Text(max_length=vault.MAX_VALUE, write_only=True)


class SecretChangeIn(Body):
    name = Text(required=False, max_length=128)
    value = Text(required=False, max_length=vault.MAX_VALUE, write_only=True)


class SecretOut(PublicShown):
    name = serializers.CharField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)


class Secrets(WriteOnlyView):
    """Values for variables of rentals. No answer ever holds a value."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True
    write_only = ("value",)

    @extend_schema(responses={200: paged(SecretOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, visible(Secret, self.principal(request)), shown(SecretOut))

    @extend_schema(request=SecretIn, responses={201: SecretOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(SecretIn)
        return self.act(
            request,
            lambda: secrets.create_secret(acting=principal, name=data["name"], value=data["value"]),
            lambda secret: (201, SecretOut(secret).data),
        )


class OneSecret(ApiView):
    """One secret."""

    scopes = {"GET": "account:read", "PATCH": "account:write", "DELETE": "account:write"}

    @extend_schema(responses={200: SecretOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        secret = get_visible(Secret, self.principal(request), id)
        return self.tagged(self.show(SecretOut(secret).data), secret.version)

    @extend_schema(request=SecretChangeIn, responses={200: SecretOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        """Rename or replace it; what already runs keeps the value that it was given."""
        principal, data = self.principal(request), self.body(SecretChangeIn)
        expected = self.expected_version(request)
        return self.change(
            lambda: secrets.change_secret(
                acting=principal, secret_id=id, expected_version=expected, **data
            ),
            lambda secret: (200, SecretOut(secret).data),
        )

    @extend_schema(responses={200: ForgottenOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        """Forget it; the answer names live rentals, which keep their copy."""
        principal, expected = self.principal(request), self.expected_version(request)
        return self.change(
            lambda: uses.forget_secret(acting=principal, secret_id=id, expected_version=expected),
            _forgotten,
        )


class CredentialIn(Body):
    registry = Text(max_length=300, help_text="docker.io, ghcr.io, registry.example.com:5000")
    username = Text(max_length=255)
    password = Text(max_length=vault.MAX_VALUE, write_only=True, help_text="Or a token")


class CredentialChangeIn(Body):
    username = Text(required=False, max_length=255)
    password = Text(required=False, max_length=vault.MAX_VALUE, write_only=True)


class CredentialOut(PublicShown):
    registry = serializers.CharField(read_only=True)
    username = serializers.CharField(read_only=True)
    updated_at = serializers.DateTimeField(read_only=True)


class Credentials(WriteOnlyView):
    """Users of container registries, for images that not everybody may pull."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True
    write_only = ("password",)

    @extend_schema(responses={200: paged(CredentialOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(RegistryCredential, self.principal(request))
        return self.page(request, rows, shown(CredentialOut))

    @extend_schema(request=CredentialIn, responses={201: CredentialOut})
    def post(self, request: Request) -> HttpResponse:
        """Store one. Whether the registry takes it shows when an image is resolved with it."""
        principal, data = self.principal(request), self.body(CredentialIn)
        return self.act(
            request,
            lambda: registry_credentials.create_credential(acting=principal, **data),
            lambda credential: (201, CredentialOut(credential).data),
        )


class OneCredential(ApiView):
    """One registry credential."""

    scopes = {"GET": "account:read", "PATCH": "account:write", "DELETE": "account:write"}

    @extend_schema(responses={200: CredentialOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        credential = get_visible(RegistryCredential, self.principal(request), id)
        return self.tagged(self.show(CredentialOut(credential).data), credential.version)

    @extend_schema(request=CredentialChangeIn, responses={200: CredentialOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        """Another user name or password; what already runs keeps what it was given."""
        principal, data = self.principal(request), self.body(CredentialChangeIn)
        expected = self.expected_version(request)
        return self.change(
            lambda: registry_credentials.change_credential(
                acting=principal, credential_id=id, expected_version=expected, **data
            ),
            lambda credential: (200, CredentialOut(credential).data),
        )

    @extend_schema(responses={200: ForgottenOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        """Forget it; the answer names live rentals and templates that had it."""
        principal, expected = self.principal(request), self.expected_version(request)
        return self.change(
            lambda: uses.forget_credential(
                acting=principal, credential_id=id, expected_version=expected
            ),
            _forgotten,
        )


urls = [
    path("secrets", Secrets.as_view()),
    path("secrets/<str:id>", OneSecret.as_view()),
    path("registry-credentials", Credentials.as_view()),
    path("registry-credentials/<str:id>", OneCredential.as_view()),
]
