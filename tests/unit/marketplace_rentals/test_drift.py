"""What an owner reads where a label moved cards to a group that has no price."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

from marketplace.catalog.drift import why_draft
from provisioner.contracts import GroupView

PLAIN = "has no price yet"
OLD = GroupView(
    id=UUID(int=1),
    cluster_id=UUID(int=10),
    provider_ref=UUID(int=20),
    datacenter_ref=UUID(int=30),
    accelerator="nvidia-h100-80gb-sxm",
    vendor="nvidia",
    memory_mib=81920,
    driver="550.54.15",
    cuda_max="12.4",
    sharing_mode="whole",
    verified=True,
    slots_total=8,
    slots_free=8,
    largest_block=8,
    vcpus_milli_per_gpu=23500,
    ram_mib_per_gpu=261120,
    disk_mib_per_gpu=2580480,
)
NEW = replace(OLD, id=UUID(int=2), driver="570.86.10")
OFFERS = {OLD.id: "ofr_old"}


def test_a_changed_driver_is_named_with_the_offer_that_it_left() -> None:
    said = why_draft(NEW, [OLD, NEW], OFFERS)
    assert said == f"{PLAIN}; like ofr_old, but driver 570.86.10 instead of 550.54.15"


def test_the_nearest_offer_is_named() -> None:
    far = replace(OLD, id=UUID(int=3), driver="535.1", cuda_max="12.2", vcpus_milli_per_gpu=1000)
    said = why_draft(NEW, [far, OLD, NEW], {**OFFERS, far.id: "ofr_a_far"})
    assert "ofr_old" in said
    assert len(why_draft(NEW, [far, NEW], {far.id: "ofr_a_far"})) <= 200


def test_new_cards_are_only_without_a_price() -> None:
    for other in (
        replace(OLD, cluster_id=UUID(int=11)),
        replace(OLD, accelerator="nvidia-l4"),
    ):
        assert why_draft(NEW, [other, NEW], OFFERS) == PLAIN
    assert why_draft(NEW, [OLD, NEW], {}) == PLAIN
    assert why_draft(NEW, [NEW], OFFERS) == PLAIN


def test_an_unknown_driver_is_said_so() -> None:
    assert "driver unknown instead of 550.54.15" in why_draft(
        replace(NEW, driver=None), [OLD], OFFERS
    )
