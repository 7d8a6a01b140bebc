"""The billing address and tax ids of an organization, and the rate found for them."""

from __future__ import annotations

from django import forms
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from billing.contracts.tax import TaxAddress, TaxId, TaxProfileView
from billing.facade import tax as billing
from kernel.errors import Refusal
from marketplace.accounts import tax
from marketplace.accounts.access import Principal
from marketplace.catalog.taxes import percent, reason_text
from marketplace.http.portal.base import blame, once_to, page, posted, show_form

_HOME = "/billing/tax"


class TaxForm(forms.Form):
    country = forms.CharField(
        label=_("Country"), max_length=2, help_text=_("Two letters, such as DE or US.")
    )
    postal_code = forms.CharField(label=_("Postal code"), max_length=20, required=False)
    state = forms.CharField(label=pgettext_lazy("address", "State"), max_length=100, required=False)
    city = forms.CharField(label=_("City"), max_length=100, required=False)
    line1 = forms.CharField(label=_("Street"), max_length=200, required=False)
    tax_ids = forms.CharField(
        label=_("Tax ids"),
        max_length=400,
        required=False,
        help_text=_("Type and number, several with commas: eu_vat DE123456789."),
    )

    def clean_country(self) -> str:
        return str(self.cleaned_data["country"]).strip().upper()

    def clean_tax_ids(self) -> list[TaxId]:
        """Pairs of type and number."""
        found = []
        for part in str(self.cleaned_data["tax_ids"]).split(","):
            if part.strip():
                kind, _space, value = part.strip().partition(" ")
                if not value:
                    raise forms.ValidationError(_("Write a type and a number with a space."))
                found.append(TaxId(kind, value.strip()))
        return found


@page(scope="billing:read")
def tax_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The address as it is; POST changes it."""
    view = billing.tax_profile(org_ref=principal.org.id)
    form = TaxForm(posted(request), initial=_initial(view))
    refusal = None
    if request.method == "POST":
        principal.require("billing:write")
        if form.is_valid():
            data = dict(form.cleaned_data)
            ids = data.pop("tax_ids")
            try:
                return once_to(
                    None,
                    lambda: tax.set_profile(
                        acting=principal, address=TaxAddress(**data), tax_ids=ids
                    ),
                    lambda _view: _HOME,
                )
            except Refusal as error:
                refusal = blame(form, error)
    context = {
        "profile": view,
        "rate": None if view.ppm is None else percent(view.ppm),
        "why": reason_text(view.reason),
        "may_pay": "billing:write" in principal.scopes,
    }
    return show_form(request, principal, "portal/tax.html", form, refusal=refusal, context=context)


def _initial(view: TaxProfileView) -> dict[str, str]:
    address = view.address or TaxAddress("")
    ids = ", ".join(f"{one.type} {one.value}" for one in view.tax_ids)
    return {**vars(address), "tax_ids": ids}


urls = [path("billing/tax", tax_page)]
