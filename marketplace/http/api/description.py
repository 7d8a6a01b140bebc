"""GET /openapi.json: the OpenAPI 3.1 file of every operation, made once per process."""

from __future__ import annotations

from functools import cache

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.generators import SchemaGenerator
from drf_spectacular.renderers import OpenApiJsonRenderer
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework.request import Request

from marketplace.http.api.base import ApiView


@cache
def document() -> bytes:
    """The file's bytes; building it takes about a second, and it changes with the code only."""
    generator = SchemaGenerator()  # type: ignore[no-untyped-call]
    schema = generator.get_schema(request=None, public=True)  # type: ignore[no-untyped-call]
    rendered: bytes = OpenApiJsonRenderer().render(schema, renderer_context={})
    return rendered


class Description(ApiView):
    """This file."""

    public = True

    @extend_schema(responses={200: OpenApiTypes.OBJECT})
    def get(self, request: Request) -> HttpResponse:
        return HttpResponse(document(), content_type="application/json")


urls = [path("openapi.json", Description.as_view())]
