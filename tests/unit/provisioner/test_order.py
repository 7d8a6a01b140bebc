"""Orders that must not reach a cluster are refused with a message per field."""

from __future__ import annotations

import pytest

from kernel.errors import InvalidRequest
from provisioner.contracts import PodOrder
from provisioner.instances.order import check_order

IMAGE = "docker.io/library/ubuntu@sha256:" + "1" * 64


def test_a_usual_order_passes() -> None:
    check_order(
        PodOrder(
            image=IMAGE,
            command=("sleep", "infinity"),
            env={"HF_HOME": "/data"},
            secret_env={"HF_TOKEN": "x"},
            ports=(8080,),
            pull_secret={"registry": "r", "username": "u", "password": "p"},
        )
    )


@pytest.mark.parametrize(
    ("field", "order"),
    [
        ("image", PodOrder(image="ubuntu:latest")),
        ("image", PodOrder(image="")),
        ("image", PodOrder(image=IMAGE + "\n")),
        ("image", PodOrder(image="Ubuntu@sha256:" + "1" * 63)),
        ("env", PodOrder(image=IMAGE, env={"LD_PRELOAD": "x"})),
        ("env", PodOrder(image=IMAGE, env={"ld_library_path": "x"})),
        ("env", PodOrder(image=IMAGE, env={"NVIDIA_VISIBLE_DEVICES": "all"})),
        ("env", PodOrder(image=IMAGE, secret_env={"KUBERNETES_SERVICE_HOST": "x"})),
        ("env", PodOrder(image=IMAGE, env={"1A": "x"})),
        ("env", PodOrder(image=IMAGE, env={"A B": "x"})),
        ("env", PodOrder(image=IMAGE, env={"A": "x" * 300_000})),
        ("env", PodOrder(image=IMAGE, env={"A": "zero\x00byte"})),
        ("env", PodOrder(image=IMAGE, env={"A": "1"}, secret_env={"A": "2"})),
        ("command", PodOrder(image=IMAGE, command=("x" * 40_000,))),
        ("command", PodOrder(image=IMAGE, command=("a\x00b",))),
        ("ports", PodOrder(image=IMAGE, ports=(0,))),
        ("ports", PodOrder(image=IMAGE, ports=(70_000,))),
        ("ports", PodOrder(image=IMAGE, ports=(80, 80))),
        ("ports", PodOrder(image=IMAGE, ports=tuple(range(1, 40)))),
        ("termination_grace", PodOrder(image=IMAGE, termination_grace=-1)),
        ("termination_grace", PodOrder(image=IMAGE, termination_grace=100_000)),
        ("pull_secret", PodOrder(image=IMAGE, pull_secret={"registry": "r"})),
    ],
)
def test_a_bad_order_names_the_field(field: str, order: PodOrder) -> None:
    with pytest.raises(InvalidRequest) as caught:
        check_order(order)
    assert set(caught.value.extra["errors"]) == {field}
