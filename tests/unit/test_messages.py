"""The portal's words: every one is in the catalogue, translated, whole, and what is compiled."""

from __future__ import annotations

import ast
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

import pytest
from babel.messages import Catalog, Message
from babel.messages.mofile import read_mo

from devstack import messages
from devstack.bootstrap import ROOT

pytestmark = pytest.mark.parametrize("locale", messages.LOCALES)

AGAIN = "run `make messages`, translate what it names in {po}, and run it again"
# Names and units, which other languages write as English does.
SAME_IN_BOTH = {
    "zh_Hans": {"API", "CUDA", "GiB", "ID", "PUE", "Pod", "Stripe", "USD", "Webhook", "vCPU"},
}  # fmt: skip
PLACEHOLDER = re.compile(r"%%|%\(\w+\)[-0-9.]*[a-z]|%[-0-9.]*[a-z]|\{\w*(?:![rs])?(?::[^}]*)?\}")
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
LAZY = {"gettext_lazy", "ngettext_lazy", "pgettext_lazy", "gettext_noop"}


@cache
def known(locale: str) -> Catalog:
    return messages.read(messages.po_file(locale))


@cache
def said() -> Catalog:
    return messages.gathered()


def _flat(text: str | Sequence[str] | None) -> list[str]:
    """A message's text in all its numbers."""
    return [text] if isinstance(text, str) else list(text or ())


def keys(catalog: Catalog) -> set[str]:
    return {messages.key(message) for message in catalog if message.id}


def translated(locale: str) -> Iterator[tuple[Message, list[str], list[str]]]:
    """Each message with its English and its translations, of all numbers."""
    for message in known(locale):
        if message.id and messages.is_done(message):
            yield message, _flat(message.id), _flat(message.string)


def found_in(locale: str, wrong: list[str] | set[str], what: str) -> None:
    po = messages.po_file(locale).relative_to(ROOT)
    assert not wrong, f"{what}; {AGAIN.format(po=po)}:\n  " + "\n  ".join(sorted(wrong))


def test_every_message_is_in_the_catalogue(locale: str) -> None:
    assert len(keys(said())) > 1000
    found_in(locale, keys(said()) - keys(known(locale)), "said and not in the catalogue")
    found_in(locale, keys(known(locale)) - keys(said()), "in the catalogue and said no more")


def test_every_message_is_translated(locale: str) -> None:
    left = [messages.key(one) for one in known(locale) if one.id and not messages.is_done(one)]
    found_in(locale, left, "not translated, or marked as fuzzy")


def test_the_catalogue_is_as_the_tool_writes_it(locale: str) -> None:
    found_in(
        locale,
        []
        if messages.as_po(messages.updated(known(locale), said()))
        == messages.po_file(locale).read_bytes()
        else ["(its order, its places or its header)"],
        "not as the tool writes it",
    )


def test_what_is_compiled_is_what_is_written(locale: str) -> None:
    compiled = read_mo(io.BytesIO(messages.mo_file(locale).read_bytes()))
    done = [one for one in known(locale) if one.id and messages.is_done(one)]
    written = {(one.context, *_flat(one.id)): _flat(one.string) for one in done}
    there = {(one.context, *_flat(one.id)): _flat(one.string) for one in compiled if one.id}
    wrong = {str(text) for text in written.keys() ^ there.keys()}
    wrong |= {str(text) for text in written.keys() & there.keys() if written[text] != there[text]}
    found_in(locale, wrong, "the .mo file is not made from the .po file")


def test_placeholders_are_kept(locale: str) -> None:
    """As many of each; in a language without plurals the one form has what the plural has."""
    wrong = []
    for message, english, foreign in translated(locale):
        wanted = Counter(PLACEHOLDER.findall(english[-1]))
        wrong += [
            f"{messages.key(message)} -> {text}"
            for text in foreign
            if Counter(PLACEHOLDER.findall(text)) != wanted
        ]
    found_in(locale, wrong, "placeholders differ")


def test_markup_is_kept(locale: str) -> None:
    """The same tags with the same attributes, and no other sign that means something in HTML."""
    wrong = []
    for message, english, foreign in translated(locale):
        for text in foreign:
            tags = Counter(TAG.findall(english[-1])) == Counter(TAG.findall(text))
            outside = [TAG.sub("", each) for each in (english[-1], text)]
            signs = [Counter(re.findall(r'[<>&"]', each)) for each in outside]
            quotes = signs[1]['"'] > signs[0]['"']
            hazards = any(signs[1][sign] != signs[0][sign] for sign in "<>&")
            if not tags or hazards or quotes:
                wrong.append(f"{messages.key(message)} -> {text}")
    found_in(locale, wrong, "markup differs")


