"""Types, patterns and signatures, without a database."""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from pathlib import Path
from typing import Any

import pytest

from marketplace.rentals.state import STATES
from marketplace.webhooks.signing import new_secret, sign
from marketplace.webhooks.types import (
    FAMILIES,
    PATTERNS,
    TEST,
    TYPES,
    canonical,
    patterns_for,
    problems_of,
)


def test_each_state_of_a_rental_has_its_type() -> None:
    assert set(FAMILIES["rental"]) == STATES


def test_the_contracts_families_are_there() -> None:
    assert set(FAMILIES) == {"rental", "notice", "balance", "topup", "invoice"}
    assert {"balance.low", "balance.empty"} <= TYPES
    assert set(FAMILIES["notice"]) == {"maintenance", "funds", "idle", "end_date", "interruption"}
    assert TEST not in PATTERNS, "tests are asked for, never subscribed to"


@pytest.mark.parametrize("type", sorted(TYPES))
def test_every_type_is_found_by_itself_its_family_and_everything(type: str) -> None:
    assert patterns_for(type) == ["*", type.split(".", maxsplit=1)[0] + ".*", type]
    assert set(patterns_for(type)) <= PATTERNS
    assert len(type) <= 40


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        (["*", "rental.*", "topup.failed"], ["*"]),
        (["rental.running", "rental.*", "topup.failed"], ["rental.*", "topup.failed"]),
        (["topup.failed", "balance.low", "topup.failed"], ["balance.low", "topup.failed"]),
    ],
)
def test_patterns_are_kept_without_what_a_wider_one_holds(
    given: list[str], kept: list[str]
) -> None:
    assert canonical(given) == kept


@pytest.mark.parametrize("wrong", ["", "rental", "rental.**", "RENTAL.*", "*.running", TEST])
def test_wrong_patterns_are_named(wrong: str) -> None:
    (problem,) = problems_of(["rental.*", wrong])
    assert f'"{wrong}"' in problem


def test_an_endpoint_that_wants_nothing_is_a_mistake() -> None:
    assert problems_of([])


def test_the_signature_is_of_time_dot_body() -> None:
    body = '{"text":"Grüße"}'.encode()
    old, new = new_secret(), new_secret()
    header = sign(body, at=1772442000, keys=[new, old])
    expected = [
        hmac.new(key.encode(), b"1772442000." + body, hashlib.sha256).hexdigest()
        for key in (new, old)
    ]
    assert header == f"t=1772442000,v1={expected[0]},v1={expected[1]}"
    assert sign(body, at=1772442000, keys=[old]) != sign(body + b" ", at=1772442000, keys=[old])
    assert old != new


def test_the_receivers_code_in_the_document_does_what_it_says() -> None:
    document = Path(__file__).resolve().parents[3] / "docs" / "webhooks.md"
    (code,) = re.findall(r"```python\n(.*?)```", document.read_text(), re.DOTALL)
    found: dict[str, Any] = {}
    exec(code, found)
    genuine, body, present = found["genuine"], b'{"id": "evt_x"}', int(time.time())
    old, new = new_secret(), new_secret()
    header = sign(body, at=present, keys=[new, old])
    assert genuine(header, body, new)
    assert genuine(header, body, old)
    assert not genuine(header, body + b" ", new)
    assert not genuine(header, body, new_secret())
    assert not genuine(header.replace(f"t={present}", f"t={present + 1}"), body, new)
    assert not genuine(sign(body, at=present - 301, keys=[new]), body, new), "an old one replayed"
