"""Errors as RFC 9457 problem documents: one table of types, one way out.

Domain code raises :class:`kernel.errors.Refusal` with a slug of :data:`PROBLEMS`; everything else
that can go wrong at the edge is translated here. An unknown exception is logged with a correlation
id, and the caller gets that id and never a stack.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import structlog
from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db.utils import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.views import defaults
from rest_framework import exceptions as drf
from rest_framework.response import Response

from kernel.errors import InvalidRequest, Refusal
from kernel.ids import new_id, public

log = structlog.get_logger(__name__)

CONTENT_TYPE = "application/problem+json"

# slug -> (status, title, what to do). The page /problems/<slug> shows all three.
PROBLEMS: dict[str, tuple[int, str, str]] = {
    "malformed": (400, "Malformed request", "Correct the JSON, the header or the address."),
    "unknown_filter": (400, "Unknown filter", "Use one of the names in `allowed`."),
    "invalid_filter": (400, "Invalid filter value", "Correct the value that `filter` names."),
    "invalid_cursor": (400, "Invalid cursor", "Start again without a cursor."),
    "unauthenticated": (401, "Not signed in", "Send a valid API key, or sign in."),
    "insufficient_funds": (402, "Insufficient funds", "Top up at `topup_url`."),
    "payment_requires_action": (402, "Payment needs the card holder", "Open `url`."),
    "insufficient_scope": (403, "Not allowed", "Use a key or a person with the right."),
    "second_factor_required": (403, "Second factor needed", "Switch it on under Settings."),
    "only_looking": (403, "You are only looking", "End the look, then act as yourself."),
    "email_unverified": (403, "E-mail address not verified", "Open the link in our mail."),
    "account_frozen": (403, "Account frozen", "Write to support."),
    "spend_rate_limit": (403, "Spend limit per hour reached", "It rises at `raises_at`."),
    "budget_exceeded": (403, "Budget exceeded", "Raise the budget or end rentals."),
    "quota_exceeded": (403, "Quota exceeded", "End rentals or ask for a higher quota."),
    "not_found": (404, "Not found", "Check the id: it must be one of yours."),
    "method_not_allowed": (405, "Method not allowed", "See the OpenAPI file for the methods."),
    "invalid_transition": (409, "Not possible in this state", "Choose one of `actions`."),
    "price_changed": (409, "Price changed", "Accept `new_quote` or look for another offer."),
    "quote_used": (409, "Quote already used", "Ask for a new quote."),
    "offer_taken": (409, "Offer taken", "Try one of `alternatives`."),
    "no_capacity": (409, "No capacity", "Try one of `relaxations`."),
    "no_free_port": (409, "No raw TCP port is free", "Use protocol http, or try again later."),
    "volume_in_use": (409, "Volume in use", "Detach it first."),
    "data_loss_confirmation_required": (
        409,
        "Data would be lost",
        "Repeat with `confirm_token` to accept that.",
    ),
    "in_progress": (409, "Still being worked on", "Send the same request again in a moment."),
    "quote_expired": (410, "Quote expired", "Ask for a new quote."),
    "version_conflict": (412, "Changed in the meantime", "Read the object again, then decide."),
    "payload_too_large": (413, "Request too large", "Send less."),
    "unsupported_media_type": (415, "Unsupported media type", "Send application/json."),
    "invalid_request": (422, "Invalid request", "Correct the fields that `errors` names."),
    "ssh_key_missing": (422, "SSH key missing", 'Give ssh_keys, or "ssh": false.'),
    "ssh_key_invalid": (422, "SSH key not usable", "Give one public key line of a known type."),
    "template_mismatch": (422, "Card does not fit the template", "Compare `needs` and `has`."),
    "address_forbidden": (422, "Address not allowed", "Use a public address, or ask staff."),
    "idempotency_key_reuse": (422, "Idempotency-Key used before", "Use a new key."),
    "locked": (423, "Locked", "Remove the lock first."),
    "rate_limited": (429, "Too many requests", "Wait as long as Retry-After says."),
    "internal": (500, "Our fault", "Try again; tell support `correlation_id` if it persists."),
    "cluster_unreachable": (503, "Cluster unreachable", "Wait; you are not charged meanwhile."),
    "agent_offline": (503, "Agent offline", "Start the provider's agent."),
    "read_only": (503, "Read-only for now", "Try again later."),
    "unavailable": (503, "Not available now", "Try again in a few seconds."),
}

_EDGE: tuple[tuple[type[Exception], str, str], ...] = (
    (
        drf.ParseError,
        "malformed",
        "The body is not valid JSON (UTF-8, no NaN). Nothing was done. Correct it.",
    ),
    (
        drf.NotAuthenticated,
        "unauthenticated",
        "No credentials came with the request. Send `Authorization: Bearer gy_live_…`, or sign in.",
    ),
    (
        drf.MethodNotAllowed,
        "method_not_allowed",
        "This address does not take that method. See /api/v1/openapi.json for those it takes.",
    ),
    (
        drf.UnsupportedMediaType,
        "unsupported_media_type",
        "The body must be sent with Content-Type: application/json.",
    ),
    (
        drf.NotAcceptable,
        "malformed",
        "The Accept header excludes application/json, the only form there is.",
    ),
    (
        drf.PermissionDenied,
        "insufficient_scope",
        "Your credentials do not allow this.",
    ),
    (
        RequestDataTooBig,
        "payload_too_large",
        "The body is larger than a request of this kind can be. Nothing was done. Send less.",
    ),
    (
        Http404,
        "not_found",
        "There is nothing at this address. Check it against /api/v1/openapi.json.",
    ),
)


def document(refusal: Refusal) -> tuple[int, dict[str, Any]]:
    """The status and the problem document of a refusal."""
    status, title, _ = PROBLEMS[refusal.slug]
    return status, {
        "type": f"/problems/{refusal.slug}",
        "title": title,
        "status": status,
        "detail": refusal.detail,
        **refusal.extra,
    }


def problem_response(refusal: Refusal) -> HttpResponse:
    """A refusal as a plain Django response, for code outside the REST framework."""
    status, body = document(refusal)
    response: HttpResponse = JsonResponse(body, status=status, content_type=CONTENT_TYPE)
    _set_headers(response, refusal)
    return response


def translate(error: Exception) -> Refusal:
    """Any exception as a refusal; unknown ones are logged under a correlation id."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, drf.AuthenticationFailed):
        return Refusal("unauthenticated", str(error.detail))
    if isinstance(error, drf.ValidationError):
        return InvalidRequest(flatten(error.detail))
    for kind, slug, detail in _EDGE:
        if isinstance(error, kind):
            return Refusal(slug, detail)
    return _unexpected(error)


