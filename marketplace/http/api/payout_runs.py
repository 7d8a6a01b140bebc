"""Payout runs for staff: preview, approve, hold; earnings on review. Scope ``staff`` throughout."""

from __future__ import annotations

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from billing.contracts.payouts import PayoutRunView, RunState
from billing.facade import payouts as billing
from marketplace.accounts.access import STAFF
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyOut, NameIn, Shown, shown
from marketplace.http.api.payouts import PayoutOut
from marketplace.http.api.schema import paged
from marketplace.http.api.staff import Nothing, StaffProviderOut
from marketplace.providers import payouts


class StaffPayoutOut(PayoutOut):
    provider = IdOut("provider", source="provider_ref")
    due = MoneyOut(source="due_micro")
    reserve = MoneyOut(source="reserve_micro")
    stripe_id = serializers.CharField(allow_null=True)


class PayoutRunOut(Shown):
    id = IdOut("payout_run")
    created_at = serializers.DateTimeField()
    state = serializers.ChoiceField([state.value for state in RunState])
    actions = serializers.SerializerMethodField()
    week = serializers.DateField(allow_null=True)
    actor = serializers.CharField()
    total = MoneyOut(source="total_micro")
    currency = serializers.CharField()
    approvals = serializers.ListField(child=serializers.CharField())
    approvals_needed = serializers.IntegerField()
    starts_at = serializers.DateTimeField(allow_null=True)
    started_at = serializers.DateTimeField(allow_null=True)
    lines = StaffPayoutOut(many=True)

    def get_actions(self, run: PayoutRunView) -> list[str]:
        return ["approve", "cancel"] if run.state == RunState.WAITING else []


