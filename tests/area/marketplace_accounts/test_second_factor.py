"""The second factor: enrolled with a code, taken once, limited, needed where it is on."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pyotp
import pytest
from django.conf import settings as configured
from django.core import mail
from django.core.management import CommandError, call_command
from django.db import connection, transaction
from django.test import Client

from kernel.clock import now
from marketplace.accounts import mail as mails
from marketplace.accounts import second_factor, tokens
from marketplace.accounts.access import principal_of
from marketplace.models import (
    AuditEntry,
    EmailToken,
    IdempotencyKey,
    RecoveryCode,
    SecondFactor,
    User,
)
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import PASSWORD, Api
from tests.authenticator import App, enrol, step

# Appendix B of RFC 6238, SHA-1, cut to the six digits that apps show.
VECTORS = [
    (59, "287082"),
    (1111111109, "081804"),
    (1111111111, "050471"),
    (1234567890, "005924"),
    (2000000000, "279037"),
    (20000000000, "353130"),
]


@pytest.mark.parametrize(("at", "code"), VECTORS)
def test_the_library_keeps_the_rfcs_vectors(at: int, code: str) -> None:
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # "12345678901234567890" in base 32
    assert pyotp.HOTP(secret).at(at // 30) == code


def signed_in(user: User, **more: str) -> Api:
    caller = Api(Client(raise_request_exception=False))
    answer = caller.post("session", {"email": user.email, "password": PASSWORD, **more})
    assert answer.status_code == 200, answer.content
    return caller


@pytest.fixture
def person(db: None) -> User:
    return people.sign_up("ada@example.com")


@pytest.fixture
def app(person: User) -> App:
    return enrol(person)


def spend(user: User, code: str) -> bool:
    user.refresh_from_db()
    try:
        with transaction.atomic():
            second_factor.spend(user=user, code=code)
    except second_factor.WrongCode:
        return False
    return True


def test_it_is_switched_on_with_password_and_first_code(person: User) -> None:
    me, elsewhere = signed_in(person), signed_in(person)
    assert me.get("second-factor").data == {"state": "off", "since": None, "recovery_codes": 0}
    refused = me.post("second-factor", {"password": "not it at all"})
    assert (refused.status_code, list(refused.data["errors"])) == (422, ["password"])
    offer = me.post("second-factor", {"password": PASSWORD}, Idempotency_Key="o-1")
    assert offer.status_code == 201
    secret = offer.data["secret"]
    again = me.post("second-factor", {"password": PASSWORD}, Idempotency_Key="o-1")
    assert again.data == {"secret": None, "shown_once": True}
    assert me.get("second-factor").data["state"] == "offered"
    assert signed_in(person).get("me").status_code == 200, "an offer counts for nothing"

    wrong = me.post("second-factor/confirm", {"code": "000000"})
    assert (wrong.status_code, list(wrong.data["errors"])) == (422, ["code"])
    code = pyotp.HOTP(secret).at(step())
    done = me.post("second-factor/confirm", {"code": code}, Idempotency_Key="c-1")
    assert done.status_code == 200
    assert len(set(done.data["recovery_codes"])) == 10
    assert me.get("second-factor").data["recovery_codes"] == 10, "this session goes on"
    assert elsewhere.get("me").status_code == 401, "the others ended"
    mails.deliver()
    assert [sent.subject for sent in mail.outbox if sent.to == [person.email]][-1:] == [
        "Your second factor is on"
    ]
    assert AuditEntry.objects.filter(action="second_factor.enable").count() == 1

    kept = b"".join(bytes(row.answer) for row in IdempotencyKey.objects.all())
    row = SecondFactor.objects.get()
    assert secret.encode() not in kept + bytes(row.secret_sealed)
    hashes = b"".join(bytes(row.code_hash) for row in RecoveryCode.objects.all())
    for shown in done.data["recovery_codes"]:
        assert shown.encode() not in kept + hashes


def test_only_a_fresh_offer_of_a_proven_person_can_be_confirmed(person: User) -> None:
    unproven = people.api_of(people.sign_up(verified=False))
    refused = unproven.post("second-factor", {"password": PASSWORD})
    assert refused.data["type"] == "/problems/email_unverified"
    me = signed_in(person)
    first = me.post("second-factor", {"password": PASSWORD}).data["secret"]
    second = me.post("second-factor", {"password": PASSWORD}).data["secret"]
    old = me.post("second-factor/confirm", {"code": pyotp.HOTP(first).at(step())})
    assert old.status_code == 422
    SecondFactor.objects.update(offered_at=now() - timedelta(hours=1))
    late = me.post("second-factor/confirm", {"code": pyotp.HOTP(second).at(step())})
    assert (late.status_code, late.data["actions"]) == (409, ["begin"])


def test_signing_in_asks_for_the_code_and_takes_it_once(person: User, app: App) -> None:
    stranger = people.anonymous()
    known = {"email": person.email, "password": PASSWORD}
    asked = stranger.post("session", known)
    assert (asked.status_code, asked.data["second_factor"]) == (401, "required")
    assert stranger.get("me").status_code == 401
    code = app.code()
    assert signed_in(person, code=code).get("me").status_code == 200
    replayed = stranger.post("session", {**known, "code": code})
    assert (replayed.status_code, list(replayed.data["errors"])) == (422, ["code"])
    assert stranger.get("me").status_code == 401
    assert signed_in(person, code=app.code()).get("me").status_code == 200


def test_a_code_is_good_for_its_step_and_one_to_either_side_and_never_back(
    person: User, app: App
) -> None:
    SecondFactor.objects.update(last_step=0)
    present = step()
    assert not spend(person, app.at(present - 3))
    assert not spend(person, app.at(present + 4))
    assert spend(person, app.at(present + 1))
    for earlier in (present + 1, present, present - 1):
        assert not spend(person, app.at(earlier)), "older than one that was taken"


def test_a_recovery_code_works_once_however_it_is_written(person: User, app: App) -> None:
    first, second = app.recovery_codes[:2]
    assert signed_in(person, code=first.lower().replace("-", " ")).get("me").status_code == 200
    assert not spend(person, first)
    assert spend(person, second)
    mails.deliver()
    assert "You have 8 left" in mail.outbox[-1].body
    assert AuditEntry.objects.filter(action="second_factor.recovery_code").count() == 2


def test_ten_wrong_codes_lock_the_person_from_every_address(person: User, app: App) -> None:
    known = {"email": person.email, "password": PASSWORD}
    for number in range(configured.AXES_FAILURE_LIMIT):
        caller = Api(Client(raise_request_exception=False, REMOTE_ADDR=f"192.0.2.{number}"))
        caller.post("session", {**known, "code": "000000"})
    elsewhere = Api(Client(raise_request_exception=False, REMOTE_ADDR="198.51.100.1"))
    locked = elsewhere.post("session", {**known, "code": app.code()})
    assert locked.status_code == 429
    assert elsewhere.post("session", known).status_code == 401, "passwords are counted apart"


@pytest.mark.django_db(transaction=True)
def test_one_of_many_requests_with_the_same_code_passes(transactional_db: None) -> None:
    user = people.sign_up()
    app = enrol(user)
    code = app.code()

    def attempt(_number: int) -> bool:
        try:
            return spend(User.objects.get(pk=user.pk), code)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(8))) == 1


def test_a_code_is_not_used_up_by_what_was_refused(person: User, app: App) -> None:
    code = app.code()
    with transaction.atomic():
        second_factor.spend(user=User.objects.get(pk=person.pk), code=code)
        transaction.set_rollback(True)
    assert spend(person, code)


def test_switching_off_needs_password_and_code(person: User, app: App) -> None:
    me = signed_in(person, code=app.code())
    wrong = me.post("second-factor/remove", {"password": "not it at all", "code": app.code()})
    assert list(wrong.data["errors"]) == ["password"]
    wrong = me.post("second-factor/remove", {"password": PASSWORD, "code": "000000"})
    assert list(wrong.data["errors"]) == ["code"]
    SecondFactor.objects.update(last_step=0)
    done = me.post("second-factor/remove", {"password": PASSWORD, "code": app.at(step())})
    assert (done.status_code, done.data["state"]) == (200, "off")
    assert me.get("me").data["user"]["second_factor_at"] is None
    assert not SecondFactor.objects.exists()
    assert not RecoveryCode.objects.exists()
    assert signed_in(person).get("me").status_code == 200
    mails.deliver()
    assert mail.outbox[-1].subject == "Your second factor is off"
    assert AuditEntry.objects.filter(action="second_factor.disable").count() == 1


def test_new_recovery_codes_end_the_old_ones(person: User, app: App) -> None:
    robot = people.api_of(person)
    made = robot.post("second-factor/recovery-codes", {"code": app.code()}).data["recovery_codes"]
    assert not spend(person, app.recovery_codes[0])
    assert spend(person, made[0])


def test_an_operator_switches_it_off_for_who_lost_everything(person: User, app: App) -> None:
    call_command("remove_second_factor", person.email)
    assert signed_in(person).get("me").status_code == 200
    assert AuditEntry.objects.get(action="second_factor.disable").actor == "platform"
    with pytest.raises(CommandError, match="nobody"):
        call_command("remove_second_factor", person.email)


def test_a_link_in_a_mail_does_not_go_round_the_code(person: User, app: App) -> None:
    """A proof that was ordered before, and a new password, both lead to the code."""
    tokens.order_mail(person, EmailToken.Purpose.VERIFY)
    proof = tokens.proof(EmailToken.objects.get(user=person, purpose="verify", used_at=None))
    browser = Client()
    answer = browser.post(f"/verify-email?token={proof}", {"password": PASSWORD})
    assert answer["Location"].startswith("/sign-in/code")
    assert browser.get("/settings").status_code == 302


def sent(browser: Client, path: str, **fields: str) -> Any:
    page = browser.get("/settings/second-factor").content.decode()
    key = re.findall(r'name="idempotency_key" value="([^"]+)"', page)
    return browser.post(path, {"idempotency_key": key[0] if key else "", **fields})


def test_the_pages_lead_from_off_to_on_and_through_the_sign_in(person: User) -> None:
    browser = Client()
    browser.post("/sign-in", {"email": person.email, "password": PASSWORD})
    assert "Whoever knows your password" in browser.get("/settings/second-factor").text
    here = "/settings/second-factor"
    assert sent(browser, f"{here}/begin", password="not it at all").status_code == 422
    assert sent(browser, f"{here}/begin", password=PASSWORD).status_code == 303
    page = browser.get(here).text
    assert 'src="data:image/svg+xml' in page
    (secret,) = re.findall(r'<code id="secret">([A-Z2-7]{32})</code>', page)
    wrong = sent(browser, f"{here}/confirm", code="000000")
    assert (wrong.status_code, "is wrong, or was used already" in wrong.text) == (422, True)
    app = App(secret, [], step() - 1)
    done = sent(browser, f"{here}/confirm", code=app.at(step() - 1))
    assert done.status_code == 200
    codes = re.findall(r"<code>((?:[A-Z2-7]{4}-){3}[A-Z2-7]{4})</code>", done.text)
    assert len(codes) == 10
    assert secret not in browser.get(here).text
    assert "on</span>" in browser.get("/settings").text

    browser.post("/sign-out")
    half = browser.post("/sign-in?next=/volumes", {"email": person.email, "password": PASSWORD})
    assert half["Location"] == "/sign-in/code?next=%2Fvolumes"
    assert browser.get("/volumes").status_code == 302, "nobody is signed in yet"
    assert browser.post("/sign-in/code", {"code": "000000"}).status_code == 422
    code = app.code()
    whole = browser.post("/sign-in/code?next=/volumes", {"code": code})
    assert (whole.status_code, whole["Location"]) == (303, "/volumes")
    assert browser.get("/volumes").status_code == 200
    assert sent(browser, f"{here}/remove", password=PASSWORD, code=code).status_code == 422
    assert sent(browser, f"{here}/remove", password=PASSWORD, code=codes[0]).status_code == 303
    assert browser.get(here).status_code == 200


@pytest.mark.parametrize("change", ["password", "time", "nothing was right"])
def test_the_second_step_stands_on_a_first(
    person: User, app: App, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser = Client()
    if change != "nothing was right":
        browser.post("/sign-in", {"email": person.email, "password": PASSWORD})
    if change == "password":
        person.set_password("another long password")
        person.save()
    if change == "time":
        late = now() + timedelta(minutes=11)
        monkeypatch.setattr("marketplace.http.portal.entering.now", lambda: late)
    answer = browser.post("/sign-in/code", {"code": app.code()})
    assert answer["Location"].startswith("/sign-in?")
    assert browser.get("/settings").status_code == 302


def lacking(_user: User) -> None:
    """Nothing was switched on."""


@pytest.mark.parametrize(("prepare", "status"), [(lacking, 403), (enrol, 200)])
def test_staff_act_as_such_with_a_second_factor_only(
    db: None, prepare: Callable[[User], object], status: int
) -> None:
    person = people.join_as(principal_of(people.sign_up()).org, "owner")
    person.is_staff = True
    person.save()
    prepare(person)
    browser = Client()
    browser.force_login(person, backend="django.contrib.auth.backends.ModelBackend")
    page = browser.get("/staff/returns")
    assert page.status_code == status
    assert ('href="/settings/second-factor"' in page.text) == (status == 403)
    assert browser.get("/rentals").status_code == 200, "as a renter they are like everybody"
    robot = people.api_of(person)
    answer = robot.get("staff/providers")
    assert answer.status_code == status
    assert answer.status_code == 200 or answer.data["type"] == "/problems/second_factor_required"
    made = robot.post("api-keys", {"name": "x", "scopes": ["staff"]})
    assert made.status_code == (201 if status == 200 else 422)
    assert browser.get("/admin/").status_code == (200 if status == 200 else 302)


def test_a_staff_key_ends_with_the_second_factor_and_a_setting_lets_it_go(
    db: None, settings: Any
) -> None:
    person = people.staff()
    robot = people.api_of(person)
    assert robot.get("staff/providers").status_code == 200
    call_command("remove_second_factor", person.email)
    assert robot.get("staff/providers").status_code == 403
    settings.GPUYARD_STAFF_SECOND_FACTOR = False
    assert robot.get("staff/providers").status_code == 200


def test_django_admin_has_no_sign_in_of_its_own(db: None) -> None:
    person = people.staff("ops@example.com")
    browser = Client()
    for ask in (browser.get, browser.post):
        answer = ask("/admin/login/", {"username": person.email, "password": PASSWORD})
        assert answer["Location"] == "/sign-in?next=%2Fadmin%2F"
    assert browser.get("/admin/").status_code == 302
