"""What probes tell, read as hostile text; scores and claims."""

from __future__ import annotations

import json
from typing import Any

import pytest

from provisioner.preflight import measured
from provisioner.preflight.measured import benchmark_of, enforced, network_of, pull_seconds, worst

GOOD: dict[str, Any] = {
    "version": 1,
    "seconds": 20,
    "cpu_single_sha256_mib_s": 480.0,
    "cpu_all_sha256_mib_s": 2000.0,
    "memory_copy_mib_s": 10000.0,
    "disk_kind": "ssd",
    "disk_write_mib_s": 500.0,
    "disk_read_mib_s": 500,
    "net_down_mbps": None,
    "cards": [{"uid": "GPU-1", "model": "H100", "memory_mib": 81559, "driver": "550"}],
}


def result(**more: Any) -> dict[str, Any]:
    found = benchmark_of(json.dumps({**GOOD, **more}))
    assert found is not None
    return found


def test_the_reference_scores_a_hundred_and_no_single_figure_makes_a_machine_fast() -> None:
    assert measured.score(result()) == 100.0
    assert measured.score(result(cpu_all_sha256_mib_s=32000.0)) == 200.0
    assert measured.score(result(disk_read_mib_s=None)) is None


@pytest.mark.parametrize(
    "message", ["", "no", "[]", "{}", '{"version": 2}', "[" * 50_000, '{"version": true}']
)
def test_what_is_no_result_is_none(message: str) -> None:
    assert benchmark_of(message) is None
    assert network_of(message) is None


@pytest.mark.parametrize("value", [True, "9", -1, 0, 1e12, float("nan"), float("inf"), [], {}])
def test_a_figure_that_is_none_is_missing(value: Any) -> None:
    assert result(memory_copy_mib_s=value)["memory_copy_mib_s"] is None
    assert result(disk_kind=value if value != "9" else "tape")["disk_kind"] is None


def test_cards_are_cut_and_plain() -> None:
    cards = result(cards=[{"model": "x\x1b[31m" * 100, "memory_mib": "1"}] * 100)["cards"]
    assert len(cards) == 64
    assert cards[0]["memory_mib"] is None
    assert "\x1b" not in cards[0]["model"]
    assert result(cards="x")["cards"] == []


def test_a_group_claims_the_least_of_each() -> None:
    claim = worst([result(), result(disk_kind="hdd", disk_write_mib_s=5.0, net_down_mbps=9.0)])
    assert (claim.disk_kind, claim.disk_write_mib_s, claim.disk_read_mib_s) == ("hdd", 5.0, 500.0)
    assert claim.net_down_mbps is None  # one of them does not say
    assert claim.score is not None
    assert claim.score < 100
    assert worst([]).score is None


def tries(**verdicts: str) -> dict[str, Any]:
    rows = [{"what": what, "address": "x:1", "verdict": said} for what, said in verdicts.items()]
    found = network_of(json.dumps({"version": 1, "tries": rows}))
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("verdicts", "held"),
    [
        ({"api": "closed", "kubelet": "closed", "node": "closed", "metadata": "closed"}, True),
        ({"api": "closed", "kubelet": "open"}, False),
        ({"api": "open"}, False),
        ({"api": "refused", "metadata": "closed"}, None),
        # Nobody told where the API server is: its silence is none.
        ({"api": "", "metadata": "closed"}, None),
        ({"api": "closed", "kubelet": ""}, None),
        ({"api": "closed", "kubelet": "refused"}, None),
        ({"outside": "open", "api": "closed", "kubelet": "closed"}, True),
    ],
)
def test_what_was_reached_says_whether_the_policy_held(
    verdicts: dict[str, str], held: bool | None
) -> None:
    assert enforced(tries(**verdicts)) is held
    assert ("api" in measured.reached(tries(**verdicts))) is (verdicts.get("api") == "open")


@pytest.mark.parametrize(
    ("message", "seconds"),
    [
        ('Successfully pulled image "r/x@sha256:1" in 1.234567s', 1.235),
        ('Successfully pulled image "x" in 1m2.5s (1m2.5s including waiting). Image size: 9', 62.5),
        ('Successfully pulled image "x" in 850.25ms', 0.85),
        ('Container image "x" already present on machine', None),
        ("Successfully pulled image", None),
    ],
)
def test_pulls_are_timed_by_the_node(message: str, seconds: float | None) -> None:
    event = {"involvedObject": {"uid": "u"}, "reason": "Pulled", "message": message}
    assert pull_seconds([{}, event], "u") == seconds
    assert pull_seconds([event], "another") is None
