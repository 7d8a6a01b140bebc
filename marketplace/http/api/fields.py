"""How values look outside: ids, money, times, and the base of every object shown.

An answer is rendered by the same serializer that describes it in the OpenAPI file, so the two
cannot differ.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import extend_schema_field
from rest_framework import serializers

from kernel.ids import BadId, parse, public
from kernel.money import BadAmount, format_micro, parse_micro
from kernel.text import clean


@extend_schema_field({"type": "string", "example": "0.6500"})
class MoneyOut(serializers.Field):  # type: ignore[type-arg]
    """Micro-units as a decimal string."""

    def __init__(self, **options: Any) -> None:
        super().__init__(read_only=True, **options)

    def to_representation(self, value: int) -> str:
        return format_micro(value)


@extend_schema_field({"type": "string", "example": "25.00"})
class MoneyIn(serializers.Field):  # type: ignore[type-arg]
    """A decimal string as micro-units; never negative, zero only if ``zero``."""

    def __init__(self, *, zero: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self._zero = zero

    def to_internal_value(self, data: Any) -> int:
        try:
            micro = parse_micro(data)
        except BadAmount as error:
            raise serializers.ValidationError(str(error)) from error
        if micro < 0 or (micro == 0 and not self._zero):
            raise serializers.ValidationError("must be more than zero")
        return micro

    def to_representation(self, value: int) -> str:
        return format_micro(value)


@extend_schema_field({"type": "string", "example": "ren_01jd3m0c5tek08hx7z2ve5nq0d"})
class IdOut(serializers.Field):  # type: ignore[type-arg]
    """A UUID as the public id of ``kind``."""

    def __init__(self, kind: str, **options: Any) -> None:
        super().__init__(read_only=True, **options)
        self._kind = kind

    def to_representation(self, value: UUID) -> str:
        return public(self._kind, value)


class NameIn(serializers.CharField):
    """Text people wrote, without control characters; ``max_length`` counts the cleaned text."""

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("must be a text")
        text = clean(super().to_internal_value(data), limit=10_000)
        if not text and not self.allow_blank:
            raise serializers.ValidationError("must not be empty")
        return text


class Text(serializers.CharField):
    """JSON text, kept as it is; numbers and booleans are not text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(trim_whitespace=False, **options)

    def to_internal_value(self, data: Any) -> str:
        if not isinstance(data, str):
            raise serializers.ValidationError("must be a text")
        return str(super().to_internal_value(data))


@extend_schema_field(
    {"type": "boolean", "enum": [False], "description": "Not available yet: leave it out"}
)
class Later(serializers.Field):  # type: ignore[type-arg]
    """A field of the contract that this version cannot honour: refused, never ignored.

    Values that ask for nothing (null, false, an empty list or object) pass.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(required=False, allow_null=True, **options)

    def to_internal_value(self, data: Any) -> None:
        if data is not False and data not in ([], {}):
            raise serializers.ValidationError("not available yet; leave it out")

    def to_representation(self, value: Any) -> None:
        return None


@extend_schema_field(
    {
        "oneOf": [
            {"type": "integer", "minimum": 1, "maximum": 65535},
            {
                "type": "object",
                "required": ["port"],
                "properties": {
                    "port": {"type": "integer", "minimum": 1, "maximum": 65535},
                    "protocol": {"type": "string", "enum": ["http", "tcp"]},
                    "name": {"type": "string", "maxLength": 32},
                    "access_mode": {"type": "string", "enum": ["public", "token", "team"]},
                },
            },
        ],
        "description": "A number, or a port with a name and whom it lets in (token if left out). "
        "With protocol tcp it has a number instead of a name at the platform's, and is public",
    }
)
class PortIn(serializers.Field):  # type: ignore[type-arg]
    """A port in its short or its long form; what is wrong with it the domain says."""

    def to_internal_value(self, data: Any) -> Any:
        if isinstance(data, bool) or not isinstance(data, (int, dict)):
            raise serializers.ValidationError("give a number or an object")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


@extend_schema_field({"type": "boolean"})
class Flag(serializers.Field):  # type: ignore[type-arg]
    """JSON true or false and nothing else: "no" must never be read as a yes."""

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            raise serializers.ValidationError("give true or false")
        return data

    def to_representation(self, value: bool) -> bool:
        return value


class Shown(serializers.Serializer[Any]):
    """Base of what is shown; attributes come from a model or a contract's value."""


class PortShown(Shown):
    """A port that has a name."""

    port = serializers.IntegerField()
    protocol = serializers.CharField()
    name = serializers.CharField()
    access_mode = serializers.CharField(help_text="public, token or team")


class PublicShown(Shown):
    """id, created_at and version of a :class:`marketplace.models.base.PublicObject`."""

    id = serializers.CharField(source="public_id", read_only=True)
    created_at = serializers.DateTimeField(read_only=True)
    version = serializers.IntegerField(read_only=True)


class StorageShown(Shown):
    """Where a cluster keeps volumes, and why there or not at all."""

    storage = serializers.CharField(help_text="none, node or cluster")
    storage_class = serializers.CharField()
    storage_reason = serializers.CharField()


def shown(serializer_class: type[serializers.Serializer[Any]]) -> Callable[[Any], Any]:
    """A function that renders one object."""
    return lambda value: serializer_class(value).data


def parse_id(kind: str) -> Callable[[str], UUID | None]:
    """Reads a filter that is an id. A foreign one and a made-up one both match nothing: None."""

    def read(text: str) -> UUID | None:
        try:
            return parse(kind, text)
        except BadId:
            return None

    return read


def moment(text: str) -> datetime:
    """Reads a filter that is a time with its zone."""
    found = parse_datetime(text)
    if found is None or found.tzinfo is None:
        raise ValueError("must be a time with zone, such as 2026-11-01T12:00:00Z")
    return found


def one_of(names: list[str]) -> Callable[[str], str]:
    """Reads a filter with a closed list of values."""

    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"must be one of {', '.join(names)}")
        return text

    return read
