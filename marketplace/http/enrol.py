"""What an owner applies: no page and no part of the API, but files of YAML, read by kubectl.

The bundle is everybody's to read. The address of an enrolment holds a signed token instead of
credentials, because it is read by a program that has none. Whoever has it within its hour has the
keys of that cluster's agent.
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


@require_GET
def bundle(request: HttpRequest, name: str) -> HttpResponse:
    """One file of the provider bundle."""
    found = agents.bundle_files().get(name)
    if found is None:
        text = f"There is no such file. There are: {', '.join(sorted(agents.bundle_files()))}.\n"
        return HttpResponse(text, status=404, content_type="text/plain; charset=utf-8")
    response = HttpResponse(found.read_bytes(), content_type="text/plain; charset=utf-8")
    response["Cache-Control"] = "no-cache"
    return response


urls = [path("enrol/<str:token>", enrol), path("bundle/<str:name>", bundle)]
