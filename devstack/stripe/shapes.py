"""The checks that a value must pass, compiled from the SDK's annotations.

One small class per kind of value. `check` returns the value as Python (int, bool, Decimal, str,
list, dict) or raises ShapeError with the code, parameter name and message that Stripe gives.
Two wires: `form` (v1 requests: every leaf is text) and `json` (v2 requests and every answer).

Limit: what the annotations do not say (lengths, ranges, which of two parameters excludes the
other) is checked by the operation itself.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation
from typing import Any, Literal

Wire = Literal["form", "json"]


class ShapeError(ValueError):
    """A value that does not fit: `code` may be None, as Stripe gives none for a bad enum."""

    def __init__(self, message: str, *, param: str, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code = code


def _blank(param: str) -> ShapeError:
    return ShapeError(
        f"You passed an empty string for '{param}'. We assume empty values are an attempt to "
        f"unset a parameter; however '{param}' cannot be unset. You should remove '{param}' "
        "from your request or supply a non-empty value.",
        param=param,
        code="parameter_invalid_empty",
    )


class Shape:
    """A kind of value. `takes` names the JSON container it accepts: leaf, list or dict."""

    takes: Literal["leaf", "list", "dict"] = "leaf"

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        """Return the value as Python or raise ShapeError."""
        raise NotImplementedError


@dataclass(frozen=True)
class Text(Shape):
    blank: bool = False

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if not isinstance(value, str):
            raise ShapeError(f"Invalid string: {value!r}", param=param)
        if value == "" and wire == "form" and not self.blank:
            raise _blank(param)
        return value


@dataclass(frozen=True)
class Whole(Shape):
    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if wire == "form" and isinstance(value, str):
            if value == "":
                raise _blank(param)
            if re.fullmatch(r"-?\d{1,18}", value):
                return int(value)
        elif isinstance(value, int) and not isinstance(value, bool):
            return value
        raise ShapeError(f"Invalid integer: {value}", param=param, code="parameter_invalid_integer")


@dataclass(frozen=True)
class Real(Shape):
    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if wire == "form" and isinstance(value, str):
            if re.fullmatch(r"-?\d{1,18}(\.\d{1,18})?", value):
                return float(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            return value
        raise ShapeError(f"Invalid number: {value}", param=param)


@dataclass(frozen=True)
class Exact(Shape):
    """A decimal in text, at most 12 places as Stripe documents."""

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if value == "":
            raise _blank(param)
        try:
            number = Decimal(value) if isinstance(value, str) else None
        except InvalidOperation:
            number = None
        if number is None or not number.is_finite():
            raise ShapeError(f"Invalid decimal: {value}", param=param)
        exponent = number.normalize().as_tuple().exponent
        if isinstance(exponent, int) and exponent < -12:
            raise ShapeError(
                f"Invalid decimal: {value}; at most 12 decimal places are allowed", param=param
            )
        return number if wire == "form" else value


@dataclass(frozen=True)
class Flag(Shape):
    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if wire == "form" and value in ("true", "false"):
            return value == "true"
        if wire == "json" and isinstance(value, bool):
            return value
        raise ShapeError(f"Invalid boolean: {value}", param=param)


@dataclass(frozen=True)
class Choice(Shape):
    values: tuple[str | bool | int, ...]

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if value in self.values:
            return value
        names = [str(v) for v in self.values if v != ""] or ["an empty value"]
        listed = ", ".join(names[:-1]) + (" or " if len(names) > 1 else "") + names[-1]
        raise ShapeError(f"Invalid {param}: must be one of {listed}", param=param)


@dataclass(frozen=True)
class Anything(Shape):
    def check(self, value: Any, param: str, wire: Wire) -> Any:
        return value


@dataclass(frozen=True)
class ListOf(Shape):
    item: Shape
    takes: Literal["leaf", "list", "dict"] = "list"

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if wire == "form" and isinstance(value, dict):
            # a[0]=x&a[1]=y arrives as a mapping; the SDK always numbers from zero
            if sorted(value) != sorted(str(i) for i in range(len(value))):
                raise ShapeError("Invalid array", param=param)
            value = [value[str(i)] for i in range(len(value))]
        if not isinstance(value, list):
            raise ShapeError("Invalid array", param=param)
        return [self.item.check(v, f"{param}[{i}]", wire) for i, v in enumerate(value)]


@dataclass(frozen=True)
class MapOf(Shape):
    item: Shape
    takes: Literal["leaf", "list", "dict"] = "dict"

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if not isinstance(value, dict):
            raise ShapeError("Invalid object", param=param)
        # an empty value unsets one key of a map, so blank is allowed inside
        item = Text(blank=True) if isinstance(self.item, Text) else self.item
        return {k: item.check(v, f"{param}[{k}]", wire) for k, v in value.items()}


@dataclass
class Record(Shape):
    """A mapping with known names. `fields` is filled late, because types may refer to each
    other in circles."""

    name: str
    fields: dict[str, Shape] = field(default_factory=dict)
    required: frozenset[str] = frozenset()
    takes: Literal["leaf", "list", "dict"] = "dict"

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        if not isinstance(value, dict):
            raise ShapeError("Invalid object", param=param)
        nest: Callable[[str], str] = (lambda k: f"{param}[{k}]") if param else (lambda k: k)
        for key in value:
            if key not in self.fields:
                raise ShapeError(
                    f"Received unknown parameter: {nest(key)}",
                    param=nest(key),
                    code="parameter_unknown",
                )
        for key in sorted(self.required):
            if key not in value:
                raise ShapeError(
                    f"Missing required param: {nest(key)}.",
                    param=nest(key),
                    code="parameter_missing",
                )
        return {k: self.fields[k].check(v, nest(k), wire) for k, v in value.items()}


@dataclass(frozen=True)
class Nullable(Shape):
    """A field that may be null in an answer."""

    inner: Shape

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        return None if value is None else self.inner.check(value, param, wire)


@dataclass(frozen=True)
class AnyOf(Shape):
    options: tuple[Shape, ...]

    def check(self, value: Any, param: str, wire: Wire) -> Any:
        kind = "dict" if isinstance(value, dict) else "list" if isinstance(value, list) else "leaf"
        fitting = [o for o in self.options if o.takes == kind or isinstance(o, Anything | AnyOf)]
        if kind == "dict" and wire == "form":
            fitting += [o for o in self.options if o.takes == "list"]
        problem: ShapeError | None = None
        for option in fitting or self.options:
            try:
                return option.check(value, param, wire)
            except ShapeError as error:
                # the mapping that discriminates by `object` reports best; else the last one
                problem = error
        assert problem is not None
        raise problem


def any_of(options: list[Shape]) -> Shape:
    """Union of shapes, with the SDK's open enums closed.

    The SDK writes many enums as `Literal[...] | str` so that an old client survives a new value;
    Stripe itself refuses anything else, so the bare str is dropped. `Literal['']` beside a type
    is different: it means that the parameter can be unset.
    """
    flat: list[Shape] = []
    for option in options:
        flat.extend(option.options if isinstance(option, AnyOf) else [option])
    choices = [o for o in flat if isinstance(o, Choice)]
    values = tuple(v for o in choices for v in o.values)
    others = [o for o in flat if not isinstance(o, Choice)]
    if any(v != "" for v in values):
        others = [o for o in others if not isinstance(o, Text)]
        others.insert(0, Choice(values))
    elif values:
        others = [Text(blank=True) if isinstance(o, Text) else o for o in others]
        if not any(isinstance(o, Text) for o in others):
            others.insert(0, Choice(values))
    unique = list(dict.fromkeys(id(o) for o in others))
    kept = [next(o for o in others if id(o) == i) for i in unique]
    return kept[0] if len(kept) == 1 else AnyOf(tuple(kept))


LEAVES: Mapping[str, Callable[[], Shape]] = {
    "str": Text,
    "int": Whole,
    "float": Real,
    "bool": Flag,
    "Decimal": Exact,
    "Any": Anything,
    "object": Anything,
}
