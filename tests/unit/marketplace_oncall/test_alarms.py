"""The table of alarms holds together, and the judgement is the worst of what an alarm watches."""

from __future__ import annotations

from pathlib import Path

import pytest

from kernel.vitals import Vital
from marketplace.oncall.alarms import Level, judge
from marketplace.oncall.table import TABLE, Alarm, Call

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("alarm", TABLE, ids=lambda alarm: alarm.name)
def test_each_alarm_is_whole(alarm: Alarm) -> None:
    assert (ROOT / alarm.runbook).is_file(), "the runbook exists"
    assert (alarm.call == Call.PAGE) == (alarm.page is not None)
    assert alarm.page is None or alarm.warn <= alarm.page
    assert not alarm.text.endswith(".")
    assert not alarm.do.endswith(".")


def test_names_are_said_once_and_are_explained() -> None:
    names = [alarm.name for alarm in TABLE]
    assert len(names) == len(set(names))
    said = (ROOT / "docs" / "oncall.md").read_text()
    assert [name for name in names if f"`{name}`" not in said] == []


def level_of(name: str, *vitals: Vital) -> Level:
    (found,) = [reading.level for reading in judge(vitals) if reading.alarm.name == name]
    return found


def test_the_worst_of_many_counts_and_a_threshold_is_reached_at_its_value() -> None:
    def list_age(seconds: float) -> Vital:
        return Vital("cluster_list_age", seconds, "", labels=(("cluster", str(seconds)),))

    assert level_of("list_old") == Level.OK
    assert level_of("list_old", list_age(29.9)) == Level.OK
    assert level_of("list_old", list_age(1.0), list_age(30.0)) == Level.WARN
    assert level_of("list_old", list_age(60.0), list_age(1.0)) == Level.PAGE


def test_an_alarm_looks_at_its_own_labels_only() -> None:
    pulling = Vital("op_age", 4000.0, "", labels=(("state", "pulling"),))
    assert level_of("op_stuck", pulling) == Level.OK
    assert level_of("op_slow", pulling) == Level.WARN
