"""What a renter asks the catalogue for, parsed strictly from a query string or a JSON object.

Pure. A filter is never dropped: an unknown name or a malformed value is refused with the nearest
valid name.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, Final

from kernel.errors import InvalidRequest, Refusal
from kernel.money import BadAmount, format_micro, parse_micro
from provisioner.contracts.homogeneity import SharingMode

MAX_GPUS: Final = 4096  # more cards than any data centre of ours holds: a mistake, not an order
# An end further away than this is a mistake in the date: no_limit is the way to say "open".
MAX_HOURS: Final = 24 * 366
MAX_SIZE: Final = 1_000_000  # GiB or cores; beyond it a number is a mistake
# What a machine reaches, the most first: who gives more gives the less as well.
EGRESS: Final = ("internet", "web", "none")
ORDERS: Final = ("price", "-price", "reliability", "performance")
_FLAGS: Final = ("interruptible", "ssh")


@dataclass(frozen=True)
class OfferQuery:
    """Filters of GET /offers and of a requirement. None: not asked. Sizes in GiB."""

    accelerator: tuple[str, ...] = ()
    vendor: str | None = None
    gpus: int | None = None
    min_memory_gib: Decimal | None = None  # per card
    min_vcpus: Decimal | None = None  # the next three: for the asked cards together
    min_ram_gib: Decimal | None = None
    min_disk_gib: Decimal | None = None
    min_cuda: str | None = None
    region: str | None = None
    country: str | None = None
    ownership: str | None = None
    tier: str | None = None
    isolation: str | None = None
    interruptible: bool | None = None  # True: rented so, at that price; False: offers without it
    ssh: bool | None = None  # True: renters can get in; False: offers where nobody can
    storage: str | None = None
    max_price: int | None = None  # micro-units per GPU and hour
    min_reliability: Decimal | None = None  # 0 to 1; what has no sample yet is not "at least"
    egress: str | None = None  # at least so much of the network
    min_hours: Decimal | None = None  # that its owner leaves the cards to the renter, from now on
    interconnect: str | None = None
    sharing_mode: str | None = None  # None: whole cards, and what ``accelerator`` names
    order: str = "price"

    @property
    def asked_gpus(self) -> int:
        """The number of cards that shapes and prices are worked out for."""
        return self.gpus or 1

    def asked(self) -> dict[str, Any]:
        """The filters that were given, by name; the order is none."""
        return {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if field.name != "order" and getattr(self, field.name) not in (None, ())
        }


class BadValue(ValueError):
    """The value does not fit its filter; the message says what would."""


@dataclass(frozen=True)
class Vocabulary:
    """The closed lists that come from data: the accelerator registry."""

    accelerators: Collection[str]
    vendors: Collection[str]
    interconnects: Collection[str]


def whole(low: int, high: int) -> Callable[[str], int]:
    """A parser of whole numbers in [low, high], written in plain digits."""

    def parse(text: str) -> int:
        if not re.fullmatch(r"[0-9]{1,9}", text) or not low <= int(text) <= high:
            raise BadValue(f"give a whole number from {low} to {high}")
        return int(text)

    return parse


def decimal(high: int) -> Callable[[str], Decimal]:
    """A parser of plain decimals in [0, high] with at most six places."""

    def parse(text: str) -> Decimal:
        try:
            value = Decimal(text) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,6})?", text) else None
        except InvalidOperation as error:  # pragma: no cover - the pattern admits numbers only
            raise BadValue(f"give a number from 0 to {high}") from error
        if value is None or value > high:
            raise BadValue(f"give a number from 0 to {high}")
        return value

    return parse


def one_of(values: Collection[str]) -> Callable[[str], str]:
    """A parser that takes one of ``values``; a near miss is named."""

    def parse(text: str) -> str:
        if text in values:
            return text
        near = get_close_matches(text, sorted(values), n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else f": one of {', '.join(sorted(values))}"
        raise BadValue(f"unknown value{hint}")

    return parse


def word(text: str) -> str:
    """A slug. Any is allowed: one that no offer carries matches nothing."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,59}", text):
        raise BadValue("give a name of letters, digits, dots and dashes")
    return text


def _country(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z]{2}", text):
        raise BadValue("give a country code of two letters (ISO 3166)")
    return text.upper()


def cuda_version(text: str) -> str:
    """The text unchanged; raises BadValue unless it is a version such as 12.4."""
    if not re.fullmatch(r"[1-9][0-9]?\.[0-9]", text):
        raise BadValue("give a CUDA version such as 12.4")
    return text


def cuda_x100(version: str) -> int:
    """ "12.4" -> 1240, the sortable form that inventory stores."""
    major, minor = version.split(".")
    return int(major) * 100 + int(minor) * 10


def _price(text: str) -> int:
    try:
        value = parse_micro(text)
    except BadAmount as error:
        raise BadValue(str(error)) from error
    if value < 0:
        raise BadValue("a price is not negative")
    return value


