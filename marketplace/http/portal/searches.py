"""Saved searches: the list, saving the filters of the catalogue, forgetting them."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts.access import Principal, visible
from marketplace.catalog import saved
from marketplace.http.portal.base import (
    blame,
    claim_of,
    once_to,
    page,
    posted,
    show_form,
)
from marketplace.models import SavedSearch

_HOME = "/searches"


class SearchForm(forms.Form):
    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    query = forms.CharField(
        label=gettext_lazy("Filters, as in the catalogue's address"),
        required=False,
        max_length=saved.LONGEST,
        widget=forms.TextInput(attrs={"class": "input--mono", "spellcheck": "false"}),
    )
    notify = forms.BooleanField(
        label=gettext_lazy("Mail me when one is free, once a day at most"),
        required=False,
        initial=True,
    )


@page(scope="rentals:read")
def search_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The list; POST adds one."""
    form, refusal = SearchForm(posted(request)), None
    if request.method == "POST":
        principal.require("rentals:write")
        if form.is_valid():
            try:
                answer = once_to(
                    claim_of(request, principal),
                    lambda: saved.create(acting=principal, **form.cleaned_data),
                    lambda _made: _HOME,
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("The search is saved."))
                return answer
    rows = visible(SavedSearch, principal).select_related("created_by").order_by("-id")
    context = {
        "searches": rows,
        "may_write": "rentals:write" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/searches.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="rentals:write")
def forget(request: HttpRequest, principal: Principal, search: str) -> HttpResponse:
    return once_to(None, lambda: saved.remove(acting=principal, search_id=search), lambda _: _HOME)


urls = [path("searches", search_list), path("searches/<str:search>/delete", forget)]
