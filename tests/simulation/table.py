"""The table of weighted actions that schedules draw from.

To add one: write a function in people.py or actions.py that takes the schedule and returns a line
for the trace ("" when it did not apply), and decorate it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


@dataclass(frozen=True)
class Action:
    name: str
    weight: int
    fault: bool  # left out of calm schedules
    meanwhile: bool  # may happen while a call of somebody else is under way
    act: Callable[[Schedule], str]


ACTIONS: list[Action] = []


def action(
    weight: int, *, fault: bool = False, meanwhile: bool = False
) -> Callable[[Callable[[Schedule], str]], Callable[[Schedule], str]]:
    """Add a function to the table under its name."""

    def add(act: Callable[[Schedule], str]) -> Callable[[Schedule], str]:
        ACTIONS.append(Action(act.__name__, weight, fault, meanwhile, act))
        return act

    return add
