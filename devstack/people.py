"""The people of the demo: they sign up, read their mail, click Stripe's page, and hold API keys.

Each does what a person or program outside would do, over HTTP; the one exception is the first
member of staff, whom an operator makes with the documented command.
"""

from __future__ import annotations

import http.cookiejar
import json
import re
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyotp

from devstack.platform_api import PlatformApi, ProblemError
from devstack.stack import Stack

Json = dict[str, Any]

PASSWORD = "correct-horse-7-battery"  # of every demo login; printed by the demo
RENTER_SCOPES = [
    *("account:read", "account:write", "rentals:read", "rentals:write"),
    *("billing:read", "billing:write"),
]
PROVIDER_SCOPES = [*RENTER_SCOPES, "provider:read", "provider:write"]
STAFF_SCOPES = [*PROVIDER_SCOPES, "staff"]


@dataclass
class Person:
    """A login with an API key for its organization."""

    email: str
    api: PlatformApi
    organization: str
    app_secret: str = ""  # of their second factor, where it is on

    @property
    def key(self) -> str:
        return self.api.key or ""


class Browser:
    """Cookies and CSRF as a browser keeps them; no script, no redirects to other hosts."""

    def __init__(self, base_url: str) -> None:
        self.base_url = base_url
        self.cookies = http.cookiejar.CookieJar()
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(self.cookies)
        )

    def call(self, method: str, path: str, body: Json | None = None) -> Json:
        """A JSON call with the session's cookies. ProblemError for an error answer."""
        headers = {"Content-Type": "application/json", "Referer": self.base_url + "/"}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid4())
        for cookie in self.cookies:
            if cookie.name.endswith("csrf") or cookie.name == "csrftoken":
                headers["X-CSRFToken"] = cookie.value or ""
        request = urllib.request.Request(
            self.base_url + path,
            data=None if body is None else json.dumps(body).encode(),
            headers=headers,
            method=method,
        )
        try:
            with self._opener.open(request, timeout=30) as response:
                content = response.read()
        except urllib.error.HTTPError as error:
            raise ProblemError(error.code, json.loads(error.read() or b"{}")) from None
        answer = json.loads(content) if content else {}
        return answer if isinstance(answer, dict) else {"items": answer}

    def submit(self, url: str, fields: dict[str, str]) -> str:
        """Post a form at an absolute URL, following redirects; the final URL."""
        data = urllib.parse.urlencode(fields).encode()
        with self._opener.open(url, data=data, timeout=30) as response:
            response.read()
            return str(response.url)

    def open(self, url: str) -> str:
        """The text of a page."""
        with self._opener.open(url, timeout=30) as response:
            return str(response.read().decode())


def mailed_token(mail: Path, email: str, *, deadline_s: float = 15.0) -> str:
    """The token of the newest link mailed to `email`."""
    deadline = time.monotonic() + deadline_s
    while True:
        for path in sorted(mail.glob("*"), key=lambda file: file.stat().st_mtime, reverse=True):
            text = path.read_text(errors="replace").replace("=\n", "")
            parts = re.split(r"^-{70,}$", text, flags=re.MULTILINE)
            for part in reversed(parts):
                if f"To: {email}" in part and (found := re.search(r"token=([\w\-.~]+)", part)):
                    return found[1]
        if time.monotonic() > deadline:
            raise TimeoutError(f"no mail with a link reached {email}")
        time.sleep(0.1)


def join(stack: Stack, email: str, organization: str, scopes: list[str]) -> Person:
    """Sign up, prove the address by the mailed link, sign in, make an API key."""
    public = PlatformApi(stack.base_url)
    terms = _terms_in_force(stack)
    public.post(
        "/signup",
        {
            "email": email,
            "password": PASSWORD,
            "organization": organization,
            "accepted_terms_version": terms,
        },
    )
    proof = {"token": mailed_token(stack.mail, email), "password": PASSWORD}
    public.post("/email-verification", proof)
    return log_in(stack, email, scopes)


