"""The curated templates as data: each complete, pinned, and claiming no more than is there."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from marketplace.accounts.ports import read as read_ports
from marketplace.catalog.templates import CURATED, content_mistakes
from marketplace.images.reference import parse

ROWS: list[dict[str, Any]] = tomllib.loads(CURATED.read_text())["template"]


def test_the_promised_ones_are_there() -> None:
    slugs = [row["slug"] for row in ROWS]
    assert slugs == ["ubuntu", "pytorch", "vllm", "jupyter", "comfyui", "open-sora"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["slug"])
def test_each_is_complete_and_pinned(row: dict[str, Any]) -> None:
    image = parse(row["image"])
    assert image.digest is not None
    assert image.tag is not None, "the tag tells people which one it is"
    assert 0 < len(row["description"]) <= 500
    assert row["command"]
    assert (
        content_mistakes(
            image=row["image"],
            command=row["command"],
            env=row.get("env", {}),
            ports=row.get("ports", []),
            needs=row.get("needs", {}),
        )
        == {}
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["slug"])
def test_each_says_what_it_needs_of_a_card(row: dict[str, Any]) -> None:
    if row["slug"] == "ubuntu":
        assert "needs" not in row, "a plain machine runs on every card"
        return
    assert row["needs"]["vendor"] == ["nvidia"]
    assert row["needs"]["toolkit"] == "cuda"
    assert row["needs"]["min_memory_gib"] >= 8
    assert row["needs"]["min_cuda"]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["slug"])
def test_ports_and_installations_are_what_the_description_says(row: dict[str, Any]) -> None:
    """A port that is named is one the command serves, and the other way round."""
    served = read_ports(row.get("ports", []))
    assert all(str(port.port) in row["description"] for port in served)
    assert ("port" in row["description"]) == bool(served)
    words = " ".join(row["command"])
    installs = "install" in words
    assert installs == ("Installs" in row["description"])
