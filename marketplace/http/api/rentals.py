"""Rentals: rent, look, wait, change, act. Their events and charges are in history.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from marketplace.accounts.access import get_visible
from marketplace.accounts.idempotency import stored
from marketplace.catalog.query import whole
from marketplace.http.api import history, logs
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.catalog import MAX_DISK_GIB, requirement
from marketplace.http.api.fields import (
    Flag,
    NameIn,
    PortIn,
    PortShown,
    Shown,
    Text,
    moment,
    one_of,
)
from marketplace.http.api.schema import paged as pages
from marketplace.http.pinning import pin_order
from marketplace.models import Project
from marketplace.rentals import edit, read, start, stop
from marketplace.rentals.act import Asked, act
from marketplace.rentals.order import LEAST_IDLE, MOST_IDLE, RentOrder
from marketplace.rentals.present import describe, describe_many
from marketplace.rentals.state import LEGAL, STATES
from marketplace.volumes.mounts import VolumeOrder

_TEXT = 32 * 1024
_IDLE = "Stop it when all its GPUs did nothing for so long; null: never"


class QueueIn(Body):
    """Wait for cards for so long at most when none are free: a minute to a week."""

    deadline_seconds = serializers.IntegerField(min_value=60, max_value=7 * 24 * 3600)


class MountIn(Body):
    """Exactly one of volume (an id) and size_gib (a new volume where the cards are)."""

    mount = Text(max_length=400, help_text="Where in the machine, such as /data")
    volume = Text(required=False, max_length=64)
    size_gib = serializers.IntegerField(required=False, min_value=1, max_value=MAX_DISK_GIB)
    name = NameIn(required=False, max_length=80)
    # A field of that name, which the base class's own attribute of it does not meet.
    read_only = Flag(required=False)  # type: ignore[assignment]


class RentIn(Body):
    """Exactly one of quote and requirement, of template and image, and of the three ends."""

    quote = Text(required=False, max_length=64)
    requirement = serializers.JSONField(required=False, help_text="The filters of GET /offers")
    disk_gib = serializers.IntegerField(required=False, min_value=1, max_value=MAX_DISK_GIB)
    interruptible = Flag(required=False, help_text="Cheaper; ends after a notice when needed")
    name = NameIn(required=False, max_length=80)
    project = Text(required=False, allow_null=True, max_length=64)
    labels = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=128))
    template = Text(required=False, max_length=64)
    image = Text(required=False, max_length=400, help_text="name:tag or name@sha256:…")
    command = serializers.ListField(required=False, child=Text(allow_blank=True, max_length=_TEXT))
    env = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=_TEXT))
    secrets = serializers.DictField(
        required=False, child=Text(max_length=64), help_text='{"HF_TOKEN": "sec_…"}'
    )
    registry_credentials = Text(required=False, allow_null=True, max_length=64)
    ports = serializers.ListField(required=False, child=PortIn())
    ssh_keys = serializers.ListField(required=False, child=Text(max_length=8192))
    ssh = Flag(required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    max_hours = serializers.DecimalField(
        required=False, allow_null=True, max_digits=9, decimal_places=4
    )
    no_limit = Flag(required=False)
    volumes = serializers.ListField(
        required=False,
        child=MountIn(),
        help_text="Volumes to mount: an existing one, or size_gib for a new one",
    )
    idle_stop_minutes = serializers.IntegerField(
        required=False, allow_null=True, help_text=_IDLE, min_value=LEAST_IDLE, max_value=MOST_IDLE
    )
    queue = QueueIn(required=False, allow_null=True)
    failover = Flag(required=False)


class Continuing(Shown):
    per_hour = serializers.CharField()
    currency = serializers.CharField()
    items = serializers.ListField(child=serializers.DictField())


class AccessPort(PortShown):
    url = serializers.CharField(
        allow_null=True, help_text="https://, or tcp:// with a number; null: it cannot be reached"
    )
    state = serializers.CharField(
        allow_null=True, help_text="open or closed, as the machine told last; null: it did not"
    )


class Access(Shown):
    ssh = serializers.DictField(allow_null=True)
    ports = AccessPort(many=True)
    jupyter = serializers.DictField(allow_null=True)
    terminal = serializers.DictField(
        allow_null=True, help_text="A page of the portal, url, while the machine can be entered"
    )


class MountOut(Shown):
    volume = serializers.CharField()
    name = serializers.CharField()
    mount = serializers.CharField()
    read_only = serializers.BooleanField()  # type: ignore[assignment]  # as above
    size_gib = serializers.IntegerField()
    per_hour = serializers.CharField(help_text="What the volume costs now, running or stopped")


class RentalOut(Shown):
    """A rental. Null: not known, not measured, or not there yet."""

    id = serializers.CharField()
    name = serializers.CharField()
    project = serializers.CharField(allow_null=True)
    labels = serializers.DictField(child=serializers.CharField())
    state = serializers.ChoiceField(sorted(STATES))
    state_since = serializers.CharField()
    reason = serializers.CharField()
    reason_text = serializers.CharField()
    fault = serializers.CharField(allow_null=True)
    desired_state = serializers.CharField()
    actions = serializers.ListField(child=serializers.CharField())
    offer = serializers.CharField()
    quote = serializers.CharField(allow_null=True)
    accelerator = serializers.CharField()
    gpus = serializers.IntegerField()
    disk_gib = serializers.IntegerField()
    volumes = MountOut(many=True)
    region = serializers.CharField()
    country = serializers.CharField()
    datacenter = serializers.CharField()
    ownership = serializers.CharField()
    template = serializers.CharField(allow_null=True)
    image = serializers.CharField(help_text="As given, and the digest that decides")
    secrets = serializers.DictField(child=serializers.CharField(), help_text="Ids, by variable")
    registry_credentials = serializers.CharField(allow_null=True)
    price = serializers.CharField(help_text="Per hour, for all GPUs")
    price_per_gpu_hour = serializers.CharField()
    currency = serializers.CharField()
    spent = serializers.CharField()
    continuing_charges = Continuing()
    funds_end_at = serializers.CharField(allow_null=True)
    restart_forecast = serializers.DictField(allow_null=True)
    queue = serializers.DictField(allow_null=True)
    lock = serializers.BooleanField()
    failover = serializers.BooleanField()
    idle_stop_minutes = serializers.IntegerField(allow_null=True)
    interruptible = serializers.BooleanField()
    interrupt_at = serializers.CharField(allow_null=True)
    pull_progress = serializers.FloatField(allow_null=True)
    ssh = serializers.BooleanField()
    ssh_keys = serializers.ListField(child=serializers.CharField())
    access = Access()
    instance = serializers.CharField(allow_null=True)
    ready_at = serializers.CharField(allow_null=True)
    expires_at = serializers.CharField(allow_null=True)
    contract_ends_at = serializers.CharField(allow_null=True)
    maintenance_at = serializers.CharField(allow_null=True)
    stop_ack_at = serializers.CharField(allow_null=True)
    ended_at = serializers.CharField(allow_null=True)
    created_at = serializers.CharField()
    version = serializers.IntegerField()


class Rentals(ApiView):
    """The organization's rentals; renting."""

    scopes = {"GET": "rentals:read", "POST": "rentals:write"}
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter("state", str, enum=sorted(STATES)),
            OpenApiParameter("project", str),
            OpenApiParameter("label", str, many=True, description="key or key=value; all must fit"),
            OpenApiParameter("created_after", str, description="RFC 3339"),
        ],
        responses={200: pages(RentalOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        """List rentals, newest first."""
        principal = self.principal(request)
        given = self.filters(
            request,
            {
                "state": one_of(sorted(STATES)),
                "project": str,
                "label": _label,
                "created_after": moment,
            },
            repeatable=("label",),
        )
        rows = read.rentals(principal)
        if "state" in given:
            rows = rows.filter(state=given["state"])
        if "project" in given:
            rows = rows.filter(project=get_visible(Project, principal, given["project"]))
        for condition in given.get("label", []):
            rows = rows.filter(**condition)
        if "created_after" in given:
            rows = rows.filter(created_at__gt=given["created_after"])
        return self.page_many(request, rows, describe_many)

    @extend_schema(request=RentIn, responses={202: RentalOut})
    def post(self, request: Request) -> HttpResponse:
        """Rent. The answer comes once cards and money are reserved; the machine follows.

        An image by tag is resolved to its digest first: that is what runs, here and in restarts.
        """
        principal, claim = self.principal(request), self.claim(request)
        order = _order(self.body(RentIn))
        if stored(claim) is None:
            order = pin_order(principal, order)
        rendered = start.rent(
            acting=principal, order=order, claim=claim, render=lambda made: (202, describe(made))
        )
        return self.answer(rendered)


def _order(data: Mapping[str, Any]) -> RentOrder:
    may = data.get("interruptible")
    asked = requirement(data["requirement"], may) if "requirement" in data else None
    return RentOrder(
        quote_id=data.get("quote"),
        requirement=asked,
        interruptible=may,
        name=data.get("name", ""),
        project=data.get("project"),
        labels=data.get("labels", {}),
        template=data.get("template"),
        image=data.get("image"),
        command=tuple(data["command"]) if "command" in data else None,
        env=data.get("env", {}),
        secrets=data.get("secrets", {}),
        registry_credentials=data.get("registry_credentials"),
        ports=tuple(data.get("ports", ())),
        ssh_keys=tuple(data.get("ssh_keys", ())),
        ssh=data.get("ssh", True),
        expires_at=data.get("expires_at"),
        max_hours=data.get("max_hours"),
        no_limit=data.get("no_limit", False),
        disk_gib=data.get("disk_gib"),
        volumes=tuple(VolumeOrder(**item) for item in data.get("volumes", ())),
        queue_seconds=_queue(data),
        failover=data.get("failover", False),
        idle_stop_minutes=data.get("idle_stop_minutes"),
    )


def _queue(data: Mapping[str, Any]) -> int | None:
    given = data.get("queue")
    return None if given is None else int(given["deadline_seconds"])


class ChangeIn(Body):
    name = NameIn(required=False, max_length=80)
    labels = serializers.DictField(required=False, child=Text(allow_blank=True, max_length=128))
    expires_at = serializers.DateTimeField(required=False)
    ssh_keys = serializers.ListField(required=False, child=Text(max_length=8192))
    ports = serializers.ListField(required=False, child=PortIn())
    idle_stop_minutes = serializers.IntegerField(
        required=False, allow_null=True, help_text=_IDLE, min_value=LEAST_IDLE, max_value=MOST_IDLE
    )
    lock = Flag(required=False)


class OneRental(ApiView):
    """One rental."""

    scopes = {"GET": "rentals:read", "PATCH": "rentals:write", "DELETE": "rentals:write"}

    @extend_schema(
        parameters=[
            OpenApiParameter("wait_state", str, enum=sorted(STATES)),
            OpenApiParameter("timeout", int, description="Seconds to wait, at most 60"),
        ],
        responses={200: RentalOut},
    )
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        """Read it; with ``wait_state`` as soon as it is in that state, or can never be."""
        principal = self.principal(request)
        given = self.filters(
            request,
            {"wait_state": one_of(sorted(STATES)), "timeout": whole(0, read.MAX_WAIT)},
        )
        if "wait_state" in given:
            timeout = given.get("timeout", read.MAX_WAIT // 2)
            rental = read.wait_for(principal, rental_id, given["wait_state"], timeout)
        else:
            rental = read.get(principal, rental_id)
        return self.tagged(self.show(describe(rental)), rental.version)

    @extend_schema(request=ChangeIn, responses={200: RentalOut})
    def patch(self, request: Request, rental_id: str) -> HttpResponse:
        """Change name, labels, SSH keys, ports, end date, idle stop or lock."""
        principal, data = self.principal(request), self.body(ChangeIn)
        expected = self.expected_version(request)
        return self.change(
            lambda: edit.change(
                acting=principal,
                rental_id=rental_id,
                name=data.get("name"),
                labels=data.get("labels"),
                expires_at=data.get("expires_at"),
                idle_stop_minutes=data.get("idle_stop_minutes", edit.UNSET),
                lock=data.get("lock"),
                keys=data.get("ssh_keys"),
                given_ports=data.get("ports"),
                expected_version=expected,
            ),
            lambda rental: (200, describe(rental)),
        )

    @extend_schema(responses={202: RentalOut})
    def delete(self, request: Request, rental_id: str) -> HttpResponse:
        """Terminate. The meter stops at this request; repeating it changes nothing."""
        principal, expected = self.principal(request), self.expected_version(request)
        return self.change(
            lambda: stop.terminate(
                acting=principal, rental_id=rental_id, expected_version=expected
            ),
            lambda rental: (202, describe(rental)),
        )


class ActionIn(Body):
    """The action; extend takes one of the ends, start and retry a queue."""

    action = serializers.ChoiceField(sorted(LEGAL))
    expires_at = serializers.DateTimeField(required=False)
    hours = serializers.DecimalField(required=False, max_digits=9, decimal_places=4)
    queue = QueueIn(required=False, allow_null=True)


class Actions(ApiView):
    """Act on a rental; ``actions`` of the rental names what is possible now."""

    scopes = {"POST": "rentals:write"}

    @extend_schema(request=ActionIn, responses={202: RentalOut})
    def post(self, request: Request, rental_id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(ActionIn)
        expected = self.expected_version(request)
        return self.act(
            request,
            lambda: act(
                acting=principal,
                rental_id=rental_id,
                asked=Asked(
                    action=data["action"],
                    expires_at=data.get("expires_at"),
                    hours=data.get("hours"),
                    queue_seconds=_queue(data),
                ),
                expected_version=expected,
            ),
            lambda rental: (202, describe(rental)),
        )


def _label(text: str) -> dict[str, Any]:
    key, equals, value = text.partition("=")
    if not key:
        raise ValueError("must be key or key=value")
    return {"labels__contains": {key: value}} if equals else {"labels__has_key": key}


urls = [
    path("rentals", Rentals.as_view()),
    path("rentals/<str:rental_id>", OneRental.as_view()),
    path("rentals/<str:rental_id>/actions", Actions.as_view()),
    *history.urls,
    *logs.urls,
]
