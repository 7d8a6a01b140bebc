"""Pure parts of volumes: where they can live, what their claims mean, what may be mounted."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from django.db.models import CheckConstraint, Q
from hypothesis import given
from hypothesis import strategies as st

from kernel.errors import InvalidRequest
from provisioner.contracts import PodOrder, StorageDomain, VolumeMount
from provisioner.contracts import VolumeState as S
from provisioner.instances.order import check_order, mount_problems
from provisioner.inventory.storage import NO_CLASSES, storage_of
from provisioner.kube.claims import ClaimFacts, facts
from provisioner.models import Volume
from provisioner.reconcile.volume_decide import Go, Known, absent, present
from provisioner.volumes.state import (
    ATTACHABLE,
    ENDING,
    GROWABLE,
    MOVES,
    REASONS,
    TERMINAL,
    may_move,
)

AT = datetime(2026, 11, 1, 10, tzinfo=UTC)


def storage_class(name: str = "fast", provisioner: str = "x.example.com", **more: Any) -> Any:
    waits = more.pop("waits", True)
    return {
        "metadata": {
            "name": name,
            "labels": more.pop("labels", {}),
            "annotations": more.pop("annotations", {}),
        },
        "provisioner": provisioner,
        "volumeBindingMode": "WaitForFirstConsumer" if waits else "Immediate",
        "reclaimPolicy": "Delete",
        **more,
    }


DEFAULT = {"storageclass.kubernetes.io/is-default-class": "true"}
CHOSEN = {"gpuyard.io/storage": "true"}


def test_the_labelled_class_wins_over_the_default_and_the_default_over_none() -> None:
    labelled = storage_class("z", labels=CHOSEN)
    default = storage_class("a", annotations=DEFAULT)
    assert storage_of([default, labelled, storage_class("b")]).name == "z"
    assert storage_of([storage_class("b"), default]).name == "a"
    assert storage_of([storage_class("y", labels=CHOSEN), labelled]).name == "y"
    beta = {"storageclass.beta.kubernetes.io/is-default-class": "true"}
    assert storage_of([storage_class("old", annotations=beta)]).name == "old"
    nothing = storage_of([storage_class("b"), storage_class("c", labels={"x": "true"})])
    assert (nothing.name, nothing.domain) == ("", StorageDomain.NONE)
    assert "default" in nothing.reason
    assert storage_of([]) == NO_CLASSES


@pytest.mark.parametrize(
    ("provisioner", "waits", "domain"),
    [
        ("kubernetes.io/no-provisioner", True, "node"),
        ("rancher.io/local-path", True, "node"),
        ("topolvm.io", True, "node"),
        ("local.csi.openebs.io", True, "node"),
        ("k8s.io/minikube-hostpath", True, "node"),
        ("rancher.io/local-path", False, "none"),
        ("kubernetes.io/no-provisioner", False, "none"),
        ("rbd.csi.ceph.com", False, "cluster"),
        ("rook-ceph.cephfs.csi.ceph.com", True, "cluster"),
        ("nfs.csi.k8s.io", False, "cluster"),
        ("cluster.local/nfs-subdir-external-provisioner", False, "cluster"),
        ("driver.longhorn.io", True, "cluster"),
        ("everest-csi-provisioner", False, "cluster"),
        ("pd.csi.storage.gke.io", True, "cluster"),
        ("somebody.example.com/disks", True, "node"),
        ("somebody.example.com/disks", False, "node"),
        ("", True, "node"),
    ],
)
def test_the_domain_follows_provisioner_and_binding_mode(provisioner, waits, domain) -> None:
    found = storage_of([storage_class(provisioner=provisioner, waits=waits, labels=CHOSEN)])
    assert found.domain == domain
    assert bool(found.name) == (domain != "none")
    assert found.reason.endswith(".")


@pytest.mark.parametrize("named", ["none", "node", "cluster"])
def test_the_owners_word_on_the_domain_wins(named: str) -> None:
    labels = {**CHOSEN, "gpuyard.io/storage-domain": named}
    found = storage_of([storage_class(provisioner="rbd.csi.ceph.com", labels=labels)])
    assert found.domain == named


def test_a_misspelt_domain_is_not_believed() -> None:
    labels = {**CHOSEN, "gpuyard.io/storage-domain": "everywhere"}
    assert storage_of([storage_class(labels=labels)]).domain == StorageDomain.NODE


KEYS = ["metadata", "name", "uid", "labels", "annotations", "status", "phase", "capacity"]
KEYS += ["storage", "provisioner", "gpuyard.io/storage", "gpuyard.io/storage-domain"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=3))
def test_no_answer_breaks_the_reading(items: list[Any]) -> None:
    storage_of(items)
    for item in items:
        facts(item)


def test_a_claim_is_read_with_its_size_and_node() -> None:
    item = {
        "metadata": {
            "name": "gv-x",
            "namespace": "gpuyard-r-01",
            "uid": "u",
            "labels": {"gpuyard.io/volume": "vol_x"},
            "annotations": {"volume.kubernetes.io/selected-node": "node-1"},
        },
        "status": {"phase": "Bound", "capacity": {"storage": "10240Mi"}},
    }
    assert facts(item) == ClaimFacts(
        "gv-x", "gpuyard-r-01", "u", "vol_x", "Bound", 10, "node-1", False
    )
    assert facts({"metadata": {"name": "x"}}) is None


def known(state: S, **more: Any) -> Known:
    plain = Known(state, "creating", 10, None if state == S.CREATING else 10, False, False)
    return replace(plain, **more)


def shown(phase: str = "Bound", capacity: int | None = 10) -> ClaimFacts:
    return ClaimFacts("gv-x", "ns", "u", "vol_x", phase, capacity, "", False)


@pytest.mark.parametrize(
    ("before", "claim", "after"),
    [
        (known(S.CREATING), shown("Pending"), Go(S.CREATING, "binding")),
        (known(S.CREATING, waits=True), shown("Pending"), Go(S.CREATING, "waits_for_use")),
        (known(S.CREATING, waits=True, attached=True), shown("Pending"), Go(S.CREATING, "binding")),
        (known(S.CREATING, reason="binding"), shown("Pending"), None),
        (
            known(S.CREATING),
            shown(),
            Go(S.AVAILABLE, "available", {"bound_at": AT, "bound_gib": 10}),
        ),
        (
            known(S.CREATING, attached=True),
            shown(capacity=None),
            Go(S.ATTACHED, "attached", {"bound_at": AT, "bound_gib": 10}),
        ),
        (known(S.AVAILABLE), shown(), None),
        (known(S.AVAILABLE), shown("Pending"), None),
        (known(S.ATTACHED, attached=True), shown(), None),
        (known(S.AVAILABLE), shown(capacity=12), Go(S.AVAILABLE, "resized", {"bound_gib": 12})),
        (known(S.RESIZING, size_gib=20), shown(), None),
        (
            known(S.RESIZING, size_gib=20, attached=True),
            shown(capacity=20),
            Go(S.ATTACHED, "resized", {"bound_gib": 20}),
        ),
        (known(S.ATTACHED, attached=True), shown("Lost"), Go(S.LOST, "lost", {"lost_at": AT})),
        (known(S.DELETING), shown("Lost"), None),
    ],
)
def test_what_a_claim_means(before: Known, claim: ClaimFacts, after: Go | None) -> None:
    found = present(before, claim, AT)
    assert found == after
    assert found is None or may_move(before.state, found.to)


def test_a_claim_that_vanished_is_lost_unless_we_deleted_it() -> None:
    for state in S:
        found = absent(known(state), AT)
        if state in ENDING | {S.LOST}:
            assert found is None
        elif state != S.REQUESTED:  # nothing was sent, so nothing can vanish
            assert found == Go(S.LOST, "vanished", {"lost_at": AT})
            assert may_move(state, S.LOST)


def test_the_table_is_complete_and_has_one_way_out() -> None:
    assert set(MOVES) == set(S)
    assert [state for state in S if S.DELETED in MOVES[state]] == [S.DELETING]
    assert {state for state in S if not MOVES[state]} == TERMINAL
    assert {S.DELETING} | TERMINAL == ENDING
    assert not may_move(S.ATTACHED, S.DELETING), "what a machine has is not deleted under it"
    assert all(S.RESIZING in MOVES[state] for state in GROWABLE)
    assert not ATTACHABLE & (ENDING | {S.ATTACHED, S.LOST})
    reached, frontier = {S.REQUESTED}, [S.REQUESTED]
    while frontier:
        for target in MOVES[frontier.pop()] - reached:
            reached.add(target)
            frontier.append(target)
    assert reached == set(S)


def test_the_database_knows_the_same_states() -> None:
    constraint = next(c for c in Volume._meta.constraints if c.name == "volume_state_known")
    assert isinstance(constraint, CheckConstraint)
    assert isinstance(constraint.condition, Q)
    (only,) = constraint.condition.children
    assert isinstance(only, tuple)
    assert set(only[1]) == {str(state) for state in S}


@pytest.mark.parametrize("code", sorted(REASONS))
def test_every_reason_has_a_sentence(code: str) -> None:
    assert REASONS[code].endswith(".")


@pytest.mark.parametrize("path", ["/data", "/root/.cache", "/workspace/a/b/c/d/e", "/srv/x_1.2-3"])
def test_places_for_data(path: str) -> None:
    assert mount_problems([path]) == []


@pytest.mark.parametrize(
    "path",
    [
        "", "/", "//", "data", "/data/", "/a//b", "/a/../etc", "/..", "/./x", "/proc", "/proc/1",
        "/sys/fs", "/dev", "/dev/shm", "/etc", "/etc/ssl", "/run/secrets", "/gpuyard", "/gpuyard/x",
        "/with space", "/colon:x", "/zero\x00", "/new\nline", "/" + "x" * 65, "/a/b/c/d/e/f/g",
    ],
)  # fmt: skip
def test_places_that_belong_to_the_machine(path: str) -> None:
    assert len(mount_problems([path])) == 1
    order = PodOrder(image="x@sha256:" + "1" * 64, volumes=(VolumeMount(uuid4(), path),))
    with pytest.raises(InvalidRequest) as refused:
        check_order(order)
    assert set(refused.value.extra["errors"]) == {"volumes"}


def test_each_volume_and_each_place_once_and_not_too_many() -> None:
    assert mount_problems(["/a", "/a"])
    assert mount_problems([f"/d{number}" for number in range(9)])
    one = uuid4()
    twice = (VolumeMount(one, "/a"), VolumeMount(one, "/b"))
    with pytest.raises(InvalidRequest):
        check_order(PodOrder(image="x@sha256:" + "1" * 64, volumes=twice))
