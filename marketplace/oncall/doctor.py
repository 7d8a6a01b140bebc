"""One look at everything, in the order in which one would look: a line for each check.

First what the platform stands on, then how it is set up, then the alarms over its vital signs. They
also say whether loops and watchers are alive: what a dead one leaves undone grows old. Reads only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum

from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from billing import facade as billing
from kernel.clock import now
from kernel.vitals import Vital
from marketplace.accounts import switches
from marketplace.oncall import probes
from marketplace.oncall.alarms import Level, Reading, judge
from marketplace.oncall.vitals import everything
from provisioner import facade as provisioner

_OPERATORS = "docs/operators.md"
_ONCALL = "docs/oncall.md"
# Sessions, certificates and the order of new ids follow the host's clock; charges do not.
_CLOCK_WARN_S, _CLOCK_FAIL_S = 2.0, 30.0


class Verdict(StrEnum):
    OK = "ok"
    WARN = "warn"
    FAIL = "FAIL"


# Exit status of the command, worst first wins.
STATUS: dict[Verdict, int] = {Verdict.OK: 0, Verdict.WARN: 1, Verdict.FAIL: 2}


@dataclass(frozen=True)
class Finding:
    """One line: what was measured, against what, and what to do about it."""

    check: str
    verdict: Verdict
    measured: str
    threshold: str
    do: str
    runbook: str


def examine() -> list[Finding]:
    """Every check. Without a database only what needs none."""
    database = _database()
    findings = [database]
    if database.verdict == Verdict.OK:
        findings += [check() for check in (_clock, _migrations)]
    findings += [_broker(), _stripe()]
    if database.verdict == Verdict.OK:
        findings += [_sealing_key(), *_switches(), *(_alarm(reading) for reading in _readings())]
    return findings


def worst(findings: list[Finding]) -> Verdict:
    """The verdict of the whole."""
    return max((finding.verdict for finding in findings), key=STATUS.__getitem__)


def _answers(name: str, ask: Callable[[], None], errors: probes.Errors, do: str) -> Finding:
    result = probes.Probe(ask, errors).result()
    if result["ok"]:
        return Finding(name, Verdict.OK, "answers", "answers", "", _OPERATORS)
    return Finding(name, Verdict.FAIL, str(result["error"]), "answers", do, _OPERATORS)


def _database() -> Finding:
    do = "Start PostgreSQL or correct DATABASE_URL; nothing works without it"
    return _answers("database", probes.ask_database, probes.DATABASE_ERRORS, do)


def _broker() -> Finding:
    do = "Start the broker or correct BROKER_URL; until then every loop stands still"
    return _answers("broker", probes.ask_broker, probes.BROKER_ERRORS, do)


def _clock() -> Finding:
    before = datetime.now(UTC)
    there = now()
    after = datetime.now(UTC)
    off = abs((there - (before + (after - before) / 2)).total_seconds())
    verdict = (
        Verdict.OK if off < _CLOCK_WARN_S else Verdict.WARN if off < _CLOCK_FAIL_S else Verdict.FAIL
    )
    do = "" if verdict == Verdict.OK else "Let both machines follow the same time servers"
    threshold = f"{_CLOCK_WARN_S:g} s / {_CLOCK_FAIL_S:g} s"
    return Finding("clock", verdict, f"{off:.1f} s apart", threshold, do, _OPERATORS)


def _migrations() -> Finding:
    executor = MigrationExecutor(connection)
    plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if not plan:
        return Finding("migrations", Verdict.OK, "none pending", "0", "", _OPERATORS)
    names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:5])
    measured = f"{len(plan)} pending: {names}"
    return Finding("migrations", Verdict.FAIL, measured, "0", "Run manage.py migrate", _OPERATORS)


def _sealing_key() -> Finding:
    opens = provisioner.token_opens()
    if opens is None:
        measured = "no cluster yet, nothing to open"
        return Finding("sealing key", Verdict.OK, measured, "opens a token", "", _OPERATORS)
    if opens:
        return Finding("sealing key", Verdict.OK, "opens a token", "opens a token", "", _OPERATORS)
    do = "Set GPUYARD_SEALING_KEY to the key that the stored tokens were sealed with"
    return Finding(
        "sealing key", Verdict.FAIL, "does not open a token", "opens a token", do, _OPERATORS
    )


def _stripe() -> Finding:
    mode = billing.stripe_mode()
    where = "Stripe's own address" if mode.own_address else "another address than Stripe's"
    measured = f"{mode.kind} key, {where}"
    wrong = mode.kind == "unknown" or (mode.kind == "live" and not mode.own_address)
    do = "Correct STRIPE_API_KEY and STRIPE_API_BASE" if wrong else ""
    verdict = Verdict.FAIL if wrong else Verdict.OK
    return Finding("Stripe", verdict, measured, "a key that fits its address", do, _OPERATORS)


def _switches() -> Iterator[Finding]:
    found = switches.history()
    on = [view for view in found if view.off_at is None]
    if not on:
        yield Finding("switches", Verdict.OK, "none on", "none on", "", _ONCALL)
    for view in on:
        where = f" for cluster {view.cluster_id}" if view.cluster_id else ""
        yield Finding(
            f"switch {view.name}",
            Verdict.WARN,
            f"on{where} since {view.on_at:%Y-%m-%d %H:%M} UTC by {view.on_by}: {view.note}",
            "none on",
            "Turn it off when its reason is gone: manage.py switch off",
            _ONCALL,
        )


def _readings() -> list[Reading]:
    return judge(everything())


_VERDICTS = {Level.OK: Verdict.OK, Level.WARN: Verdict.WARN, Level.PAGE: Verdict.FAIL}


def _alarm(reading: Reading) -> Finding:
    alarm, vital = reading.alarm, reading.vital
    threshold = f"{alarm.warn:g}" if alarm.page is None else f"{alarm.warn:g} / {alarm.page:g}"
    quiet = reading.level == Level.OK
    return Finding(
        check=alarm.name,
        verdict=_VERDICTS[reading.level],
        measured="nothing of its kind" if vital is None else measured(vital),
        threshold=threshold,
        do="" if quiet else f"{alarm.text}. {alarm.do}",
        runbook=alarm.runbook,
    )


def measured(vital: Vital) -> str:
    """A vital for people: ``12.0 seconds (cluster=…)``."""
    labels = ", ".join(f"{name}={value}" for name, value in vital.labels)
    figure = f"{vital.value:.1f} {vital.unit}" if vital.unit else f"{vital.value:g}"
    return f"{figure} ({labels})" if labels else figure