def test_edges_are_kept(locale: str) -> None:
    """A message that is put together with another keeps its line breaks, and never starts in one
    script and ends in the punctuation of the other."""
    wrong = []
    for message, english, foreign in translated(locale):
        for text in foreign:
            if english[-1].count("\n") != text.count("\n"):
                wrong.append(f"{messages.key(message)} -> {text!r}: line breaks")
            if re.search(r"[一-鿿][,;:?!]|[一-鿿]\.(?:$|\s)", text):
                wrong.append(f"{messages.key(message)} -> {text!r}: half-width punctuation")
    found_in(locale, wrong, "edges or punctuation differ")


def test_no_translation_repeats_the_english(locale: str) -> None:
    wrong = {
        text
        for message, english, foreign in translated(locale)
        for text in foreign
        if not re.search(r"[一-鿿]", text)
        and re.search(r"[A-Za-z]{2}", PLACEHOLDER.sub("", TAG.sub("", text)))
        and text not in SAME_IN_BOTH[locale]
    }
    found_in(locale, wrong, "English in a translation")


def _evaluated_early(path: Path) -> Iterator[str]:
    """Calls of gettext that run when the module is loaded: in the language of nobody."""
    tree = ast.parse(path.read_text())
    eager = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
        if alias.name not in LAZY and "gettext" in alias.name
    }

    def walk(node: ast.AST) -> Iterator[ast.Call]:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            early = [*node.args.defaults, *(one for one in node.args.kw_defaults if one)]
            early += [] if isinstance(node, ast.Lambda) else node.decorator_list
            for each in early:
                yield from walk(each)
            return
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in eager:
            yield node
        for child in ast.iter_child_nodes(node):
            yield from walk(child)

    for call in walk(tree):
        yield f"{path.relative_to(ROOT)}:{call.lineno}"


def _computed(path: Path) -> Iterator[str]:
    """Calls of gettext with something that is no literal: no tool can find what they say."""
    tree = ast.parse(path.read_text())
    names = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation"
        for alias in node.names
        if "gettext" in alias.name
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            first = node.args[0] if node.args else None
            if not (isinstance(first, ast.Constant) and isinstance(first.value, str)):
                yield f"{path.relative_to(ROOT)}:{node.lineno}"


def _product() -> list[Path]:
    folders = [ROOT / name for name in messages.CODE]
    return [path for folder in folders for path in sorted(folder.rglob("*.py"))]


def test_nothing_is_translated_before_there_is_a_reader(locale: str) -> None:
    assert [place for path in _product() for place in _evaluated_early(path)] == []


def test_only_literals_are_translated(locale: str) -> None:
    """But for what says sentences that are data, which the tool gathers where they stand."""
    places = [place.partition(":")[0] for path in _product() for place in _computed(path)]
    assert places == ["marketplace/accounts/phrases.py", "marketplace/http/portal/tags.py"]


def test_a_phrase_is_given_what_it_names(locale: str) -> None:
    """It is said long after it was written, by a loop: a value that is missing would break that."""
    wrong, seen = [], 0
    for path in _product():
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "phrase"):
                continue
            if isinstance(node.args[0], ast.Constant):
                seen += 1
                named = set(re.findall(r"\{(\w+)\}", str(node.args[0].value)))
                if named != {word.arg for word in node.keywords}:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert seen > 40
    found_in(locale, wrong, "values that are not named, or named and not given")


def test_all_kinds_of_calls_are_read(locale: str) -> None:
    code = """
        _("one"); gettext_lazy("two " "parts"); f"{_('inside')} text"; other("not this")
        ngettext("%(n)d card", "%(n)d cards", n); pgettext_lazy("where", "three")
    """
    found = list(messages.calls("if True:\n" + code))
    assert sorted(found, key=str) == sorted(
        [
            *[("one", None), ("two parts", None), ("inside", None)],
            *[(("%(n)d card", "%(n)d cards"), None), ("three", "where")],
        ],
        key=str,
    )
    template = (
        '<p>{% translate "one" %} {% translate "Open" context "here" %}</p>\n'
        '     {{ x|default:_("two") }}{% blocktranslate count n=x|length with p=y %}'
        "{{ n }} of {{ p }}{% plural %}{{ n }} all of {{ p }}{% endblocktranslate %}"
        "\n  <b>it's (not</b>"
    )
    assert list(messages.blocks(template)) == [
        *[("one", None), ("Open", "here"), ("two", None)],
        (("%(n)s of %(p)s", "%(n)s all of %(p)s"), None),
    ]


def test_dates_with_names_of_months_are_written_as_the_catalogue_says(locale: str) -> None:
    """`{{ day|date:"F Y" }}` would read "November 2026" with the parts of another language."""
    wrong = [
        f"{path.relative_to(ROOT)}: {shape}"
        for path in sorted((ROOT / "templates").rglob("*.html"))
        for shape in re.findall(r'\|date:"([^"]*)"', path.read_text())
        if re.search(r"[FMNbE]", shape)
    ]
    assert wrong == []
