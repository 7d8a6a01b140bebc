"""What is true of an offer reads as its makers write it."""

from __future__ import annotations

import pytest

from marketplace.catalog.registry import by_slug
from marketplace.http.portal.offer_words import NAMES, need, spelled


@pytest.mark.parametrize("name", ["interconnect", "toolkit"])
def test_every_word_of_the_registry_has_its_name_and_no_name_is_left_over(name: str) -> None:
    used = {getattr(card, name) for card in by_slug().values()} - {"", None}
    assert used, "the registry has some"
    assert set(NAMES[name]) - {"none"} == used


def test_words_without_a_name_stay_as_they_are() -> None:
    assert (spelled("toolkit", "rocm"), spelled("toolkit", "new"), spelled("x", "y")) == (
        "ROCm", "new", "y"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("min_memory_gib", 24, "24 GiB per card"),
        ("min_cuda", "12.4", "CUDA 12.4"),
        ("vendor", ["nvidia", "amd"], "NVIDIA or AMD"),
        ("toolkit", "oneapi", "oneAPI"),
    ],
)
def test_what_a_template_needs(name: str, value: object, text: str) -> None:
    assert need(name, value) == text
