"""Reading pods that may be hostile, broken or newer than we are."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from provisioner.kube.pods import facts, proof
from tests.unit.provisioner.pods import INSTANCE, checked, pod_json, report

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner),
    max_leaves=20,
)


def test_a_pod_is_read() -> None:
    found = facts(pod_json(check=checked(report()), main={"running": {}}, restarts=2, ready=True))
    assert found is not None
    assert (found.uid, found.instance, found.version) == ("uid-1", INSTANCE, 10)
    assert found.ready
    assert found.main.running
    assert found.main.restarts == 2
    assert found.check.exit_code == 0
    assert [d.uid for d in proof(found.check.message) or []] == ["GPU-0"]


@given(anything)
def test_no_answer_breaks_the_reader(value: object) -> None:
    facts(value)
    facts({"metadata": value, "spec": value, "status": value})
    found = facts(
        {
            "metadata": {"name": "a", "uid": "b", "labels": value, "resourceVersion": value},
            "status": {"conditions": value, "containerStatuses": value, "phase": value},
        }
    )
    assert found is not None
    assert not found.ready


@given(st.text(max_size=200))
def test_no_message_breaks_the_proof(text: str) -> None:
    found = proof(text)
    assert found is None or isinstance(found, list)


def test_texts_of_the_cluster_are_made_harmless() -> None:
    raw = pod_json(refused="\x1b[31mred\x1b[0m\u202e" + "x" * 1000)
    found = facts(raw)
    assert found is not None
    assert found.unschedulable.startswith("red")
    assert "\x1b" not in found.unschedulable
    assert len(found.unschedulable) <= 300


@pytest.mark.parametrize("broken", [None, [], "x", {}, {"metadata": {"name": "a"}}])
def test_what_has_no_identity_is_no_pod(broken: object) -> None:
    assert facts(broken) is None


def test_a_deep_message_is_no_proof() -> None:
    assert proof("[" * 200_000) is None
    assert proof(json.dumps({"devices": [{"uid": "a", "model": "b"}]})) is None
