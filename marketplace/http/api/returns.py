"""Money that goes back: refunds of the caller's organization, and what staff order and approve."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.http import HttpResponse
from django.urls import URLPattern, path
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.refunds import OrderKind
from billing.facade import disputes as dispute_door
from billing.facade import refunds as door
from kernel.errors import NotFound
from kernel.ids import BadId, parse
from kernel.money import BadAmount, format_micro, parse_micro
from marketplace.accounts import returns
from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyIn, MoneyOut, NameIn, Shown
from marketplace.http.api.paging import bad_cursor, decode_cursor, encode_cursor
from marketplace.http.api.schema import paged
from marketplace.http.api.staff import Nothing


@extend_schema_field({"type": "string", "example": "25.00", "description": "or all"})
class AmountOrAll(MoneyIn):
    """A decimal string, or "all" as None."""

    def to_internal_value(self, data: Any) -> Any:
        return None if data == "all" else super().to_internal_value(data)


@extend_schema_field({"type": "string", "example": "-25.00"})
class SignedMoneyIn(serializers.Field):  # type: ignore[type-arg]
    """A decimal string as micro-units, negative or not."""

    def to_internal_value(self, data: Any) -> int:
        try:
            return parse_micro(data)
        except BadAmount as error:
            raise serializers.ValidationError(str(error)) from error

    def to_representation(self, value: int) -> str:
        return format_micro(value)


class RefundPartOut(Shown):
    payment = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    state = serializers.CharField()
    failure = serializers.CharField()


class RefundOut(Shown):
    """``state``: waiting (for a second person), declined, pending, succeeded, partial, failed."""

    id = IdOut("refund")
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    currency = serializers.CharField()
    reason = serializers.CharField()
    parts = RefundPartOut(many=True)


class OrderOut(Shown):
    """``state`` of all kinds: waiting (for a second person), declined. ``alone``: carried out by
    whoever ordered it, a day later, because there was nobody else."""

    organization = IdOut("organization", source="org_ref")
    ordered_by = serializers.CharField()
    approved_by = serializers.CharField()
    alone = serializers.BooleanField()
    declined_by = serializers.CharField()
    declined_for = serializers.CharField()


class DeclineIn(Body):
    reason = NameIn(max_length=500)


def decisions(
    place: str, kind: OrderKind, out: type[serializers.Serializer[Any]], status: int
) -> list[URLPattern]:
    """What is decided about orders of a kind that wait for a second person."""

    class Approve(ApiView):
        """The second person's yes; 409 for whoever ordered it. Where the staff have one member
        only, that one may, a day after ordering it."""

        scopes = {"POST": STAFF}

        @extend_schema(request=Nothing, responses={status: out})
        def post(self, request: Request, id: str) -> HttpResponse:
            principal, _ = self.principal(request), self.body(Nothing)
            return self.act(
                request,
                lambda: returns.approve(acting=principal, kind=kind, order_id=id),
                lambda view: (status, out(view).data),
            )

    class Decline(ApiView):
        """End an order that waits. By anybody of the staff: whoever ordered it withdraws it so."""

        scopes = {"POST": STAFF}

        @extend_schema(request=DeclineIn, responses={200: out})
        def post(self, request: Request, id: str) -> HttpResponse:
            principal, data = self.principal(request), self.body(DeclineIn)
            return self.act(
                request,
                lambda: returns.decline(
                    acting=principal, kind=kind, order_id=id, reason=data["reason"]
                ),
                lambda view: (200, out(view).data),
            )

    return [
        path(f"staff/{place}/<str:id>/approve", Approve.as_view()),
        path(f"staff/{place}/<str:id>/decline", Decline.as_view()),
    ]


class StaffRefundOut(RefundOut, OrderOut):
    pass


class RefundIn(Body):
    amount = AmountOrAll()
    reason = NameIn(max_length=500)


class StaffRefundIn(RefundIn):
    organization = serializers.CharField(max_length=40)


class Pages(ApiView):
    """Lists by id, newest first, read page by page from billing."""

    lists = True

    def pages(
        self,
        request: Request,
        read: Callable[..., Sequence[Any]],
        out: type[serializers.Serializer[Any]],
        *,
        org_ref: UUID | None = None,
    ) -> HttpResponse:
        self.filters(request, {})
        cursor, limit = self.paging(request)
        after = None
        if cursor:
            try:
                after = UUID(decode_cursor(cursor, 1)[0])
            except ValueError as error:
                raise bad_cursor() from error
        rows = read(org_ref=org_ref, after=after, limit=limit + 1)
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        items = [out(row).data for row in rows[:limit]]
        return self.show({"items": items, "next_cursor": following})


class Refunds(Pages):
    """Refunds of purchased credit that is unspent and not held, to the payments it came from,
    newest first. Credit that was given is spent first and never refunded."""

    scopes = {"GET": "billing:read", "POST": "billing:write"}

    @extend_schema(responses={200: paged(RefundOut)})
    def get(self, request: Request) -> HttpResponse:
        org = self.principal(request).org
        return self.pages(request, door.refunds, RefundOut, org_ref=org.id)

    @extend_schema(request=RefundIn, responses={202: RefundOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(RefundIn)
        return self.act(
            request,
            lambda: returns.ask_refund(
                acting=principal, amount_micro=data["amount"], reason=data["reason"]
            ),
            lambda view: (202, RefundOut(view).data),
        )


class StaffRefunds(Pages):
    """All refunds, newest first. POST orders one; above a limit it waits for a second person."""

    scopes = {"GET": STAFF, "POST": STAFF}

    @extend_schema(responses={200: paged(StaffRefundOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.pages(request, door.refunds, StaffRefundOut)

    @extend_schema(request=StaffRefundIn, responses={202: StaffRefundOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(StaffRefundIn)
        return self.act(
            request,
            lambda: returns.order_refund(
                acting=principal,
                organization_id=data["organization"],
                amount_micro=data["amount"],
                reason=data["reason"],
            ),
            lambda view: (202, StaffRefundOut(view).data),
        )


class AdjustmentOut(OrderOut):
    """``amount``: what the organization gets, or pays if negative."""

    id = IdOut("adjustment")
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    currency = serializers.CharField()
    against = serializers.CharField()
    transaction = IdOut("transaction", source="linked", allow_null=True)
    reason = serializers.CharField()


class AdjustmentIn(Body):
    organization = serializers.CharField(max_length=40)
    amount = SignedMoneyIn()
    against = serializers.ChoiceField(["platform_cost", "revenue"], default="platform_cost")
    reason = NameIn(max_length=500)
    transaction = serializers.CharField(max_length=40, required=False, allow_null=True)


class Adjustments(Pages):
    """Adjustments of balances, newest first. POST gives (or, negative, takes), never past the
    floor; above a limit it waits for a second person."""

    scopes = {"GET": STAFF, "POST": STAFF}

    @extend_schema(responses={200: paged(AdjustmentOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.pages(request, door.adjustments, AdjustmentOut)

    @extend_schema(request=AdjustmentIn, responses={201: AdjustmentOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(AdjustmentIn)
        return self.act(
            request,
            lambda: returns.order_adjustment(
                acting=principal,
                organization_id=data["organization"],
                amount_micro=data["amount"],
                against=data["against"],
                reason=data["reason"],
                transaction_id=data.get("transaction"),
            ),
            lambda view: (201, AdjustmentOut(view).data),
        )


class CreditNoteOut(OrderOut):
    id = IdOut("credit_note")
    created_at = serializers.DateTimeField()
    invoice = IdOut("invoice", source="invoice_id")
    number = serializers.CharField(allow_null=True)
    state = serializers.CharField()
    failure = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    currency = serializers.CharField()
    reason = serializers.CharField()


class CreditNoteIn(Body):
    invoice = serializers.CharField(max_length=40)
    amount = MoneyIn()
    reason = NameIn(max_length=500)


class CreditNotes(Pages):
    """Credit notes, newest first. POST lowers an open invoice, or gives credit for a paid one, once
    Stripe has it; above a limit it waits for a second person."""

    scopes = {"GET": STAFF, "POST": STAFF}

    @extend_schema(responses={200: paged(CreditNoteOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.pages(request, door.credit_notes, CreditNoteOut)

    @extend_schema(request=CreditNoteIn, responses={202: CreditNoteOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(CreditNoteIn)
        return self.act(
            request,
            lambda: returns.order_credit_note(
                acting=principal,
                invoice_id=data["invoice"],
                amount_micro=data["amount"],
                reason=data["reason"],
            ),
            lambda view: (202, CreditNoteOut(view).data),
        )


class DisputeOut(Shown):
    id = IdOut("dispute")
    created_at = serializers.DateTimeField()
    organization = IdOut("organization", source="org_ref")
    stripe_id = serializers.CharField()
    payment = serializers.CharField()
    state = serializers.CharField()
    reason = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    currency = serializers.CharField()
    due_by = serializers.DateTimeField(allow_null=True)
    ordered_at = serializers.DateTimeField(allow_null=True)
    submitted_at = serializers.DateTimeField(allow_null=True)
    failure = serializers.CharField()
    closed_at = serializers.DateTimeField(allow_null=True)


class Disputes(Pages):
    """Payments that banks contest, newest first. The organization is frozen while one is open."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: paged(DisputeOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.pages(request, dispute_door.disputes, DisputeOut)


