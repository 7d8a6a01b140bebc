"""From facts to one result per rule, in the table's order. PURE: what it compares with is data.

A question that was not answered is "unknown": it opens nothing and closes nothing. What a cluster
said is hostile text; it is made plain and cut here, once, for every reader.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from kernel.text import clean
from provisioner.kube.manifests import version_of
from provisioner.preflight.facts import (
    ADMITTED,
    REFUSED,
    Facts,
    MachineFacts,
    PodFacts,
    RightsFacts,
    RowFacts,
    Unasked,
)
from provisioner.preflight.rights import listed
from provisioner.preflight.rules import Rule, table

PASS, WARN, FAIL, UNKNOWN = "pass", "warn", "fail", "unknown"
OUTCOMES = (PASS, WARN, FAIL, UNKNOWN)
# What is stored and shown of one rule; the longest honest one names some dozen rights.
MEASURED_LIMIT = 600
_NAMES_SHOWN = 5

Verdict = tuple[str, str]  # outcome, measured


@dataclass(frozen=True)
class Result:
    """How one rule of the table came out."""

    rule: str
    version: int
    measured: str
    threshold: str
    outcome: str
    fix: str


def judge(facts: Facts, row: RowFacts) -> list[Result]:
    """One result per rule."""
    present = table()
    results = []
    for rule in present.rules:
        outcome, measured = _JUDGES[rule.slug](rule, facts, row)
        said = clean(measured, limit=MEASURED_LIMIT)
        results.append(
            Result(
                rule=rule.slug,
                version=present.version,
                measured=said,
                threshold=rule.threshold,
                outcome=outcome,
                fix=rule.fix_for(outcome, said),
            )
        )
    return results


def verdict(results: Iterable[Result], *, before: bool) -> bool:
    """Whether the cluster takes new rentals. A rule that stops and was not answered leaves it as it
    was ``before``: silence neither opens nor closes."""
    stopping = {rule.slug for rule in table().rules if rule.stops}
    outcomes = {result.outcome for result in results if result.rule in stopping}
    if FAIL in outcomes:
        return False
    return before if UNKNOWN in outcomes else True


def passes(results: Iterable[Result]) -> bool:
    """Whether no rule that stops keeps it off sale, and none of them was left unanswered."""
    return verdict(results, before=False)


def is_open_question(result: Result) -> bool:
    """Whether asking again soon could tell more."""
    return result.outcome == UNKNOWN and result.rule not in _BY_PROBES


# Asking tells nothing more of these: a probe does, at its own time.
_BY_PROBES = ("policy_enforced", "pull_speed")


_AGENTS_OWN = "the agent's own, which the cluster renews"


def _server_version(rule: Rule, facts: Facts, _: RowFacts) -> Verdict:
    if isinstance(facts.version, Unasked):
        return _unasked(facts.version)
    found = version_of(facts.version)
    if found < version_of(rule.figures["fail_below"]):
        return FAIL, facts.version or "no version"
    return (WARN if found < version_of(rule.figures["warn_below"]) else PASS), facts.version


def _token_account(rule: Rule, facts: Facts, row: RowFacts) -> Verdict:
    if row.by_agent:
        return PASS, _AGENTS_OWN
    subject = facts.token.subject
    if facts.token_rejected:
        return FAIL, "the server rejects the token"
    if not subject.startswith("system:serviceaccount:"):
        return FAIL, f"{subject or 'nobody that the token names'}: no service account"
    if isinstance(facts.rights, Unasked):
        return UNKNOWN, f"{subject}; {_unasked(facts.rights)[1]}"
    return (PASS if subject == rule.figures["account"] else WARN), subject


def _token_life(rule: Rule, facts: Facts, row: RowFacts) -> Verdict:
    if row.by_agent:
        return PASS, _AGENTS_OWN
    token = facts.token
    if token.expires_at is None:
        return WARN, "the token names no end"
    if token.expires_at <= facts.asked_at:
        return FAIL, f"expired at {token.expires_at:%Y-%m-%d %H:%M} UTC"
    granted = token.expires_at - (token.issued_at or facts.asked_at)
    short = granted < timedelta(hours=rule.figures["warn_below_hours"])
    said = f"granted for {_hours(granted)}, until {token.expires_at:%Y-%m-%d %H:%M} UTC"
    return (WARN if short else PASS), said


def _clock_skew(rule: Rule, facts: Facts, _: RowFacts) -> Verdict:
    if isinstance(facts.skew, Unasked):
        return _unasked(facts.skew)
    said = f"{abs(facts.skew):.0f} s {'ahead of' if facts.skew > 0 else 'behind'} ours"
    if abs(facts.skew) > rule.figures["fail_above_seconds"]:
        return FAIL, said
    if abs(facts.skew) > rule.figures["warn_above_seconds"]:
        return WARN, said
    return PASS, f"{abs(facts.skew):.0f} s apart"


def _pool(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    if isinstance(facts.namespaces, Unasked):
        return _unasked(facts.namespaces)
    if not facts.namespaces:
        return FAIL, "none: the token may not create pods in gpuyard-r-01"
    return PASS, f"{len(facts.namespaces)}, to {facts.namespaces[-1]}"


def _rights_needed(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.rights
    if isinstance(found, Unasked):
        return _unasked(found)
    if found.missing:
        return FAIL, listed(found.missing)
    return _all_asked(found) or (PASS, "all there")


def _rights_too_many(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.rights
    if isinstance(found, Unasked):
        return _unasked(found)
    if found.excess:
        return FAIL, listed(found.excess)
    return _all_asked(found) or (PASS, "none")


def _all_asked(found: RightsFacts) -> Verdict | None:
    if not found.unasked:
        return None
    return UNKNOWN, f"{len(found.unasked)} questions {_unasked(found.unasked[0])[1]}"


def _forbidden_pods(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.pods
    if isinstance(found, Unasked):
        return _unasked(found)
    admitted = [trial for trial in found.trials if trial.verdict == ADMITTED]
    if admitted:
        kinds = dict.fromkeys(trial.kind for trial in admitted)
        places = dict.fromkeys(trial.namespace for trial in admitted)
        return FAIL, f"let in: {', '.join(kinds)} (in {_some(places)})"
    if isinstance(found.plain, Unasked):
        return _unasked(found.plain)
    if found.plain != ADMITTED:
        return FAIL, f"our own pod is refused: {found.plain}"
    return _refused_all(found)


def _refused_all(found: PodFacts) -> Verdict:
    silent = [trial for trial in found.trials if isinstance(trial.verdict, Unasked)]
    if silent:
        first = silent[0]
        why = first.verdict.code if isinstance(first.verdict, Unasked) else ""
        return UNKNOWN, f"{first.kind} in {first.namespace}: {_because(why)}"
    kinds = dict.fromkeys(trial.kind for trial in found.trials if trial.verdict == REFUSED)
    places = dict.fromkeys(trial.namespace for trial in found.trials)
    return PASS, f"refused: {', '.join(kinds)}; tried in {len(places)} namespaces"


def _nodes_set_aside(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.machines
    if isinstance(found, Unasked):
        return _unasked(found)
    parts = [f"{found.both} with label and taint"]
    if found.only_label:
        parts.append(f"without the taint: {_some(found.only_label)}")
    if isinstance(found.only_taint, Unasked):
        parts.append("nodes without the label could not be asked for")
    elif found.only_taint:
        parts.append(f"without the label: {_some(found.only_taint)}")
    said = "; ".join(parts)
    if not found.both:
        return FAIL, said
    return (WARN if len(parts) > 1 else PASS), said


def _resource_names(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = _machines(facts)
    if isinstance(found, Unasked):
        return _unasked(found)
    if found.unknown:
        named = [f"{name} on {count} nodes" for name, count in found.unknown]
        return WARN, _some(named)
    return PASS, "all known"


def _advertised_once(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = _machines(facts)
    if isinstance(found, Unasked):
        return _unasked(found)
    return (FAIL, " ".join(found.doubled[:3])) if found.doubled else (PASS, "one name for each")


def _driver_floor(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = _machines(facts)
    if isinstance(found, Unasked):
        return _unasked(found)
    return _floor(found.old_drivers, found.drivers_told, "driver")


def _toolkit_floor(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = _machines(facts)
    if isinstance(found, Unasked):
        return _unasked(found)
    return _floor(found.old_toolkits, found.toolkits_told, "toolkit")


def _floor(old: Sequence[tuple[str, str, str]], told: int, what: str) -> Verdict:
    if old:
        return WARN, _some(f"{node} has {has}, the floor is {floor}" for node, has, floor in old)
    if not told:
        return PASS, f"no label tells a {what} that has a floor"
    return PASS, f"at or above the floor on {told} nodes"


def _runtime_class(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = _machines(facts)
    if isinstance(found, Unasked):
        return _unasked(found)
    if not found.classes_wanted:
        return PASS, "none is needed"
    if isinstance(facts.classes, Unasked):
        return _unasked(facts.classes)
    missing = [name for name in found.classes_wanted if name not in facts.classes]
    return (FAIL, _some(missing)) if missing else (PASS, _some(found.classes_wanted))


def _pull_speed(rule: Rule, _: Facts, row: RowFacts) -> Verdict:
    took = row.pull.seconds
    if took is None:
        return UNKNOWN, "not fetched yet" if row.pull.probed else "not tried yet"
    slow = took > rule.figures["warn_above_seconds"]
    return (WARN if slow else PASS), f"{took:.1f} s"


def _storage_domain(_: Rule, __: Facts, row: RowFacts) -> Verdict:
    if row.storage_domain == "none":
        return WARN, row.storage_reason or "Not looked for yet."
    return PASS, f"{row.storage_domain}. {row.storage_reason}"


def _reaper(_: Rule, __: Facts, row: RowFacts) -> Verdict:
    if row.reaper_state == "running":
        return PASS, "running"
    if row.reaper_state == "unknown":
        return UNKNOWN, "not seen yet"
    return WARN, row.reaper_state


def _relay(rule: Rule, __: Facts, row: RowFacts) -> Verdict:
    if row.relay_age is None:
        return WARN, "never connected"
    if row.relay_age > rule.figures["silent_after_seconds"]:
        return WARN, f"last connected {row.relay_age / 60:.0f} minutes ago"
    return PASS, "connected"


def _network_policy(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.policies
    if isinstance(found, Unasked):
        return _unasked(found)
    if found.open:
        return FAIL, _some(found.open)
    if found.unasked:
        return UNKNOWN, f"{len(found.unasked)} namespaces {_unasked(found.unasked[0])[1]}"
    return PASS, f"closed in {found.closed} namespaces"


def _egress_rules(_: Rule, facts: Facts, __: RowFacts) -> Verdict:
    found = facts.policies
    if isinstance(found, Unasked):
        return _unasked(found)
    if found.wide:
        return WARN, _some(found.wide)
    return (UNKNOWN if found.unasked else PASS), "in every namespace that answered"


def _policy_enforced(_: Rule, __: Facts, row: RowFacts) -> Verdict:
    found = row.network
    if found.enforced is None:
        return UNKNOWN, found.said or "not tried yet"
    return (PASS if found.enforced else WARN), found.said


_JUDGES: Mapping[str, Callable[[Rule, Facts, RowFacts], Verdict]] = {
    "server_version": _server_version,
    "token_account": _token_account,
    "token_life": _token_life,
    "clock_skew": _clock_skew,
    "pool": _pool,
    "rights_needed": _rights_needed,
    "rights_too_many": _rights_too_many,
    "forbidden_pods": _forbidden_pods,
    "nodes_set_aside": _nodes_set_aside,
    "resource_names": _resource_names,
    "advertised_once": _advertised_once,
    "driver_floor": _driver_floor,
    "toolkit_floor": _toolkit_floor,
    "runtime_class": _runtime_class,
    "pull_speed": _pull_speed,
    "storage_domain": _storage_domain,
    "reaper": _reaper,
    "relay": _relay,
    "network_policy": _network_policy,
    "egress_rules": _egress_rules,
    "policy_enforced": _policy_enforced,
}


def _machines(facts: Facts) -> MachineFacts | Unasked:
    """Of the pool's nodes; without any nothing about their devices is known."""
    found = facts.machines
    if isinstance(found, MachineFacts) and not found.both and not found.only_label:
        return Unasked("no_nodes")
    return found


def _unasked(why: Unasked) -> Verdict:
    return UNKNOWN, f"could not be asked: {_because(why.code)}"


_REASONS = {
    "too_late": "the cluster took too long to answer",
    "no_nodes": "there is no node of the pool",
    "no_namespaces": "there is no namespace of the pool",
    "quota": "the namespace's quota is full",
}


def _because(code: str) -> str:
    return _REASONS.get(code, code.replace("_", " "))


def _hours(life: timedelta) -> str:
    hours = life.total_seconds() / 3600
    return f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"


def _some(names: Iterable[str]) -> str:
    """Some of the names, and how many more there are: hostile ones are long."""
    every = [clean(name, limit=100) for name in names]
    more = len(every) - _NAMES_SHOWN
    shown = ", ".join(every[:_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown
