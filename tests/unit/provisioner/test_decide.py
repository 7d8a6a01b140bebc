"""What a pod's condition means for its instance, without a cluster or a database."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.contracts import InstanceState as S
from provisioner.instances.state import COMING_UP, SERVING, may_move, metered
from provisioner.inventory.accelerators import by_slug
from provisioner.reconcile import decide, trouble
from provisioner.reconcile.decide import End, Go, Known, Stay
from tests.unit.provisioner.pods import checked, pod, report, running_pod

T0 = datetime(2026, 11, 1, 10, 0, tzinfo=UTC)
H100 = by_slug()["nvidia-h100-80gb-sxm"][1]


def known(state: S = S.CREATING, **more: Any) -> Known:
    given: dict[str, Any] = {"gpus": 1, "pod_uid": "uid-1", "seen": {}, "reason": "creating"}
    given |= {"short": False, "node_ready": True, "grace": timedelta(minutes=10)}
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


def test_what_cannot_be_entered_is_not_running_and_not_for_ever() -> None:
    """SSH was asked for and nobody has come in: everything else is as ordered."""
    waiting = go(decide.present(known(S.PULLING, closed=True), running_pod(), T0))
    assert (waiting.to, waiting.reason) == (S.STARTING, "starting")
    still = known(S.STARTING, closed=True, seen=waiting.seen)
    patience = decide.WAY_IN_PATIENCE
    assert isinstance(decide.present(still, running_pod(), T0 + patience / 2), Stay)
    ended = over(decide.present(still, running_pod(), T0 + patience))
    assert (ended.reason, ended.fault) == ("no_way_in", None)
    proven = known(S.STARTING, seen=waiting.seen)
    opened = go(decide.present(proven, running_pod(), T0 + patience / 2))
    assert (opened.to, opened.reason) == (S.READY, "ready")
    assert "trouble" not in opened.seen
    # Cards that are not those of the order are told at once, whatever else is the matter.
    wrong = decide.present(still, running_pod(report(2)), T0)
    assert over(wrong).reason == "order_mismatch"


def test_what_was_open_and_is_shut_is_degraded_by_the_renter() -> None:
    lost = go(decide.present(ready_known(closed=True), running_pod(), T0))
    assert (lost.to, lost.reason) == (S.DEGRADED, "ssh_down")
    assert lost.evidence["devices"]
    row = known(S.DEGRADED, reason="ssh_down", seen=lost.seen)
    assert isinstance(decide.present(replace(row, closed=True), running_pod(), T0), Stay)
    assert go(decide.present(row, running_pod(), T0)).reason == "recovered"
    # A host that lost a card weighs more.
    short = replace(row, closed=True, short=True)
    assert go(decide.present(short, running_pod(), T0)).reason == "gpu_lost"
    assert isinstance(decide.given_up(row, T0 + timedelta(days=30)), Stay)


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


def test_a_card_that_somebody_uses_is_not_handed_over() -> None:
    """Left behind by whoever had it before, or its owner's own: 80 GB are 81559 MiB."""
    for used, ends in ((None, False), (0, False), (4077, False), (4078, True), (81559, True)):
        said = report().replace('"memory_mib": 81559', f'"memory_mib": 81559, "used_mib": {used}')
        decision = decide.present(known(S.STARTING), running_pod(said.replace("None", "null")), T0)
        assert isinstance(decision, End) == ends, used
        if isinstance(decision, End):
            assert (decision.reason, decision.fault) == ("card_in_use", None)
            assert decision.evidence["devices"][0]["used_mib"] == used
    # Nonsense is no figure.
    for odd in ('"x"', "true", "1.5", "[]"):
        said = report().replace('"memory_mib": 81559', f'"memory_mib": 81559, "used_mib": {odd}')
        assert go(decide.present(known(S.STARTING), running_pod(said), T0)).to == S.READY


def test_the_phases_follow_the_containers() -> None:
    pulling = pod(check={"waiting": {"reason": "PodInitializing"}})
    # Checked, and the renter's image may still be on its way.
    well = pod(check=checked(report()), main={"waiting": {"reason": "PodInitializing"}})
    starting = pod(check=checked(report()), main={"running": {}})
    assert go(decide.present(known(), pulling, T0)).to == S.PULLING
    assert go(decide.present(known(), well, T0)).to == S.PULLING
    assert go(decide.present(known(S.PULLING), starting, T0)).to == S.STARTING
    # A check that runs again does not lead back.
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
    lost = known(S.DEGRADED, reason="gpu_lost", short=True)
    assert isinstance(decide.present(lost, running_pod(), T0), Stay)
    # Whatever it was degraded by before: a lost card is the host's, and the meter must know.
    other = known(S.DEGRADED, reason="container_exited", short=True)
    assert go(decide.present(other, running_pod(), T0)).reason == "gpu_lost"