class PayoutRuns(ApiView):
    """Payout runs, newest first. One is made each Monday; POST makes one now. Above the limit it
    waits until two people agreed, whoever made it being the first; where there is one member of
    staff only it starts a day later."""

    scopes = {"GET": STAFF, "POST": STAFF}
    lists = True

    @extend_schema(responses={200: paged(PayoutRunOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.runs()
        return self.page_of(
            request, rows, shown(PayoutRunOut), key=lambda view: str(view.id), descending=True
        )

    @extend_schema(request=Nothing, responses={202: PayoutRunOut})
    def post(self, request: Request) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: payouts.make_run(acting=principal),
            lambda run: (202, PayoutRunOut(run).data),
        )


class PayoutRun(ApiView):
    """One run with its lines."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: PayoutRunOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        run = payouts.run(acting=self.principal(request), run_id=id)
        return self.show(PayoutRunOut(run).data)


class ApproveRun(ApiView):
    """Agree to a run that waits."""

    scopes = {"POST": STAFF}

    @extend_schema(request=Nothing, responses={202: PayoutRunOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, _ = self.principal(request), self.body(Nothing)
        return self.act(
            request,
            lambda: payouts.approve_run(acting=principal, run_id=id),
            lambda run: (202, PayoutRunOut(run).data),
        )


class CancelIn(Body):
    reason = NameIn(max_length=400, required=False)


class CancelRun(ApiView):
    """Give up a run that waits; what is due stays due. Its lines say the reason."""

    scopes = {"POST": STAFF}

    @extend_schema(request=CancelIn, responses={200: PayoutRunOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(CancelIn)
        reason = data.get("reason", "")
        return self.act(
            request,
            lambda: payouts.cancel_run(acting=principal, run_id=id, reason=reason),
            lambda run: (200, PayoutRunOut(run).data),
        )


class PlannedOut(Shown):
    provider = IdOut("provider", source="provider_ref")
    due = MoneyOut(source="due_micro")
    reserve = MoneyOut(source="reserve_micro")
    amount = MoneyOut(source="amount_micro")
    held = serializers.BooleanField()
    blocked_by = serializers.ListField(child=serializers.CharField())


class PreviewOut(Shown):
    """Cash at Stripe as it was read last (null: never), against all that is owed."""

    currency = serializers.CharField()
    cash_available = MoneyOut(source="cash_available_micro", allow_null=True)
    cash_pending = MoneyOut(source="cash_pending_micro", allow_null=True)
    cash_read_at = serializers.DateTimeField(allow_null=True)
    owed_tenants = MoneyOut(source="owed_tenants_micro")
    owed_providers = MoneyOut(source="owed_providers_micro")
    owed_tax = MoneyOut(source="owed_tax_micro")
    owed = MoneyOut(source="owed_micro")
    total = MoneyOut(source="total_micro")
    approvals_needed = serializers.IntegerField()
    expected_at = serializers.DateTimeField()
    blocked_by = serializers.ListField(child=serializers.CharField())
    providers = PlannedOut(many=True)


class Preview(ApiView):
    """What a run now would pay to whom, and what stands against it. Nothing is stored."""

    scopes = {"GET": STAFF}

    @extend_schema(responses={200: PreviewOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(PreviewOut(billing.preview()).data)


class HoldIn(Body):
    provider = serializers.CharField(max_length=40)
    reason = NameIn(max_length=500)


class Hold(ApiView):
    """Pay a provider nothing until it is released. What Stripe was asked for goes on."""

    scopes = {"POST": STAFF}

    @extend_schema(request=HoldIn, responses={200: StaffProviderOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(HoldIn)
        return self.act(
            request,
            lambda: payouts.hold(
                acting=principal, provider_id=data["provider"], reason=data["reason"]
            ),
            lambda provider: (200, StaffProviderOut(provider).data),
        )


class ReleaseIn(Body):
    provider = serializers.CharField(max_length=40)


class Release(ApiView):
    """End the hold of a provider's payouts."""

    scopes = {"POST": STAFF}

    @extend_schema(request=ReleaseIn, responses={200: StaffProviderOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(ReleaseIn)
        return self.act(
            request,
            lambda: payouts.release(acting=principal, provider_id=data["provider"]),
            lambda provider: (200, StaffProviderOut(provider).data),
        )


class ReviewOut(Shown):
    organization = IdOut("organization", source="org_ref")
    share = MoneyOut(source="share_micro")
    paid = MoneyOut(source="paid_micro")
    first_use_at = serializers.DateTimeField()


class Reviews(ApiView):
    """Renters without a payment that has settled for thirty days: what they used matures for its
    providers when they have one, or when staff release it."""

    scopes = {"GET": STAFF}
    lists = True

    @extend_schema(responses={200: paged(ReviewOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = billing.reviews()
        return self.page_of(request, rows, shown(ReviewOut), key=lambda view: str(view.org_ref))


class ReleaseReviewIn(Body):
    note = NameIn(max_length=500)


class ReleasedOut(Shown):
    organization = serializers.CharField(source="public_id")
    name = serializers.CharField()


class ReleaseReview(ApiView):
    """Let what a renter used mature. Say in ``note`` what you found."""

    scopes = {"POST": STAFF}

    @extend_schema(request=ReleaseReviewIn, responses={200: ReleasedOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal, data = self.principal(request), self.body(ReleaseReviewIn)
        return self.act(
            request,
            lambda: payouts.release_review(acting=principal, organization_id=id, note=data["note"]),
            lambda organization: (200, ReleasedOut(organization).data),
        )


urls = [
    path("staff/payout-runs", PayoutRuns.as_view()),
    path("staff/payout-runs/preview", Preview.as_view()),
    path("staff/payout-runs/hold", Hold.as_view()),
    path("staff/payout-runs/release", Release.as_view()),
    path("staff/payout-runs/<str:id>", PayoutRun.as_view()),
    path("staff/payout-runs/<str:id>/approve", ApproveRun.as_view()),
    path("staff/payout-runs/<str:id>/cancel", CancelRun.as_view()),
    path("staff/earnings-reviews", Reviews.as_view()),
    path("staff/earnings-reviews/<str:id>/release", ReleaseReview.as_view()),
]
