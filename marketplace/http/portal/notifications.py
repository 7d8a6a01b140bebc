"""Which kinds of mail a person gets, and in which language, under Settings."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _

from kernel.errors import InvalidRequest
from marketplace.accounts import letters
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import go, page, refused, show

_HERE = "/settings/notifications"


@page()
def notifications(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The kinds and the language; POST names the kinds that stay on."""
    optional = {name for name, kind in letters.KINDS.items() if not kind.required}
    if request.method == "POST":
        off = optional - set(request.POST.getlist("on"))
        language = request.POST.get("language") or None
        try:
            once(
                None,
                lambda: letters.choose(user=principal.user, off=off, language=language),
                lambda _none: (200, None),
            )
        except InvalidRequest as refusal:
            return refused(request, principal, refusal)
        messages.success(request, _("Saved. It counts for mails from now on."))
        return go(_HERE)
    context = {
        "kinds": [
            (name, kind, letters.wants(principal.user, name))
            for name, kind in letters.KINDS.items()
        ],
        "languages": settings.LANGUAGES,
    }
    return show(request, principal, "portal/notifications.html", context)


urls = [path("settings/notifications", notifications)]
