"""What use cost: per rental so far, summed over a window, and as files for accountants."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from django.http import HttpResponse, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing import facade as billing
from billing.contracts.usage import CostTotal
from kernel.clock import now
from kernel.errors import Refusal
from kernel.money import CURRENCY
from kernel.sheet import Cell, lines
from marketplace.accounts.access import visible
from marketplace.http.api.base import ApiView
from marketplace.http.api.fields import MoneyOut, Shown, moment, one_of, parse_id, shown
from marketplace.http.api.paging import keyset_page
from marketplace.http.api.schema import paged
from marketplace.models import Organization, Rental, Volume
from marketplace.rentals import costs, focus
from marketplace.volumes import present as volumes

Table = Callable[[Organization, datetime, datetime], Iterator[list[Cell]]]

_GROUPS = ["rental", "project", "accelerator", "day", "volume"]
_FIRST = datetime(2020, 1, 1, tzinfo=UTC)
_WINDOW = [
    OpenApiParameter(
        "from", str, description="RFC 3339, or a day (UTC); from the beginning without it"
    ),
    OpenApiParameter("to", str, description="RFC 3339, or a day (UTC), exclusive; now without it"),
]


def edge(text: str) -> datetime:
    """Reads an end of a window: a time with its zone, or a day, which begins at midnight UTC."""
    try:
        day = parse_date(text) if len(text) == 10 else None
    except ValueError:
        day = None
    return datetime(day.year, day.month, day.day, tzinfo=UTC) if day else moment(text)


class UsageOut(Shown):
    """One rental; or, with group_by, one group: then ``key`` names it and the sums are given."""

    rental = serializers.CharField(required=False)
    volume = serializers.CharField(required=False)
    size_gib = serializers.IntegerField(required=False)
    name = serializers.CharField(required=False)
    project = serializers.CharField(allow_null=True, required=False)
    accelerator = serializers.CharField(required=False)
    gpus = serializers.IntegerField(required=False)
    state = serializers.CharField(required=False)
    spent = MoneyOut(required=False)
    currency = serializers.CharField()
    key = serializers.CharField(allow_null=True, required=False)
    gpu_seconds = serializers.IntegerField(required=False)
    usage = MoneyOut(required=False)
    credits = MoneyOut(required=False)
    tax = MoneyOut(required=False)
    total = MoneyOut(required=False)


class Usage(ApiView):
    """What each rental cost so far, newest rental first; only settled seconds are counted.

    With ``group_by`` the costs of a window, summed: use, credits and adjustments, tax. Use counts
    by when it began, all else by when it was posted; ``key`` is null for what belongs to no group.
    ``group_by=volume`` lists what each volume cost so far, deleted ones included.
    """

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter("project", str),
            OpenApiParameter("rental", str),
            OpenApiParameter("group_by", str, enum=_GROUPS),
            *_WINDOW,
        ],
        responses={200: paged(UsageOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(
            request,
            {
                "project": parse_id("project"),
                "rental": parse_id("rental"),
                "group_by": one_of(_GROUPS),
                "from": edge,
                "to": edge,
            },
        )
        if wanted.get("group_by") == "volume":
            return self._volumes(request, wanted)
        if "group_by" in wanted:
            return self._grouped(request, wanted)
        return self._rentals(request, wanted)

    def _rentals(self, request: Request, wanted: dict[str, Any]) -> HttpResponse:
        for name in ("from", "to"):
            if name in wanted:
                raise _only("group_by", name)
        cursor, limit = self.paging(request)
        rows = visible(Rental, self.principal(request)).select_related("project")
        if "project" in wanted:
            rows = rows.filter(project_id__in=[wanted["project"]])
        if "rental" in wanted:
            rows = rows.filter(id__in=[wanted["rental"]])
        page, following = keyset_page(rows, order=("-id",), cursor=cursor, limit=limit)
        spent = billing.spent(rental_refs=[rental.id for rental in page])
        items = [_usage(rental, spent.get(rental.id, 0)) for rental in page]
        return self.show({"items": items, "next_cursor": following})

    def _volumes(self, request: Request, wanted: dict[str, Any]) -> HttpResponse:
        for name in ("project", "rental", "from", "to"):
            if name in wanted:
                raise _only("another group_by", name)
        return self.page_many(request, volumes.volumes(self.principal(request)), _disks)

    def _grouped(self, request: Request, wanted: dict[str, Any]) -> HttpResponse:
        for name in ("project", "rental"):
            if name in wanted:
                raise _only("the list without group_by", name)
        sums = costs.totals(
            self.principal(request).org,
            wanted.get("from", _FIRST),
            wanted.get("to") or now(),
            wanted["group_by"],
        )
        return self.page_of(request, sums, _sums, key=lambda one: one.key or "~")


def _disks(rows: Sequence[Volume]) -> list[dict[str, Any]]:
    names = ("name", "project", "size_gib", "state", "spent", "currency")
    return [
        {"volume": shown["id"], **{name: shown[name] for name in names}}
        for shown in volumes.describe_many(rows)
    ]


class _Export(ApiView):
    """A window's costs as a CSV file, streamed: one row per usage line, credit and adjustment.

    Amounts are exact to the micro-unit and add up to what the ledger took. Text that a spreadsheet
    would run as a formula begins with an apostrophe.
    """

    scopes = {"GET": "billing:read"}
    table: Table
    filename: str

    @extend_schema(parameters=_WINDOW, responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request) -> HttpResponseBase:
        wanted = self.filters(request, {"from": edge, "to": edge})
        rows = type(self).table(
            self.principal(request).org, wanted.get("from", _FIRST), wanted.get("to") or now()
        )
        return csv_file(rows, self.filename)


class UsageCsv(_Export):
    table = staticmethod(costs.table)
    filename = "usage.csv"


class UsageFocus(_Export):
    __doc__ = f"FOCUS {focus.VERSION} columns. {_Export.__doc__}"
    table = staticmethod(focus.table)
    filename = "usage-focus.csv"


def csv_file(rows: Iterable[Iterable[Cell]], name: str) -> StreamingHttpResponse:
    """A CSV to save, made while it is sent and kept by no cache."""
    answer = StreamingHttpResponse(lines(rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}"'
    answer["Cache-Control"] = "no-store"
    return answer


def _only(where: str, name: str) -> Refusal:
    return Refusal("invalid_filter", f'The filter "{name}" goes with {where}.', filter=name)


def _sums(one: CostTotal) -> Any:
    return shown(UsageOut)(
        {
            "key": one.key,
            "gpu_seconds": one.gpu_seconds,
            "usage": one.usage_micro,
            "credits": one.credit_micro,
            "tax": one.tax_micro,
            "total": one.usage_micro + one.credit_micro + one.tax_micro,
            "currency": CURRENCY,
        }
    )


def _usage(rental: Rental, spent_micro: int) -> Any:
    return UsageOut(
        {
            "rental": rental.public_id,
            "name": rental.name,
            "project": rental.project.public_id if rental.project else None,
            "accelerator": rental.accelerator,
            "gpus": rental.gpus,
            "state": rental.state,
            "spent": spent_micro,
            "currency": rental.currency,
        }
    ).data


urls = [
    path("billing/usage", Usage.as_view()),
    path("billing/usage/export.csv", UsageCsv.as_view()),
    path("billing/usage/focus.csv", UsageFocus.as_view()),
]
