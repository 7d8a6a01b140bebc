"""While the switch read_only is on, every change outside the API is refused here.

The API refuses by itself (api/base.py): only there it is known whose Idempotency-Key a request
carries, and what was answered before is answered again. Signing in and out and turning switches go
on, or nobody could turn it off; Stripe's events are stored, or they would be lost. A view that is
asked by POST and changes nothing says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

from django.http import HttpRequest, HttpResponse

from marketplace.accounts import switches
from marketplace.http.api.base import ApiView
from marketplace.http.api.schema import CHANGING
from marketplace.http.portal.base import principal_in, refused

_OPEN: Final = frozenset(
    {
        *("/sign-in", "/sign-in/code", "/sign-out", "/admin/logout/", "/webhooks/stripe"),
        *("/staff/switches", "/staff/look/end"),
    }
)
V = TypeVar("V", bound=Callable[..., Any])


def changes_nothing(view: V) -> V:
    """Let this view be asked by POST while the switch is on."""
    view.changes_nothing = True  # type: ignore[attr-defined]
    return view


class ReadOnlyMiddleware:
    """Behind authentication: the page of a refusal has its reader's frame."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_view(
        self, request: HttpRequest, view: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> HttpResponse | None:
        """A page that says why, instead of the view."""
        if request.method not in CHANGING or request.path in _OPEN:
            return None
        if getattr(view, "changes_nothing", False):
            return None
        view_class = getattr(view, "cls", None)
        if isinstance(view_class, type) and issubclass(view_class, ApiView):
            return None
        refusal = switches.read_only()
        if refusal is None:
            return None
        switches.HELD.labels(switches.READ_ONLY, "request").inc()
        response = refused(request, principal_in(request), refusal)
        response["Retry-After"] = str(switches.RETRY_AFTER_S)
        response["Cache-Control"] = "no-store"
        return response
