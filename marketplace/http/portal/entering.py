"""From a right password to a session: at once, or by way of the second factor's page.

In between nobody is signed in. The session only remembers whose password was right, for minutes,
and no longer than that password and that second factor are in force.
"""

from __future__ import annotations

import hmac
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth import login
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts import join, second_factor
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http import reauth
from marketplace.http.portal.base import DEAR, blame, go, next_url, page, posted, show, status_of
from marketplace.http.portal.entry_forms import CodeForm
from marketplace.models import User

_BACKEND = "django.contrib.auth.backends.ModelBackend"
_HALF = "password_was_right"
# Long enough to look for the telephone.
_WAITS = timedelta(minutes=10)


def enter(request: HttpRequest, user: User, following: str) -> HttpResponse:
    """Sign in somebody whose password was right, or ask for the code first."""
    if user.second_factor_at is None:
        login(request, user, backend=_BACKEND)
        return go(following)
    request.session.cycle_key()
    request.session[_HALF] = {
        "user": str(user.pk),
        "hash": user.get_session_auth_hash(),
        "until": (now() + _WAITS).timestamp(),
    }
    return go(f"/sign-in/code?{urlencode({'next': following})}")


@page(public=True, cost=DEAR)
def ask_code(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    """The second step of signing in."""
    user = _half(request)
    if user is None:
        return go(f"/sign-in?{urlencode({'next': next_url(request)})}")
    form = CodeForm(posted(request))
    refusal: Refusal | None = None
    if request.method == "POST" and form.is_valid():
        try:
            _spend(request, user, form.cleaned_data["code"])
        except Refusal as error:
            refusal = blame(form, error)
        else:
            del request.session[_HALF]
            login(request, user, backend=_BACKEND)
            return go(next_url(request))
    context: dict[str, Any] = {
        "form": form,
        "title": _("One more step"),
        "lead": _("Your password is right. Now the code that your app shows for gpuyard."),
        "submit": _("Sign in"),
        "refusal": refusal,
        "next": next_url(request),
    }
    status = 422 if form.errors else status_of(refusal)
    return show(request, None, "portal/sign_in_code.html", context, status=status)


def _half(request: HttpRequest) -> User | None:
    """Whose password was right in this session; None when nobody's, or too long ago."""
    found = request.session.get(_HALF)
    if not isinstance(found, dict) or found["until"] < now().timestamp():
        return None
    user = join.person(UUID(found["user"]))
    same = user and hmac.compare_digest(user.get_session_auth_hash(), found["hash"])
    return user if same else None


def _spend(request: HttpRequest, user: User, code: str) -> None:
    with reauth.counted(request, user):
        once(None, lambda: second_factor.spend(user=user, code=code), lambda _none: (200, None))


urls = [path("sign-in/code", ask_code)]
