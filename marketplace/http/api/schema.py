"""The OpenAPI 3.1 description: what drf-spectacular cannot know from a serializer.

Credentials, scopes, the Idempotency-Key header, paging parameters and problem answers follow from
the attributes of :class:`marketplace.http.api.base.ApiView`, so no operation can forget them.
"""

from __future__ import annotations

from typing import Any

from django.conf import settings
from drf_spectacular.extensions import OpenApiAuthenticationExtension
from drf_spectacular.openapi import AutoSchema
from drf_spectacular.utils import OpenApiParameter, inline_serializer
from rest_framework import serializers

_PROBLEM = {
    "type": "object",
    "description": "RFC 9457 problem document",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string", "example": "/problems/not_found"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "errors": {
            "type": "object",
            "additionalProperties": {"type": "array", "items": {"type": "string"}},
        },
    },
}
# Methods that may change something.
CHANGING = frozenset({"POST", "PATCH", "PUT", "DELETE"})
_VERBS = {"GET": "get", "POST": "create", "PATCH": "change", "PUT": "set", "DELETE": "delete"}
_TEXTS = {
    "400": "Malformed JSON, header, cursor or filter",
    "401": "No valid credentials",
    "402": "Insufficient funds",
    "403": "The credentials lack the scope",
    "404": "No such object among the caller's",
    "409": "Not possible now",
    "422": "Fields are wrong",
    "429": "Too many requests",
    "503": "Not now: read-only, or no new rentals for the moment",
}


def paged(item: type[serializers.Serializer[Any]]) -> serializers.Serializer[Any]:
    """The answer of a list of ``item``, for ``extend_schema(responses=…)``."""
    return inline_serializer(
        name=f"{item.__name__}Page",
        fields={
            "items": item(many=True),
            "next_cursor": serializers.CharField(allow_null=True),
        },
    )


class OperationSchema(AutoSchema):
    """Adds the parts that all operations share."""

    view: Any  # an ApiView; its module imports this one

    def get_auth(self) -> list[dict[str, Any]]:
        if self.view.is_public(self.method):
            return []
        return list(super().get_auth())

    def get_override_parameters(self) -> list[Any]:
        parameters = list(super().get_override_parameters())
        if self.method == "POST" and self.view.keyed and not self.view.is_public(self.method):
            parameters.append(
                OpenApiParameter(
                    "Idempotency-Key",
                    location=OpenApiParameter.HEADER,
                    required=True,
                    description="A new random value per request; the same one to repeat it.",
                    type={"type": "string", "minLength": 1, "maxLength": 255},
                )
            )
        if self.method == "GET" and self.view.lists:
            parameters.append(OpenApiParameter("cursor", str, description="From next_cursor"))
            parameters.append(
                OpenApiParameter(
                    "limit",
                    type={"type": "integer", "minimum": 1, "maximum": 200, "default": 50},
                )
            )
        return parameters

    def get_operation_id(self) -> str:
        """``rentals_list``, ``rentals_get``, ``rentals_actions_create``, …"""
        parts = [part for part in self.path.split("/")[3:] if part and "{" not in part]
        verb = "list" if self.method == "GET" and self.view.lists else _VERBS[self.method]
        return "_".join([*(part.replace("-", "_").replace(".", "_") for part in parts), verb])

    def get_tags(self) -> list[str]:
        parts = [part for part in self.path.split("/") if part]
        return [parts[2]] if len(parts) > 2 else ["api"]

    def get_operation(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        operation: dict[str, Any] | None = super().get_operation(*args, **kwargs)
        if operation is None:
            return None
        scope = self.view.scopes.get(self.method)
        if scope:
            operation["x-scope"] = scope
        codes = {"400", "429"}
        if not self.view.is_public(self.method):
            codes |= {"401", "403"}
        if "{" in self.path:
            codes.add("404")
        if self.method in CHANGING and not self.view.open_while_read_only:
            codes.add("503")
        if self.method in {"POST", "PATCH", "PUT"}:
            acts = self.view.keyed and not self.view.is_public(self.method)
            codes |= {"402", "404", "409", "422"} if acts else {"422"}
        for code in sorted(codes):
            operation["responses"].setdefault(code, _problem(_TEXTS[code]))
        return operation


def _problem(text: str) -> dict[str, Any]:
    return {"description": text, "content": {"application/problem+json": {"schema": _PROBLEM}}}


class ApiKeyScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer gy_live_…``"""

    target_class = "marketplace.http.authentication.ApiKeyAuthentication"
    name = "apiKey"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "gy_live_<id>_<secret>"}


class InstanceTokenScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """``Authorization: Bearer gy_rep_…``"""

    target_class = "marketplace.http.authentication.InstanceTokenAuthentication"
    name = "instanceToken"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {"type": "http", "scheme": "bearer", "bearerFormat": "gy_rep_<instance>_<secret>"}


class SessionScheme(OpenApiAuthenticationExtension):  # type: ignore[no-untyped-call]
    """The portal's cookie."""

    target_class = "marketplace.http.authentication.SessionAuthentication"
    name = "session"

    def get_security_definition(self, auto_schema: AutoSchema) -> dict[str, Any]:
        return {
            "type": "apiKey",
            "in": "cookie",
            "name": settings.SESSION_COOKIE_NAME,
            "description": "Changes also need the header X-CSRFToken.",
        }
