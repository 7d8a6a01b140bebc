"""While somebody of the staff looks as an organization, everything but looking is refused here.

Before any view, and whatever the view: a page added later changes nothing by being forgotten. Which
pages are open is in seeing.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _

from marketplace.accounts import looks
from marketplace.accounts.access import Principal, only_looking
from marketplace.http import seeing
from marketplace.http.portal.base import refused
from marketplace.http.problems import problem_response

_READING: Final = frozenset({"GET", "HEAD"})


class LookMiddleware:
    """Behind authentication: refuses, before any view, what a look is not for."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """A page that says why, instead of the view."""
        # Who sent no cookie has no session, and their answer shall not depend on one.
        if settings.SESSION_COOKIE_NAME not in request.COOKIES or _by_key(request):
            return None
        if seeing.KEY not in request.session:
            return None
        look = seeing.look_of(request)
        if look is None:
            seeing.leave(request)
            messages.info(request, _("Your look at that organization is over: you are yourself."))
            return None
        if request.method == "POST" and request.path == seeing.END:
            return None
        route = request.resolver_match.route if request.resolver_match else None
        if request.method in _READING and route in seeing.OPEN:
            return None
        return _refused(request, looks.principal_in(look))


def _by_key(request: HttpRequest) -> bool:
    """Whether a key asks the API: it acts for itself, whatever the session beside it is."""
    return request.path.startswith("/api/") and "Authorization" in request.headers


def _refused(request: HttpRequest, principal: Principal) -> HttpResponse:
    if request.path.startswith("/api/"):
        response = problem_response(only_looking())
    else:
        response = refused(request, principal, only_looking())
    response["Cache-Control"] = "no-store"
    return response
