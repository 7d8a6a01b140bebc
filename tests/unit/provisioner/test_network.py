"""What stored network policies open: those of the bundle itself, and what a stranger writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from provisioner.preflight.network import is_closed, is_graded

FOLDER = Path(__file__).parents[3] / "deploy" / "provider"
LABEL = "gpuyard.io/egress"
DENY = {"spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}}


def bundle(*names: str) -> list[dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        for item in yaml.safe_load((FOLDER / name).read_text())["items"]:
            if item["kind"] == "NetworkPolicy" and item["metadata"]["namespace"] == "gpuyard-r-03":
                found[item["metadata"]["name"]] = item
    return list(found.values())


def opening(selector: Any, *ports: Any) -> dict[str, Any]:
    rule = {"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}
    return {
        "spec": {
            "podSelector": selector,
            "policyTypes": ["Egress"],
            "egress": [{**rule, "ports": list(ports)} if ports else rule],
        }
    }


WEB = opening({"matchLabels": {LABEL: "web"}}, {"port": 443})


@pytest.mark.parametrize("files", [("bundle.yaml",), ("bundle.yaml", "egress-1.22-and-newer.yaml")])
def test_the_bundle_keeps_what_its_offers_promise(files: tuple[str, ...]) -> None:
    policies = bundle(*files)
    assert is_closed(policies)
    assert is_graded(policies)


def test_the_bundle_of_before_gives_everybody_the_internet() -> None:
    assert not is_graded([DENY, opening({})])


@pytest.mark.parametrize(
    ("policies", "graded"),
    [
        ([DENY, WEB], True),
        ([DENY], False),  # nobody gets the web
        ([WEB, opening({"matchLabels": {LABEL: "none"}}, {"port": 443})], False),
        ([WEB, opening({"matchExpressions": [{"key": LABEL, "operator": "Exists"}]})], False),
        ([WEB, opening({"matchExpressions": [{"key": LABEL, "operator": "DoesNotExist"}]})], True),
        ([WEB, opening({"matchExpressions": [{"key": LABEL, "operator": "Odd"}]})], False),
        ([WEB, opening({"matchExpressions": "nonsense"})], False),
        ([WEB, opening({"matchLabels": {"app": "theirs"}})], True),
        ([opening({"matchLabels": {LABEL: "web"}}, {"port": 22})], False),
        ([opening({"matchLabels": {LABEL: "web"}}, {"port": 80, "endPort": 90})], False),
        ([opening({"matchLabels": {LABEL: "web"}})], False),
        ([WEB, opening({"matchLabels": {LABEL: "web"}}, {"port": "ssh"})], False),
        ([WEB, {"spec": "nonsense"}, {}], True),
    ],
)
def test_what_others_write(policies: list[dict[str, Any]], graded: bool) -> None:
    assert is_graded(policies) is graded


def test_a_policy_that_opens_or_chooses_closes_nothing() -> None:
    assert is_closed([DENY])
    assert not is_closed([{"spec": {**DENY["spec"], "podSelector": {"matchLabels": {"a": "b"}}}}])
    assert not is_closed([{"spec": {**DENY["spec"], "egress": [{}]}}])
    assert not is_closed([{"spec": {**DENY["spec"], "policyTypes": ["Ingress"]}}])
    assert not is_closed([{"spec": {"podSelector": None}}, {}])
