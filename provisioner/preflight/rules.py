"""The table of rules, read once from rules.toml. PURE; judging is judge.py."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

_FILE = Path(__file__).with_name("rules.toml")
_WORDS = ("slug", "title", "why", "threshold", "severity", "fix")


@dataclass(frozen=True)
class Rule:
    """One line of the table. ``figures``: what its judge compares with."""

    slug: str
    title: str
    why: str
    threshold: str
    severity: str
    fix: str
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def stops(self) -> bool:
        """Whether failing it takes a cluster off sale."""
        return self.severity == "fail"

    def fix_for(self, outcome: str, measured: str) -> str:
        """What to do; "" where there is nothing to do, or nobody knows yet."""
        if outcome not in ("fail", "warn"):
            return ""
        return self.fix.replace("{measured}", measured)


@dataclass(frozen=True)
class Table:
    version: int
    rules: tuple[Rule, ...]


@cache
def table() -> Table:
    """Raises ValueError for a file that contradicts itself."""
    data = tomllib.loads(_FILE.read_text())
    rules = tuple(_rule(row) for row in data["rule"])
    if len({rule.slug for rule in rules}) != len(rules):
        raise ValueError("rules.toml names a rule twice")
    return Table(int(data["version"]), rules)


@cache
def by_slug() -> Mapping[str, Rule]:
    return {rule.slug: rule for rule in table().rules}


def _rule(row: dict[str, Any]) -> Rule:
    if row["severity"] not in ("fail", "warn"):
        raise ValueError("rules.toml: severity is fail or warn")
    words = {name: str(row[name]) for name in _WORDS}
    return Rule(**words, figures={k: v for k, v in row.items() if k not in _WORDS})
