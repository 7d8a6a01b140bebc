"""Coming in: sign-up, proof of the address, session, forgotten password."""

from __future__ import annotations

import re
import threading
from typing import Any

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.test import Client

from billing import facade as billing
from marketplace.accounts import mail as mailing
from marketplace.accounts import tokens
from marketplace.models import ApiKey, EmailToken, Membership, Organization, User
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import PASSWORD, Api

EMAIL = "ada@example.com"


def order(**changes: Any) -> dict[str, Any]:
    return {
        "email": EMAIL,
        "password": PASSWORD,
        "organization": "Analytical Engines",
        "accepted_terms_version": settings.TERMS_VERSION,
        **changes,
    }


def link() -> str:
    """Send what is due and take the token out of the newest mail."""
    mailing.deliver()
    found = re.search(r"token=(\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found.group(1)


def test_from_sign_up_to_the_first_key(anyone: Api) -> None:
    assert anyone.post("signup", order(name="Ada")).status_code == 202
    proven = anyone.post("email-verification", {"token": link(), "password": PASSWORD})
    assert (proven.status_code, proven.data["email"]) == (200, EMAIL)

    browser = Api(Client(enforce_csrf_checks=True))
    session = browser.post("session", {"email": EMAIL.upper(), "password": PASSWORD})
    assert session.status_code == 200, session.content
    assert session.data["me"]["organization"]["name"] == "Analytical Engines"
    assert session.data["me"]["role"] == "owner"
    token = session.data["csrf_token"]

    body = {"name": "first", "scopes": ["account:read"]}
    refused = browser.post("api-keys", body)
    assert (refused.status_code, refused.data["type"]) == (401, "/problems/unauthenticated")
    made = browser.post("api-keys", body, X_CSRFToken=token)
    assert made.status_code == 201
    me = Api(Client(), made.data["secret"]).get("me")
    assert me.data["user"]["email"] == EMAIL
    assert me.data["scopes"] == ["account:read"]
    assert me.data["spend_limit"]["per_hour"] == "200.0000"

    assert browser.delete("session", X_CSRFToken=token).status_code == 204
    assert browser.get("me").status_code == 401


def test_sign_up_opens_an_account_in_the_ledger(anyone: Api) -> None:
    anyone.post("signup", order())
    organization = Organization.objects.get()
    assert billing.balance(org_ref=organization.id).available_micro == 0
    assert Membership.objects.get().role == "owner"


def test_known_address_gets_the_same_answer_and_a_mail(anyone: Api) -> None:
    people.sign_up(EMAIL)
    first = anyone.post("signup", order(email="new@example.com"))
    second = anyone.post("signup", order(organization="Another"))
    assert (second.status_code, second.content) == (first.status_code, first.content)
    assert Organization.objects.filter(name="Another").count() == 0
    mailing.deliver()
    to_owner = [message for message in mail.outbox if message.to == [EMAIL]]
    assert "already have an account" in str(to_owner[-1].subject)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"accepted_terms_version": "2020-01-01"}, "accepted_terms_version"),
        ({"password": "short"}, "password"),
        ({"password": "p" * 129}, "password"),
        ({"password": EMAIL}, "password"),
        ({"email": "not an address"}, "email"),
        ({"organization": " \u202e\x07 "}, "organization"),
        ({"organisation": "typo"}, "organisation"),
    ],
)
def test_bad_sign_up_names_the_field_and_stores_nothing(
    anyone: Api, change: dict[str, str], field: str
) -> None:
    answer = anyone.post("signup", order(**change))
    assert (answer.status_code, answer.data["type"]) == (422, "/problems/invalid_request")
    assert field in answer.data["errors"]
    assert User.objects.count() == Organization.objects.count() == EmailToken.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_one_address_signed_up_by_many_at_once_makes_one_person() -> None:
    answers = []
    ready = threading.Barrier(8)

    def run() -> None:
        caller = people.anonymous()
        ready.wait()
        try:
            answers.append(caller.post("signup", order()).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [202] * 8
    assert User.objects.count() == Organization.objects.count() == 1
    assert EmailToken.objects.count() == 1


def test_a_stranger_cannot_have_the_owner_confirm_their_account(anyone: Api) -> None:
    """The address's owner gets the link, the stranger knows the password: neither is enough."""
    stranger = people.sign_up(EMAIL, verified=False)
    key = people.api_of(stranger)
    mailing.deliver()
    wrong = anyone.post("email-verification", {"token": link(), "password": "another password"})
    assert wrong.status_code == 422
    assert User.objects.get().email_verified_at is None

    assert anyone.post("password-reset", {"email": EMAIL}).status_code == 202
    mine = {"token": link(), "password": "the owner's own words"}
    assert anyone.post("password-reset/confirm", mine).status_code == 200
    assert key.get("me").status_code == 401
    assert ApiKey.objects.get().revoked_at is not None
    assert User.objects.get().email_verified_at is not None


def test_reset_ends_sessions_and_works_once(anyone: Api) -> None:
    people.sign_up(EMAIL)
    browser = Api(Client())
    assert browser.post("session", {"email": EMAIL, "password": PASSWORD}).status_code == 200
    anyone.post("password-reset", {"email": EMAIL})
    mine = {"token": link(), "password": "a brand new phrase"}
    assert anyone.post("password-reset/confirm", mine).status_code == 200
    assert browser.get("me").status_code == 401
    again = anyone.post("password-reset/confirm", mine)
    assert (again.status_code, list(again.data["errors"])) == (422, ["token"])
    assert (
        people.anonymous()
        .post("session", {"email": EMAIL, "password": "a brand new phrase"})
        .status_code
        == 200
    )


def test_reset_of_an_unknown_address_looks_the_same(anyone: Api) -> None:
    people.sign_up(EMAIL)
    known = anyone.post("password-reset", {"email": EMAIL})
    unknown = anyone.post("password-reset", {"email": "nobody@example.com"})
    assert (known.status_code, known.content) == (unknown.status_code, unknown.content)


@pytest.mark.parametrize("token", ["", "x", "x.y", "\u00e9.\u00e9", "0" * 26 + "." + "0" * 64])
def test_made_up_tokens_are_refused(anyone: Api, token: str) -> None:
    answer = anyone.post("email-verification", {"token": token, "password": PASSWORD})
    assert (answer.status_code, list(answer.data["errors"])) == (422, ["token"])


def test_a_proof_for_one_purpose_is_none_for_another(anyone: Api) -> None:
    people.sign_up(EMAIL, verified=False)
    answer = anyone.post("password-reset/confirm", {"token": link(), "password": "my new words"})
    assert answer.status_code == 422


def test_mails_are_spaced_and_a_refused_one_is_sent_later(
    anyone: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        anyone.post("password-reset", {"email": EMAIL})
        anyone.post("signup", order())
    assert EmailToken.objects.count() == 2  # one proof, one reset

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionRefusedError

    monkeypatch.setattr(mailing, "send_mail", refuse)
    assert mailing.deliver() == 0
    monkeypatch.undo()
    assert mailing.deliver() == 0  # not due yet
    EmailToken.objects.update(send_after="2026-01-01T00:00:00Z")
    assert mailing.deliver() == 2
    assert mailing.deliver() == 0


def test_old_proofs_and_sessions_are_forgotten(anyone: Api) -> None:
    people.sign_up(EMAIL)
    EmailToken.objects.update(expires_at="2026-01-01T00:00:00Z")
    people.sign_up("new@example.com")
    anyone.post("session", {"email": EMAIL, "password": PASSWORD})
    Session.objects.update(expire_date="2026-01-01T00:00:00Z")
    assert tokens.forget() == 1
    assert [token.user.email for token in EmailToken.objects.all()] == ["new@example.com"]
    assert Session.objects.count() == 0


def test_too_many_wrong_passwords_lock_the_name(anyone: Api) -> None:
    people.sign_up(EMAIL)
    wrong = {"email": EMAIL, "password": "wrong"}
    answers = [anyone.post("session", wrong) for _ in range(settings.AXES_FAILURE_LIMIT)]
    assert answers[0].data["type"] == "/problems/unauthenticated"
    right = anyone.post("session", {"email": EMAIL.title(), "password": PASSWORD})
    assert right.status_code == 429, right.content
    assert (right.status_code, right.data["type"]) == (429, "/problems/rate_limited")
    assert int(right["Retry-After"]) > 0
    other = people.sign_up()
    assert anyone.post("session", {"email": other.email, "password": PASSWORD}).status_code == 200
