"""Templates: curated ones for everybody, an organization's own to make, change and delete."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import stored
from marketplace.catalog import own_templates, templates
from marketplace.catalog.own_templates import TemplateOrder
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import NameIn, PortIn, PortShown, Shown, Text
from marketplace.http.api.schema import paged as pages
from marketplace.http.pinning import pinned

_TEXT = 32 * 1024


class NeedsIn(Body):
    """What a card must have; checked before anybody rents."""

    vendor = serializers.ListField(required=False, child=Text(max_length=40), max_length=20)
    toolkit = Text(required=False, max_length=40)
    min_memory_gib = serializers.IntegerField(required=False, min_value=1, max_value=1_000_000)
    min_cuda = Text(required=False, max_length=8)


class TemplateOut(Shown):
    id = serializers.CharField()
    slug = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField()
    curated = serializers.BooleanField()
    image = serializers.CharField(help_text="As given, and the digest that decides")
    command = serializers.ListField(child=serializers.CharField())
    env = serializers.DictField(
        child=serializers.CharField(),
        allow_null=True,
        help_text="Null when a POST is repeated",
    )
    ports = PortShown(many=True)
    needs = serializers.DictField(help_text="What a card must have; checked before renting")
    registry_credentials = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class TemplateChangeIn(Body):
    """What is left out stays as it is."""

    name = NameIn(required=False, max_length=80)
    description = Text(required=False, allow_blank=True, max_length=500)
    image = Text(required=False, max_length=400, help_text="name:tag or name@sha256:…")
    command = serializers.ListField(required=False, child=Text(allow_blank=True, max_length=_TEXT))
    env = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=_TEXT))
    ports = serializers.ListField(required=False, child=PortIn())
    needs = NeedsIn(required=False)
    registry_credentials = Text(required=False, allow_null=True, max_length=64)


class TemplateIn(TemplateChangeIn):
    name = NameIn(max_length=80)
    slug = Text(required=False, max_length=60, help_text="Made from the name when left out")
    image = Text(max_length=400, help_text="name:tag or name@sha256:…")


class Templates(ApiView):
    """Images that are ready to use, and what they need of a card."""

    public = frozenset({"GET"})
    scopes = {"POST": "rentals:write"}
    lists = True

    @extend_schema(responses={200: pages(TemplateOut)})
    def get(self, request: Request) -> HttpResponse:
        """The curated ones and, for whoever may rent, the organization's own."""
        rows = templates.list_templates(_caller(request))
        return self.page(request, rows, templates.describe, order=("slug", "id"))

    @extend_schema(request=TemplateIn, responses={201: TemplateOut})
    def post(self, request: Request) -> HttpResponse:
        """Make one. An image by tag is resolved to its digest now, and stays that one."""
        principal, claim = self.principal(request), self.claim(request)
        data = self.body(TemplateIn)
        given = _content(data)
        if stored(claim) is None:
            given["image"] = pinned(principal, data["image"], data.get("registry_credentials"))
        order = TemplateOrder(slug=data.get("slug"), **given)
        return self.act(
            request,
            lambda: own_templates.create_template(acting=principal, order=order),
            lambda template: (201, templates.describe(template)),
            # People paste tokens there: no stored answer holds it.
            secret_fields=["env"] if data.get("env") else (),
        )


class OneTemplate(ApiView):
    """One template, by id or slug."""

    public = frozenset({"GET"})
    scopes = {"PATCH": "rentals:write", "DELETE": "rentals:write"}

    @extend_schema(responses={200: TemplateOut})
    def get(self, request: Request, template: str) -> HttpResponse:
        self.filters(request, {})
        found = templates.get_template(_caller(request), template)
        return self.tagged(self.show(templates.describe(found)), found.version)

    @extend_schema(request=TemplateChangeIn, responses={200: TemplateOut})
    def patch(self, request: Request, template: str) -> HttpResponse:
        """Change one's own; an image that is given again by its tag is resolved again."""
        principal, data = self.principal(request), self.body(TemplateChangeIn)
        expected = self.expected_version(request)
        before = own_templates.current(own_templates.own(principal, template))
        changes = _content(data)
        if "image" in data:
            user = data.get("registry_credentials", before.registry_credentials)
            changes["image"] = pinned(principal, data["image"], user)
        return self.change(
            lambda: own_templates.change_template(
                acting=principal, template_id=template, changes=changes, expected_version=expected
            ),
            lambda changed: (200, templates.describe(changed)),
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, template: str) -> HttpResponse:
        """Delete one's own; rentals made from it keep what they were given."""
        principal, expected = self.principal(request), self.expected_version(request)
        return self.change(
            lambda: own_templates.delete_template(
                acting=principal, template_id=template, expected_version=expected
            ),
            lambda _: (204, None),
        )


def _content(data: Mapping[str, Any]) -> dict[str, Any]:
    """The given fields as an order has them."""
    found: dict[str, Any] = {
        name: data[name]
        for name in ("name", "description", "image", "env", "registry_credentials")
        if name in data
    }
    found |= {name: tuple(data[name]) for name in ("command", "ports") if name in data}
    if "needs" in data:
        found["needs"] = dict(data["needs"])
    return found


def _caller(request: Request) -> Principal | None:
    user: Any = request.user
    return user if isinstance(user, Principal) else None


urls = [
    path("templates", Templates.as_view()),
    path("templates/<str:template>", OneTemplate.as_view()),
]
