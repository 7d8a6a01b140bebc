"""Who is calling: a bearer key or the portal's session, turned into a Principal.

``request.user`` is a :class:`marketplace.accounts.access.Principal` behind these classes.
"""

from __future__ import annotations

from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.auth.models import AnonymousUser
from django.db.models import Model
from django.http import HttpRequest, HttpResponse
from django.middleware.csrf import CsrfViewMiddleware
from rest_framework.authentication import BaseAuthentication, get_authorization_header
from rest_framework.exceptions import AuthenticationFailed
from rest_framework.request import Request

from marketplace.accounts import keys
from marketplace.accounts.access import Principal
from marketplace.http import seeing
from marketplace.models import ApiKey, User
from provisioner.contracts.reports import Reporting
from provisioner.facade import reports


class ApiKeyAuthentication(BaseAuthentication):
    """``Authorization: Bearer gy_live_<id>_<secret>``."""

    def authenticate(self, request: Request) -> tuple[Principal, ApiKey | None] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        if not scheme:
            return None
        if scheme.lower() != "bearer":
            raise AuthenticationFailed(
                "The Authorization header must read `Bearer gy_live_…`. Send an API key."
            )
        principal = keys.authenticate(token.strip())
        if principal is None:
            raise AuthenticationFailed(
                "This API key is unknown, revoked or expired. Make a new one in the portal or "
                "with POST /api/v1/api-keys."
            )
        return principal, principal.key

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="gpuyard"'


class InstanceTokenAuthentication(BaseAuthentication):
    """``Authorization: Bearer gy_rep_<instance>_<secret>``: the reporter in a machine, and nobody
    else. It makes no Principal, so no other operation can be reached with it."""

    def authenticate(self, request: Request) -> tuple[Reporting, None] | None:
        scheme, _, token = get_authorization_header(request).decode("latin-1").partition(" ")
        found = reports.reporting(token=token.strip()) if scheme.lower() == "bearer" else None
        if found is None:
            raise AuthenticationFailed(
                "Only the reporter of a machine that runs may report, with the token from that "
                "machine's secret (`Bearer gy_rep_…`). API keys and sessions do not serve here."
            )
        return found, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="gpuyard"'


class SessionAuthentication(BaseAuthentication):
    """The portal's session cookie; changing requests need the CSRF token in X-CSRFToken."""

    def authenticate(self, request: Request) -> tuple[Principal, ApiKey | None] | None:
        principal = seeing.who(request._request)
        if principal is None:
            return None
        check = _CsrfCheck(lambda _: None)  # type: ignore[arg-type]
        check.process_request(request._request)
        reason = check.process_view(request._request, _nothing, (), {})
        if reason:
            raise AuthenticationFailed(
                "The session needs its CSRF token in the header X-CSRFToken with every change "
                f"({reason}). POST /api/v1/session gives it."
            )
        return principal, None

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="gpuyard"'


class StaffMayLook(BaseBackend):
    """Every member of staff may see every record in Django admin, and change none by that."""

    def has_perm(
        self, user_obj: AbstractBaseUser | AnonymousUser, perm: str, obj: Model | None = None
    ) -> bool:
        verb = perm.partition(".")[2].partition("_")[0]
        return verb == "view" and isinstance(user_obj, User) and user_obj.is_staff

    def has_module_perms(self, user_obj: AbstractBaseUser | AnonymousUser, app_label: str) -> bool:
        return isinstance(user_obj, User) and user_obj.is_active and user_obj.is_staff


def attempted_name(request: HttpRequest, credentials: dict[str, str] | None) -> str:
    """django-axes' hook: whose password was tried, written in one way.

    Sign-in compares addresses without case, so the count of wrong tries must too.
    """
    given = (credentials or {}).get("username") or request.POST.get("username", "")
    return given.strip().lower()


def _nothing(request: HttpRequest) -> HttpResponse:
    raise NotImplementedError("the check never calls the view")


class _CsrfCheck(CsrfViewMiddleware):
    def _reject(self, request: object, reason: str) -> str:
        return reason
