"""Vital signs judged by the table of alarms. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from kernel.vitals import Vital
from marketplace.oncall.table import TABLE, Alarm


class Level(StrEnum):
    """How an alarm stands."""

    OK = "ok"
    WARN = "warn"
    PAGE = "page"


@dataclass(frozen=True)
class Reading:
    """An alarm with the worst vital that it watches; ``vital`` None: nothing of its kind exists."""

    alarm: Alarm
    level: Level
    vital: Vital | None


def judge(vitals: Sequence[Vital]) -> list[Reading]:
    """Every alarm of the table with the worst vital that it watches, in the table's order."""
    return [_reading(alarm, vitals) for alarm in TABLE]


def _reading(alarm: Alarm, vitals: Iterable[Vital]) -> Reading:
    watched = [vital for vital in vitals if vital.name == alarm.vital and _concerns(alarm, vital)]
    if not watched:
        return Reading(alarm, Level.OK, None)
    worst = max(watched, key=lambda vital: vital.value)
    if alarm.page is not None and worst.value >= alarm.page:
        return Reading(alarm, Level.PAGE, worst)
    return Reading(alarm, Level.WARN if worst.value >= alarm.warn else Level.OK, worst)


def _concerns(alarm: Alarm, vital: Vital) -> bool:
    labels = dict(vital.labels)
    return all(labels.get(name) in values for name, values in alarm.only.items())
