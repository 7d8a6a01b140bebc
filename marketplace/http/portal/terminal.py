"""The terminal of a rental: its page, and the grants that the page asks for while it is open."""

from __future__ import annotations

from csp.constants import NONCE, SELF
from csp.decorators import csp_update
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from marketplace.accounts.access import Principal
from marketplace.http.portal.base import page, show
from marketplace.http.readonly import changes_nothing
from marketplace.rentals import read
from marketplace.rentals.present import describe
from marketplace.rentals.terminal import address_of, grant_for


@changes_nothing
@csp_update({"style-src": [SELF, NONCE]})  # xterm.js writes its colours into style elements
@page(scope="rentals:write")
def terminal(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """The page; asked by POST, a grant as JSON and the address that takes it."""
    found = read.get(principal, rental)
    if request.method == "POST":
        grant = grant_for(principal, found)
        return JsonResponse({"grant": grant, "address": address_of(grant)})
    return show(request, principal, "portal/terminal.html", {"rental": describe(found)})


urls = [path("rentals/<str:rental>/terminal", terminal)]
