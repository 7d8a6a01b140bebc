"""`make messages`: what the portal says, gathered into locale/ for translation, and compiled.

    python -m devstack.messages

Reads every literal that is handed to gettext in product code and templates, brings each django.po
up to date and writes the django.mo beside it, which is committed: a fresh machine needs no tool.
What is no longer said is dropped; what is new has an empty translation, is named on standard
output and is shown in English until somebody fills it in. A message whose English is changed is a
new one: nothing is guessed from a similar one.

Babel does the reading and writing, because xgettext and msgfmt are not everywhere. Django turns
templates into lines that look like Python, with everything else blanked out. A message is located
by its file only: with line numbers the files would change with every edit.
"""

from __future__ import annotations

import ast
import io
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from babel.messages import Catalog, Message
from babel.messages.extract import extract
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po
from django.conf import settings
from django.utils.translation.template import templatize

from devstack.bootstrap import ROOT
from devstack.console import say

LOCALES: Final = ("zh_Hans",)
# Sentences that lower areas keep as data, because the API says them too, always in English. The
# portal looks them up with the filter `translated`.
DATA: Final = (
    ("marketplace/accounts/access.py", "SCOPES"),
    ("billing/contracts/reconciliation.py", "CHECKS"),
    ("marketplace/rentals/reasons.py", "_ROWS"),
)
RULES: Final = "provisioner/preflight/rules.toml"
CODE: Final = ("billing", "config", "kernel", "marketplace", "provisioner")
KEYWORDS: Final = {
    "_": None,
    "phrase": None,
    "gettext": None,
    "gettext_lazy": None,
    "gettext_noop": None,
    "ngettext": (1, 2),
    "ngettext_lazy": (1, 2),
    "pgettext": ((1, "c"), 2),
    "pgettext_lazy": ((1, "c"), 2),
    "npgettext": ((1, "c"), 2, 3),
}
# Of no meaning, and the same on every day and machine: a file changes only with what it says.
_ALWAYS: Final = datetime(2026, 1, 1, tzinfo=UTC)


def main() -> int:
    """Bring every catalogue up to date; what is left to translate is on standard output."""
    found = gathered()
    for locale in LOCALES:
        catalog = updated(read(po_file(locale)), found)
        po_file(locale).write_bytes(as_po(catalog))
        mo_file(locale).write_bytes(as_mo(catalog))
        missing = [key(message) for message in catalog if message.id and not is_done(message)]
        say(f"messages: {len(catalog)} in {locale}, {len(missing)} to translate")
        print(*(f"  {each}" for each in missing), sep="\n", end="\n" if missing else "")
    return 0


def po_file(locale: str) -> Path:
    return ROOT / "locale" / locale / "LC_MESSAGES" / "django.po"


def mo_file(locale: str) -> Path:
    return po_file(locale).with_suffix(".mo")


def gathered() -> Catalog:
    """Every message of the sources, with the files that say it."""
    catalog = Catalog()
    for path, text in _sources():
        name = path.relative_to(ROOT).as_posix()
        for said, context in calls(text) if path.suffix == ".py" else blocks(text):
            # A message in two places is one message; it is located once in each file.
            there = catalog.get(said if isinstance(said, str) else said[0], context)
            if there is None or (name, 0) not in there.locations:
                catalog.add(said, locations=[(name, 0)], context=context)
    for name, text in _data():
        catalog.add(text, locations=[(name, 0)])
    return catalog


