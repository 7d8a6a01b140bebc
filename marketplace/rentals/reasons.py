"""Why a rental moved: a closed list, each code with whose fault, what may help, and a sentence.

Pure data. The sentence is for the renter: what happened, whose fault, what now.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

RENTER, HOST, PLATFORM, FUNDS, NONE = "renter", "host", "platform", "funds", "none"
NO, OTHER_HOST, SAME_HOST, LATER = "no", "other_host", "same_host", "later"


@dataclass(frozen=True)
class Reason:
    """fault: renter, host, platform, funds or none. retry: no, other_host, same_host, later."""

    code: str
    fault: str
    retry: str
    text: str


_ROWS = (
    Reason("placed", NONE, NO, "Cards are reserved; the machine is being created."),
    Reason("incident_credit", NONE, NO, "A credit for an incident was given."),
    Reason("no_capacity", NONE, LATER, "No cards fit the order now. Nothing is charged."),
    Reason("queue_deadline", NONE, LATER, "No cards became free before the deadline you set."),
    Reason("price_above_cap", NONE, LATER, "Cards are free, but above the price you set."),
    Reason("host_rejected", HOST, OTHER_HOST, "The host refused the machine. Nothing is charged."),
    Reason("volume_error", HOST, OTHER_HOST, "The volume could not be attached."),
    Reason("creating", NONE, NO, "The machine is being created on its cluster; this is free."),
    Reason("pulling", NONE, NO, "Cards are checked and the image is downloaded; this is free."),
    Reason("image_pull_slow", HOST, SAME_HOST, "The image download is slow; this is free."),
    Reason("image_not_found", RENTER, NO, "The registry has no such image. Check name and digest."),
    Reason("image_auth", RENTER, NO, "The registry refused the download. Check its credentials."),
    Reason("image_pull_timeout", HOST, OTHER_HOST, "The image was not downloaded in time."),
    Reason("bad_command", RENTER, NO, "The command could not be started. Check it and the image."),
    Reason(
        "container_exited",
        RENTER,
        SAME_HOST,
        "The program ended; the cards are well and stay yours, so the meter goes on. Look at its "
        "last output, restart it, or stop.",
    ),
    Reason("config_error", RENTER, NO, "The container could not be made from this order."),
    Reason("starting", NONE, NO, "The container is up; checks are running and this is free."),
    Reason("start_timeout", HOST, OTHER_HOST, "It did not become ready in time. It was free."),
    Reason(
        "no_way_in",
        PLATFORM,
        OTHER_HOST,
        "The cards were there, but nobody could get in by SSH. It was free.",
    ),
    Reason(
        "order_mismatch",
        HOST,
        OTHER_HOST,
        "The machine had other cards than ordered. Nothing was charged; it counts for the host.",
    ),
    Reason(
        "card_in_use",
        HOST,
        OTHER_HOST,
        "Another program used a card before yours began. Nothing was charged; it counts for the "
        "host.",
    ),
    Reason("ready", NONE, NO, "Card count, model and memory are as ordered. The meter runs."),
    Reason("gpu_lost", HOST, OTHER_HOST, "A card was lost. The meter stopped at the loss."),
    Reason("ecc_uncorrectable", HOST, OTHER_HOST, "A card reported memory errors."),
    Reason("ssh_down", RENTER, SAME_HOST, "SSH does not answer; the machine itself is healthy."),
    Reason("disk_full", RENTER, SAME_HOST, "The disk is full. Free some space or restart."),
    Reason("thermal", HOST, OTHER_HOST, "A card overheats."),
    Reason("not_ready", PLATFORM, LATER, "The machine reports not ready. The meter stands."),
    Reason("node_not_ready", HOST, OTHER_HOST, "The host stopped answering. The meter stands."),
    Reason(
        "cluster_unreachable",
        PLATFORM,
        LATER,
        "We cannot reach the data centre. The meter stands; your machine may still run.",
    ),
    Reason(
        "not_seen",
        PLATFORM,
        LATER,
        "The data centre did not list your machine. We look for it; the meter stands meanwhile.",
    ),
    Reason(
        "platform_incident",
        PLATFORM,
        LATER,
        "Many machines look bad at once, so we take it for our fault. Yours is left alone and the"
        " meter stands.",
    ),
    Reason("recovered", NONE, NO, "It works again. The meter runs."),
    Reason("host_lost", HOST, OTHER_HOST, "The host is lost. You were not charged since."),
    Reason(
        "lease_over",
        PLATFORM,
        OTHER_HOST,
        "Its lease in the cluster ran out while we could not renew it. You were not charged since.",
    ),
    Reason(
        "lapsed",
        PLATFORM,
        OTHER_HOST,
        "Its data centre cannot be reached and its lease there ran out: it does not run any more. "
        "You were not charged since we last saw it.",
    ),
    Reason("restarted_by_user", NONE, NO, "Restarted as you asked."),
    Reason("stopped_by_user", NONE, NO, "Stopped as you asked."),
    Reason("started_by_user", NONE, NO, "Started as you asked."),
    Reason("retried", NONE, NO, "Tried again as you asked."),
    Reason(
        "outbid",
        NONE,
        LATER,
        "An order at the full price needs its cards. What is on volumes is kept; start it again "
        "when cards are free.",
    ),
    Reason("maintenance", HOST, OTHER_HOST, "The host is taken down for maintenance."),
    Reason("notice_withdrawn", NONE, NO, "The reason for the notice is gone; it runs on."),
    Reason("funds", FUNDS, LATER, "The balance is used up. The meter stopped; top up to rent."),
    Reason("budget", FUNDS, LATER, "The budget is used up."),
    Reason(
        "overdue",
        FUNDS,
        LATER,
        "An invoice is two weeks overdue. The meter stopped and volumes are kept; pay it to rent.",
    ),
    Reason("end_date", NONE, NO, "The end date that you set has come."),
    Reason("idle", NONE, NO, "It was idle for as long as you set."),
    Reason("abuse", RENTER, NO, "Ended for abuse. Write to support if this is wrong."),
    Reason("terminated_by_user", NONE, NO, "Ended as you asked. The meter stopped at once."),
    Reason("admin", PLATFORM, NO, "Ended by the platform's staff."),
    Reason(
        "contract_end",
        NONE,
        LATER,
        "Its owner took the cards back, as was said when it was rented. What is on volumes is "
        "kept; start it again when they are for rent.",
    ),
    Reason("funds_grace_over", FUNDS, NO, "The time to rescue the data is over."),
    Reason("moved", NONE, NO, "Moved to another place."),
    Reason("move_failed", HOST, LATER, "The move did not succeed; it stays where it was."),
)

REASONS: Final[dict[str, Reason]] = {row.code: row for row in _ROWS}

# The actor of a move, by its reason where a person or a date caused it; else by whose fault.
_BY_RENTER = frozenset(
    {"placed", "restarted_by_user", "stopped_by_user", "started_by_user", "retried"}
    | {"terminated_by_user", "end_date", "idle"}
)


def actor_of(code: str, fault: str) -> str:
    """renter, platform, host, funds or admin."""
    if code in _BY_RENTER:
        return "renter"
    if code == "admin":
        return "admin"
    return fault if fault in {HOST, FUNDS, RENTER} else "platform"


def sentence(code: str, fallback: str = "") -> str:
    """The text for people; ``fallback`` (cleaned text of the event) for a code without a row."""
    row = REASONS.get(code)
    return row.text if row else fallback or code.replace("_", " ")
