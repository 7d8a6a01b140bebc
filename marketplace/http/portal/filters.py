"""The filter bar of the catalogue: what may be chosen, and how many offers each choice would give.

It only draws: the address is read by the API's own parser. A choice that would give nothing is
shown with a 0 and not taken away, so that what there is not can be seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from django import forms
from django.forms.utils import flatatt
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from marketplace.catalog.facets import ANY, FACETS, Counts
from marketplace.http.portal.offer_words import spelled
from marketplace.http.portal.words import Text
from provisioner.contracts import Accelerator

# Typed in, and not counted.
SHAPE: Final = ("gpus", "min_memory_gib", "min_disk_gib", "max_price")
# What most people choose by; the rest is folded away until one of it is chosen.
FIRST: Final = ("accelerator", "region", "ownership", "interruptible")
MORE: Final = ("vendor", "tier", "isolation", "storage", "interconnect", "ssh")

_ANYTHING: Final[Mapping[str, Text]] = {
    "accelerator": gettext_lazy("Any card"),
    "region": gettext_lazy("Anywhere"),
    "ownership": gettext_lazy("All"),
}


class Choices(forms.Select):
    """A select of hundreds of options in one go: a template for each takes half the page's time."""

    def render(
        self, name: str, value: Any, attrs: dict[str, Any] | None = None, renderer: Any = None
    ) -> SafeString:
        chosen = "" if value is None else str(value)
        given = self.build_attrs(self.attrs, {"name": name, **(attrs or {})})
        return format_html("<select{}>{}</select>", flatatt(given), _options(self.choices, chosen))


def _options(listed: Iterable[Any], chosen: str) -> SafeString:
    """Values with labels, or names of groups with such lists."""
    return format_html_join("", "{}", ((_option(value, label, chosen),) for value, label in listed))


def _option(value: Any, label: Any, chosen: str) -> SafeString:
    if isinstance(label, list | tuple):
        return format_html('<optgroup label="{}">{}</optgroup>', value, _options(label, chosen))
    if str(value) == chosen:
        return format_html('<option value="{}" selected>{}</option>', value, label)
    return format_html('<option value="{}">{}</option>', value, label)


class FilterForm(forms.Form):
    """Its choices are set from counts; labels also serve to spell a filter out."""

    gpus = forms.CharField(label=gettext_lazy("GPUs in one machine"))
    min_memory_gib = forms.CharField(label=gettext_lazy("Memory per card, GiB"))
    min_disk_gib = forms.CharField(label=gettext_lazy("Disk, GiB"))
    max_price = forms.CharField(label=gettext_lazy("At most, $ per GPU and hour"))
    accelerator = forms.ChoiceField(label=gettext_lazy("Card"), widget=Choices)
    region = forms.ChoiceField(label=gettext_lazy("Region"), widget=Choices)
    ownership = forms.ChoiceField(label=gettext_lazy("Owner"), widget=Choices)
    interruptible = forms.ChoiceField(label=pgettext_lazy("filter", "Use"), widget=Choices)
    vendor = forms.ChoiceField(label=gettext_lazy("Maker"), widget=Choices)
    tier = forms.ChoiceField(label=gettext_lazy("Tier"), widget=Choices)
    isolation = forms.ChoiceField(label=gettext_lazy("Isolation"), widget=Choices)
    storage = forms.ChoiceField(label=gettext_lazy("Volumes"), widget=Choices)
    interconnect = forms.ChoiceField(label=gettext_lazy("Interconnect"), widget=Choices)
    ssh = forms.ChoiceField(label=gettext_lazy("Way in"), widget=Choices)
    order = forms.ChoiceField(
        label=gettext_lazy("Sort by"),
        choices=[
            ("", gettext_lazy("Price, lowest first")),
            ("-price", gettext_lazy("Price, highest first")),
            ("reliability", gettext_lazy("Reliability, highest first")),
            ("performance", gettext_lazy("Benchmark, highest first")),
        ],
        widget=forms.Select(attrs={"form": "filters", "class": "input"}),
    )

    def __init__(self, *args: Any, choices: Mapping[str, list[Any]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, listed in choices.items():
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = listed
        for name in SHAPE:
            self.fields[name].widget.attrs.update(inputmode="decimal", autocomplete="off")
        for field in self.fields.values():
            field.required = False

    @property
    def shape_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in SHAPE]

    @property
    def first_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in FIRST]

    @property
    def more_fields(self) -> list[forms.BoundField]:
        return [self[name] for name in MORE]

    @property
    def more_chosen(self) -> int:
        """How many of the folded filters say something."""
        return sum(bool(self.initial.get(name)) for name in MORE)


def choices(
    counts: Counts,
    given: Mapping[str, list[str]],
    *,
    cards: Iterable[dict[str, Any]],
    known: Mapping[str, Accelerator],
    regions: Iterable[str],
) -> dict[str, list[Any]]:
    """The choices of every counted filter: what is on sale, and what was asked for."""
    makers = {card.vendor: card.vendor_name for card in known.values()}
    found: dict[str, list[Any]] = {}
    for name in FACETS:
        tally = counts[name]
        values = {*tally, *given.get(name, [])[:1]} - {ANY}
        if name == "region":
            values |= set(regions)
        words = makers if name == "vendor" else {}
        listed = [(value, words.get(value) or spelled(name, value)) for value in sorted(values)]
        if name == "accelerator":
            found[name] = [_any(name, tally), *_cards(tally, given.get(name, []), cards)]
        else:
            found[name] = [_any(name, tally), *(_counted(pair, tally) for pair in listed)]
    return found


def _any(name: str, tally: Mapping[str, int]) -> tuple[str, str]:
    return _counted((ANY, str(_ANYTHING.get(name, _("Any")))), tally)


def _counted(pair: tuple[str, str], tally: Mapping[str, int]) -> tuple[str, str]:
    value, label = pair
    return value, f"{label} ({tally.get(value, 0)})"


def _cards(
    tally: Mapping[str, int], asked: list[str], cards: Iterable[dict[str, Any]]
) -> list[tuple[str, list[tuple[str, str]]]]:
    """Parts of cards are many kinds: only what somebody has, or was asked for, is worth a line."""
    free, rest = [], []
    for card in cards:
        choice = _counted((card["slug"], card["name"]), tally)
        if card["in_stock"]:
            free.append(choice)
        elif not card["partition"] or card["slug"] in asked:
            rest.append(choice)
    groups = [(_("Free now"), free), (_("Not free now"), rest)]
    return [(label, listed) for label, listed in groups if listed]
