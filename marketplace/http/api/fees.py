"""Staff: the platform's fee, its changes and what one had meant for last month."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.clock import now
from marketplace.accounts.access import STAFF
from marketplace.catalog import fee_changes
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import MoneyOut, NameIn, PublicShown, Shown
from marketplace.http.api.schema import paged
from marketplace.models import FeeChange
from marketplace.models.fee import MAX_FEE_BPS


class FeeIn(Body):
    """provider: without it everybody's; accelerator: a card's slug or a vendor, without it all
    cards and volumes; valid_from: without it now. A higher fee has its days of notice."""

    provider = serializers.CharField(max_length=40, required=False, allow_null=True)
    accelerator = serializers.CharField(
        max_length=100, required=False, allow_blank=True, default=""
    )
    fee_bps = serializers.IntegerField(min_value=0, max_value=MAX_FEE_BPS)
    valid_from = serializers.DateTimeField(required=False, allow_null=True)
    reason = NameIn(max_length=500)


class FeeOut(PublicShown):
    """state: coming, began (it holds unless another followed) or withdrawn."""

    provider = serializers.CharField(source="provider.public_id", default=None, allow_null=True)
    accelerator = serializers.CharField(allow_blank=True)
    fee_bps = serializers.IntegerField()
    valid_from = serializers.DateTimeField()
    reason = serializers.CharField()
    made_by = serializers.CharField()
    state = serializers.SerializerMethodField()
    withdrawn_at = serializers.DateTimeField(allow_null=True)
    actions = serializers.SerializerMethodField()

    def get_state(self, change: FeeChange) -> str:
        return fee_changes.state_of(change, self.context["now"])

    def get_actions(self, change: FeeChange) -> list[str]:
        return ["withdraw"] if self.get_state(change) == "coming" else []


class StepOut(Shown):
    """provider: null for whoever agreed nothing and those who join later."""

    provider = serializers.CharField(source="provider.public_id", default=None, allow_null=True)
    accelerator = serializers.CharField(allow_blank=True)
    from_bps = serializers.IntegerField()
    to_bps = serializers.IntegerField()


class ShareIfOut(Shown):
    """Then, and as if the fee had held. difference: what the platform had kept more."""

    amount = MoneyOut(source="amount_micro")
    share = MoneyOut(source="share_micro")
    share_with = MoneyOut(source="share_if_micro")
    fee = MoneyOut(source="fee_micro")
    fee_with = MoneyOut(source="fee_if_micro")
    difference = MoneyOut(source="difference_micro")


class OwnersShareIfOut(ShareIfOut):
    provider = serializers.CharField(source="provider.public_id")
    provider_name = serializers.CharField(source="provider.organization.name")


class FeePreviewOut(Shown):
    """The use of [from, to), before what was given back."""

    from_at = serializers.DateTimeField()
    to_at = serializers.DateTimeField()
    valid_from = serializers.DateTimeField(source="change.valid_from")
    steps = StepOut(many=True)
    providers = OwnersShareIfOut(many=True, source="rows")
    total = ShareIfOut()


def _order(data: dict[str, Any]) -> fee_changes.FeeOrder:
    return fee_changes.FeeOrder(
        provider=data.get("provider"),
        accelerator=data["accelerator"],
        fee_bps=data["fee_bps"],
        valid_from=data.get("valid_from"),
        reason=data["reason"],
    )


def _shown(change: FeeChange) -> Any:
    return FeeOut(change, context={"now": now()}).data


class Fees(ApiView):
    """Changes of the platform's fee, that which begins last first."""

    scopes = {"GET": STAFF, "POST": STAFF}
    lists = True

    @extend_schema(responses={200: paged(FeeOut)})
    def get(self, request: Request) -> HttpResponse:
        rows, present = fee_changes.changes(self.principal(request)), now()
        return self.page(
            request,
            rows,
            lambda row: FeeOut(row, context={"now": present}).data,
            order=("-valid_from", "-id"),
        )

    @extend_schema(request=FeeIn, responses={201: FeeOut})
    def post(self, request: Request) -> HttpResponse:
        """Change the fee for what is rented from a time on, and mail the owners whom it touches."""
        principal, data = self.principal(request), self.body(FeeIn)
        return self.act(
            request,
            lambda: fee_changes.schedule(acting=principal, asked=_order(data)),
            lambda change: (201, _shown(change)),
        )


class FeePreview(ApiView):
    """What a change had meant for the use of the last calendar month. Stores nothing."""

    scopes = {"POST": STAFF}
    keyed = False

    @extend_schema(request=FeeIn, responses={200: FeePreviewOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(FeeIn)
        return self.show(
            FeePreviewOut(fee_changes.preview(acting=principal, asked=_order(data))).data
        )


class OneFee(ApiView):
    """One change of the fee."""

    scopes = {"DELETE": STAFF}

    @extend_schema(responses={200: FeeOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        """Call it off before it holds; who was told of it is told."""
        principal = self.principal(request)
        return self.change(
            lambda: fee_changes.withdraw(acting=principal, change_id=id),
            lambda change: (200, _shown(change)),
        )


urls = [
    path("staff/fees", Fees.as_view()),
    path("staff/fees/preview", FeePreview.as_view()),
    path("staff/fees/<str:id>", OneFee.as_view()),
]
