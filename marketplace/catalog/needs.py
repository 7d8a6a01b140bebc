"""What a template needs of a card, and whether an offer has it. Pure.

Needs are data: {"vendor": [...], "toolkit": "cuda", "min_memory_gib": 24, "min_cuda": "12.4"}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from marketplace.catalog.query import BadValue, cuda_version, cuda_x100
from provisioner.contracts import Accelerator

MIB_PER_GIB = 1024


@dataclass(frozen=True)
class Has:
    """The facts of an offer's card that needs are compared with."""

    vendor: str
    toolkit: str
    memory_mib: int
    cuda_max_x100: int  # 0: unknown

    def shown(self) -> dict[str, Any]:
        return {
            "vendor": self.vendor,
            "toolkit": self.toolkit,
            "memory_gib": whole_gib(self.memory_mib),
            "cuda_max": cuda_text(self.cuda_max_x100),
        }


def whole_gib(mib: int) -> int:
    """Card memory as it is sold: rounded, because a card sold as 80 GB reports 81,559 MiB."""
    return (mib + MIB_PER_GIB // 2) // MIB_PER_GIB


def cuda_text(x100: int | None) -> str | None:
    """1240 -> "12.4"; None when unknown."""
    return f"{x100 // 100}.{x100 % 100 // 10}" if x100 else None


def mistakes(needs: Mapping[str, Any], cards: Sequence[Accelerator]) -> list[tuple[str, str]]:
    """What is wrong with needs, as (field, message). Needs that no known card meets are wrong:
    they would refuse every order and blame the card."""
    found = []
    vendors, toolkit = list(needs.get("vendor") or []), needs.get("toolkit")
    known = {card.vendor for card in cards}
    if unknown := sorted(set(vendors) - known):
        found.append(("needs.vendor", f"unknown: {', '.join(unknown)}; {_known(known)}"))
    toolkits = {card.toolkit for card in cards}
    if toolkit and toolkit not in toolkits:
        found.append(("needs.toolkit", f"unknown: {toolkit}; {_known(toolkits)}"))
    if needs.get("min_cuda"):
        try:
            cuda_version(needs["min_cuda"])
        except BadValue as error:
            found.append(("needs.min_cuda", str(error)))
        if toolkit and toolkit != "cuda":
            found.append(("needs.min_cuda", f"only cards with cuda have one, not with {toolkit}"))
    if found:
        return found
    fitting = [card for card in cards if not _lacks(needs, card)]
    return [] if fitting else [("needs", "no card we know of has all of this together")]


def _lacks(needs: Mapping[str, Any], card: Accelerator) -> bool:
    # The version of CUDA is a node's, not a card's: any card with the toolkit may have it.
    asked = {name: value for name, value in needs.items() if name != "min_cuda"}
    if needs.get("min_cuda"):
        asked["toolkit"] = "cuda"
    return bool(unmet(asked, Has(card.vendor, card.toolkit, card.memory_mib, 0)))


def _known(names: set[str]) -> str:
    return f"known are {', '.join(sorted(names))}"


def unmet(needs: dict[str, Any], has: Has) -> list[str]:
    """The names of the needs that the card does not meet; empty when it fits."""
    missing = []
    vendors = needs.get("vendor") or []
    if vendors and has.vendor not in vendors:
        missing.append("vendor")
    if needs.get("toolkit") and needs["toolkit"] != has.toolkit:
        missing.append("toolkit")
    if whole_gib(has.memory_mib) < needs.get("min_memory_gib", 0):
        missing.append("min_memory_gib")
    if needs.get("min_cuda") and has.cuda_max_x100 < cuda_x100(needs["min_cuda"]):
        missing.append("min_cuda")
    return missing
