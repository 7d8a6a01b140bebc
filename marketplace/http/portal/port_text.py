"""Ports as people write them in one field: ``8000, 8888 jupyter token``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.accounts.ports import MODES, Port

HELP: Final = gettext_lazy(
    "Separated by commas, each with a name and whom it lets in if you like, such as "
    "8000, 3000 site public, 8888 jupyter team. Without a word: whoever has the token."
)
LONGEST: Final = 2000


def read(text: str) -> tuple[dict[str, Any], ...]:
    """What it says, for the domain to judge; forms.ValidationError for what is no list."""
    entries = [entry.split() for entry in text.replace("\n", ",").split(",")]
    return tuple(_one(words) for words in entries if words)


def write(ports: Sequence[Port]) -> str:
    """The text that says so."""
    return ", ".join(" ".join(filter(None, (str(p.port), p.name, p.access_mode))) for p in ports)


def _one(words: list[str]) -> dict[str, Any]:
    number, *rest = words
    if not (number.isascii() and number.isdigit() and len(number) < 6) or len(rest) > 2:
        raise forms.ValidationError(_("Write ports as numbers, such as 8000, 8080."))
    found: dict[str, Any] = {"port": int(number)}
    for word in rest:
        field = "access_mode" if word in MODES else "name"
        if field in found:
            raise forms.ValidationError(
                _("Each port has one name and one of: %s.") % ", ".join(MODES)
            )
        found[field] = word
    return found


class PortsField(forms.CharField):
    """A form's field with that text."""

    def __init__(self, **options: Any) -> None:
        given = {"label": gettext_lazy("Ports"), "required": False, "help_text": HELP, **options}
        super().__init__(max_length=LONGEST, **given)

    def clean(self, value: Any) -> Any:
        return read(super().clean(value))
