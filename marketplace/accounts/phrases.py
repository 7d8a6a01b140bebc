"""Sentences that wait for their reader: kept as English with what stands in it, said in a language.

A fact is stored once and told to several people, each in their own language. What is stored is the
message and its values; numbers, names and amounts are values and stay as they are, and a value may
itself be a phrase.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from django.utils import translation
from django.utils.translation import gettext

from marketplace.models import User

Said = Any  # of JSON: text, a number, a phrase, or a list of those, which are said one by one

_MESSAGE, _VALUES = "say", "with"


def phrase(message: str, /, **values: Said) -> Said:
    """``message`` with ``{name}`` for each value; a literal here is gathered for translation.

    Without values it may also be a sentence of ours that is data, or one that somebody wrote, which
    then has no translation and stays.
    """
    return {_MESSAGE: str(message), _VALUES: values}


def spoken(said: Said) -> str:
    """In the language that is active. Whatever is no phrase is itself, and nothing is ""."""
    if isinstance(said, list):
        return " ".join(filter(None, map(spoken, said)))
    if not isinstance(said, dict):
        return "" if said is None else str(said)
    message = said[_MESSAGE]
    text = gettext(message) if message else ""
    values = said[_VALUES]
    # Without values it is not a pattern: whoever wrote it may have written braces.
    return text.format(**{name: spoken(one) for name, one in values.items()}) if values else text


def english(said: Said) -> str:
    """As it is stored where everybody reads the same."""
    with translation.override("en"):
        return spoken(said)


def speaking(user: User) -> AbstractContextManager[None]:
    """The language in which this person reads mails, for as long as it lasts."""
    return translation.override(user.language)
