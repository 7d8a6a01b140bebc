"""Checks every request against the installed SDK's own description of Stripe's API.

The table holds each (method, path template) that the package can call with the shape of its
parameters. `match` answers which operation a request is; `Operation.check` returns its
parameters as Python values or raises the 400 that Stripe gives.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any
from urllib.parse import parse_qsl, unquote_plus

from devstack.stripe import annotations, sdk_source
from devstack.stripe.errors import StripeError, invalid_request
from devstack.stripe.shapes import Record, ShapeError, Wire

# Stripe nests a handful of levels; a request deeper than this is an attack or a mistake.
MAX_DEPTH = 12


@dataclass(frozen=True)
class Operation:
    """One call of the API, as the SDK knows it."""

    method: str
    path: str
    base_address: str
    params: tuple[str, str] | None

    @property
    def wire(self) -> Wire:
        v2_body = self.path.startswith("/v2/") and self.method == "POST"
        return "json" if v2_body else "form"

    @cached_property
    def shape(self) -> Record:
        """Shape of the parameters; compiled on first use."""
        if self.params is None:
            return Record("none")
        return annotations.request_shape(*self.params)

    def check(self, raw: dict[str, Any]) -> dict[str, Any]:
        """Parameters as Python values; StripeError 400 for what Stripe would not accept."""
        try:
            checked = self.shape.check(raw, "", self.wire)
        except ShapeError as error:
            raise invalid_request(error.message, param=error.param, code=error.code) from error
        assert isinstance(checked, dict)
        return checked


class OperationTable:
    """All operations of the SDK, found by method and concrete path."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = {(o.method, o.path): o for o in operations}
        self._patterns: dict[tuple[str, int], list[tuple[re.Pattern[str], Operation]]] = {}
        # a literal segment wins over a placeholder: /invoices/create_preview, /invoices/{invoice}
        for operation in sorted(
            self.operations.values(), key=lambda o: (o.path.count("{"), o.path)
        ):
            key = (operation.method, operation.path.count("/"))
            self._patterns.setdefault(key, []).append((_pattern(operation.path), operation))

    def match(self, method: str, path: str) -> tuple[Operation, dict[str, str]] | None:
        """The operation of a request and its path arguments, or None when there is none."""
        for pattern, operation in self._patterns.get((method, path.count("/")), []):
            found = pattern.fullmatch(path)
            if found:
                values = {k: unquote_plus(v) for k, v in found.groupdict().items()}
                return operation, values
        return None


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)\}", template)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )


@cache
def table() -> OperationTable:
    """The table of the installed package, built once per process (about 0.3 s)."""
    return OperationTable(
        Operation(c.method, c.path, c.base_address, c.params) for c in sdk_source.service_calls()
    )


def decode_form(text: str) -> dict[str, Any]:
    """`a[b]=1&c[0]=2&d[]=3` as nested dicts (and lists for `[]`); StripeError 400 if malformed."""
    root: dict[str, Any] = {}
    for key, value in parse_qsl(text, keep_blank_values=True):
        name, *path = re.split(r"\[", key.replace("]", ""))
        if len(path) > MAX_DEPTH or not name:
            raise invalid_request(f"Invalid parameter name: {key[:100]}", param=key[:100])
        _place(root, [name, *path], value, key)
    return root


def _place(node: dict[str, Any], path: list[str], value: str, key: str) -> None:
    for index, part in enumerate(path):
        last = index == len(path) - 1
        if not last and path[index + 1 :] == [""]:
            items = node.setdefault(part, [])
            if not isinstance(items, list):
                raise _conflict(key)
            items.append(value)
            return
        if last:
            if isinstance(node.get(part), dict | list):
                raise _conflict(key)
            node[part] = value
            return
        node = node.setdefault(part, {})
        if not isinstance(node, dict):
            raise _conflict(key)


def _conflict(key: str) -> StripeError:
    return invalid_request(f"Invalid parameters: {key} is given both plain and nested", param=key)
