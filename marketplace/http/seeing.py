"""Who a session of the portal is: its person, or one of the staff who looks as an organization.

This is the one place that decides it, for pages and for the API's session alike; keys are never
part of it. While somebody looks everything is closed but the pages named here, so that a page added
later shows nothing to staff before somebody decided that it may. Closed on purpose are: secrets and
registry logins, API and SSH keys, webhooks, templates and the form of an order (they carry values
of the organization's own), the person's settings, terminal, log and ports of a machine, whatever is
a file, and the API.
"""

from __future__ import annotations

from typing import Final
from uuid import UUID

from django.http import HttpRequest

from marketplace.accounts import looks
from marketplace.accounts.access import Principal, principal_of
from marketplace.models import Look, User

# In the session: the look that it is in.
KEY: Final = "look"
# And the id of the organization that a person of several works for.
CHOSEN: Final = "organization"
END: Final = "/staff/look/end"
# Routes as the urlconf writes them.
OPEN: Final = frozenset(
    {
        *("", "rentals", "rentals/<str:rental>", "rentals/<str:rental>/live"),
        *("charges/<str:charge>", "volumes", "volumes/<str:volume>", "reports"),
        *("billing", "billing/transactions", "billing/usage", "billing/budgets", "billing/tax"),
        *("billing/invoices", "billing/invoices/<str:invoice>"),
        *("provider", "provider/earnings", "provider/economics", "provider/capacity"),
        *("provider/payouts", "provider/statements/<str:month>"),
        *("provider/clusters/<str:cluster>/preflight", "provider/offers/<str:offer>/visibility"),
        *("rentals/changes", "rentals/<str:rental>/changes", "rentals/<str:rental>/charts"),
        *("rentals/<str:rental>/certificate", "projects", "audit", "team"),
        *("provider/offers", "provider/reliability", "provider/clusters/<str:cluster>"),
        *("provider/clusters/<str:cluster>/preflight/live", "cards", "cards/<str:card>"),
        *("compare", "terms", "provider-rules", "styleguide"),
    }
)


def who(request: HttpRequest) -> Principal | None:
    """Whom this request's session acts for; None for a stranger."""
    user = getattr(request, "user", None)
    if not isinstance(user, User) or not user.is_active:
        return None
    look = look_of(request)
    if look is not None:
        return looks.principal_in(look)
    return principal_of(user, chosen=request.session.get(CHOSEN))


def look_of(request: HttpRequest) -> Look | None:
    """The look that the session is in, while it lasts."""
    held, user = request.session.get(KEY), request.user
    if not isinstance(held, str) or not isinstance(user, User) or not user.is_active:
        return None
    return looks.current(user, UUID(held))


def enter(request: HttpRequest, look: Look) -> None:
    """Let the session be in this look."""
    request.session[KEY] = str(look.pk)


def leave(request: HttpRequest) -> UUID | None:
    """Let the session be its person's own again; which look it was in."""
    held = request.session.pop(KEY, None)
    return UUID(held) if isinstance(held, str) else None
