"""How what is true of an offer reads to people: choices of filters, what sets one apart."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from django.utils.translation import gettext_lazy as _

from marketplace.http.portal.words import Text

NAMES: Final[Mapping[str, Mapping[str, Text]]] = {
    "ownership": {"owned": _("Our data centres"), "partner": _("Partners")},
    "interruptible": {"true": _("Interruptible"), "false": _("Never interruptible")},
    "ssh": {"true": _("SSH and ports"), "false": _("None")},
    "storage": {
        "none": _("No volumes"),
        "node": _("On the machine"),
        "cluster": _("In the whole cluster"),
    },
    "interconnect": {"none": _("None stated")},
    "tier": {"standard": _("Standard"), "new": _("New, on probation")},
    "isolation": {"container": _("Container")},
}
# By name of catalog/marks.py.
MARKS: Final[Mapping[str, Text]] = {
    "cheapest": _("lowest price"),
    "most_reliable": _("most reliable"),
    "fastest_machine": _("best benchmark"),
    "largest_block": _("most free in one machine"),
    "fastest_disk": _("fastest disk"),
    "fastest_network": _("fastest network"),
}
EGRESS: Final[Mapping[str, Text]] = {
    "internet": _("the internet"),
    "web": _("HTTP and HTTPS only"),
    "none": _("nothing"),
}


def spelled(name: str, value: str) -> str:
    """A choice of a filter in words."""
    return str(NAMES.get(name, {}).get(value, value))
