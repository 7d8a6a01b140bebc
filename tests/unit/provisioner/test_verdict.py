"""A strike needs evidence that names the host; all else is the renter's, ours or nobody's."""

from __future__ import annotations

import pytest

from provisioner.contracts import Fault
from provisioner.contracts.reliability import Verdict
from provisioner.instances.reasons import REASONS
from provisioner.instances.verdict import Ended, judge, text_of

KEPT, FAILED, UNCOUNTED = Verdict.KEPT, Verdict.FAILED, Verdict.UNCOUNTED


@pytest.mark.parametrize(
    ("end", "verdict", "cause"),
    [
        (Ended("terminated_by_user", Fault.NONE, True), KEPT, "ended"),
        (Ended("contract_end", Fault.NONE, True), KEPT, "ended"),
        (Ended("funds", Fault.FUNDS, True), KEPT, "ended"),
        (Ended("terminated_by_user", Fault.NONE, False), UNCOUNTED, "ended_before_start"),
        (Ended("bad_command", None, False), UNCOUNTED, "renter"),
        (Ended("container_exited", None, True), UNCOUNTED, "renter"),
        (Ended("abuse", Fault.RENTER, True), UNCOUNTED, "renter"),
        (Ended("config_error", None, False), UNCOUNTED, "platform"),
        (Ended("config_error", Fault.UNKNOWN, False), UNCOUNTED, "config_error"),
        (Ended("lapsed", None, True), UNCOUNTED, "lapsed"),
        (Ended("host_rejected", None, False), FAILED, "host_rejected"),
        (Ended("gpu_lost", None, True), FAILED, "gpu_lost"),
        (Ended("host_lost", None, True), FAILED, "host_lost"),
        (Ended("host_lost", None, True, was="node_not_ready"), FAILED, "host_lost"),
        # Silence that nobody could explain, waited out until the machine was given up.
        (Ended("host_lost", None, True, was="cluster_unreachable"), UNCOUNTED, "host_lost"),
        (Ended("host_lost", None, True, was="not_ready"), UNCOUNTED, "host_lost"),
        # Nothing but time passed: the image may be slow, or our own create late.
        (Ended("start_timeout", None, False), UNCOUNTED, "start_timeout"),
        # What a check in the renter's own image says is the renter's word.
        (Ended("order_mismatch", None, False), UNCOUNTED, "order_mismatch"),
        (Ended("order_mismatch", None, False, checked=True), FAILED, "order_mismatch"),
        (Ended("card_in_use", None, False, checked=True), FAILED, "card_in_use"),
        (Ended("maintenance", Fault.HOST, True), UNCOUNTED, "maintenance"),
        (Ended("maintenance", Fault.HOST, True, at_once=True), FAILED, "stopped_at_once"),
    ],
)
def test_an_end_and_what_it_says(end: Ended, verdict: Verdict, cause: str) -> None:
    assert judge(end) == (verdict, cause)
    assert text_of(cause) != cause, "every cause has a sentence"


def test_only_the_hosts_own_reasons_are_ever_strikes() -> None:
    for code, reason in REASONS.items():
        for started in (True, False):
            verdict, _ = judge(Ended(code, None, started, checked=True))
            assert verdict != FAILED or reason.fault == Fault.HOST, code
            assert judge(Ended(code, Fault.UNKNOWN, started))[0] == UNCOUNTED, code


def test_owners_are_not_told_what_their_renters_did_or_could_pay() -> None:
    told = {judge(Ended(code, None, True))[1] for code in REASONS}
    private = {"funds", "budget", "overdue", "bad_command", "image_auth", "abuse", "idle"}
    assert not told & private
