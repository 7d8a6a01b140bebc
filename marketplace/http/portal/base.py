"""What every page starts from: who looks, refusals as pages, forms that count once."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, TypeVar
from urllib.parse import urlencode, urlsplit

from django.contrib.auth.views import redirect_to_login
from django.forms import Form
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.shortcuts import render
from django.utils.http import url_has_allowed_host_and_scheme

from billing import facade as billing
from kernel.clock import now
from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts import freezing
from marketplace.accounts.access import Principal, lacks_factor
from marketplace.accounts.glance import Glance, glance
from marketplace.accounts.idempotency import Claim, blinded, hash_request, once
from marketplace.http import ratelimit, seeing
from marketplace.http.portal.places import navigation
from marketplace.http.problems import PROBLEMS, rate_limited
from marketplace.models import Organization
from marketplace.rentals.ladder import standing

View = Callable[..., HttpResponse]
T = TypeVar("T")

SEE_OTHER = 303
# In the session: the address of an order that waits for money.
ORDER = "order"
# What a stranger's form costs of an address's request tokens: ten times a page.
DEAR = 10.0
_HIDDEN = ("csrfmiddlewaretoken", "idempotency_key")


def page(
    *, scope: str | None = None, public: bool = False, cost: float = 1.0
) -> Callable[[View], View]:
    """Make ``view(request, principal, **parts)`` a page.

    public: strangers may look, and ``principal`` is None for them; otherwise they are sent to the
    sign-in page. scope: needed from whoever is signed in. Refusals become panels. Every answer is
    private to its reader and never kept by a cache.
    """

    def wrap(view: View) -> View:
        @wraps(view)
        def wrapped(request: HttpRequest, **parts: Any) -> HttpResponse:
            principal = principal_in(request)
            try:
                _throttle(request, principal, cost)
                if principal is None and not public:
                    return _sign_in_first(request)
                if principal is not None and scope is not None:
                    principal.require(scope)
                response = view(request, principal, **parts)
            except Refusal as refusal:
                response = refused(request, principal, refusal)
            response.setdefault("Cache-Control", "no-store")
            return response

        return wrapped

    return wrap


def is_htmx(request: HttpRequest) -> bool:
    """Whether a piece of the page is wanted, not the page."""
    return request.headers.get("HX-Request") == "true"


def principal_in(request: HttpRequest) -> Principal | None:
    """Who is signed in, or looked as by staff; None for a stranger."""
    return seeing.who(request)


def _throttle(request: HttpRequest, principal: Principal | None, cost: float) -> None:
    name = str(principal.user.pk) if principal else str(request.META.get("REMOTE_ADDR"))
    wait = ratelimit.requests.take(name, cost if request.method == "POST" else 1.0)
    if wait:
        raise rate_limited(wait)


def _sign_in_first(request: HttpRequest) -> HttpResponse:
    if not is_htmx(request):
        target = request.get_full_path() if request.method == "GET" else "/"
        return redirect_to_login(target, "/sign-in")
    page_url = urlsplit(request.headers.get("HX-Current-URL", "/"))
    following = urlencode({"next": page_url._replace(scheme="", netloc="").geturl()})
    return HttpResponse(status=204, headers={"HX-Redirect": f"/sign-in?{following}"})


def show(
    request: HttpRequest,
    principal: Principal | None,
    template: str,
    context: dict[str, Any] | None = None,
    *,
    status: int = 200,
) -> HttpResponse:
    """A whole page with its frame: who is signed in, what they can spend, where they may go."""
    shown = {**frame(request.path, principal), **(context or {})}
    return render(request, template, shown, status=status)


def frame(path: str, principal: Principal | None) -> dict[str, Any]:
    """What the frame of the page at ``path`` shows."""
    context: dict[str, Any] = {"principal": principal, "is_provider": False}
    if principal is not None:
        context["lacks_factor"] = lacks_factor(principal.user)
        context["unverified"] = principal.user.email_verified_at is None
        if principal.organization is not None:
            seen = glance(principal.organization.id)
            context["served_at"], context["is_provider"] = seen.at, seen.supplies
            context["frozen"] = freezing.standing(principal.organization)
            context |= _money(principal, principal.organization, seen)
    if "served_at" not in context:
        context["served_at"] = now()
    context["nav"] = navigation(path, principal, is_provider=context["is_provider"])
    return context


def money(principal: Principal) -> dict[str, Any]:
    """What the frame says of an organization's money, for a piece that keeps it up to date."""
    return _money(principal, principal.org, glance(principal.org.id))