def calls(text: str) -> Iterator[tuple[str | tuple[str, str], str | None]]:
    """What a module hands to gettext, with its context. By the syntax tree, which knows the inside
    of an f-string in every version of Python; a tokenizer does not."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id.removesuffix("_lazy").removesuffix("_noop")
            words = [one.value for one in node.args if isinstance(one, ast.Constant)]
            given = [one for one in words if isinstance(one, str)]
            if node.func.id in KEYWORDS and given:
                context = given.pop(0) if name in {"pgettext", "npgettext"} else None
                yield (
                    (given[0], given[1]) if name in {"ngettext", "npgettext"} else given[0],
                    context,
                )


def blocks(text: str) -> Iterator[tuple[str | tuple[str, str], str | None]]:
    """What a template says, with its context."""
    # Python's tokenizer wants indentation to make sense; blanked-out markup makes none.
    lines = "\n".join(line.strip() for line in templatize(text).splitlines())
    for _line, said, _comments, context in extract("python", io.BytesIO(lines.encode()), KEYWORDS):
        yield said if isinstance(said, str) else (said[0], said[1]), context


def _data() -> Iterator[tuple[str, str]]:
    """The file and the text of every sentence that is data."""
    for name, constant in DATA:
        for node in ast.parse((ROOT / name).read_text()).body:
            if isinstance(node, ast.AnnAssign | ast.Assign) and constant in ast.unparse(node)[:99]:
                texts = [one.value for one in ast.walk(node) if isinstance(one, ast.Constant)]
                yield from ((name, one) for one in texts if isinstance(one, str) and " " in one)
    for rule in tomllib.loads((ROOT / RULES).read_text())["rule"]:
        yield from ((RULES, rule[part]) for part in ("title", "why", "threshold"))


def _sources() -> Iterator[tuple[Path, str]]:
    for folder in CODE:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "migrations" not in path.parts:
                yield path, path.read_text()
    if not settings.configured:
        settings.configure()
    for path in sorted((ROOT / "templates").rglob("*.*")):
        yield path, path.read_text()


def updated(known: Catalog, found: Catalog) -> Catalog:
    """The messages found, with the translations known. Equal text is the only ground for one."""
    catalog = Catalog(locale=known.locale, creation_date=_ALWAYS, revision_date=_ALWAYS)
    for message in found:
        if message.id:
            before = known.get(message.id, message.context)
            if before is None or before.id != message.id:  # the latter: of another number of forms
                before = Message(message.id)
            catalog.add(
                message.id,
                string=before.string,
                locations=sorted(set(message.locations)),
                flags=message.flags | ({"fuzzy"} if before.fuzzy else set()),
                context=message.context,
            )
    return catalog


def key(message: Message) -> str:
    """How a message is named to people: its English, of both numbers where it has two."""
    text = " | ".join(message.id) if isinstance(message.id, tuple) else str(message.id)
    return f"{message.context}: {text}" if message.context else text


def is_done(message: Message) -> bool:
    """Whether it is translated, in all numbers, by somebody who was sure."""
    said = message.string if isinstance(message.string, tuple) else (message.string,)
    return all(said) and not message.fuzzy


def read(path: Path) -> Catalog:
    """The catalogue in a .po file; an empty one of the folder's language where there is none."""
    locale = path.parents[1].name
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        return Catalog(locale=locale)
    with path.open("rb") as file:
        return read_po(file, locale=locale)


_HEADER: Final = """\
# The portal's words in another language. `make messages` keeps this file; the words are yours.
# docs/i18n.md has the glossary.
msgid ""
msgstr ""
"Language: {language}\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=UTF-8\\n"
"Content-Transfer-Encoding: 8bit\\n"
"Plural-Forms: {plurals}\\n"

"""


def as_po(catalog: Catalog) -> bytes:
    """The catalogue as text, in the order of its English."""
    body = io.BytesIO()
    write_po(body, catalog, width=100, omit_header=True, sort_output=True, include_lineno=False)
    header = _HEADER.format(language=catalog.locale, plurals=catalog.plural_forms)
    return header.encode() + body.getvalue().strip() + b"\n"


def as_mo(catalog: Catalog) -> bytes:
    """The catalogue as gettext reads it. What is not translated or not sure is left out."""
    body = io.BytesIO()
    write_mo(body, catalog)
    return body.getvalue()


if __name__ == "__main__":
    sys.exit(main())
