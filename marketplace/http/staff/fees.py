"""The platform's fee for staff: what holds, what comes, and a change in two steps: the form, then
what it had meant for last month, with the button that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts import staffing
from marketplace.accounts.access import STAFF, Principal
from marketplace.catalog import fee_changes
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.base import (
    blame,
    claim_of,
    new_key,
    once_to,
    page,
    posted,
    show,
    show_form,
)
from marketplace.models import FeeChange, Provider
from marketplace.models.fee import MAX_FEE_BPS
from marketplace.providers import review

_HERE = "/staff/fees"
_PER_CENT = 100  # basis points


class FeeForm(forms.Form):
    """Names as in the API, but the fee is in percent."""

    provider = forms.ChoiceField(label=gettext_lazy("Whose cards"), required=False)
    accelerator = forms.ChoiceField(label=gettext_lazy("Which cards"), required=False)
    fee_bps = forms.DecimalField(
        label=gettext_lazy("Fee, % of the price"),
        min_value=0,
        max_value=MAX_FEE_BPS // _PER_CENT,
        decimal_places=2,
        help_text=gettext_lazy("The rest is the owner's."),
    )
    valid_from = forms.DateTimeField(
        label=gettext_lazy("From, UTC"),
        required=False,
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    reason = forms.CharField(
        label=gettext_lazy("Reason"),
        max_length=500,
        help_text=gettext_lazy("Owners read it."),
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        provider, cards = self.fields["provider"], self.fields["accelerator"]
        assert isinstance(provider, forms.ChoiceField)
        assert isinstance(cards, forms.ChoiceField)
        partners = review.providers().filter(ownership=Provider.Ownership.PARTNER)
        provider.choices = [
            ("", _("Everybody who agreed nothing else")),
            *((row.public_id, row.organization.name) for row in partners.order_by("-id")),
        ]
        rows = by_slug().values()
        vendors = sorted({card.vendor for card in rows})
        cards.choices = [
            ("", _("All, and volumes")),
            (_("All of a vendor"), [(vendor, vendor) for vendor in vendors]),
            (_("One card"), [(card.slug, card.name) for card in rows]),
        ]
        self.fields["valid_from"].help_text = _(
            "Empty: at once. A higher fee needs %(days)d days of notice."
        ) % {"days": settings.GPUYARD_FEE_NOTICE_DAYS}

    def order(self) -> fee_changes.FeeOrder:
        """Of the valid form."""
        data = self.cleaned_data
        return fee_changes.FeeOrder(
            provider=data["provider"] or None,
            accelerator=data["accelerator"],
            fee_bps=int(data["fee_bps"] * _PER_CENT),
            valid_from=data["valid_from"],
            reason=data["reason"],
        )


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """What holds and comes, with the form; POST makes the change that was looked at."""
    form = FeeForm(posted(request))
    if request.method != "POST" or not form.is_valid():
        return _overview(request, principal, form)
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: fee_changes.schedule(acting=principal, asked=form.order()),
            lambda _change: _HERE,
        )
    except Refusal as error:
        return _overview(request, principal, form, blame(form, error))
    messages.success(request, _("The change is made, and the owners whom it touches are told."))
    return answer


def _overview(
    request: HttpRequest,
    principal: Principal,
    form: FeeForm,
    refusal: Refusal | None = None,
) -> HttpResponse:
    present = now()
    latest = fee_changes.latest(principal)
    people = staffing.emails()
    rows = [_row(change, fee_changes.state_of(change, present), people) for change in latest]
    context = {
        "held": [_row(row, "began", people) for row in fee_changes.held(principal)],
        "coming": [row for row in reversed(rows) if row["state"] == "coming"],
        "past": [row for row in rows if row["state"] != "coming"],
    }
    return show_form(request, principal, "staff/fees.html", form, refusal=refusal, context=context)


@require_POST
@page(scope=STAFF)
def preview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The second step: what it had meant, and the button that makes it."""
    form = FeeForm(request.POST)
    if not form.is_valid():
        return _overview(request, principal, form)
    try:
        looked = fee_changes.preview(acting=principal, asked=form.order())
    except Refusal as error:
        return _overview(request, principal, form, blame(form, error))
    names = {slug: card.name for slug, card in by_slug().items()}
    context = {
        "form": form,
        "change": _row(looked.change, "coming", staffing.emails()),
        "at_once": form.cleaned_data["valid_from"] is None,
        "preview": looked,
        "steps": [
            {
                "owner": step.provider,
                "card": names.get(step.accelerator, step.accelerator),
                "from": _share(step.from_bps),
                "to": _share(step.to_bps),
            }
            for step in looked.steps
        ],
        "idempotency_key": new_key(),
    }
    return show(request, principal, "staff/fee_preview.html", context)


@require_POST
@page(scope=STAFF)
def withdraw(request: HttpRequest, principal: Principal, change: str) -> HttpResponse:
    """Call off a change before it holds."""
    try:
        answer = once_to(
            claim_of(request, principal),
            lambda: fee_changes.withdraw(acting=principal, change_id=change),
            lambda _change: _HERE,
        )
    except Refusal as error:
        return _overview(request, principal, FeeForm(), error)
    messages.success(request, _("Withdrawn. Whoever was told of it is told."))
    return answer


def _row(
    row: FeeChange | fee_changes.Held, state: str, people: Mapping[str, str]
) -> dict[str, Any]:
    card = by_slug().get(row.accelerator)
    return {
        "row": row,
        "by": people.get(row.made_by, row.made_by) if isinstance(row, FeeChange) else "",
        "state": state,
        "owner": row.provider,
        "card": card.name if card else row.accelerator,
        "share": _share(row.fee_bps),
        "key": new_key(),
    }


def _share(bps: int) -> Decimal:
    """Basis points as the filter ``percent`` takes them."""
    return Decimal(bps) / 10_000


urlpatterns = [
    path("staff/fees", overview),
    path("staff/fees/preview", preview),
    path("staff/fees/<str:change>/withdraw", withdraw),
]
