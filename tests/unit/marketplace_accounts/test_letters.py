"""Every mail of the table: it renders, in short plain lines, with nothing left of its template."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.template.loader import render_to_string
from django.utils import translation

from kernel.text import wrapped
from marketplace.accounts import letters, mail
from marketplace.accounts.phrases import english, phrase, spoken
from marketplace.models import EmailToken
from marketplace.rentals.reasons import REASONS

ROOT = Path(__file__).resolve().parents[3]
TEMPLATES = ROOT / "templates" / "email" / "events"
WRITTEN = [row for row in letters.EVENTS.values() if not row.said]
FACTS: dict[str, Any] = {
    "name": "the rather long name of one that runs for weeks on end, and trains & tests",
    "text": "The host is lost. " * 12,
    "fault": "Whose matter: the host's.",
    "at": "2026-11-28 23:10 UTC",
    "path": "/rentals/ren_00000000000000000000000000",
    "email": "somebody-with-a-long-name@department.example.com",
    "by": "boss@example.com",
    "organization": "Analytical Engines & Daughters",
    "role": "viewer",
    "before": "member",
    "left": False,
    "scopes": "account:read, account:write, billing:read, provider:read, rentals:read",
    "ends": "never",
}


HAN = re.compile(r"[一-鿿]")


@pytest.mark.parametrize("row", WRITTEN, ids=lambda row: row.name)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_mail_is_all_chinese_to_whoever_reads_that(row: letters.Event, count: int) -> None:
    """Names and values stay as they are; everything else is said in Chinese, in short lines."""
    facts = {
        **FACTS,
        "name": "42",
        "text": phrase(REASONS["host_lost"].text),
        "fault": phrase("Whose matter: the host's."),
        "role": letters.ROLE_NAMES["viewer"],
        "before": letters.ROLE_NAMES["member"],
        "ends": phrase("never"),
    }
    with translation.override("zh-hans"):
        subject, text = letters.render(row, [facts] * count, organization="Acme")
    assert HAN.search(subject)
    sent = wrapped(text)
    assert sent.startswith("您好，\n\n")
    for line in sent.splitlines():
        assert sum(1 + bool(HAN.match(sign)) for sign in line) <= 78 or "://" in line, line
        words = re.sub(r"https?://\S+|\S+@\S+|[a-z]+:(?:read|write)", "", line)
        words = re.sub(
            r"Acme|gpuyard|Analytical Engines & Daughters|UTC|GPU|API|SSH|CSV|Stripe", "", words
        )
        assert not re.search(r"[A-Za-z]{3}", words), line
    assert letters.render(row, [facts] * count, organization="Acme")[1].startswith("Hello,")


def test_a_phrase_is_said_in_the_language_of_its_reader_and_values_stay() -> None:
    kept = json.loads(
        json.dumps(
            [
                phrase("The owner says: {note}", note="Nothing is charged after the stop."),
                phrase("Your balance lasts {left}", left=phrase("about {hours} hours", hours=24)),
                phrase(""),
                "as it is",
            ]
        )
    )
    assert spoken(kept) == (
        "The owner says: Nothing is charged after the stop. Your balance lasts about 24 hours "
        "as it is"
    )
    with translation.override("zh-hans"):
        assert spoken(kept) == (
            "提供方说明：Nothing is charged after the stop. 您的余额还可用约 24 小时 as it is"
        )


def test_what_everybody_reads_is_english_whoever_caused_it() -> None:
    with translation.override("zh-hans"):
        assert english(phrase("It was our fault.")) == "It was our fault."
        assert spoken(phrase("It was our fault.")) == "责任在我们。"


def test_a_fact_that_is_not_known_is_not_said() -> None:
    facts = {**FACTS, "text": None, "fault": ""}
    _subject, text = letters.render(letters.EVENTS["rental.failed"], [facts], organization="Acme")
    assert "None" not in text


def test_what_somebody_wrote_is_no_pattern() -> None:
    hostile = "{0.__class__} {note!r} {{x}} %(n)s"
    assert spoken(phrase(hostile)) == hostile
    assert spoken(phrase("The owner says: {note}", note=hostile)).endswith(hostile)


@pytest.mark.parametrize("row", WRITTEN, ids=lambda row: row.name)
@pytest.mark.parametrize("count", [1, 3, 40])
def test_a_mail_is_plain_text_in_short_lines(row: letters.Event, count: int) -> None:
    subject, text = letters.render(row, [FACTS] * count, organization="Analytical Engines")
    sent = wrapped(render_to_string("email/notice.txt", {"about": text}))
    assert sent.startswith("Hello,\n\n")
    if row.kind in {"trouble", "stops", "notices", "security"}:
        assert "Analytical Engines" in " ".join(sent.split()), "its reader may belong to several"
    for left_over in ("{", "}", "&amp;", "&#x27;", "None", "\n\n\n\n"):
        assert left_over not in sent, left_over
    for line in sent.splitlines():
        assert len(line) <= 78 or "://" in line, line
    assert "\n" not in subject
    assert 0 < len(subject) <= 150
    assert "{" not in subject
    assert ("/settings/notifications" in sent) is not letters.KINDS[row.kind].required
    if count == 40:
        assert "And 15 more." in sent
    assert sent.rstrip().endswith(("/settings/notifications", "127.0.0.1:8000"))


def test_a_name_of_others_is_never_a_template() -> None:
    hostile = "{{ 7|add:7 }} {% now %} {count} <b>&"
    subject, text = letters.render(
        letters.EVENTS["rental.failed"], [{**FACTS, "name": hostile}], organization=hostile
    )
    assert hostile in text
    assert hostile in subject


def test_every_row_has_its_template_and_every_template_its_row() -> None:
    files = {f"email/events/{path.name}" for path in TEMPLATES.glob("*.txt")}
    assert files == {row.template for row in WRITTEN}
    assert {row.kind for row in letters.EVENTS.values()} == letters.KINDS.keys()
    assert len(letters.EVENTS) == len(letters._ROWS)


def test_every_row_is_told_somewhere() -> None:
    code = "".join(
        path.read_text()
        for path in (ROOT / "marketplace").rglob("*.py")
        if path.name != "letters.py"
    )
    for name in letters.EVENTS:
        assert f'"{name}"' in code, f"nobody tells {name}"


def test_the_handbook_lists_every_mail() -> None:
    text = (ROOT / "docs" / "emails.md").read_text()
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", text, re.MULTILINE))
    expected = letters.EVENTS.keys() | {f"account.{purpose}" for purpose in mail.SUBJECTS}
    assert listed == expected
    for row in letters.EVENTS.values():
        readers = ", ".join(sorted(row.readers))
        assert f"| `{row.name}` | {row.kind} | {readers} |" in text, row.name


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("short", "short"),
        ("", ""),
        ("word " * 20, "word word word word\nword word word word\n" * 2 + "word word word word"),
        ("* one two three four five", "* one two three four\n  five"),
        ("  one two three four five", "  one two three four\n  five"),
        ("https://example.com/" + "x" * 30, "https://example.com/" + "x" * 30),
        # Ten wide characters fill the line; what closes a sentence never begins one.
        ("一二三四五六七八九十，十一", "一二三四五六七八九\n十，十一"),
        ("用 https://e.com/abcdefgh 打开", "用\nhttps://e.com/abcdefgh\n打开"),
        ("* 一二三四五六七八九十", "* 一二三四五六七八九\n  十"),
    ],
)
def test_wrapping_breaks_between_words_and_keeps_addresses(given: str, expected: str) -> None:
    width = 20
    assert wrapped(given, width=width).split("\n")[:5] == expected.split("\n")[:5]


def test_purposes_with_a_subject_have_a_template() -> None:
    for purpose in EmailToken.Purpose:
        assert (ROOT / "templates" / "email" / f"{purpose}.txt").exists(), purpose
