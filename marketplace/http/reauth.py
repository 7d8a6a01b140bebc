"""Ask for the password again, just before something that must not happen on a borrowed session.

A key or a session shows that somebody signed in once; the password shows that it is the person,
now. There is no second factor on this platform yet: when there is one, this is where it is asked.
Wrong tries count and lock like those of the sign-in.
"""

from __future__ import annotations

from typing import Final

from django.contrib.auth import authenticate
from django.http import HttpRequest

from kernel.errors import InvalidRequest
from marketplace.accounts.access import Principal
from marketplace.models import User

SECOND_FACTOR: Final = "not_available"


def prove(request: HttpRequest, principal: Principal, password: str) -> None:
    """InvalidRequest unless the password is the acting person's own."""
    found = authenticate(request, username=principal.user.email, password=password)
    if not isinstance(found, User) or found.pk != principal.user.pk:
        raise InvalidRequest(
            {"password": ["is not yours, or there were too many wrong tries"]},
            "The password is not yours, or there were too many wrong tries. Nothing was changed. "
            "Try again in a while, or set a new password.",
        )