class DisputeEvidenceOut(Shown):
    customer_name = serializers.CharField()
    customer_email_address = serializers.CharField()
    product_description = serializers.CharField()
    access_activity_log = serializers.CharField()
    uncategorized_text = serializers.CharField()


class DisputeEvidenceIn(Body):
    """Texts instead of those that the ledger gives; both may be left out."""

    access_activity_log = serializers.CharField(max_length=20_000, required=False)
    uncategorized_text = serializers.CharField(max_length=20_000, required=False)


class Evidence(ApiView):
    """What the ledger says for us, or what was submitted. POST submits it, once."""

    scopes = {"GET": STAFF, "POST": STAFF}

    @extend_schema(responses={200: DisputeEvidenceOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        try:
            dispute = parse("dispute", id)
        except BadId as error:
            raise NotFound("dispute") from error
        return self.show(DisputeEvidenceOut(dispute_door.evidence(dispute_id=dispute)).data)

    @extend_schema(request=DisputeEvidenceIn, responses={202: DisputeOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(DisputeEvidenceIn)
        return self.act(
            request,
            lambda: returns.submit_evidence(acting=principal, dispute_id=id, **data),
            lambda view: (202, DisputeOut(view).data),
        )


urls = [
    path("billing/refunds", Refunds.as_view()),
    path("staff/refunds", StaffRefunds.as_view()),
    *decisions("refunds", OrderKind.REFUND, StaffRefundOut, 202),
    path("staff/adjustments", Adjustments.as_view()),
    *decisions("adjustments", OrderKind.ADJUSTMENT, AdjustmentOut, 200),
    path("staff/credit-notes", CreditNotes.as_view()),
    *decisions("credit-notes", OrderKind.CREDIT_NOTE, CreditNoteOut, 202),
    path("staff/disputes", Disputes.as_view()),
    path("staff/disputes/<str:id>/evidence", Evidence.as_view()),
]
