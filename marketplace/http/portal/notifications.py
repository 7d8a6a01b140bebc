"""Which kinds of mail a person gets, under Settings."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _

from marketplace.accounts import letters
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import go, page, show

_HERE = "/settings/notifications"


@page()
def notifications(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The kinds; POST names those that stay on."""
    optional = {name for name, kind in letters.KINDS.items() if not kind.required}
    if request.method == "POST":
        off = optional - set(request.POST.getlist("on"))
        once(None, lambda: letters.choose(user=principal.user, off=off), lambda _none: (200, None))
        messages.success(request, _("Saved. It counts for mails from now on."))
        return go(_HERE)
    context = {
        "kinds": [
            (name, kind, letters.wants(principal.user, name))
            for name, kind in letters.KINDS.items()
        ]
    }
    return show(request, principal, "portal/notifications.html", context)


urls = [path("settings/notifications", notifications)]
