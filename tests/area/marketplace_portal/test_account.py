"""Coming in: sign-up with the mail's link, wrong passwords, reset, and no way to ask who exists."""

from __future__ import annotations

import re

import pytest
from django.core import mail

from marketplace.accounts.mail import deliver
from marketplace.models import Organization, User
from tests import market
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, set_password

FORM = {
    "email": "new@example.com",
    "password": PASSWORD,
    "organization": "New Labs",
    "accept": "on",
}


def mailed_link() -> str:
    """The path and query of the link in the newest mail."""
    assert deliver() == 1
    found = re.search(r"https?://[^/]+(/\S+token=\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found[1]


def sign_up(visitor: Visitor, **changes: str) -> object:
    return visitor.send(visitor.get("/sign-up"), "/sign-up", **{**FORM, **changes})


def test_sign_up_is_proven_by_the_mail_and_the_password(stranger: Visitor) -> None:
    page = stranger.send(stranger.get("/sign-up?next=/rentals"), "/sign-up?next=/rentals", **FORM)
    assert page.status_code == 200
    assert "new@example.com" in page.text
    user = User.objects.get(email="new@example.com")
    assert user.email_verified_at is None
    link = mailed_link()
    assert stranger.get(link).status_code == 200
    assert User.objects.get().email_verified_at is None, "a mail scanner's GET must prove nothing"
    wrong = stranger.post(link, {"password": "something else entirely"})
    assert wrong.status_code == 422
    assert "not the one of this account" in wrong.text
    done = stranger.post(link, {"password": PASSWORD})
    assert (done.status_code, done["Location"]) == (303, "/rentals")
    assert User.objects.get().email_verified_at is not None
    assert stranger.get("/rentals").status_code == 200
    again = Visitor().post(link, {"password": PASSWORD})
    assert again.status_code == 422
    assert "was used, has expired or is incomplete" in again.text


def test_sign_up_needs_the_terms(stranger: Visitor) -> None:
    page = stranger.send(stranger.get("/sign-up"), "/sign-up", **{**FORM, "accept": ""})
    assert page.status_code == 422
    assert "Without this we cannot start" in page.text
    assert User.objects.count() == Organization.objects.count() == 0


def test_a_weak_password_is_said_beside_its_field(stranger: Visitor) -> None:
    page = sign_up(stranger, password="password1234")
    assert page.status_code == 422  # type: ignore[attr-defined]
    assert 'aria-invalid="true"' in page.text  # type: ignore[attr-defined]
    assert "too common" in page.text  # type: ignore[attr-defined]
    assert not User.objects.exists()


def test_sign_up_answers_the_same_for_a_known_address(stranger: Visitor) -> None:
    sign_up(stranger)
    first = sign_up(Visitor(), email="other@example.com").text  # type: ignore[attr-defined]
    User.objects.update(email_verified_at="2026-01-01T00:00:00Z")
    second = sign_up(Visitor(), email="new@example.com").text  # type: ignore[attr-defined]
    assert _without_tokens(first.replace("other@", "new@")) == _without_tokens(second)


def _without_tokens(html: str) -> str:
    html = re.sub(r'name="csrfmiddlewaretoken" value="[^"]+"', "", html)
    return re.sub(r'data-now="[^"]+"', "", html)


def test_sign_in_goes_where_the_reader_wanted_but_never_to_another_site(
    renter: Visitor, stranger: Visitor
) -> None:
    user = renter.person.principal.user
    set_password(user)
    fields = {"email": user.email.upper(), "password": PASSWORD}
    answer = stranger.post("/sign-in?next=/billing", fields)
    assert (answer.status_code, answer["Location"]) == (303, "/billing")
    answer = Visitor().post("/sign-in?next=//evil.example.com/", fields)
    assert answer["Location"] == "/"


def test_wrong_passwords_lock_and_say_so(renter: Visitor, stranger: Visitor) -> None:
    user = renter.person.principal.user
    set_password(user)
    wrong = {"email": user.email, "password": "not the password"}
    page = stranger.post("/sign-in", wrong)
    assert page.status_code == 422
    assert "do not belong together" in page.text
    for _ in range(10):
        page = stranger.post("/sign-in", wrong)
    assert "Too many wrong passwords" in page.text
    locked = stranger.post("/sign-in", {"email": user.email, "password": PASSWORD})
    assert locked.status_code == 422, "the right password must not open a locked door"


def test_a_forgotten_password_is_set_anew(renter: Visitor, stranger: Visitor) -> None:
    user = renter.person.principal.user
    page = stranger.send(stranger.get("/reset-password"), "/reset-password", email=user.email)
    assert page.status_code == 200
    unknown = Visitor().post("/reset-password", {"email": "nobody@example.com"})
    assert unknown.status_code == 200
    link = mailed_link()
    assert stranger.post(link, {"password": "short"}).status_code == 422
    done = stranger.post(link, {"password": PASSWORD})
    assert done["Location"] == "/sign-in"
    answer = stranger.post("/sign-in", {"email": user.email, "password": PASSWORD})
    assert answer.status_code == 303
    assert renter.get("/rentals").status_code == 302, "sessions end with the old password"


def test_sign_out_ends_the_session(renter: Visitor) -> None:
    assert renter.send(renter.get("/"), "/sign-out")["Location"] == "/"
    assert renter.get("/rentals").status_code == 302


def test_the_unverified_are_told_what_to_do(supply: market.Supply) -> None:
    from tests.area.marketplace_portal.visitors import visitor_of

    visitor = visitor_of(market.make_renter(verified=False))
    assert "Confirm your e-mail address to rent" in visitor.get("/").text
    page = visitor.get(f"/offers/{supply.offer.public_id}")
    quote = visitor.post(
        f"/offers/{supply.offer.public_id}/quote", {"gpus": "1", "disk_gib": "50"}, htmx=True
    )
    answer = visitor.send(
        page,
        f"/offers/{supply.offer.public_id}/rent",
        quote=re.search(r'name="quote" value="([^"]+)"', quote.text)[1],  # type: ignore[index]
        ssh="none",
    )
    assert answer.status_code == 403
    assert "Confirm your e-mail address first" in answer.text


@pytest.mark.parametrize("mail_name", ["verify", "reset", "known", "webhook"])
def test_mails_are_plain_text_in_short_lines(mail_name: str) -> None:
    from django.template.loader import render_to_string

    from kernel.text import clean

    text = render_to_string(
        f"email/{mail_name}.txt",
        {"link": "https://example.com/x?token=a.b", "base_url": "https://example.com"},
    )
    assert "<" not in text
    assert "&" not in text
    assert text.strip().startswith("Hello,")
    assert clean(text, limit=5000, lines=True) == text.strip()
