"""Volumes: make, look, rename, enlarge, delete; the receipt of a deletion."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.errors import InvalidRequest
from marketplace.accounts.access import get_visible
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.catalog import MAX_DISK_GIB
from marketplace.http.api.fields import Later, NameIn, Shown, Text, one_of
from marketplace.http.api.schema import paged as pages
from marketplace.models import Project
from marketplace.rentals.order import label_mistakes
from marketplace.volumes import keep, present


class VolumeIn(Body):
    """Exactly one of datacenter and offer says where; a volume never moves."""

    name = NameIn(max_length=80)
    size_gib = serializers.IntegerField(min_value=1, max_value=MAX_DISK_GIB)
    datacenter = Text(required=False, max_length=64)
    offer = Text(required=False, max_length=64)
    project = Text(required=False, allow_null=True, max_length=64)
    labels = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=128))


class VolumeOut(Shown):
    """A volume. Null: not yet, or not at all."""

    id = serializers.CharField()
    name = serializers.CharField()
    project = serializers.CharField(allow_null=True)
    labels = serializers.DictField(child=serializers.CharField())
    state = serializers.CharField()
    reason = serializers.CharField()
    reason_text = serializers.CharField()
    actions = serializers.ListField(child=serializers.CharField())
    size_gib = serializers.IntegerField(help_text="As asked for")
    bound_gib = serializers.IntegerField(allow_null=True, help_text="As its cluster shows it")
    datacenter = serializers.CharField()
    region = serializers.CharField()
    country = serializers.CharField()
    storage = serializers.CharField(help_text="node or cluster: how far its data reaches")
    on_one_machine = serializers.BooleanField()
    rental = serializers.CharField(allow_null=True, help_text="Whose machine has it now")
    disk_price = serializers.CharField(help_text="Per GiB and month, fixed when it was made")
    per_hour = serializers.CharField(help_text="What it costs now; 0 while it is not there")
    spent = serializers.CharField()
    currency = serializers.CharField()
    bound_at = serializers.CharField(allow_null=True)
    delete_requested_at = serializers.CharField(allow_null=True)
    deleted_at = serializers.CharField(allow_null=True)
    lost_at = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class Volumes(ApiView):
    """The organization's volumes; making one."""

    scopes = {"GET": "rentals:read", "POST": "rentals:write"}
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter("project", str),
            OpenApiParameter("kept", str, enum=["true", "false"], description="Not deleted"),
        ],
        responses={200: pages(VolumeOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        """List volumes, newest first, deleted ones included."""
        principal = self.principal(request)
        given = self.filters(request, {"project": str, "kept": one_of(["true", "false"])})
        rows = present.volumes(principal)
        if "project" in given:
            rows = rows.filter(project=get_visible(Project, principal, given["project"]))
        if "kept" in given:
            rows = rows.filter(removed_at__isnull=given["kept"] == "true")
        return self.page_many(request, rows, present.describe_many)

    @extend_schema(request=VolumeIn, responses={202: VolumeOut})
    def post(self, request: Request) -> HttpResponse:
        """Make a volume. Its cluster creates it afterwards, many at their first use only."""
        principal, data = self.principal(request), self.body(VolumeIn)
        _check_labels(data)
        return self.act(
            request,
            lambda: keep.create(
                acting=principal,
                name=data["name"],
                size_gib=data["size_gib"],
                datacenter_id=data.get("datacenter"),
                offer_id=data.get("offer"),
                project_id=data.get("project"),
                labels=data.get("labels"),
            ),
            lambda volume: (202, present.describe(volume)),
        )


class VolumeChangeIn(Body):
    name = NameIn(required=False, max_length=80)
    labels = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=128))
    size_gib = serializers.IntegerField(required=False, min_value=1, max_value=MAX_DISK_GIB)
    snapshot = Later()
    export = Later()


class OneVolume(ApiView):
    """One volume."""

    scopes = {"GET": "rentals:read", "PATCH": "rentals:write", "DELETE": "rentals:write"}

    @extend_schema(responses={200: VolumeOut})
    def get(self, request: Request, volume_id: str) -> HttpResponse:
        self.filters(request, {})
        volume = present.get(self.principal(request), volume_id)
        return self.tagged(self.show(present.describe(volume)), volume.version)

    @extend_schema(request=VolumeChangeIn, responses={200: VolumeOut})
    def patch(self, request: Request, volume_id: str) -> HttpResponse:
        """Rename, label or enlarge; volumes never shrink."""
        principal, data = self.principal(request), self.body(VolumeChangeIn)
        expected = self.expected_version(request)
        _check_labels(data)
        return self.change(
            lambda: keep.change(
                acting=principal,
                volume_id=volume_id,
                name=data.get("name"),
                labels=data.get("labels"),
                size_gib=data.get("size_gib"),
                expected_version=expected,
            ),
            lambda volume: (200, present.describe(volume)),
        )

    @extend_schema(
        parameters=[
            OpenApiParameter(
                "confirm_token", str, description="From 409 data_loss_confirmation_required"
            )
        ],
        responses={202: VolumeOut},
    )
    def delete(self, request: Request, volume_id: str) -> HttpResponse:
        """Delete with its data. Asks for a confirmation first; repeating it changes nothing."""
        principal, expected = self.principal(request), self.expected_version(request)
        given = self.filters(request, {"confirm_token": str})
        return self.change(
            lambda: keep.remove(
                acting=principal,
                volume_id=volume_id,
                confirm_token=given.get("confirm_token"),
                expected_version=expected,
            ),
            lambda volume: (202, present.describe(volume)),
        )


class ReceiptOut(Shown):
    volume = serializers.CharField()
    at = serializers.CharField()
    content = serializers.DictField(help_text="What was deleted, and which list showed it gone")
    sha256 = serializers.CharField()
    signature = serializers.CharField()
    algorithm = serializers.CharField()
    public_key = serializers.CharField()


class Receipt(ApiView):
    """The proof of a deletion, signed."""

    scopes = {"GET": "rentals:read"}

    @extend_schema(responses={200: ReceiptOut})
    def get(self, request: Request, volume_id: str) -> HttpResponse:
        self.filters(request, {})
        return self.show(present.receipt(self.principal(request), volume_id))


def _check_labels(data: dict[str, Any]) -> None:
    mistakes = label_mistakes(data.get("labels") or {})
    if mistakes:
        raise InvalidRequest({field: [message] for field, message in mistakes})


urls = [
    path("volumes", Volumes.as_view()),
    path("volumes/<str:volume_id>", OneVolume.as_view()),
    path("volumes/<str:volume_id>/receipt", Receipt.as_view()),
]