CRASHED = {"terminated": {"exitCode": 137, "reason": "Error"}}


def test_a_program_that_its_renter_ended_is_the_renters_and_keeps_the_meter() -> None:
    decision = go(decide.present(ready_known(), running_pod(ready=False, main=CRASHED), T0))
    assert (decision.to, decision.reason) == (S.DEGRADED, "container_exited")
    assert metered(decision.to, decision.reason)
    assert decision.evidence["devices"], "the meter needs its proof to go on"


def test_a_program_that_was_restarted_between_two_looks_is_the_renters_too() -> None:
    again = running_pod(restarts=1, container="containerd://2", main={"running": {}})
    again = replace(again, main=replace(again.main, exit_code=1, ended="Error"))
    assert go(decide.present(ready_known(), again, T0)).reason == "container_exited"


@pytest.mark.parametrize(
    ("sight", "more", "reason"),
    [
        (running_pod(ready=False, main=CRASHED), {"node_ready": False}, "node_not_ready"),
        (
            running_pod(ready=False, main={"terminated": {"exitCode": 255, "reason": "Unknown"}}),
            {},
            "not_ready",
        ),
        (running_pod(ready=False), {}, "not_ready"),
        (running_pod(ready=False), {"node_ready": False}, "node_not_ready"),
    ],
)
def test_what_the_host_did_or_nobody_knows_stops_the_meter(sight, more, reason) -> None:
    decision = go(decide.present(ready_known(**more), sight, T0))
    assert decision.reason == reason
    assert not metered(decision.to, decision.reason)


def test_a_crash_loop_ends_after_half_an_hour_of_trying() -> None:
    crash = running_pod(ready=False, main=CRASHED)
    state, at = ready_known(), T0
    for minutes in range(0, 30, 2):  # it comes back for a moment each time
        at = T0 + timedelta(minutes=minutes)
        down = go(decide.present(state, crash, at))
        up = go(
            decide.present(known(S.DEGRADED, reason=down.reason, seen=down.seen), running_pod(), at)
        )
        assert (up.to, up.reason) == (S.READY, "recovered")
        state = replace(known(S.READY, seen=up.seen), state_since=at)
    late = decide.present(state, crash, T0 + timedelta(minutes=30))
    assert over(late).reason == "container_exited"
    calm = replace(state, state_since=T0)  # it ran well for long before this crash
    assert isinstance(decide.present(calm, crash, T0 + timedelta(minutes=30)), Go)


@pytest.mark.parametrize(
    ("state", "reason", "ends_as"),
    [
        (S.DEGRADED, "node_not_ready", "host_lost"),
        (S.DEGRADED, "gpu_lost", "gpu_lost"),
        (S.UNREACHABLE, "cluster_unreachable", "host_lost"),
    ],
)
def test_trouble_of_the_host_has_a_grace(state: S, reason: str, ends_as: str) -> None:
    row = known(state, reason=reason)
    assert isinstance(decide.given_up(row, T0 + timedelta(seconds=599)), Stay)
    assert over(decide.given_up(row, T0 + timedelta(seconds=600))).reason == ends_as


def test_what_serves_or_fails_by_its_renter_is_never_given_up_for_its_age() -> None:
    late = T0 + timedelta(days=30)
    for row in (known(S.READY), known(S.DEGRADED, reason="container_exited"), known(S.STARTING)):
        assert isinstance(decide.given_up(row, late), Stay)


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


@given(conditions.map(lambda one: (one, one)) | st.tuples(conditions, conditions))
def test_what_is_settled_would_stay(sights) -> None:
    """So a list may skip it. Nothing is hidden by another pod under the same version."""
    before, sight = sights
    seen = decide.remembered(before)
    decision = decide.present(known(S.READY, seen=seen), sight, T0 + timedelta(hours=9))
    if decide.settled(seen, sight):
        assert decision == Stay(None)


def test_what_is_settled() -> None:
    usual = running_pod()
    seen = decide.remembered(usual)
    assert decide.settled(seen, usual)
    for other in (
        running_pod(version=11),
        running_pod(ready=False),
        running_pod(restarts=1),
        running_pod(deleting=True),
        running_pod(phase="Failed"),
        replace(usual, version=None),
    ):
        assert not decide.settled(seen, other)