def _parsers(words: Vocabulary) -> dict[str, Callable[[str], Any]]:
    size = decimal(MAX_SIZE)
    return {
        "accelerator": one_of(words.accelerators),
        "vendor": one_of(words.vendors),
        "gpus": whole(1, MAX_GPUS),
        "min_memory_gib": size,
        "min_vcpus": size,
        "min_ram_gib": size,
        "min_disk_gib": size,
        "min_cuda": cuda_version,
        "region": word,
        "country": _country,
        "ownership": one_of(("owned", "partner")),
        "tier": word,
        "isolation": word,
        **{name: lambda text: one_of(("true", "false"))(text) == "true" for name in _FLAGS},
        "storage": one_of(("none", "node", "cluster")),
        "max_price": _price,
        "min_reliability": decimal(1),
        "egress": one_of(EGRESS),
        "min_hours": decimal(MAX_HOURS),
        "interconnect": one_of({*words.interconnects, "none"}),
        "sharing_mode": one_of([mode.value for mode in SharingMode]),
        "order": one_of(ORDERS),
    }


FILTERS: Final = tuple(field.name for field in fields(OfferQuery))


def parse(params: Mapping[str, Sequence[str]], words: Vocabulary) -> OfferQuery:
    """A query string's lists of values as a query.

    Raises Refusal unknown_filter or invalid_filter (400) with ``filter`` and ``nearest``.
    """
    parsers = _parsers(words)
    found: dict[str, Any] = {}
    for name, values in params.items():
        if name not in parsers:
            raise unknown_filter(name, FILTERS)
        if name != "accelerator" and len(values) != 1:
            raise invalid_filter(name, "give this filter once")
        try:
            parsed = tuple(parsers[name](value) for value in values)
        except BadValue as error:
            raise invalid_filter(name, str(error)) from error
        found[name] = tuple(dict.fromkeys(parsed)) if name == "accelerator" else parsed[0]
    return OfferQuery(**found)


def parse_requirement(body: object, words: Vocabulary) -> OfferQuery:
    """The same from the JSON object of a requirement; raises InvalidRequest (422) per field.

    Numbers may be JSON numbers or decimal strings; ``accelerator`` a slug or a list of them.
    """
    if not isinstance(body, Mapping):
        raise InvalidRequest({"requirement": ["give an object of filters"]})
    parsers = {name: parser for name, parser in _parsers(words).items() if name != "order"}
    found: dict[str, Any] = {}
    errors: dict[str, list[str]] = {}
    for name, value in body.items():
        field = f"requirement.{name}"
        if name not in parsers:
            near = get_close_matches(str(name), parsers, n=1)
            errors[field] = ["unknown field" + (f"; did you mean {near[0]}?" if near else "")]
            continue
        try:
            found[name] = _from_json(name, value, parsers[name])
        except BadValue as error:
            errors[field] = [str(error)]
    if "gpus" not in found and "requirement.gpus" not in errors:
        errors["requirement.gpus"] = ["say how many cards"]
    if errors:
        raise InvalidRequest(errors)
    # An order that may not be interrupted, or that nobody has to get in to, is an ordinary one, and
    # every offer takes those.
    wanted = {name: value for name, value in found.items() if value is not False}
    return OfferQuery(**wanted)


def as_requirement(query: OfferQuery) -> dict[str, Any]:
    """The JSON object that :func:`parse_requirement` reads back as ``query``."""
    return {name: _as_json(name, value) for name, value in query.asked().items()}


def _as_json(name: str, value: Any) -> Any:
    if name == "max_price":
        return format_micro(value)
    if isinstance(value, tuple):
        return list(value)
    return value if isinstance(value, (str, bool)) else str(value)


def _from_json(name: str, value: object, parser: Callable[[str], Any]) -> Any:
    """One value of a requirement, by way of the text that the same filter takes in a URL."""
    if name == "accelerator":
        listed = value if isinstance(value, list) else [value]
        slugs = [item for item in listed if isinstance(item, str)]
        if not slugs or len(slugs) != len(listed):
            raise BadValue("give a slug or a list of slugs")
        return tuple(dict.fromkeys(parser(slug) for slug in slugs))
    if isinstance(value, bool):
        if name not in _FLAGS:
            raise BadValue("true and false have no meaning here")
        return value
    if isinstance(value, str) and name not in _FLAGS:
        return parser(value)
    if isinstance(value, (int, Decimal)) and name.startswith(("min_", "gpus")):
        return parser(str(value))
    if isinstance(value, float) and name.startswith("min_") and name != "min_cuda":
        return parser(repr(value))
    if name == "max_price":
        raise BadValue('write money as a decimal string such as "0.6500"')
    raise BadValue("a value of another type is expected")


def unknown_filter(name: str, valid: Collection[str]) -> Refusal:
    """400: names the filter and the nearest valid one."""
    nearest = get_close_matches(name[:60], sorted(valid), n=1, cutoff=0)[0]
    return Refusal(
        "unknown_filter",
        f'There is no filter "{name[:60]}". The nearest is "{nearest}". Nothing was searched.',
        filter=name[:60],
        nearest=nearest,
        allowed=sorted(valid),
    )


def invalid_filter(name: str, message: str) -> Refusal:
    """400: names the filter and what it takes."""
    return Refusal(
        "invalid_filter",
        f'The filter "{name}" has a value that it does not take: {message}.',
        filter=name,
        nearest=name,
    )
