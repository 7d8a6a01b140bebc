"""People, organizations and keys for tests, made through the same actions as in the product."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.db import transaction
from django.test import Client

from kernel.clock import now
from marketplace.accounts import join, keys
from marketplace.accounts.access import ROLE_SCOPES, SCOPES, Principal, principal_of
from marketplace.models import Membership, Organization, User
from tests.area.marketplace_accounts import described
from tests.authenticator import make_staff

PASSWORD = "correct horse battery"


@dataclass
class Api:
    """A caller of the API: a Django test client with a key, JSON in and out."""

    client: Client
    key: str = ""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        """The response; its ``data`` is the parsed JSON, or None."""
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key:
            sent.setdefault("Authorization", f"Bearer {self.key}")
        if method == "POST":
            sent.setdefault("Idempotency-Key", uuid.uuid4().hex)
        address = path if path.startswith("/") else f"/api/v1/{path}"
        response: Any = self.client.generic(
            method,
            address,
            body if isinstance(body, str) else json.dumps(body) if body is not None else "",
            content_type="application/json",
            headers={name: value for name, value in sent.items() if value},
        )
        is_json = "json" in response.get("Content-Type", "") and response.content
        response.data = json.loads(response.content) if is_json else None
        described.check(method, address.partition("?")[0], response.status_code, response.data)
        return response

    def get(self, path: str, **headers: str) -> Any:
        return self.call("GET", path, **headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        return self.call("POST", path, {} if body is None else body, **headers)

    def patch(self, path: str, body: Any, **headers: str) -> Any:
        return self.call("PATCH", path, body, **headers)

    def delete(self, path: str, **headers: str) -> Any:
        return self.call("DELETE", path, **headers)


def anonymous() -> Api:
    return Api(Client(raise_request_exception=False))


def sign_up(email: str | None = None, *, verified: bool = True, name: str = "Acme") -> User:
    """A person with an organization of their own."""
    address = email or f"{uuid.uuid4().hex}@example.com"
    with transaction.atomic():
        join.sign_up(
            email=address,
            password=PASSWORD,
            organization=name,
            terms_version=settings.TERMS_VERSION,
        )
        user = User.objects.get(email=address)
        if verified:
            user.email_verified_at = now()
            user.save(update_fields=["email_verified_at"])
    return user


def staff(email: str | None = None) -> User:
    address = email or f"{uuid.uuid4().hex}@example.com"
    make_staff(email=address, password=PASSWORD)
    return User.objects.get(email=address)


def join_as(organization: Organization, role: str) -> User:
    """Another person in an organization."""
    user = User.objects.create_user(f"{uuid.uuid4().hex}@example.com", PASSWORD)
    user.email_verified_at = now()
    user.save()
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


def key_of(user: User, *scopes: str) -> str:
    """A key with these scopes, or with all that the person has."""
    principal = principal_of(user)
    with transaction.atomic():
        return keys.create_key(
            acting=principal,
            name="test",
            scopes=list(scopes) or sorted(principal.scopes),
            expires_at=None,
        ).secret


def api_of(user: User, *scopes: str) -> Api:
    return Api(Client(raise_request_exception=False), key_of(user, *scopes))


def owner() -> Api:
    """A verified owner's API with every scope an owner has."""
    return api_of(sign_up(), *sorted(ROLE_SCOPES[Membership.Role.OWNER]))


def acting(user: User) -> Principal:
    return principal_of(user)


def all_scopes() -> list[str]:
    return sorted(SCOPES)
