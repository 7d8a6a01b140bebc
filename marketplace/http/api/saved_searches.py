"""Filters of the catalogue that an organization keeps, and is told about when cards are free."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import get_visible, visible
from marketplace.catalog import saved
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import Flag, NameIn, Shown, Text
from marketplace.http.api.schema import paged
from marketplace.models import SavedSearch


class SavedSearchIn(Body):
    name = NameIn(max_length=80)
    query = Text(
        required=False,
        allow_blank=True,
        max_length=saved.LONGEST,
        help_text="The filters of GET /offers as an address has them: gpus=4&region=eu-central",
    )
    notify = Flag(required=False, help_text="Mail me when one is free, once a day at most")


class SavedSearchOut(Shown):
    id = serializers.CharField()
    name = serializers.CharField()
    query = serializers.CharField()
    notify = serializers.BooleanField()
    told_at = serializers.CharField(allow_null=True, help_text="When a mail was last ordered")
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class SavedSearches(ApiView):
    """Kept filters; with ``notify`` whoever saved them is told when a match becomes free."""

    scopes = {"GET": "rentals:read", "POST": "rentals:write"}
    lists = True

    @extend_schema(responses={200: paged(SavedSearchOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, visible(SavedSearch, self.principal(request)), saved.describe)

    @extend_schema(request=SavedSearchIn, responses={201: SavedSearchOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(SavedSearchIn)
        return self.act(
            request,
            lambda: saved.create(
                acting=principal,
                name=data["name"],
                query=data.get("query", ""),
                notify=data.get("notify", False),
            ),
            lambda made: (201, saved.describe(made)),
        )


class OneSavedSearch(ApiView):
    """One of them; DELETE forgets it."""

    scopes = {"GET": "rentals:read", "DELETE": "rentals:write"}

    @extend_schema(responses={200: SavedSearchOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(saved.describe(get_visible(SavedSearch, self.principal(request), id)))

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: saved.remove(acting=principal, search_id=id), lambda _: (204, None)
        )


urls = [
    path("saved-searches", SavedSearches.as_view()),
    path("saved-searches/<str:id>", OneSavedSearch.as_view()),
]
