"""The language of an answer: the reader's own choice, else what their browser asks for.

The choice is a cookie and nothing else, so a stranger has one too and nothing is stored about it.
It holds for the length of the request: nothing that runs afterwards in the same thread speaks it.
What programs read stays English whoever asks, and so do Django's record pages, whose models have
English names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.utils.cache import patch_vary_headers

_ENGLISH: Final = ("/api/", "/admin/")


class LanguageMiddleware:
    """Inside the sessions and outside everything that renders, refusals and error pages too.

    Django's own would leave the last reader's language behind in the thread, and would translate
    the API.
    """

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith(_ENGLISH):
            with translation.override(settings.LANGUAGE_CODE):
                return self.get_response(request)
        # Only ever one of settings.LANGUAGES: an unknown or hostile cookie counts as none.
        language = translation.get_language_from_request(request)
        with translation.override(language):
            response = self.get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Language", language)
            patch_vary_headers(response, ("Accept-Language", "Cookie"))
        return response
