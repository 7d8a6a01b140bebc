"""Reporting that something is wrong with a rental or a charge, and the answers."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.errors import NotFound, Refusal
from kernel.money import CURRENCY
from marketplace.accounts.access import Principal
from marketplace.http.api.paging import keyset_page
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
from marketplace.rentals import problems, read
from marketplace.rentals.present import describe_charge

_HERE = "/reports"
_PAGE = 50


class ReportForm(forms.Form):
    text = forms.CharField(
        label=gettext_lazy("What is wrong?"),
        max_length=problems.LONGEST,
        help_text=gettext_lazy(
            "What you saw, and what you expected. No passwords or keys, please."
        ),
        widget=forms.Textarea(attrs={"rows": 6}),
    )


@page(scope="rentals:read")
def report_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The organization's reports with their answers, newest first."""
    rows, following = keyset_page(
        problems.own(principal), order=("-id",), cursor=request.GET.get("cursor"), limit=_PAGE
    )
    context = {
        "reports": [{**problems.describe(row), "name": _name(row)} for row in rows],
        "next_cursor": following,
        "more_query": urlencode({"cursor": following}),
    }
    return show(request, principal, "portal/reports.html", context)


def _name(row: Any) -> str:
    return row.rental.name or row.rental.public_id if row.rental else _("A volume's charge")


@page(scope="rentals:read")
def report_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """A form about the rental or the charge in the address; what it is about is shown first."""
    given = request.POST if request.method == "POST" else request.GET
    rental, charge = given.get("rental") or None, given.get("charge") or None
    about = _about(principal, rental, charge)
    form = ReportForm(posted(request))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                claim_of(request, principal),
                lambda: problems.report(
                    acting=principal,
                    rental_id=rental,
                    charge_id=charge,
                    text=form.cleaned_data["text"],
                ),
                lambda _row: _HERE,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("We have it. The answer comes here and by mail."))
            return answer
    context = {**about, "form": form, "refusal": refusal, "idempotency_key": new_key()}
    return show_form(
        request, principal, "portal/report_new.html", form, refusal=refusal, context=context
    )


def _about(principal: Principal, rental: str | None, charge: str | None) -> dict[str, Any]:
    """What the report is about, looked up: a foreign id is not found before anybody types."""
    if charge is not None and rental is None:
        line, size, _proof = read.evidence(principal, charge)
        return {"charge": describe_charge(line, CURRENCY, size)}
    if rental is not None and charge is None:
        return {"rental": read.get(principal, rental)}
    raise NotFound("rental or charge")


urls = [
    path("reports", report_list),
    path("reports/new", report_page),
]