def _unexpected(error: Exception) -> Refusal:
    correlation_id = public("correlation", new_id())
    log.error("unhandled", correlation_id=correlation_id, exc_info=error)
    if isinstance(error, OperationalError | InterfaceError):
        return Refusal(
            "unavailable",
            "The database did not answer; the fault is ours. Send the same request again, with the "
            "same Idempotency-Key.",
            correlation_id=correlation_id,
        )
    return Refusal(
        "internal",
        "Something failed on our side; nothing of this request was kept. Try again, and tell "
        "support the correlation id if it persists.",
        correlation_id=correlation_id,
    )


def rate_limited(wait: float) -> Refusal:
    """429 with the whole seconds to wait."""
    seconds = max(1, math.ceil(wait))
    return Refusal(
        "rate_limited",
        f"Too many requests. Wait {seconds} s and try again.",
        retry_after=seconds,
    )


def exception_handler(error: Exception, context: dict[str, Any]) -> Response:
    """The REST framework's hook."""
    refusal = translate(error)
    status, body = document(refusal)
    response = Response(body, status=status, content_type=CONTENT_TYPE)
    _set_headers(response, refusal)
    return response


def flatten(detail: Any, prefix: str = "") -> dict[str, list[str]]:
    """Nested validation errors as ``{"requirement.gpus": ["…"]}``."""
    if isinstance(detail, dict):
        found: dict[str, list[str]] = {}
        for name, inner in detail.items():
            label = "" if name == "non_field_errors" else str(name)
            path = ".".join(part for part in (prefix, label) if part)
            for key, messages in flatten(inner, path).items():
                found.setdefault(key, []).extend(messages)
        return found
    if isinstance(detail, list):
        found = {}
        for index, inner in enumerate(detail):
            if isinstance(inner, dict | list):
                for key, messages in flatten(inner, f"{prefix}.{index}").items():
                    found.setdefault(key, []).extend(messages)
            else:
                found.setdefault(prefix or "body", []).append(str(inner))
        return found
    return {prefix or "body": [str(detail)]}


def _set_headers(response: HttpResponse, refusal: Refusal) -> None:
    if refusal.slug == "unauthenticated":
        response["WWW-Authenticate"] = 'Bearer realm="gpuyard"'
    if "retry_after" in refusal.extra:
        response["Retry-After"] = str(refusal.extra["retry_after"])
    elif refusal.slug in {"unavailable", "in_progress", "read_only"}:
        response["Retry-After"] = "1"


def problem_page(request: HttpRequest, slug: str) -> HttpResponse:
    """GET /problems/<slug>: what a problem type means, as text that people and programs read."""
    if slug not in PROBLEMS:
        return HttpResponse(
            f"There is no problem type {slug!r}.\n", status=404, content_type="text/plain"
        )
    status, title, remedy = PROBLEMS[slug]
    text = f"{slug}\nHTTP {status}: {title}\n\nWhat to do: {remedy}\n"
    return HttpResponse(text, content_type="text/plain; charset=utf-8")


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Unknown addresses: a problem document under /api, a page elsewhere."""
    if request.path.startswith("/api/"):
        return problem_response(translate(Http404()))
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """An exception outside the REST framework; the caller gets its correlation id."""
    error = sys.exception() or RuntimeError("an error page was asked for without an error")
    refusal = translate(error if isinstance(error, Exception) else RuntimeError(repr(error)))
    if refusal.slug in {"internal", "unavailable"} and not request.path.startswith("/api/"):
        return defaults.server_error(request)
    return problem_response(refusal)


def locked_out(request: HttpRequest, response: HttpResponse, credentials: object) -> HttpResponse:
    """django-axes' hook: too many wrong passwords for one name from one address."""
    if request.path.startswith("/api/"):
        return problem_response(rate_limited(settings.AXES_COOLOFF_TIME * 3600))
    return response
