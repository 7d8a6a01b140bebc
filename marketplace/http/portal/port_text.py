"""Ports as people write them in one field: ``8000, 8888 jupyter token``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.accounts.ports import MODES, TCP, Port

HELP: Final = gettext_lazy(
    "Separated by commas, each with a name and whom it lets in if you like, such as "
    "8000, 3000 site public, 8888 jupyter team. Without a word: whoever has the token. With the "
    "word tcp: anything that speaks TCP, and anybody, such as 5432 postgres tcp."
)
LONGEST: Final = 2000
# The words that say something other than the port's name, and what they say.
_FIELDS: Final = {**dict.fromkeys(MODES, "access_mode"), TCP: "protocol"}


def read(text: str) -> tuple[dict[str, Any], ...]:
    """What it says, for the domain to judge; forms.ValidationError for what is no list."""
    entries = [entry.split() for entry in text.replace("\n", ",").split(",")]
    return tuple(_one(words) for words in entries if words)


def write(ports: Sequence[Port]) -> str:
    """The text that says so."""
    return ", ".join(" ".join(filter(None, (str(p.port), p.name, _mode(p)))) for p in ports)


def _mode(port: Port) -> str:
    return TCP if port.protocol == TCP else port.access_mode


def _one(words: list[str]) -> dict[str, Any]:
    number, *rest = words
    if not (number.isascii() and number.isdigit() and len(number) < 6) or len(rest) > 2:
        raise forms.ValidationError(_("Write ports as numbers, such as 8000, 8080."))
    names = [word for word in rest if word not in _FIELDS]
    modes = [word for word in rest if word in _FIELDS]
    if len(names) > 1 or len(modes) > 1:
        raise forms.ValidationError(
            _("Each port has one name and one of: %s.") % ", ".join(_FIELDS)
        )
    found: dict[str, Any] = {"port": int(number)}
    return found | {_FIELDS.get(word, "name"): word for word in rest}


class PortsField(forms.CharField):
    """A form's field with that text."""

    def __init__(self, **options: Any) -> None:
        given = {"label": gettext_lazy("Ports"), "required": False, "help_text": HELP, **options}
        super().__init__(max_length=LONGEST, **given)

    def clean(self, value: Any) -> Any:
        return read(super().clean(value))
