"""What a pod's condition means for its instance, without a cluster or a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.contracts import InstanceState as S
from provisioner.instances.state import COMING_UP, SERVING, may_move
from provisioner.inventory.accelerators import by_slug
from provisioner.reconcile import decide, trouble
from provisioner.reconcile.decide import End, Go, Known, Stay
from tests.unit.provisioner.pods import checked, pod, report, running_pod

T0 = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
H100 = by_slug()["nvidia-h100-80gb-sxm"][1]


def known(state: S = S.CREATING, **more: Any) -> Known:
    given = {"gpus": 1, "pod_uid": "uid-1", "seen": {}, "short": False, "reason": "creating"}
    return Known(state=state, state_since=T0, model=H100, **{**given, **more})


def go(decision: decide.Decision) -> Go:
    assert isinstance(decision, Go), decision
    return decision


def over(decision: decide.Decision) -> End:
    assert isinstance(decision, End), decision
    return decision


def memory(decision: decide.Decision) -> dict[str, Any]:
    """What a decision that did not end it remembers."""
    assert not isinstance(decision, End), decision
    return decision.seen or {}


def ready_known(**more: Any) -> Known:
    return known(S.READY, seen=decide.remembered(running_pod()), **more)


# --- on the way up ------------------------------------------------------------------------------


def test_ready_needs_pod_ready_and_a_matching_proof() -> None:
    decision = decide.present(known(S.STARTING), running_pod(), T0)
    assert isinstance(decision, Go)
    assert (decision.to, decision.reason) == (S.READY, "ready")
    assert decision.evidence["devices"] == [
        {"uid": "GPU-0", "model": "NVIDIA-H100-80GB-HBM3", "memory_mib": 81559}
    ]


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ("", "no readable report"),
        ("not json", "no readable report"),
        ("[]", "no readable report"),
        ('{"devices": [1]}', "no readable report"),
        ('{"devices": []}', "0 cards"),
        (report(2), "2 cards"),
        (report(model="NVIDIA-GeForce-RTX-4090"), "another model"),
        (report(model="NVIDIA-H100-PCIe"), "another model"),
        (report(memory_mib=40960), "memory"),
        (report(memory_mib=96 * 1024), "memory"),
        ("[" * 100_000, "no readable report"),
    ],
)
def test_anything_but_the_order_is_a_mismatch_and_never_ready(message: str, words: str) -> None:
    for state in (S.CREATING, S.PULLING, S.STARTING, S.DEGRADED, S.UNREACHABLE):
        decision = decide.present(known(state), running_pod(message), T0)
        assert isinstance(decision, End), state
        assert decision.reason == "order_mismatch"
        assert words in decision.text


def test_one_card_reported_twice_is_a_mismatch() -> None:
    doubled = report(1).replace("]", "," + report(1)[len('{"devices": [') : -2] + "]")
    decision = decide.present(known(S.STARTING, gpus=2), running_pod(doubled), T0)
    assert isinstance(decision, End)
    assert decision.text == "The same card was found twice."


def test_the_phases_follow_the_containers() -> None:
    pulling = pod(check={"waiting": {"reason": "PodInitializing"}})
    checking = pod(check={"running": {}})
    starting = pod(check=checked(report()))
    assert go(decide.present(known(), pulling, T0)).to == S.PULLING
    assert go(decide.present(known(S.PULLING), checking, T0)).to == S.STARTING
    assert go(decide.present(known(S.PULLING), starting, T0)).to == S.STARTING
    # A restarted check does not lead back.
    assert isinstance(decide.present(known(S.STARTING), pulling, T0), Stay)


def test_a_pod_that_waits_for_the_scheduler_stays_where_it_is() -> None:
    assert decide.present(known(), pod(scheduled=False), T0) == Stay(
        decide.remembered(pod(scheduled=False))
    )


TROUBLES = [
    (pod(refused="0/3 nodes: insufficient nvidia.com/gpu"), "host_rejected", trouble.UNSCHEDULABLE),
    (pod(refused='persistentvolumeclaim "gv-1" not found'), "volume_error", trouble.UNBOUND),
    (
        pod(refused="0/3 nodes: 1 node(s) had volume node affinity conflict"),
        "volume_error",
        trouble.UNBOUND,
    ),
    (
        pod(refused="pod has unbound immediate PersistentVolumeClaims"),
        "volume_error",
        trouble.UNBOUND,
    ),
    (
        pod(check={"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}),
        "image_not_found",
        trouble.REFUSED,
    ),
    (
        pod(check={"waiting": {"reason": "ErrImagePull", "message": "401 Unauthorized"}}),
        "image_auth",
        trouble.REFUSED,
    ),
    (
        pod(check={"waiting": {"reason": "ImagePullBackOff", "message": "i/o timeout"}}),
        "image_pull_timeout",
        trouble.PULL_ERRORS,
    ),
    (
        pod(check=checked(report()), main={"waiting": {"reason": "CrashLoopBackOff"}}),
        "container_exited",
        trouble.CRASHING,
    ),
    (
        pod(check=checked(report()), main={"terminated": {"exitCode": 3}}),
        "container_exited",
        trouble.CRASHING,
    ),
    (
        pod(
            check=checked(report()),
            main={"waiting": {"reason": "RunContainerError", "message": 'exec: "x": not found'}},
        ),
        "bad_command",
        trouble.NOT_STARTED,
    ),
    (
        pod(check={"waiting": {"reason": "CreateContainerConfigError", "message": "secret"}}),
        "config_error",
        trouble.NOT_STARTED,
    ),
    (pod(check={"terminated": {"exitCode": 71}}), "config_error", trouble.NOT_STARTED),
]


@pytest.mark.parametrize(("sight", "reason", "patience"), TROUBLES)
def test_trouble_ends_an_instance_only_when_it_lasts(sight, reason, patience) -> None:
    row = known(S.PULLING)
    first = decide.present(row, sight, T0)
    assert not isinstance(first, End)
    row = replace(row, seen=first.seen or {})
    just_before = decide.present(row, sight, T0 + patience - timedelta(seconds=1))
    assert not isinstance(just_before, End)
    late = decide.present(row, sight, T0 + patience)
    assert isinstance(late, End)
    assert late.reason == reason


def test_trouble_that_passed_counts_from_the_start_again() -> None:
    sight = TROUBLES[0][0]
    row = replace(known(), seen=memory(decide.present(known(), sight, T0)))
    calm = decide.present(row, pod(check={"running": {}}), T0 + timedelta(seconds=20))
    row = replace(row, seen=memory(calm))
    again = decide.present(row, sight, T0 + timedelta(seconds=40))
    assert not isinstance(again, End)


def test_a_back_off_without_a_reason_keeps_the_reason_seen_before() -> None:
    """Kubelets up to 1.28 say why only between back-offs."""
    said = pod(check={"waiting": {"reason": "ErrImagePull", "message": "not found"}})
    silent = pod(check={"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling"}})
    row = replace(known(S.PULLING), seen=memory(decide.present(known(S.PULLING), said, T0)))
    middle = decide.present(row, silent, T0 + timedelta(seconds=5))
    row = replace(row, seen=memory(middle) or row.seen)
    late = decide.present(row, silent, T0 + trouble.REFUSED)
    assert isinstance(late, End)
    assert late.reason == "image_not_found"


@pytest.mark.parametrize("state", sorted(COMING_UP))
def test_every_phase_ends_at_its_deadline(state: S) -> None:
    limit, reason = decide.DEADLINES[state]
    waiting = pod(scheduled=False)
    assert not isinstance(decide.present(known(state), waiting, T0 + limit), End)
    late = decide.present(known(state), waiting, T0 + limit + timedelta(seconds=1))
    assert isinstance(late, End)
    assert late.reason == reason
    assert decide.overdue(known(state), T0 + limit + timedelta(seconds=1)) == late


def test_a_pod_refused_by_the_kubelet_is_the_hosts_fault() -> None:
    failed = pod(phase="Failed", reason="UnexpectedAdmissionError")
    assert over(decide.present(known(S.CREATING), failed, T0)).reason == "host_rejected"
    assert over(decide.present(ready_known(), failed, T0)).reason == "host_lost"


# --- serving ------------------------------------------------------------------------------------


def test_an_unchanged_ready_pod_stays() -> None:
    assert decide.present(ready_known(), running_pod(), T0) == Stay()


@pytest.mark.parametrize(
    ("sight", "reason"),
    [
        (running_pod(ready=False), "not_ready"),
        (running_pod(restarts=1), "not_ready"),
        (running_pod(container="containerd://2"), "not_ready"),
        (running_pod(ready_since="2026-11-01T11:00:00Z"), "not_ready"),
        (running_pod(ready=False, main={"terminated": {"exitCode": 1}}), "container_exited"),
        (pod(phase="Running", check=checked(report())), "node_not_ready"),
    ],
)
def test_any_change_of_a_ready_pod_stops_the_meter(sight, reason) -> None:
    decision = decide.present(ready_known(), sight, T0)
    assert isinstance(decision, Go)
    assert (decision.to, decision.reason) == (S.DEGRADED, reason)


@pytest.mark.parametrize("state", [S.DEGRADED, S.UNREACHABLE])
def test_recovery_needs_ready_and_proof(state: S) -> None:
    decision = decide.present(known(state), running_pod(), T0)
    assert isinstance(decision, Go)
    assert (decision.to, decision.reason) == (S.READY, "recovered")


def test_a_node_that_lost_cards_degrades_and_does_not_recover_by_itself() -> None:
    decision = decide.present(ready_known(short=True), running_pod(), T0)
    assert isinstance(decision, Go)
    assert (decision.to, decision.reason) == (S.DEGRADED, "gpu_lost")
    still = decide.present(known(S.DEGRADED, short=True), running_pod(), T0)
    assert isinstance(still, Stay)


def test_a_pod_that_somebody_else_deletes_is_lost() -> None:
    assert over(decide.present(ready_known(), running_pod(deleting=True), T0)).reason == "host_lost"
    assert over(decide.absent(ready_known())).reason == "host_lost"


def test_an_older_picture_is_recognized() -> None:
    seen = decide.remembered(pod(version=20))
    assert decide.is_older(seen, pod(version=19))
    assert not decide.is_older(seen, pod(version=20))
    assert not decide.is_older({}, pod(version=1))


# A reserved instance has no pod: its create is announced, as CREATING, before it is sent.
states = st.sampled_from(sorted((COMING_UP | SERVING) - {S.RESERVED}))
conditions = st.sampled_from(
    [sight for sight, _, _ in TROUBLES]
    + [running_pod(), running_pod(""), running_pod(ready=False), pod(), pod(deleting=True)]
    + [pod(phase="Failed"), pod(check={"running": {}}), pod(scheduled=False)]
)


@given(states, conditions, st.booleans(), st.integers(0, 5000))
def test_every_decision_is_a_legal_move(state, sight, short, seconds) -> None:
    decision = decide.present(known(state, short=short), sight, T0 + timedelta(seconds=seconds))
    if isinstance(decision, Go):
        assert may_move(state, decision.to)
    if isinstance(decision, Go) and decision.to == S.READY:
        assert sight.ready
        assert not short or state in COMING_UP
