"""A provider's money: earnings, the payout account at Stripe, payouts, monthly statements."""

from __future__ import annotations

from datetime import UTC, timedelta
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import facade
from billing.contracts.payouts import AccountState, EarningsDay, PayoutAccountView
from billing.facade import payouts as billing
from kernel.clock import now
from kernel.errors import NotFound, Refusal
from marketplace.accounts.access import Principal
from marketplace.catalog.registry import by_slug
from marketplace.http import reauth
from marketplace.http.api.payouts import csv_of, month_of
from marketplace.http.portal.base import (
    blame,
    claim_of,
    once_to,
    page,
    posted,
    show,
    show_form,
)
from marketplace.http.portal.entry_forms import PasswordAndCodeForm
from marketplace.models import Provider
from marketplace.providers import onboard, payouts

_DAYS = 14
_MONTHS = 12


class AccountForm(PasswordAndCodeForm):
    """The country is asked for once: Stripe fixes it with the account."""

    country = forms.CharField(
        label=gettext_lazy("Country"),
        max_length=2,
        help_text=gettext_lazy("Two capital letters, such as DE."),
    )
    field_order = ("country", "password", "code")

    def __init__(self, *args: object, known: bool, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)  # type: ignore[arg-type]  # Form's own many
        if known:
            del self.fields["country"]


@page(scope="provider:read")
def money(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Earnings and payouts; POST orders Stripe's page for the payout account."""
    provider = onboard.own_provider(principal)
    account = _account(provider)
    known = account is not None and account.state != AccountState.FAILED
    form = AccountForm(posted(request), known=known)
    refusal = None
    if request.method == "POST":
        principal.require("provider:write")
        if form.is_valid():
            try:
                answer = _open(request, principal, form)
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("Stripe's page is being prepared."))
                return answer
    present = now()
    days = billing.earnings_days(
        provider_ref=provider.id, from_at=present - timedelta(days=_DAYS), to_at=present
    )
    context = {
        "earnings": facade.earnings(provider_ref=provider.id),
        "days": [_shown(day) for day in reversed(days)],
        "payouts": billing.payouts(provider_ref=provider.id),
        "months": _months(provider),
        "account": account,
        "may_write": "provider:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/payouts.html", form, refusal=refusal, context=context
    )


def _shown(day: EarningsDay) -> dict[str, Any]:
    """A day's row in the words and units of people."""
    card = by_slug().get(day.accelerator)
    return {
        "day": day.day,
        "kind": day.kind,
        "card": card.name if card else day.accelerator,
        "hours": f"{Decimal(day.unit_seconds) / 3600:,.2f}",
        "share_micro": day.share_micro,
    }


def _open(request: HttpRequest, principal: Principal, form: AccountForm) -> HttpResponse:
    data = form.cleaned_data
    reauth.prove(request, principal, data["password"])
    with reauth.counted(request, principal.user):
        return once_to(
            claim_of(request, principal, write_only=("password", "code")),
            lambda: payouts.open_account(
                acting=principal, code=data["code"], country=data.get("country")
            ),
            lambda _account: "/provider/payouts",
        )


def _account(provider: Provider) -> PayoutAccountView | None:
    try:
        return billing.payout_account(provider_ref=provider.id)
    except NotFound:
        return None


def _months(provider: Provider) -> list[str]:
    """Months with a statement, newest first."""
    first, last = billing.first_statement_at(provider_ref=provider.id), now()
    if first is None:
        return []
    first = first.astimezone(UTC)
    count = (last.year - first.year) * 12 + last.month - first.month + 1
    numbers = (last.year * 12 + last.month - 1 - back for back in range(min(count, _MONTHS)))
    return [f"{number // 12}-{number % 12 + 1:02d}" for number in numbers]


@page(scope="provider:read")
def statement(request: HttpRequest, principal: Principal, month: str) -> HttpResponse:
    provider = onboard.own_provider(principal)
    view = billing.statement(provider_ref=provider.id, month=month_of(month))
    context = {"statement": view, "month": f"{view.month:%Y-%m}"}
    return show(request, principal, "portal/statement.html", context)


@page(scope="provider:read")
def statement_csv(request: HttpRequest, principal: Principal, month: str) -> HttpResponse:
    provider = onboard.own_provider(principal)
    return csv_of(billing.statement(provider_ref=provider.id, month=month_of(month)))


urls = [
    path("provider/payouts", money),
    path("provider/statements/<str:month>", statement),
    path("provider/statements/<str:month>/export.csv", statement_csv),
]
