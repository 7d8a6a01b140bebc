"""Ask anew, just before something that must not happen on a borrowed session: password, code.

A key or a session shows that somebody signed in once; the password and a code of the second factor
show that it is the person, now. Wrong tries count and lock like those of the sign-in.

Passwords are tried against a name from an address. Codes are tried by somebody who has the password
already and may have many addresses, so they count against the person from wherever they come: ten
in a quarter of an hour, of a million codes of which three are right.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from axes.handlers.proxy import AxesProxyHandler
from django.conf import settings
from django.contrib.auth import authenticate, update_session_auth_hash
from django.contrib.auth.signals import user_login_failed
from django.http import HttpRequest

from kernel.errors import InvalidRequest
from marketplace.accounts.access import Principal
from marketplace.accounts.second_factor import WrongCode
from marketplace.http.problems import rate_limited
from marketplace.models import User

SECOND_FACTOR: Final = "required"
# Behind the person's name: "#" is in no domain, so no sign-in can count here.
_CODES: Final = "#code"


def prove(request: HttpRequest, principal: Principal, password: str) -> None:
    """InvalidRequest unless the password is the acting person's own."""
    found = authenticate(request, username=principal.user.email, password=password)
    if not isinstance(found, User) or found.pk != principal.user.pk:
        raise InvalidRequest(
            {"password": ["is not yours, or there were too many wrong tries"]},
            "The password is not yours, or there were too many wrong tries. Nothing was changed. "
            "Try again in a while, or set a new password.",
        )


@contextmanager
def counted(request: HttpRequest, user: User) -> Iterator[None]:
    """Count the WrongCode of an action that takes a code; Refusal rate_limited after ten.

    Around the action's transaction: what is counted must outlive its rollback.
    """
    credentials = {"username": f"{user.email}{_CODES}"}
    if not AxesProxyHandler.is_allowed(request, credentials):
        raise rate_limited(settings.AXES_COOLOFF_TIME * 3600)
    try:
        yield
    except WrongCode:
        user_login_failed.send(sender=__name__, credentials=credentials, request=request)
        raise


def keep_session(request: HttpRequest, user: User) -> None:
    """Let this session go on after the second factor was switched: it has just been proven."""
    request.user = user  # the REST framework put the principal there
    update_session_auth_hash(request, user)


def lockout_parameters(attempt: Any, credentials: dict[str, str] | None = None) -> list[Any]:
    """django-axes' hook: what wrong tries are counted against."""
    name = (credentials or {}).get("username") or getattr(attempt, "username", None) or ""
    return ["username"] if str(name).endswith(_CODES) else [["username", "ip_address"]]
