"""X-Request-Id on every answer and in every log line on the way to it; pages compressed."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware

from kernel.ids import new_id

log = structlog.get_logger("http")

_ACCEPTABLE = re.compile(r"[A-Za-z0-9._-]{8,64}")
_QUIET = {"/healthz", "/readyz", "/metrics"}  # probed every few seconds: noise in a log


class RequestIdMiddleware:
    """Takes the caller's X-Request-Id when it is harmless, else makes one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get("X-Request-Id", "")
        request_id = given if _ACCEPTABLE.fullmatch(given) else new_id().hex
        started = time.monotonic()
        with structlog.contextvars.bound_contextvars(request_id=request_id):
            response = self.get_response(request)
            if request.path not in _QUIET:
                log.info(
                    "request",
                    method=request.method,
                    path=request.path,
                    status=response.status_code,
                    ms=round((time.monotonic() - started) * 1000, 1),
                )
        response["X-Request-Id"] = request_id
        return response


class CompressPagesMiddleware(GZipMiddleware):
    """Pages are a tenth of their size on the wire. Their CSRF tokens are masked anew each time and
    the length is blurred by Django, so what is compressed beside them cannot be guessed by it.
    Answers of the API stay as they are: programs ask often, for little, over near lines.
    """

    def process_response(
        self, request: HttpRequest, response: HttpResponseBase
    ) -> HttpResponseBase:
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        return super().process_response(request, response)
