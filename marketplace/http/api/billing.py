"""Money of the caller's organization: balance, transactions, top-ups, cards, invoices, usage."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import HttpResponse
from django.urls import path
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing import facade as billing
from billing.contracts import CardSetupView, InvoiceView, TopUpView, TransactionView
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from kernel.money import CURRENCY, from_minor
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.http.address import client_address
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import (
    IdOut,
    MoneyIn,
    MoneyOut,
    Shown,
    shown,
)
from marketplace.http.api.paging import bad_cursor, decode_cursor, encode_cursor
from marketplace.http.api.schema import paged
from marketplace.rentals.paper import invoice_pdf


def id_in(kind: str, text: object) -> UUID:
    """The UUID in an address or body; NotFound for anything that is none."""
    try:
        return parse(kind, text)
    except BadId as error:
        raise NotFound(kind.replace("_", " ")) from error


class BalanceOut(Shown):
    currency = serializers.CharField()
    available = MoneyOut(source="available_micro")
    held = MoneyOut(source="held_micro")
    credit_limit = MoneyOut(source="credit_limit_micro")
    spendable = MoneyOut(source="spendable_micro")
    burn_per_hour = MoneyOut(source="burn_micro_h")
    funds_end_at = serializers.DateTimeField(allow_null=True)


class Balance(ApiView):
    """What there is, what is held for running rentals, and when it ends."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={200: BalanceOut})
    def get(self, request: Request) -> HttpResponse:
        org = self.principal(request).org
        return self.show(BalanceOut(billing.balance(org_ref=org.id)).data)


class TransactionOut(Shown):
    id = IdOut("transaction")
    created_at = serializers.DateTimeField(source="at")
    kind = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    currency = serializers.SerializerMethodField()
    text = serializers.CharField()
    cause_type = serializers.CharField()
    cause_id = serializers.CharField()

    def get_currency(self, transaction: TransactionView) -> str:
        return CURRENCY


class Transactions(ApiView):
    """What moved on the organization's account, newest first."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: paged(TransactionOut)})
    def get(self, request: Request) -> HttpResponse:
        org = self.principal(request).org
        cursor, limit = self.paging(request)
        after = None
        if cursor:
            try:
                after = UUID(decode_cursor(cursor, 1)[0])
            except ValueError as error:
                raise bad_cursor() from error
        rows = billing.transactions(org_ref=org.id, limit=limit + 1, after=after)
        following = encode_cursor([rows[limit - 1].id]) if len(rows) > limit else None
        items = [TransactionOut(row).data for row in rows[:limit]]
        return self.show({"items": items, "next_cursor": following})


class TopUpIn(Body):
    amount = MoneyIn()
    currency = serializers.ChoiceField([CURRENCY], default=CURRENCY)
    return_url = serializers.CharField(max_length=2000, required=False)
    payment_method = serializers.CharField(max_length=40, required=False, allow_null=True)


class TopUpOut(Shown):
    id = IdOut("topup")
    created_at = serializers.DateTimeField()
    state = serializers.CharField()
    reason = serializers.CharField(source="failure", allow_null=True)
    amount = MoneyOut(source="amount_micro")
    currency = serializers.CharField()
    checkout_url = serializers.CharField(allow_null=True)


class TopUps(ApiView):
    """Top-ups. POST answers before Stripe was asked: read it again until checkout_url is there,
    or, with a saved card, until it succeeded."""

    scopes = {"GET": "billing:read", "POST": "billing:write"}
    lists = True

    @extend_schema(responses={200: paged(TopUpOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.topups(org_ref=self.principal(request).org.id)
        return self.page_of(request, rows, shown(TopUpOut), key=_by_id, descending=True)

    @extend_schema(request=TopUpIn, responses={202: TopUpOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(TopUpIn)
        principal.require_verified()
        principal.require_unfrozen()
        method = data.get("payment_method")
        method_id = id_in("payment_method", method) if method else None

        def start() -> TopUpView:
            view = billing.start_topup(
                org_ref=principal.org.id,
                amount_micro=data["amount"],
                return_url=data.get("return_url") or back_to_billing(),
                payment_method_id=method_id,
                ip=client_address(request),
            )
            _record(principal, "topup.start", public("topup", view.id))
            return view

        return self.act(request, start, lambda view: (202, TopUpOut(view).data))


class OneTopUp(ApiView):
    """One top-up."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={200: TopUpOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        org = self.principal(request).org
        view = billing.topup(org_ref=org.id, topup_id=id_in("topup", id))
        return self.show(TopUpOut(view).data)


class PaymentMethodOut(Shown):
    id = IdOut("payment_method")
    brand = serializers.CharField()
    last4 = serializers.CharField()
    exp_month = serializers.IntegerField()
    exp_year = serializers.IntegerField()
    state = serializers.CharField()


