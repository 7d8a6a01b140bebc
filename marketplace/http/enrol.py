"""What an agent's enrolment command applies: no page and no part of the API, but a file of YAML.

Its address holds a signed token instead of credentials, because it is read by a program that has
none. Whoever has it within its hour has the keys of that cluster's agent.
"""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.http import require_GET

from kernel.errors import NotFound
from marketplace.providers import agents

_GONE = "This link is not ours or has expired. Ask for a new one at your cluster's page.\n"


@require_GET
def enrol(request: HttpRequest, token: str) -> HttpResponse:
    try:
        text, status = agents.file_of(token), 200
    except NotFound:
        text, status = _GONE, 404
    response = HttpResponse(text, status=status, content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-store"
    response["Referrer-Policy"] = "no-referrer"
    return response


urls = [path("enrol/<str:token>", enrol)]
