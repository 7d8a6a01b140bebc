"""Staff: providers, organizations and their limits, invoices, books. Scope ``staff`` throughout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing import facade as billing
from marketplace.accounts.access import STAFF, find
from marketplace.accounts.spend_limit import spend_limits
from marketplace.accounts.team import first_members
from marketplace.http.api.account import OrganizationOut
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.billing import InvoiceOut
from marketplace.http.api.fields import MoneyIn, MoneyOut, NameIn, Shown, one_of, shown
from marketplace.http.api.provider import ProviderOut
from marketplace.http.api.schema import paged
from marketplace.models import Organization, Provider
from marketplace.providers import losses, review


class StaffProviderOut(ProviderOut):
    organization = serializers.CharField(source="organization.public_id")
    organization_name = serializers.CharField(source="organization.name")


class Providers(ApiView):
    """All providers, newest first."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(
        parameters=[OpenApiParameter("state", str, enum=Provider.State.values)],
        responses={200: paged(StaffProviderOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(request, {"state": one_of(Provider.State.values)})
        rows = review.providers().filter(**wanted)
        return self.page(request, rows, shown(StaffProviderOut))


class ApproveIn(Body):
    ownership = serializers.ChoiceField(
        Provider.Ownership.values, default=Provider.Ownership.PARTNER
    )
    networks = serializers.ListField(child=serializers.CharField(max_length=43), default=list)
    ports = serializers.ListField(
        child=serializers.IntegerField(min_value=1, max_value=65_535), default=list
    )
    fee_bps = serializers.IntegerField(required=False, allow_null=True)


class Approve(ApiView):
    """Approve a provider, and bind the networks and ports its API servers may live on although
    they are not public (a VPN). Repeating it binds anew."""

    scopes = {"POST": STAFF}

    @extend_schema(request=ApproveIn, responses={200: StaffProviderOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(ApproveIn)
        return self.act(
            request,
            lambda: review.approve(
                acting=principal,
                provider_id=id,
                ownership=data["ownership"],
                networks=data["networks"],
                ports=data["ports"],
                fee_bps=data.get("fee_bps"),
            ),
            lambda provider: (200, StaffProviderOut(provider).data),
        )


class StaffOrganizationOut(OrganizationOut):
    owner_email = serializers.CharField(allow_null=True)
    quota_gpus = serializers.IntegerField()
    spend_limit_per_hour = MoneyOut(source="allowed.per_hour_micro")
    spend_limit_fixed = serializers.BooleanField()
    credit_limit = MoneyOut(source="balance.credit_limit_micro")
    available = MoneyOut(source="balance.available_micro")
    currency = serializers.CharField(source="balance.currency")


def _described(rows: Sequence[Organization]) -> list[Any]:
    """As staff see them; as many queries for many as for one."""
    ids = [row.pk for row in rows]
    people = first_members(ids)
    limits, balances = spend_limits(rows), billing.balances(org_refs=ids)
    for row in rows:
        row.owner_email = people.get(row.pk)  # type: ignore[attr-defined]
        row.allowed, row.balance = limits[row.pk], balances[row.pk]  # type: ignore[attr-defined]
    return [StaffOrganizationOut(row).data for row in rows]


class Organizations(ApiView):
    """All organizations, newest first. ``email`` finds those of a person."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(
        parameters=[OpenApiParameter("email", str), OpenApiParameter("state", str)],
        responses={200: paged(StaffOrganizationOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(
            request, {"email": str.lower, "state": one_of(Organization.State.values)}
        )
        rows = review.organizations(email=wanted.get("email", ""))
        if "state" in wanted:
            rows = rows.filter(state=wanted["state"])
        return self.page_many(request, rows, _described)


class LimitIn(Body):
    credit_limit = MoneyIn(zero=True, required=False)
    quota_gpus = serializers.IntegerField(min_value=0, max_value=100_000, required=False)
    spend_limit_per_hour = MoneyIn(zero=True, required=False)


class Limit(ApiView):
    """Credit limit (0 is prepaid), GPUs at once, spending per hour: what is given is set."""

    scopes = {"POST": STAFF}

    @extend_schema(request=LimitIn, responses={200: StaffOrganizationOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(LimitIn)
        return self.act(
            request,
            lambda: review.set_limits(
                acting=principal,
                organization_id=id,
                credit_limit_micro=data.get("credit_limit"),
                quota_gpus=data.get("quota_gpus"),
                spend_limit_micro_h=data.get("spend_limit_per_hour"),
            ),
            lambda organization: (200, _described([organization])[0]),
        )


class Nothing(Body):
    """An empty body."""


class ClosePeriod(ApiView):
    """Invoice now what was charged and is on no invoice yet. The invoice is a draft until Stripe
    has it: read it again until it is open or paid."""

    scopes = {"POST": STAFF}

    @extend_schema(request=Nothing, responses={202: InvoiceOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: review.close_period(acting=principal, organization_id=id),
            lambda invoice: (202, InvoiceOut(invoice).data),
        )


class WriteOffIn(Body):
    reason = NameIn(max_length=500, required=False)


class WriteOff(ApiView):
    """Give up an open invoice: a loss here, uncollectible at Stripe. The credit limit falls by as
    much. A payment that still comes is booked back."""

    scopes = {"POST": STAFF}

    @extend_schema(request=WriteOffIn, responses={200: InvoiceOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(WriteOffIn)
        reason = data.get("reason", "")
        return self.act(
            request,
            lambda: losses.write_off(acting=principal, invoice_id=id, reason=reason),
            lambda invoice: (200, InvoiceOut(invoice).data),
        )


class OrganizationInvoices(ApiView):
    """Invoices of one organization."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(InvoiceOut)})
    def get(self, request: Request, id: str) -> HttpResponse:
        organization = find(review.organizations(), id)
        rows = billing.invoices(org_ref=organization.id)
        return self.page_of(
            request, rows, shown(InvoiceOut), key=lambda view: str(view.id), descending=True
        )


class BooksOut(Shown):
    balanced = serializers.BooleanField()
    sums = serializers.DictField(child=MoneyOut())
    transactions = serializers.IntegerField()
    unbalanced = serializers.IntegerField()
    drifted = serializers.IntegerField()
    below_floor = serializers.IntegerField()
    holds_uncovered = serializers.IntegerField()
    receivables_wrong = serializers.IntegerField()


class Books(ApiView):
    """Whether the ledger keeps its own rules: every number but ``transactions`` must be zero."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: BooksOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(BooksOut(billing.books()).data)


urls = [
    path("staff/providers", Providers.as_view()),
    path("staff/providers/<str:id>/approve", Approve.as_view()),
    path("staff/organizations", Organizations.as_view()),
    path("staff/organizations/<str:id>/limit", Limit.as_view()),
    path("staff/organizations/<str:id>/close-period", ClosePeriod.as_view()),
    path("staff/organizations/<str:id>/invoices", OrganizationInvoices.as_view()),
    path("staff/invoices/<str:id>/write-off", WriteOff.as_view()),
    path("staff/books", Books.as_view()),
]
