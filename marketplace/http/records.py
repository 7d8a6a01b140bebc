"""Django admin without a sign-in of its own: it would open a session by the password alone."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from django.contrib.admin import AdminSite
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect

from marketplace.accounts.access import lacks_factor


class RecordsSite(AdminSite):
    """Records to look at, for staff whose second factor is on."""

    site_header = site_title = "gpuyard"
    index_title = "Records"

    def has_permission(self, request: HttpRequest) -> bool:
        user: Any = request.user
        return super().has_permission(request) and not lacks_factor(user)

    def login(self, request: HttpRequest, extra_context: object = None) -> HttpResponse:
        """The portal's sign-in; whoever is signed in and may not look is told so there."""
        if request.user.is_authenticated:
            return redirect("/staff/")
        following = request.GET.get("next", "/admin/")
        return HttpResponseRedirect(f"/sign-in?{urlencode({'next': following})}")
