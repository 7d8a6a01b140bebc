"""Two languages: who gets which, what stays English, and that a page in Chinese is all Chinese."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pprint import pformat
from typing import Any

import pytest
from django.apps import apps
from django.core import mail
from django.db import transaction
from django.utils import translation

from kernel.clock import now
from marketplace.accounts import letters, money_mail, switches
from marketplace.accounts.mail import deliver
from marketplace.accounts.phrases import phrase
from marketplace.catalog.registry import by_slug
from marketplace.http.portal.offer_words import spelled
from marketplace.models import EmailToken, Letter, Template, User
from tests import market
from tests.area.marketplace_portal.test_account import FORM
from tests.area.marketplace_portal.test_pages import PRIVATE, PUBLIC, STAFF, SUPPLIERS
from tests.area.marketplace_portal.test_rent import order, quote_of
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, visitor_of
from tests.authenticator import make_staff

CHINESE = "zh-hans"
HAN = re.compile(r"[一-鿿]")
# What a Chinese page says in English: units and names of things, also of those that the tests made.
NAMES = re.compile(
    r"gpuyard|English|USD|UTC|GPUs?|API|[GTM]iB|SSH|vCPU|CUDA|CSV|PUE|\bID\b|TCP|Webhook|NVIDIA|"
    r"H100|80GB|SXM|RAM|\btest\b|NVLink|eu-central|\bDE\b|Europe/Berlin|Acme|\bOwner\b|trial|ubuntu|ghcr\.io|"
    r"\b(?:dc|c|node)-[0-9a-f]{8}|https?://\S+|[a-z]+\.yaml|\b[a-z]+:(?:read|write)\b|\S+@\S+|"
    r"sha256:[0-9a-f]+|AAAA|\blaptop|you@|/you/app|\bmin_\w+|\bssh-ed25519\b|\b(?:Stripe|Kubernetes)\b"
)
# Sentences that the API says too, or that were stored: in English for everybody (docs/i18n.md).
SERVED = re.compile(
    r"Ranked by price|It is for rent|Credit added|Less than .* can be paid out|"
    r"It has no |\d+ of the \d+ placements that a figure|You have no payout account|"
    # What changed, in the audit log, by its names in the API.
    r"gpus|interruptible|name|offer|ofr_|ren_|price per hour|scopes|vendor |toolkit "
)


class _Text(HTMLParser):
    """The words of a page, without what is meant for programs: code, times, options, values."""

    QUIET = frozenset({"script", "style", "code", "pre", "time", "option", "textarea", "samp"})

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []
        self._quiet = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._quiet += tag in self.QUIET
        for name, value in attrs:
            if name in {"aria-label", "title", "data-label", "placeholder", "alt"} and value:
                self.said.append(value)

    def handle_endtag(self, tag: str) -> None:
        self._quiet -= tag in self.QUIET

    def handle_data(self, data: str) -> None:
        if not self._quiet and data.strip():
            self.said.append(" ".join(data.split()))


def english_of(html: str) -> set[str]:
    """Whole pieces of text that have words and none of them Chinese."""
    page = _Text()
    page.feed(html)
    written = {text for row in Template.objects.all() for text in (row.name, row.description)}
    for card in by_slug().values():
        written |= {card.name, card.vendor_name, spelled("toolkit", card.toolkit)}
    return {
        text
        for text in page.said
        if not HAN.search(text)
        and not SERVED.match(text)
        and text not in written
        and re.search(r"[A-Za-z]{2}", NAMES.sub("", text))
    }


@pytest.fixture
def staff(transactional_db: None) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


def choose(visitor: Visitor, language: str = CHINESE, back: str = "/") -> Any:
    return visitor.post("/language", {"language": language, "next": back})


def is_chinese(answer: Any) -> bool:
    return '<html lang="zh-hans"' in answer.text


def look_at(visitor: Visitor, paths: list[str]) -> None:
    """Each page in Chinese, and nothing else on it. Visitor looks at the content policy."""
    choose(visitor)
    wrong = {}
    for path in paths:
        answer = visitor.get(path)
        assert answer.status_code == 200, path
        assert is_chinese(answer), path
        assert answer["Content-Language"] == CHINESE
        assert {"Accept-Language", "Cookie"} <= set(re.split(r",\s*", answer["Vary"]))
        # The style guide is for those who write pages, and explains itself in English.
        if path != "/styleguide" and (said := english_of(answer.text)):
            wrong[path] = said
    assert not wrong, f"English on Chinese pages:\n{pformat(wrong)}"


def test_public_pages_are_all_chinese(stranger: Visitor, supply: market.Supply) -> None:
    look_at(stranger, [*PUBLIC, f"/offers/{supply.offer.public_id}"])


def test_renters_pages_are_all_chinese(renter: Visitor, supply: market.Supply) -> None:
    rented = order(renter, supply, name="trial")["Location"]
    look_at(renter, [*PRIVATE, rented, f"{rented}/terminate", f"{rented}/ports"])


def test_suppliers_pages_are_all_chinese(provider: Visitor, supply: market.Supply) -> None:
    offer = supply.offer.public_id
    paths = [*SUPPLIERS, "/provider", f"/provider/offers/{offer}/visibility"]
    look_at(provider, [*paths, f"/provider/offers/{offer}/times"])


def test_staff_pages_are_all_chinese(staff: Visitor, supply: market.Supply) -> None:
    look_at(staff, STAFF)


def test_the_choice_is_a_cookie_and_leads_back(stranger: Visitor) -> None:
    before = stranger.get("/sign-in?next=/billing")
    assert '<html lang="en"' in before.text
    assert 'name="next" value="/sign-in?next=/billing"' in before.text
    answer = choose(stranger, back="/sign-in?next=/billing")
    assert (answer.status_code, answer["Location"]) == (303, "/sign-in?next=/billing")
    cookie = stranger.client.cookies["language"]
    assert (cookie.value, cookie["httponly"], cookie["samesite"]) == (CHINESE, True, "Lax")
    assert cookie["max-age"] > 300 * 24 * 3600
    assert is_chinese(stranger.get("/sign-in"))
    choose(stranger, "en")
    assert not is_chinese(stranger.get("/sign-in", accept_language="zh-CN"))


def test_after_a_form_it_leads_to_the_form_and_not_to_its_answer(stranger: Visitor) -> None:
    sent = {"email": "nobody@example.com", "password": "x"}
    for referer, back in (
        ("http://testserver/sign-in?next=/billing#top", "/sign-in?next=/billing"),
        ("https://evil.example/x", "/"),
        ("", "/"),
    ):
        headers = {"Referer": referer} if referer else {}
        answer = stranger.client.post("/sign-in", sent, headers=headers)
        assert f'name="next" value="{back}"' in answer.content.decode()


@pytest.mark.parametrize(
    "back", ["https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"]
)
def test_the_switch_leads_to_no_other_site(stranger: Visitor, back: str) -> None:
    assert choose(stranger, back=back)["Location"] == "/"


@pytest.mark.parametrize(
    "hostile", ["xx", "zh-hans; Path=/x", "../../etc/passwd", "en'--", "<script>", "a" * 5000, "ä¸­"]
)
def test_a_language_that_there_is_not_is_none(stranger: Visitor, hostile: str) -> None:
    assert "language" not in choose(stranger, hostile).cookies
    for cookie in (hostile, f"{CHINESE}{hostile}"):
        stranger.client.cookies["language"] = cookie
        answer = stranger.get("/terms")
        assert answer.status_code == 200
        assert re.search(r'<html lang="(en|zh-hans)"', answer.text)
    if not hostile.startswith("zh"):  # whatever begins so is taken for a kind of Chinese
        stranger.client.cookies["language"] = hostile
        assert '<html lang="en"' in stranger.get("/terms").text


@pytest.mark.parametrize(
    ("asked", "chinese"),
    [("zh-CN,zh;q=0.9,en;q=0.8", True), ("zh", True), ("de,en;q=0.5", False), ("de", False)],
)
def test_without_a_choice_the_browser_is_asked(
    stranger: Visitor, asked: str, chinese: bool
) -> None:
    assert is_chinese(stranger.get("/terms", accept_language=asked)) is chinese


def test_the_switch_needs_its_csrf_token_and_turns_while_changes_are_paused(
    stranger: Visitor,
) -> None:
    with transaction.atomic():
        switches.turn(acting="console", name="read_only", on=True, note="We look into it")
    switches.forget()
    assert choose(stranger).status_code == 303
    stranger.client.handler.enforce_csrf_checks = True
    assert choose(stranger).status_code == 403
    switches.forget()


def test_error_pages_are_chinese(stranger: Visitor) -> None:
    choose(stranger)
    answer = stranger.get("/no-such-page")
    assert answer.status_code == 404
    assert is_chinese(answer)
    assert english_of(answer.text) == set()


def test_a_refusal_has_a_chinese_title_and_its_own_english_detail(supply: market.Supply) -> None:
    poor = visitor_of(market.make_renter(credit=1 * market.USD))
    choose(poor)
    answer = order(poor, supply)
    assert answer.status_code == 402
    assert "余额不足" in answer.text
    assert "充值" in answer.text


def test_the_api_is_english_for_everybody(renter: Visitor) -> None:
    """Also where a message is one of the REST framework's, which has them in Chinese."""

    def told() -> list[Any]:
        calls = (("GET", "/nothing"), ("GET", "/openapi.json"), ("POST", "/ssh-keys"))
        wanted = {"Accept-Language": CHINESE, "Cookie": f"language={CHINESE}"}
        return [renter.person.raw(method, path, **wanted) for method, path in calls]

    answers = told()
    assert [status for status, _body in answers] == [404, 200, 422]
    assert b"required" in answers[2][1]
    assert not any(HAN.search(body.decode()) for _status, body in answers)


