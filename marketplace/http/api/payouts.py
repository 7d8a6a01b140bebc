"""A provider's money: earnings, payout account, payouts, statements. Runs: payout_runs.py."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing import facade
from billing.contracts.meters import MeterKind
from billing.contracts.payouts import (
    AccountState,
    LineState,
    PayoutView,
    StatementView,
)
from billing.facade import payouts as billing
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound
from kernel.money import format_micro
from kernel.sheet import Cell, lines
from marketplace.http import reauth
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyOut, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.http.api.secrets import WriteOnlyView
from marketplace.providers import onboard, payouts
from marketplace.providers.earned import By, earned

# A day's row per card type: a year of them is a long page, and enough for any chart.
_LONGEST = timedelta(days=366)
_USUAL = timedelta(days=30)
_DEAR = 10.0


class EarningsDayOut(Shown):
    day = serializers.DateField()
    kind = serializers.ChoiceField([kind.value for kind in MeterKind])
    accelerator = serializers.CharField()
    unit_seconds = serializers.IntegerField(help_text="Of GPUs; of GiB for disks")
    share = MoneyOut(source="share_micro")


class EarnedRowOut(Shown):
    """Null: not asked for, or of no card: disks, and what no known card explains."""

    day = serializers.DateField(allow_null=True)
    kind = serializers.ChoiceField([kind.value for kind in MeterKind])
    offer = IdOut("offer", source="offer_id", allow_null=True)
    accelerator = serializers.CharField(allow_null=True)
    cluster = IdOut("cluster", source="cluster_id", allow_null=True)
    node = IdOut("node", source="node_id", allow_null=True)
    node_name = serializers.CharField(allow_null=True)
    slot = IdOut("slot", source="slot_id", allow_null=True)
    number = serializers.IntegerField(allow_null=True, help_text="The card's seat on its node")
    unit_seconds = serializers.IntegerField(help_text="Proven, of GPUs; of GiB for disks")
    there_seconds = serializers.IntegerField(
        allow_null=True, help_text="In which the cards were there to be rented"
    )
    occupancy = serializers.CharField(allow_null=True, help_text="0 to 1, the first by the second")
    share = MoneyOut(source="share_micro")


class EarningsOut(Shown):
    """``pending`` matures, ``on_review`` is the part of it from renters whose first payment has
    not settled, ``due`` waits for a payout, ``reserve`` is the part of it kept back in the first
    ninety days, ``in_transfer`` is on its way to Stripe, ``paid`` was sent."""

    currency = serializers.CharField()
    pending = MoneyOut(source="pending_micro")
    on_review = MoneyOut(source="on_review_micro")
    due = MoneyOut(source="due_micro")
    reserve = MoneyOut(source="reserve_micro")
    in_transfer = MoneyOut(source="clearing_micro")
    paid = MoneyOut(source="paid_micro")
    next_run_at = serializers.DateTimeField()
    next_payout = MoneyOut(source="next_micro")
    blocked_by = serializers.ListField(child=serializers.CharField())
    days = EarningsDayOut(many=True)
    rows = EarnedRowOut(many=True, allow_null=True, help_text="As group_by says; null without it")


class Earnings(ApiView):
    """The provider's share of what its cards earned: how far it is on its way, and per day (UTC)
    and card type for ``from`` to ``to``, the last thirty days unless given.

    ``group_by``: ``day``, ``gpu`` or ``offer``, or ``gpu,day`` and ``offer,day`` for both at once.
    The shares of ``rows`` add up to those of ``days``, to the micro-unit."""

    scopes = {"GET": "provider:read"}

    @extend_schema(
        parameters=[
            OpenApiParameter("from", date),
            OpenApiParameter("to", date),
            OpenApiParameter("group_by", str, description="day, gpu, offer; gpu,day; offer,day"),
        ],
        responses={200: EarningsOut},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(request, {"from": _day, "to": _day, "group_by": _by})
        provider = onboard.own_provider(self.principal(request))
        to_at = wanted["to"] + timedelta(days=1) if "to" in wanted else now()
        from_at = wanted.get("from", to_at - _USUAL)
        if not timedelta(0) <= to_at - from_at <= _LONGEST:
            raise InvalidRequest({"from": ["a year at most, and not after its end"]})
        view = facade.earnings(provider_ref=provider.id)
        days = billing.earnings_days(provider_ref=provider.id, from_at=from_at, to_at=to_at)
        rows = None
        if "group_by" in wanted:
            rows = earned(provider=provider, from_at=from_at, to_at=to_at, by=wanted["group_by"])
        return self.show(EarningsOut({**vars(view), "days": days, "rows": rows}).data)


def _day(text: str) -> datetime:
    try:
        return datetime.combine(date.fromisoformat(text), time(), UTC)
    except ValueError as error:
        raise ValueError("must be a day such as 2026-11-01") from error


def _by(text: str) -> frozenset[By]:
    words = text.split(",")
    if len(set(words)) != len(words) or not set(words) <= {by.value for by in By}:
        raise ValueError("must be day, gpu, offer, or gpu,day or offer,day")
    found = frozenset(map(By, words))
    if found >= {By.GPU, By.OFFER}:
        raise ValueError("is of gpu or of offer: a row of a card names its offer")
    return found


class PayoutAccountOut(Shown):
    """``url`` is Stripe's page; null until it is there, and again when its minutes are over.
    ``requirements`` are what Stripe still asks for, in its words."""

    state = serializers.ChoiceField([state.value for state in AccountState])
    reason = serializers.CharField(source="failure")
    email = serializers.CharField()
    url = serializers.CharField(allow_null=True)
    requirements = serializers.ListField(child=serializers.CharField())
    held_until = serializers.DateTimeField(allow_null=True)
    second_factor = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    def get_second_factor(self, account: Any) -> str:
        return reauth.SECOND_FACTOR


class PayoutAccountIn(Body):
    """``password`` is the acting person's own, given anew, and ``code`` of their second factor.
    ``country`` is needed once."""

    password = serializers.CharField(max_length=128, trim_whitespace=False)
    code = serializers.CharField(max_length=40)
    country = serializers.CharField(max_length=2, required=False)
    return_url = serializers.CharField(max_length=2000, required=False)


class PayoutAccount(WriteOnlyView):
    """Where the provider's money goes. POST orders Stripe's page to say so: read it again until
    ``url`` is there. Without a second factor it is refused. An account that works pays nothing for
    72 hours after that, and the people of the organization get a mail."""

    scopes = {"GET": "provider:read", "POST": "provider:write"}
    write_only = ("password", "code")
    cost = _DEAR

    @extend_schema(responses={200: PayoutAccountOut})
    def get(self, request: Request) -> HttpResponse:
        provider = onboard.own_provider(self.principal(request))
        return self.show(PayoutAccountOut(billing.payout_account(provider_ref=provider.id)).data)

    @extend_schema(request=PayoutAccountIn, responses={202: PayoutAccountOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(PayoutAccountIn)
        self.claim(request)  # a request without a key is wrong before anybody's password is
        reauth.prove(request._request, principal, data["password"])
        with reauth.counted(request._request, principal.user):
            return self.act(
                request,
                lambda: payouts.open_account(
                    acting=principal,
                    code=data["code"],
                    country=data.get("country"),
                    return_url=data.get("return_url"),
                ),
                lambda view: (202, PayoutAccountOut(view).data),
            )


class PayoutOut(Shown):
    id = IdOut("payout")
    created_at = serializers.DateTimeField()
    state = serializers.ChoiceField([state.value for state in LineState])
    reason = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    returned = MoneyOut(source="returned_micro")
    currency = serializers.CharField()
    expected_at = serializers.DateTimeField()
    sent_at = serializers.DateTimeField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)


class Payouts(ApiView):
    """Payouts, newest first. ``paid`` means that the bank has it, as Stripe says; until then
    ``expected_at`` is when it should."""

    scopes = {"GET": "provider:read"}
    lists = True

    @extend_schema(responses={200: paged(PayoutOut)})
    def get(self, request: Request) -> HttpResponse:
        provider = onboard.own_provider(self.principal(request))
        rows = billing.payouts(provider_ref=provider.id)
        return self.page_of(request, rows, shown(PayoutOut), key=_by_id, descending=True)


class StatementLineOut(Shown):
    at = serializers.DateTimeField()
    kind = serializers.CharField()
    text = serializers.CharField()
    amount = MoneyOut(source="amount_micro")


class StatementOut(Shown):
    """opening + shares + credits + payouts = closing, of what is pending and due together."""

    month = serializers.SerializerMethodField()
    currency = serializers.CharField()
    final = serializers.BooleanField()
    opening = MoneyOut(source="opening_micro")
    shares = MoneyOut(source="shares_micro")
    credits = MoneyOut(source="credits_micro")
    payouts = MoneyOut(source="payouts_micro")
    closing = MoneyOut(source="closing_micro")
    lines = StatementLineOut(many=True)

    def get_month(self, statement: StatementView) -> str:
        return f"{statement.month:%Y-%m}"


class Statement(ApiView):
    """A month (UTC) such as 2026-11, as the ledger has it."""

    scopes = {"GET": "provider:read"}

    @extend_schema(responses={200: StatementOut})
    def get(self, request: Request, month: str) -> HttpResponse:
        return self.show(StatementOut(self._statement(request, month)).data)

    def _statement(self, request: Request, month: str) -> StatementView:
        provider = onboard.own_provider(self.principal(request))
        return billing.statement(provider_ref=provider.id, month=month_of(month))


class StatementCsv(Statement):
    """The same as CSV: opening, each line, closing."""

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR})
    def get(self, request: Request, month: str) -> HttpResponse:
        return csv_of(self._statement(request, month))


def month_of(text: str) -> date:
    """``2026-11`` as its first day; NotFound for anything else."""
    try:
        return datetime.strptime(text, "%Y-%m").replace(tzinfo=UTC).date()
    except ValueError as error:
        raise NotFound("statement") from error


def csv_of(view: StatementView) -> HttpResponse:
    """A statement as a file for a spreadsheet."""

    def rows() -> Iterator[tuple[Cell, ...]]:
        yield ("at", "kind", "text", "amount", "currency")
        yield ("", "opening", "", format_micro(view.opening_micro), view.currency)
        for line in view.lines:
            yield (line.at, line.kind, line.text, format_micro(line.amount_micro), view.currency)
        yield ("", "closing", "", format_micro(view.closing_micro), view.currency)

    answer = HttpResponse("".join(lines(rows())), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="statement-{view.month:%Y-%m}.csv"'
    return answer


def _by_id(view: PayoutView) -> str:
    return str(view.id)


urls = [
    path("provider/earnings", Earnings.as_view()),
    path("provider/payout-account", PayoutAccount.as_view()),
    path("provider/payouts", Payouts.as_view()),
    path("provider/statements/<str:month>", Statement.as_view()),
    path("provider/statements/<str:month>/export.csv", StatementCsv.as_view()),
]
