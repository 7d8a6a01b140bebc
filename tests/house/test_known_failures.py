"""docs/ledger.md lists what went wrong with the money of others: each line names a test of ours."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROW = re.compile(
    r"^\| (?P<failure>[^|]+) \| (?P<path>tests/\S+\.py) `(?P<test>test_\w+)` \|$", re.M
)
FOUND = [row.groupdict() for row in ROW.finditer((ROOT / "docs/ledger.md").read_text("utf-8"))]


def test_the_table_is_there() -> None:
    assert len(FOUND) >= 9, "every failure that the design lists"


@pytest.mark.parametrize("row", FOUND, ids=lambda row: row["test"])
def test_a_known_failure_has_its_test(row: dict[str, str]) -> None:
    source = (ROOT / row["path"]).read_text("utf-8")
    assert re.search(rf"^def {row['test']}\(", source, re.M), row["failure"]