def _money(principal: Principal, organization: Organization, seen: Glance) -> dict[str, Any]:
    if "billing:read" not in principal.scopes:
        return {}
    balance = billing.balance(org_ref=organization.id)
    funds = standing(balance, grace_until=seen.grace_until, at=seen.at)
    return {"balance": balance, "funds": funds}


def piece(
    request: HttpRequest, template: str, context: dict[str, Any], *, status: int = 200
) -> HttpResponse:
    """A piece of a page for htmx."""
    return render(request, template, context, status=status)


def refused(request: HttpRequest, principal: Principal | None, refusal: Refusal) -> HttpResponse:
    """The refusal as a page of its own, or as a panel where htmx asked for a piece."""
    status, title, _ = PROBLEMS[refusal.slug]
    if is_htmx(request):
        answer = piece(request, "components/refusal.html", {"refusal": refusal}, status=status)
        if refusal.slug == "rate_limited":
            answer["HX-Reswap"] = "none"  # whoever looks every second simply looks again
        return answer
    context = {"refusal": refusal, "title": title}
    return show(request, principal, "portal/message.html", context, status=status)


def status_of(refusal: Refusal | None) -> int:
    """The HTTP status of a page that shows this refusal, 200 without one."""
    return PROBLEMS[refusal.slug][0] if refusal is not None else 200


def show_form(
    request: HttpRequest,
    principal: Principal | None,
    template: str,
    *forms: Form,
    refusal: Refusal | None = None,
    context: dict[str, Any] | None = None,
) -> HttpResponse:
    """A page with forms: the first one is ``form`` there. With what is wrong in one of them, or
    with what refused it, the page has that status; it always has a key for what is sent next."""
    status = 422 if any(form.errors for form in forms) else status_of(refusal)
    parts = {"form": forms[0] if forms else None, "refusal": refusal, "idempotency_key": new_key()}
    return show(request, principal, template, {**parts, **(context or {})}, status=status)


def blame(form: Form, refusal: Refusal) -> Refusal | None:
    """Put a refusal's messages beside the fields they are about; what is left to say above.

    Names that the form does not show stay in the panel: nothing is swallowed.
    """
    if not isinstance(refusal, InvalidRequest):
        return refusal
    left = {}
    shown = {bound.name for bound in form.visible_fields()}
    for name, messages in refusal.extra["errors"].items():
        field = name if name in shown else name.partition(".")[0]  # of a part: "ports.0.name"
        if field in shown:
            form.add_error(field, messages)
        else:
            left[name] = messages
    return InvalidRequest(left) if left else None


def posted(request: HttpRequest) -> QueryDict | None:
    """The data of a form that was sent; None makes a form that is only shown."""
    return request.POST if request.method == "POST" else None


def new_key() -> str:
    """An Idempotency-Key for a form that is about to be shown."""
    return uuid.uuid4().hex


def claim_of(
    request: HttpRequest, principal: Principal, *, write_only: Sequence[str] = ()
) -> Claim:
    """The form's own Idempotency-Key: sent twice by a double click, it counts once.

    write_only: fields whose values must not be guessed from what is remembered of the request.
    """
    key = request.POST.get("idempotency_key", "")
    if not (0 < len(key) <= 255 and key.isascii() and key.isprintable()):
        raise Refusal(
            "malformed",
            "The form came without its key, so we could not tell a repetition from a new "
            "request. Nothing was done. Open the page again and send the form.",
        )
    sent = {name: request.POST.getlist(name) for name in request.POST if name not in _HIDDEN}
    return Claim(
        organization_ref=principal.owner_ref,
        key=key,
        request_hash=hash_request("POST", request.path, blinded(sent, write_only)),
    )


def go(url: str) -> HttpResponse:
    """See other: a page that a reload does not send again."""
    return HttpResponseRedirect(url, status=SEE_OTHER)


def once_to(claim: Claim | None, act: Callable[[], T], target: Callable[[T], str]) -> HttpResponse:
    """Run an action once and go where its result is shown; a repetition goes to the same place."""
    rendered = once(claim, act, lambda result: (SEE_OTHER, {"location": target(result)}))
    return go(json.loads(rendered.body)["location"])


def next_url(request: HttpRequest, default: str = "/") -> str:
    """Where the reader wanted to go; never another site."""
    wanted = request.POST.get("next") or request.GET.get("next") or ""
    safe = url_has_allowed_host_and_scheme(
        wanted, allowed_hosts={request.get_host()}, require_https=request.is_secure()
    )
    return wanted if safe else default
