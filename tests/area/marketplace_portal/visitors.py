"""People with a browser: Django's client, the forms of a page, and what every page keeps."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any

from django.test import Client

from marketplace.models import User
from tests.market import Renter

PASSWORD = "correct horse battery"


class _Page(HTMLParser):
    """Collects the forms with their fields and whatever a strict content policy would block."""

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.forbidden: list[str] = []
        self._in_script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        for name in found:
            if name == "style" or name.startswith(("on", "hx-on")):
                self.forbidden.append(f"<{tag} {name}>")
        # JSON in a script element is data, which nobody runs: the policy lets it be.
        program = tag == "script" and found.get("type") != "application/json"
        if tag == "style" or (program and "src" not in found):
            self.forbidden.append(f"<{tag}>")
        if tag == "form":
            self.forms.append({"action": found.get("action", ""), "fields": {}})
        if tag in {"input", "button", "textarea", "select"} and self.forms:
            kind = found.get("type", "")
            chosen = kind not in {"radio", "checkbox"} or "checked" in found
            if found.get("name") and chosen and tag != "button":
                self.forms[-1]["fields"].setdefault(found["name"], found.get("value", ""))


def read(html: str) -> _Page:
    """A page, without the footer's switch of languages, which is on every one."""
    page = _Page()
    page.feed(html)
    page.forms = [form for form in page.forms if form["action"] != "/language"]
    return page


@dataclass
class Visitor:
    """A browser, with the person behind it where one is signed in."""

    client: Client = field(default_factory=lambda: Client(raise_request_exception=True))
    renter: Renter | None = None

    @property
    def person(self) -> Renter:
        assert self.renter is not None
        return self.renter

    def get(self, path: str, *, htmx: bool = False, **headers: str) -> Any:
        return self._keep(self.client.get(path, headers=_headers(htmx, headers)))

    def post(self, path: str, fields: dict[str, Any] | None = None, *, htmx: bool = False) -> Any:
        return self._keep(self.client.post(path, fields or {}, headers=_headers(htmx, {})))

    def send(self, page: Any, action: str, **changes: Any) -> Any:
        """Send the form of ``page`` that goes to ``action``, filled in with ``changes``."""
        forms = [form for form in read(page.text).forms if form["action"] == action]
        assert forms, f"no form goes to {action}"
        fields = {**forms[0]["fields"], **changes}
        return self.post(action, {name: value for name, value in fields.items() if value != ""})

    def _keep(self, response: Any) -> Any:
        """What every answer of the portal keeps, whoever asks for whatever."""
        response.text = response.content.decode()
        if "text/html" in response.get("Content-Type", ""):
            assert read(response.text).forbidden == []
            policy = response["Content-Security-Policy"]
            assert "default-src 'self'" in policy
            assert "unsafe" not in policy
        return response


def visitor_of(renter: Renter) -> Visitor:
    client = Client(raise_request_exception=True)
    client.force_login(renter.principal.user, backend="django.contrib.auth.backends.ModelBackend")
    return Visitor(client, renter)


def set_password(user: User) -> None:
    user.set_password(PASSWORD)
    user.save()


def ids(kind: str, html: str) -> list[str]:
    """Public ids of a kind in a page, in order, each once."""
    return list(dict.fromkeys(re.findall(rf"{kind}_[0-9a-hjkmnp-tv-z]{{26}}", html)))


def _headers(htmx: bool, more: dict[str, str]) -> dict[str, str]:
    return {**more, **({"HX-Request": "true"} if htmx else {})}