class CardSetupIn(Body):
    return_url = serializers.CharField(max_length=2000, required=False)


class CardSetupOut(Shown):
    id = IdOut("card_setup")
    state = serializers.CharField()
    url = serializers.CharField(allow_null=True)


class PaymentMethods(ApiView):
    """Saved cards. POST starts saving one on Stripe's page: read the setup until url is there."""

    scopes = {"GET": "billing:read", "POST": "billing:write"}
    lists = True

    @extend_schema(responses={200: paged(PaymentMethodOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.payment_methods(org_ref=self.principal(request).org.id)
        return self.page_of(request, rows, shown(PaymentMethodOut), key=_by_id, descending=True)

    @extend_schema(request=CardSetupIn, responses={202: CardSetupOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(CardSetupIn)
        principal.require_verified()

        def start() -> CardSetupView:
            view = billing.start_card_setup(
                org_ref=principal.org.id,
                return_url=data.get("return_url") or back_to_billing(),
                ip=client_address(request),
            )
            _record(principal, "card_setup.start", public("card_setup", view.id))
            return view

        return self.act(request, start, lambda view: (202, CardSetupOut(view).data))


class OneCardSetup(ApiView):
    """How the saving of a card stands."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={200: CardSetupOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        org = self.principal(request).org
        view = billing.card_setup(org_ref=org.id, setup_id=id_in("card_setup", id))
        return self.show(CardSetupOut(view).data)


class InvoiceLineOut(Shown):
    text = serializers.CharField()
    quantity = serializers.CharField()
    amount = MoneyOut(source="amount_micro")
    tax = MoneyOut(source="tax_micro")


class InvoiceOut(Shown):
    id = IdOut("invoice")
    created_at = serializers.DateTimeField()
    number = serializers.CharField(allow_null=True)
    state = serializers.CharField()
    currency = serializers.CharField()
    period_from = serializers.DateTimeField()
    period_to = serializers.DateTimeField()
    total = serializers.SerializerMethodField()
    carried = MoneyOut(source="carried_micro")
    tax = MoneyOut(source="tax_micro")
    lines = InvoiceLineOut(many=True)
    hosted_url = serializers.CharField(allow_null=True)
    paid_at = serializers.DateTimeField(allow_null=True)

    def get_total(self, invoice: InvoiceView) -> str:
        return MoneyOut().to_representation(from_minor(invoice.total_minor))


class Invoices(ApiView):
    """Invoices of an organization with a credit limit."""

    scopes = {"GET": "billing:read"}
    lists = True

    @extend_schema(responses={200: paged(InvoiceOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.invoices(org_ref=self.principal(request).org.id)
        return self.page_of(request, rows, shown(InvoiceOut), key=_by_id, descending=True)


class InvoicePdf(ApiView):
    """The invoice as a document: the same bytes as long as nothing about it changes."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={(200, "application/pdf"): OpenApiTypes.BINARY})
    def get(self, request: Request, id: str) -> HttpResponse:
        self.filters(request, {})
        pdf = invoice_pdf(self.principal(request).org, id_in("invoice", id))
        answer = HttpResponse(pdf, content_type="application/pdf")
        answer["Content-Disposition"] = f'inline; filename="{id}.pdf"'
        answer["Cache-Control"] = "no-store"
        return answer


class OneInvoice(ApiView):
    """One invoice with its lines."""

    scopes = {"GET": "billing:read"}

    @extend_schema(responses={200: InvoiceOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        org = self.principal(request).org
        view = billing.invoice(org_ref=org.id, invoice_id=id_in("invoice", id))
        return self.show(InvoiceOut(view).data)


def back_to_billing() -> str:
    """Where Stripe's page sends people who came without an address of their own."""
    return f"{settings.GPUYARD_BASE_URL}/billing"


def _by_id(view: Any) -> str:
    return str(view.id)


def _record(principal: Principal, action: str, object_id: str) -> None:
    audit.record(
        acting=principal, action=action, object=object_id, organization_ref=principal.org.id
    )


urls = [
    path("billing/balance", Balance.as_view()),
    path("billing/transactions", Transactions.as_view()),
    path("billing/topups", TopUps.as_view()),
    path("billing/topups/<str:id>", OneTopUp.as_view()),
    path("billing/payment-methods", PaymentMethods.as_view()),
    path("billing/payment-methods/setups/<str:id>", OneCardSetup.as_view()),
    path("billing/invoices", Invoices.as_view()),
    path("billing/invoices/<str:id>", OneInvoice.as_view()),
    path("billing/invoices/<str:id>/pdf", InvoicePdf.as_view()),
]