def test_nothing_translated_is_stored(renter: Visitor, supply: market.Supply) -> None:
    """Whatever a reader of Chinese does, the database and the thread stay English. A mail that is
    ordered is for one reader, in their language."""
    choose(renter)
    rented = order(renter, supply, name="trial")["Location"]
    renter.send(renter.get(f"{rented}/terminate"), f"{rented}/terminate")
    renter.post(f"{rented}/terminate", {"idempotency_key": "again"})
    renter.send(renter.get("/billing"), "/billing/topups", amount="50.00")
    renter.send(renter.get("/ssh-keys"), "/ssh-keys", name="laptop", public_key=market.SSH_KEY)
    quote_of(renter, supply)
    other = Visitor()
    choose(other)
    other.send(other.get("/sign-up"), "/sign-up", **FORM)
    with translation.override(CHINESE):
        deliver()
    for message in mail.outbox:
        chinese = bool(HAN.search(f"{message.subject}")), bool(HAN.search(str(message.body)))
        assert chinese == (message.to == [FORM["email"]],) * 2, "who signed up in Chinese reads it"
    assert [FORM["email"]] in [message.to for message in mail.outbox]
    assert not HAN.search(repr(_all_that_is_stored()))
    assert translation.get_language() == "en"


def test_a_person_chooses_the_language_of_mails(renter: Visitor, supply: market.Supply) -> None:
    """Under Settings or over the API, and nobody is written to in one that there is not."""
    user = renter.person.principal.user
    page = renter.get("/settings/notifications")
    assert '<option value="en" lang="en" selected>English' in page.text
    sent = {"on": ["trouble", "stops", "notices"], "language": CHINESE}
    assert renter.post("/settings/notifications", sent).status_code == 303
    user.refresh_from_db()
    assert (user.language, user.mail_off) == (CHINESE, ["supply"])
    Letter.objects.all().delete()  # of the key that the person has here
    key = {"name": "robot", "scopes": ["account:read"]}
    assert renter.person.call("POST", "/api-keys", key)[0] == 201
    Letter.objects.update(created_at=now() - letters.WAIT)
    letters.post()
    deliver()
    told = mail.outbox[-1]
    assert told.subject == "新的 API 密钥：robot"
    assert "account:read" in str(told.body)
    assert "创建者" in str(told.body)
    with transaction.atomic():
        spent = phrase("{percent} % of the budget {name} is spent", percent=80, name="lab")
        nothing = phrase("Nothing is stopped by this.")
        org = renter.person.principal.org.id
        money_mail.tell(org, "budget.reached", subject=spent, text=nothing)
    deliver()
    told = mail.outbox[-1]
    assert told.subject == "预算 lab 已用 80 %"
    assert "不会因此停止任何实例。" in str(told.body)
    assert "Your balance" not in str(told.body)
    assert renter.post("/settings/notifications", {"language": "xx"}).status_code == 422
    status, answer = renter.person.call("PUT", "/mail-preferences", {"off": [], "language": "en"})
    assert (status, answer["language"]) == (200, "en")
    assert renter.person.call("PUT", "/mail-preferences", {"off": [], "language": "xx"})[0] == 422
    user.refresh_from_db()
    assert (user.language, user.mail_off) == ("en", [])


def _all_that_is_stored() -> list[Any]:
    """Every row of our areas. Sessions are not among them: what a page says next is in there."""
    labels = ("marketplace", "billing", "provisioner", "kernel")
    rows = [
        _text_of(value)
        for label in labels
        for model in apps.get_app_config(label).get_models()
        if model is not EmailToken
        for row in model._default_manager.values_list()
        for value in row
    ]
    assert len(rows) > 500
    return rows


def _text_of(value: object) -> object:
    """Stored answers are bytes of UTF-8; digests and sealed values are no text."""
    if not isinstance(value, bytes | memoryview):
        return value
    try:
        return bytes(value).decode()
    except UnicodeDecodeError:
        return ""
