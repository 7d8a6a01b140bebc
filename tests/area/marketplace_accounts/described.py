"""What the OpenAPI file says about an answer, checked on every call that tests make."""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from jsonschema import Draft202012Validator

from marketplace.http.api.description import document


@cache
def described() -> Any:
    return json.loads(document())


@cache
def _routes() -> list[tuple[re.Pattern[str], str]]:
    # Fixed addresses before those with a parameter in the same place.
    paths = sorted(described()["paths"], key=lambda path: path.count("{"))
    return [(re.compile(re.sub(r"\{[^}]*\}", "[^/]+", path)), path) for path in paths]


def check(method: str, path: str, status: int, data: Any) -> None:
    """Assert that an answer below 300 has the form that the file gives it."""
    route = next((path_ for pattern, path_ in _routes() if pattern.fullmatch(path)), None)
    if status >= 300 or route is None:
        return
    operation = described()["paths"][route].get(method.lower())
    if operation is None:
        return
    assert str(status) in operation["responses"], f"{method} {route} does not describe {status}"
    content = operation["responses"][str(status)].get("content", {})
    schema = content.get("application/json", {}).get("schema")
    if schema is None:
        assert data is None, f"{method} {route} describes no body for {status}"
        return
    validator = Draft202012Validator({**schema, "components": described()["components"]})
    errors = [f"{error.json_path}: {error.message[:300]}" for error in validator.iter_errors(data)]
    assert errors == [], f"{method} {route} differs from its description"
