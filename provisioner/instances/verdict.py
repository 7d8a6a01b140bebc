"""What the end of a placement says about its host. PURE; for people: docs/reliability.md.

A strike needs evidence that names the host. What nobody can explain, what our side broke and what
the renter did count neither way: a figure that punishes silence would be no evidence of anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from provisioner.contracts import Fault
from provisioner.contracts.reliability import Verdict
from provisioner.instances.reasons import REASONS

# Causes that are no reason of an instance. Owners are not told what their renters did or could pay.
STOPPED_AT_ONCE: Final = "stopped_at_once"
ENDED: Final = "ended"
NOT_STARTED: Final = "ended_before_start"
RENTER: Final = "renter"
PLATFORM: Final = "platform"
_TEXTS: Final = {
    STOPPED_AT_ONCE: "You stopped it at once, without the notice that is due.",
    ENDED: "It ran until its renter, its balance or its agreed time ended it.",
    NOT_STARTED: "It was ended before it had started.",
    RENTER: "Its renter's image, program or use ended it.",
    PLATFORM: "Something of ours ended it.",
    "start_timeout": "It did not start in time; nothing shows whose fault that was.",
}
# Reasons that the cluster itself shows. A start that only took too long shows nothing: the image
# may be slow, or the create of ours late.
_SHOWN: Final = frozenset(
    {"host_rejected", "volume_error", "gpu_lost", "node_not_ready", "host_lost"}
)
# What a check found on the cards. In the renter's image it says whatever the renter likes.
_CHECKED: Final = frozenset({"order_mismatch", "card_in_use"})
# An end that its owner named before: no strike, and no proof that the cards were kept either.
_ANNOUNCED: Final = "maintenance"
_AGREED: Final = (Fault.NONE, Fault.FUNDS)
_OTHERS: Final = {Fault.RENTER: RENTER, Fault.PLATFORM: PLATFORM}


@dataclass(frozen=True)
class Ended:
    """How a placement ended. ``fault``: as decided then, None for the reason's own. ``was``: the
    trouble that was waited out before it was given up. ``checked``: cards were found, and our own
    program looked at them. ``at_once``: its owner stopped it without notice."""

    reason: str
    fault: Fault | None
    started: bool
    was: str = ""
    checked: bool = False
    at_once: bool = False


def judge(end: Ended) -> tuple[Verdict, str]:
    """The verdict, and the cause that its owner is shown."""
    if end.reason == _ANNOUNCED:
        if end.at_once:
            return Verdict.FAILED, STOPPED_AT_ONCE
        return Verdict.UNCOUNTED, end.reason
    known = REASONS.get(end.reason)
    fault = end.fault or (known.fault if known else Fault.UNKNOWN)
    if fault == Fault.HOST:
        return (Verdict.FAILED if _proven(end) else Verdict.UNCOUNTED), end.reason
    if fault in _AGREED:
        return (Verdict.KEPT, ENDED) if end.started else (Verdict.UNCOUNTED, NOT_STARTED)
    return Verdict.UNCOUNTED, _OTHERS.get(fault, end.reason)


def text_of(cause: str) -> str:
    """A cause as a sentence for the owner."""
    known = REASONS.get(cause)
    return _TEXTS.get(cause) or (known.text if known else cause)


def _proven(end: Ended) -> bool:
    if end.reason in _CHECKED:
        return end.checked
    if end.reason not in _SHOWN:
        return False
    # Given up after a silence that nobody could explain: the end is known, its cause is not.
    waited = REASONS.get(end.was)
    return not end.was or (waited is not None and waited.fault == Fault.HOST)
