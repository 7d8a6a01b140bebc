"""Reports from the machines themselves: what the reporter in a pod posts every 15 seconds.

The tenant is root in that pod. The token opens this operation and no other, everything in the body
is bounded, and nothing in it decides about money (docs/trust.md).
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any, Final

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotAuthenticated
from rest_framework.request import Request

from marketplace.http import ratelimit
from marketplace.http.api.base import ApiView, Body, StrictJsonParser
from marketplace.http.api.fields import Shown, Text
from marketplace.http.authentication import InstanceTokenAuthentication
from marketplace.http.problems import rate_limited
from provisioner.contracts.reports import (
    MOST_DEVICES,
    MOST_LISTENING,
    REPORT_SECONDS,
    DeviceReport,
    DiskReport,
    InstanceReport,
    Reporting,
)
from provisioner.facade import reports

# A petabyte: more than any card or disk has, and little enough to add up many in 64 bits.
_MOST_BYTES: Final = 2**50
_NAME: Final = re.compile(r"[!-~]{1,64}")
# A pod's clock may be far off, yet a date outside these is no clock's.
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)


class _Number(serializers.Field):  # type: ignore[type-arg]
    """A JSON number in bounds: no text, no boolean."""

    kinds: tuple[type, ...] = (int, float)

    def __init__(self, least: float, most: float, **options: Any) -> None:
        super().__init__(**options)
        self._least, self._most = least, most

    def to_internal_value(self, data: Any) -> Any:
        known = isinstance(data, self.kinds) and not isinstance(data, bool)
        if not known or not self._least <= data <= self._most:
            raise serializers.ValidationError(f"a number from {self._least} to {self._most}")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "number"})
class Number(_Number):
    pass


@extend_schema_field({"type": "integer", "minimum": 0, "maximum": _MOST_BYTES})
class Bytes(_Number):
    kinds = (int,)

    def __init__(self, **options: Any) -> None:
        super().__init__(0, _MOST_BYTES, **options)


@extend_schema_field({"type": "integer", "minimum": 1, "maximum": 65535})
class PortNumber(_Number):
    kinds = (int,)

    def __init__(self, **options: Any) -> None:
        super().__init__(1, 65535, **options)


class DeviceIn(Body):
    """One card. Null: not measured."""

    id = Text(max_length=64, help_text="The card's own id, such as GPU-5f0c…")
    gpu_percent = Number(0, 100, allow_null=True)
    memory_used_bytes = Bytes(allow_null=True)
    memory_total_bytes = Bytes(allow_null=True)
    temperature_c = Number(-100, 200, required=False, allow_null=True)

    def validate_id(self, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise serializers.ValidationError("1 to 64 printable ASCII characters, no space")
        return value


class DiskIn(Body):
    used_bytes = Bytes()
    total_bytes = Bytes()


class ReportIn(Body):
    """What a machine tells of itself."""

    at = serializers.DateTimeField(help_text="By the machine's clock; kept as evidence only")
    devices = serializers.ListField(child=DeviceIn(), max_length=MOST_DEVICES)
    ssh = serializers.ChoiceField(["up", "down"], required=False, allow_null=True)
    disk = DiskIn(required=False, allow_null=True)
    boot = Text(
        required=False, max_length=64, help_text="Another value with each start of the program"
    )
    ports = serializers.ListField(
        child=PortNumber(),
        required=False,
        max_length=MOST_LISTENING,
        help_text="TCP ports at which something listens, in ascending order",
    )

    def validate_ports(self, value: list[int]) -> list[int]:
        if value != sorted(set(value)):
            raise serializers.ValidationError("each once, in ascending order")
        return value

    def validate_at(self, value: datetime) -> datetime:
        if not _FIRST <= value < _LAST:
            raise serializers.ValidationError("a time from 1970 to 2099")
        return value

    def validate_boot(self, value: str) -> str:
        if not _NAME.fullmatch(value):
            raise serializers.ValidationError("1 to 64 printable ASCII characters, no space")
        return value

    def validate_devices(self, value: list[dict[str, Any]]) -> list[dict[str, Any]]:
        if len({one["id"] for one in value}) < len(value):
            raise serializers.ValidationError("each card once")
        return value


class ReportOut(Shown):
    next_s = serializers.IntegerField(help_text="Seconds until the next report is due")


class SmallJsonParser(StrictJsonParser):
    """64 cards with every figure fit in twice over."""

    most_bytes = 32 * 1024


class InstanceReports(ApiView):
    """Reports from machines, with the token that is in the machine's own secret."""

    authentication_classes = (InstanceTokenAuthentication,)
    parser_classes = (SmallJsonParser,)
    keyed = False

    def check_permissions(self, request: Request) -> None:
        self._reporting(request)

    def check_throttles(self, request: Request) -> None:
        """A bucket per machine: a whole cluster's machines may share one address."""
        wait = ratelimit.requests.take(f"report:{self._reporting(request).instance_id}")
        if wait:
            raise rate_limited(wait)

    @extend_schema(request=ReportIn, responses={200: ReportOut})
    def post(self, request: Request) -> HttpResponse:
        """Report GPU, memory, disk and SSH of the machine. Every 15 s; faster than every 5 s is
        429."""
        report = _report(self.body(ReportIn))
        wait = reports.take(reporting=self._reporting(request), report=report)
        if wait:
            raise rate_limited(wait)
        return self.show({"next_s": REPORT_SECONDS})

    def _reporting(self, request: Request) -> Reporting:
        caller: Any = request.user
        if not isinstance(caller, Reporting):
            raise NotAuthenticated
        return caller


def _report(data: dict[str, Any]) -> InstanceReport:
    disk = data.get("disk")
    return InstanceReport(
        at=data["at"],
        devices=[DeviceReport(**one) for one in data["devices"]],
        ssh=data.get("ssh"),
        disk=None if disk is None else DiskReport(**disk),
        boot=data.get("boot", ""),
        ports=data.get("ports"),
    )


urls = [path("instance-reports", InstanceReports.as_view())]