def _terms_in_force(stack: Stack) -> str:
    """The version that the terms page names, as a person reads it before accepting."""
    page = Browser(stack.base_url).open(f"{stack.base_url}/terms")
    found = re.search(r"Version (\d{4}-\d\d-\d\d)", page)
    if not found:
        raise ValueError("the terms page names no version")
    return found[1]


def log_in(stack: Stack, email: str, scopes: list[str], *, with_app: bool = False) -> Person:
    """Sign in with the demo password and make an API key with `scopes`.

    with_app: put a second factor into an authenticator app first, as staff must.
    """
    browser = Browser(stack.base_url)
    browser.call("POST", "/api/v1/session", {"email": email, "password": PASSWORD})
    secret = enrol(browser) if with_app else ""
    made = browser.call("POST", "/api/v1/api-keys", {"name": "demo", "scopes": scopes})
    api = PlatformApi(stack.base_url, made["secret"])
    me = api.get("/me")
    return Person(email, api, me["organization"]["id"], secret)


def enrol(browser: Browser) -> str:
    """Switch the second factor of whoever is signed in on; the secret of their app."""
    secret = browser.call("POST", "/api/v1/second-factor", {"password": PASSWORD})["secret"]
    # With the code before the present one, which then is unused: whoever explores the demo signs in
    # within the same half minute.
    try:
        _confirm(browser, secret)
    except ProblemError as error:
        if error.status != 422:
            raise
        _confirm(browser, secret)  # the half minute was over before the code arrived
    return str(secret)


def _confirm(browser: Browser, secret: str) -> None:
    code = app_code(secret, ahead=-1)
    browser.call("POST", "/api/v1/second-factor/confirm", {"code": code})


def app_code(secret: str, *, ahead: int = 0) -> str:
    """What the authenticator app shows now, or so many half minutes later."""
    return pyotp.HOTP(secret).at(int(time.time()) // 30 + ahead)


def make_staff(stack: Stack, email: str) -> Person:
    """The first member of staff: signs up like everyone, is then made staff by the operator."""
    join(stack, email, "Platform Operations", RENTER_SCOPES)
    stack.manage("create_staff", email, env={"GPUYARD_STAFF_PASSWORD": PASSWORD})
    return log_in(stack, email, STAFF_SCOPES, with_app=True)


def pay_checkout(url: str, *, card: str = "4242424242424242") -> str:
    """Fill in Stripe's hosted page in the person's place; the URL they come back to."""
    browser = Browser(url)
    browser.open(url)
    return browser.submit(
        url,
        {
            "card_number": card,
            "exp_month": "12",
            "exp_year": "2034",
            "cvc": "123",
            "action": "pay",
        },
    )


def top_up(stack: Stack, person: Person, amount: str, *, card: str = "4242424242424242") -> Json:
    """Top up through the hosted page; returns once the balance holds it."""
    made = person.api.post(
        "/billing/topups",
        {"amount": amount, "currency": "USD", "return_url": f"{stack.base_url}/billing"},
    )
    path = f"/billing/topups/{made['id']}"
    ready = person.api.until(path, lambda t: bool(t["checkout_url"]), "a checkout page exists")
    pay_checkout(ready["checkout_url"], card=card)
    return person.api.until(path, lambda t: t["state"] == "succeeded", "the top-up arrived")


def save_card(stack: Stack, person: Person) -> Json:
    """Save a card through the hosted page; returns once it is listed."""
    made = person.api.post("/billing/payment-methods", {"return_url": f"{stack.base_url}/billing"})
    path = f"/billing/payment-methods/setups/{made['id']}"
    ready = person.api.until(path, lambda s: bool(s["url"]), "a card page exists")
    pay_checkout(ready["url"])
    listed = person.api.until(
        "/billing/payment-methods", lambda page: bool(page["items"]), "the card is listed"
    )
    return dict(listed["items"][0])
