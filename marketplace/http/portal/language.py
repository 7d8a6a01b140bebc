"""The switch of languages in the footer: a form, so that no link and no crawler turns it."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from marketplace.accounts.access import Principal
from marketplace.http.portal.base import go, next_url, page
from marketplace.http.readonly import changes_nothing

ADDRESS: Final = "/language"


@changes_nothing
@require_POST
@page(public=True)
def choose(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """Remember the choice in the reader's browser and go back to where it was made."""
    response = go(next_url(request))
    chosen = request.POST.get("language")
    if chosen in dict(settings.LANGUAGES):
        response.set_cookie(
            settings.LANGUAGE_COOKIE_NAME,
            chosen,
            max_age=settings.LANGUAGE_COOKIE_AGE,
            secure=settings.LANGUAGE_COOKIE_SECURE,
            httponly=settings.LANGUAGE_COOKIE_HTTPONLY,
            samesite="Lax",
        )
    return response


def here(request: HttpRequest) -> str:
    """Where the switch on this page leads back to.

    What a form was answered with cannot be asked for again: from there it leads to the page that
    the form was on.
    """
    if request.method in {"GET", "HEAD"}:
        return request.get_full_path()
    before = request.headers.get("Referer", "")
    if not url_has_allowed_host_and_scheme(before, allowed_hosts={request.get_host()}):
        return "/"
    return urlsplit(before)._replace(scheme="", netloc="", fragment="").geturl() or "/"


urls = [path(ADDRESS.removeprefix("/"), choose)]
