"""The log and the metrics of a rental.

A live log is read by the streams process. The answer here then carries X-Accel-Redirect, and the
one origin in front of both (nginx, Caddy) lets the streams process answer the same request: callers
see one address and no redirect. Where nothing in front understands the header,
``stream_url`` in the body is what to ask next.
"""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, OpenApiResponse, extend_schema
from rest_framework import serializers
from rest_framework.negotiation import BaseContentNegotiation
from rest_framework.request import Request

from kernel import sse
from kernel.errors import Refusal
from marketplace.catalog.query import whole
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import Shown, moment, one_of
from marketplace.rentals import metrics, read
from marketplace.rentals.logs import Asked, Handed, log_of
from provisioner.contracts import MOST_LOG_LINES, LogText

_DEFAULT_LINES = 200
_ELSEWHERE = (
    "The machine runs: its log is read by the streams process. If you see this answer, nothing in "
    "front of the platform handed your request on; ask stream_url, which is good for a minute."
)


class LogLineOut(Shown):
    at = serializers.CharField(allow_null=True, help_text="By the host's clock")
    text = serializers.CharField()


class LogOut(Shown):
    """A piece of a machine's log. kind: live, kept (it ended by itself) or none (see detail)."""

    instance = serializers.CharField(allow_null=True)
    kind = serializers.ChoiceField(["live", "kept", "none"])
    previous = serializers.BooleanField()
    items = LogLineOut(many=True)
    truncated = serializers.BooleanField()
    detail = serializers.CharField(allow_null=True)
    taken_at = serializers.CharField(allow_null=True)
    stream_url = serializers.CharField(allow_null=True)


class AnyAccept(BaseContentNegotiation):
    """EventSource accepts event streams only, and gets one; nobody is refused for its Accept."""

    def select_parser(self, request: Request, parsers: Any) -> Any:
        return parsers[0]

    def select_renderer(
        self, request: Request, renderers: Any, format_suffix: str | None = None
    ) -> Any:
        return renderers[0], renderers[0].media_type


class RentalLogs(ApiView):
    """What the program writes, as it grows or its end; what it wrote last before it ended."""

    scopes = {"GET": "rentals:read"}
    content_negotiation_class = AnyAccept

    @extend_schema(
        parameters=[
            OpenApiParameter("tail", int, description=f"Last lines, at most {MOST_LOG_LINES}"),
            OpenApiParameter("follow", str, enum=["true", "false"]),
            OpenApiParameter("previous", str, enum=["true", "false"]),
            OpenApiParameter("instance", str, description="An earlier machine of this rental"),
            OpenApiParameter("Last-Event-ID", str, OpenApiParameter.HEADER),
        ],
        responses={
            (200, "application/json"): LogOut,
            (200, "text/event-stream"): OpenApiResponse(str, "With follow=true"),
        },
    )
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        """The last lines as JSON; with ``follow=true`` an event stream that resumes by
        Last-Event-ID, with events ``notice`` and ``end`` beside the lines."""
        given = self.filters(
            request,
            {
                "tail": whole(0, MOST_LOG_LINES),
                "follow": one_of(["true", "false"]),
                "previous": one_of(["true", "false"]),
                "instance": str,
            },
        )
        asked = Asked(
            tail=given.get("tail", _DEFAULT_LINES),
            instance=given.get("instance"),
            previous=given.get("previous") == "true",
            follow=given.get("follow") == "true",
        )
        if asked.follow and asked.previous:
            raise Refusal(
                "invalid_filter",
                "A run that is over cannot be followed. Leave out follow or previous.",
                filter="previous",
            )
        found = log_of(read.get(self.principal(request), rental_id), asked)
        if isinstance(found, Handed):
            return self._hand_over(found)
        return _as_stream(found) if asked.follow else self._document(found.document())

    def _hand_over(self, handed: Handed) -> HttpResponse:
        empty = LogText(handed.instance_id, "live", detail=_ELSEWHERE)
        response = self._document({**empty.document(), "stream_url": handed.address})
        response["X-Accel-Redirect"] = handed.address
        return response

    def _document(self, document: dict[str, Any]) -> HttpResponse:
        response = self.show(document)
        response["Cache-Control"] = "no-store"
        return response


def _as_stream(log: LogText) -> HttpResponse:
    """A log that will not grow, in the form of one that ended: the same client reads both."""
    parts = [sse.event({"at": line.at, "text": line.text}) for line in log.lines]
    if log.detail is not None:
        parts.append(sse.event({"code": "none", "text": log.detail}, kind="notice"))
    parts.append(sse.event({"code": "ended"}, kind="end"))
    response = HttpResponse(b"".join(parts), content_type=sse.CONTENT_TYPE)
    response["Cache-Control"] = "no-store"
    return response


class ReportedSeries(Shown):
    """One metric of one device (null: of the machine) as [Unix seconds, value or null]."""

    metric = serializers.CharField(
        help_text="gpu_percent, memory_used_bytes, memory_total_bytes, temperature_c; "
        "disk_used_bytes, disk_total_bytes"
    )
    device = serializers.IntegerField(allow_null=True)
    device_id = serializers.CharField(allow_null=True)
    values = serializers.ListField(
        child=serializers.ListField(child=serializers.FloatField(allow_null=True))
    )


class Reported(Shown):
    """Averages over ``step`` seconds; null: nothing was reported then."""

    since = serializers.CharField()
    until = serializers.CharField()
    step = serializers.IntegerField()
    series = ReportedSeries(many=True)


class MetricsOut(Shown):
    """What the platform measured (series, totals) and what the machine told (reported)."""

    rental = serializers.CharField()
    totals = serializers.DictField()
    series = serializers.DictField()
    reported = Reported()


class RentalMetrics(ApiView):
    """States, proven-ready and charged seconds, restarts; GPU, memory, temperature and disk as the
    machine reports them."""

    scopes = {"GET": "rentals:read"}

    @extend_schema(
        parameters=[
            OpenApiParameter("since", str, description="RFC 3339; an hour ago if left out"),
            OpenApiParameter("until", str, description="RFC 3339; now if left out"),
            OpenApiParameter(
                "step",
                int,
                description="Seconds between points, at least 30; more where the time asked for is "
                "kept coarser or would give more than 720 points",
            ),
        ],
        responses={200: MetricsOut},
    )
    def get(self, request: Request, rental_id: str) -> HttpResponse:
        """The series; since, until and step are about what the machine reported."""
        given = self.filters(
            request, {"since": moment, "until": moment, "step": whole(30, 24 * 3600)}
        )
        return self.show(metrics.series(read.get(self.principal(request), rental_id), **given))


urls = [
    path("rentals/<str:rental_id>/logs", RentalLogs.as_view()),
    path("rentals/<str:rental_id>/metrics", RentalMetrics.as_view()),
]
