"""When a vital sign is an alarm, as data.

PAGE wakes somebody: people lose money, machines or the service while nobody looks. WAIT is read in
the morning: nothing gets worse by it overnight. docs/oncall.md says why each is what it is.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final


class Call(StrEnum):
    """What an alarm does at most."""

    PAGE = "page"
    WAIT = "wait"


@dataclass(frozen=True)
class Alarm:
    """One line of the table.

    warn, page: reached when the vital is at least that much; page None: it never pages.
    only: labels that the vital must have, each with its possible values.
    do: the first thing to do, in one sentence.
    """

    name: str
    vital: str
    call: Call
    warn: float
    page: float | None
    text: str
    do: str
    runbook: str
    only: dict[str, frozenset[str]] = field(default_factory=dict)


_DARK: Final = "docs/runbooks/cluster-dark.md"
_DEAD: Final = "docs/runbooks/gateway-dead.md"
_STRIPE: Final = "docs/runbooks/stripe-down.md"
_BREAK: Final = "docs/runbooks/break-found.md"
_BRAKE: Final = "docs/reconcile.md"
_ONCALL: Final = "docs/oncall.md"
_LOOK: Final = "Run manage.py explain with the rental's id"
# Work of ours on a cluster that answers. Pulling, starting and trouble have deadlines of their own.
_OURS: Final = frozenset({"reserved", "creating", "stopping"})
_SLOW: Final = frozenset({"pulling", "starting"})

MINUTE: Final = 60
HOUR: Final = 60 * MINUTE

TABLE: Final[tuple[Alarm, ...]] = (
    Alarm(
        "list_old",
        "cluster_list_age",
        Call.PAGE,
        # A list is due every 5 s and good for 60 s: from then on nothing there is charged.
        30,
        60,
        "A ready cluster is not listed: its renters' seconds are lost to us",
        "Look whether worker and beat run",
        _DARK,
    ),
    Alarm(
        "cluster_dark",
        "cluster_dark",
        Call.PAGE,
        MINUTE,
        # Grace ends after 10 minutes: before that a person can still help.
        5 * MINUTE,
        "A cluster with machines on it cannot be used",
        "Read its reason in readyz, then call its owner",
        _DARK,
    ),
    Alarm(
        "reaper_silent",
        "reaper_silence",
        Call.WAIT,
        # Nobody's rental ends by its silence; a pod would outlive its lease while we are away.
        3 * MINUTE,
        None,
        "A cluster's reaper is silent: leases there end nothing",
        "Ask its owner to apply reaper.yaml again",
        _DARK,
    ),
    Alarm(
        "relay_silent",
        "relay_silence",
        Call.PAGE,
        MINUTE,  # it comes back within seconds of a restart of either side
        5 * MINUTE,
        "No relay of a cluster with machines is connected: nobody gets in there",
        "Look whether manage.py gateway runs, then call the cluster's owner",
        _DARK,
    ),
    Alarm(
        "ways_shut",
        "ways_shut",
        Call.PAGE,
        2,
        2,
        "Machines of several renters in one cluster cannot be entered",
        "Look in the gateway's log for way_in_closed, then call the cluster's owner",
        _DARK,
    ),
    Alarm(
        "cluster_unusable",
        "cluster_unusable",
        Call.WAIT,
        HOUR,
        None,
        "A cluster without machines cannot be used",
        "Tell its owner; nothing runs there",
        _DARK,
    ),
    Alarm(
        "loop_late",
        "loop_late",
        Call.PAGE,
        MINUTE,
        3 * MINUTE,
        "A loop over clusters does not run",
        "Look whether worker and beat run",
        _DEAD,
        only={"loop": frozenset({"observe", "inventory", "orphans", "tokens"})},
    ),
    Alarm(
        "watcher_gone",
        "loop_late",
        Call.WAIT,  # full lists find what a watch would have seen, seconds later
        2 * MINUTE,
        None,
        "A cluster is watched by no watcher: changes are seen seconds later",
        "Start manage.py watcher",
        _DEAD,
        only={"loop": frozenset({"watch"})},
    ),
    Alarm(
        "op_stuck",
        "op_age",
        Call.PAGE,
        2 * MINUTE,
        5 * MINUTE,
        "An instance's work stands still on a cluster that answers",
        _LOOK,
        _DEAD,
        only={"state": _OURS},
    ),
    Alarm(
        "op_slow",
        "op_age",
        Call.WAIT,
        45 * MINUTE,  # beyond the longest deadline of a pull
        None,
        "An instance on its way up outlived its deadline",
        _LOOK,
        _ONCALL,
        only={"state": _SLOW},
    ),
    Alarm(
        "instances_due",
        "instances_due_age",
        Call.PAGE,
        30,
        2 * MINUTE,
        "Nobody takes the instances that are due",
        "Look whether worker and beat run",
        _DEAD,
    ),
    Alarm(
        "claims_expired",
        "claims_expired_age",
        Call.PAGE,
        MINUTE,
        5 * MINUTE,
        "A worker died at its work and nobody took it over",
        "Look whether a worker runs",
        _DEAD,
    ),
    Alarm(
        "events_behind",
        "events_behind_age",
        Call.PAGE,
        MINUTE,
        5 * MINUTE,
        "Renters do not see what their machines did",
        "Look in the log for follow_failed and rental_unknown",
        _DEAD,
    ),
    Alarm(
        "tick_lag",
        "tick_lag",
        Call.PAGE,
        5 * MINUTE,
        # An hour is sealed after 15 minutes; renters without money run on meanwhile.
        15 * MINUTE,
        "Proven hours are not charged",
        "Look whether stop_charging is on, then in the log of marketplace.charge",
        _BREAK,
    ),
    Alarm(
        "intervals_unfinished",
        "intervals_unfinished_age",
        Call.WAIT,
        10 * MINUTE,
        None,
        "Closed intervals wait for a proof that will not come",
        "Look whether provisioner.instances runs",
        _DEAD,
    ),
    Alarm(
        "brake_pulled",
        "brakes_open_age",
        Call.PAGE,
        1,
        1,
        "The mass brake holds what would be ended",
        "Run manage.py brake list and look before you release",
        _BRAKE,
    ),
    Alarm(
        "outbox_old",
        "stripe_out_age",
        Call.PAGE,
        5 * MINUTE,
        # Below the 23 hours after which a repeat could act twice, and soon enough for top-ups.
        30 * MINUTE,
        "Stripe does not answer what we ask: no top-up, no invoice",
        "Look at Stripe's status page and in the log for stripe_later",
        _STRIPE,
    ),
    Alarm(
        "stripe_stuck",
        "stripe_stuck",
        Call.WAIT,
        1,
        None,
        "Only a person can find out what became of an intent",
        "Look it up at Stripe by its key (Django admin, Stripe calls, stuck)",
        _STRIPE,
    ),
    Alarm(
        "payout_waits",
        "payout_wait",
        Call.WAIT,
        # Cards' money is available after two days, so a run may well be ahead of it for a while.
        6 * HOUR,
        None,
        "A payout waits: Stripe's available balance is too small, or something stands against it",
        "Read its reason on the staff page Payouts",
        _ONCALL,
    ),
    Alarm(
        "inbox_old",
        "stripe_in_age",
        Call.PAGE,
        5 * MINUTE,
        30 * MINUTE,
        "Stripe's events are not applied: who paid does not see it",
        "Look in the log for stripe_orphan and at the events' errors in Django admin",
        _STRIPE,
    ),
    Alarm(
        "break_open",
        "breaks_age",
        Call.PAGE,
        1,
        72 * HOUR,  # from here on nothing is paid out: providers wait for a person
        "The books, the proof or Stripe differ",
        "Run manage.py reconcile and look at the staff page Books",
        _BREAK,
    ),
    Alarm(
        "reconcile_late",
        "reconciled_age",
        Call.WAIT,
        # Compared each night up to an hour before: 25 hours are usual, the second night is missed.
        36 * HOUR,
        None,
        "The nightly reconciliation does not get through",
        "Look in the log for reconcile_without_stripe, then run manage.py reconcile",
        _BREAK,
    ),
    Alarm(
        "dispute_unanswered",
        "disputes_unanswered",
        Call.WAIT,
        # One with less than three days left: evidence needs a person, and a weekend fits in.
        1,
        None,
        "A dispute is lost in less than three days for want of evidence",
        "Submit it on the staff page Disputes",
        _STRIPE,
    ),
    Alarm(
        "returns_to_check",
        "returns_to_check",
        Call.WAIT,
        1,
        None,
        "A refund was made by hand at Stripe, or a credit note differs there",
        "Look in the log for refund_by_hand and credit_note_alarm",
        _STRIPE,
    ),
    Alarm(
        "queue_long",
        "rentals_waiting_age",
        Call.WAIT,
        6 * HOUR,
        None,
        "Somebody waits long for cards",
        "Nothing is wrong: think about supply",
        _ONCALL,
    ),
    Alarm(
        "rental_stuck",
        "rental_moving_age",
        Call.PAGE,
        # Not pulling: an honest image may take its 40 minutes.
        15 * MINUTE,
        HOUR,
        "A rental does not leave a state that it should leave by itself",
        _LOOK,
        _ONCALL,
        only={"state": frozenset({"provisioning", "starting", "stopping", "terminating"})},
    ),
    Alarm(
        "audit_unsealed",
        "audit_unsealed_age",
        Call.WAIT,
        MINUTE,
        None,
        "Audit rows are not chained",
        "Look whether marketplace.seal_audit runs, then manage.py verify_audit",
        _BREAK,
    ),
    Alarm(
        "mail_unsent",
        "mail_unsent_age",
        Call.WAIT,
        10 * MINUTE,
        None,
        "E-mails do not go out: nobody new can prove an address",
        "Look in the log for mail_not_sent, mail_failed and letter_failed",
        _ONCALL,
    ),
    Alarm(
        "incident_unposted",
        "incident_unposted_age",
        Call.WAIT,
        10 * MINUTE,  # a batch takes milliseconds; a stop of charging holds it back as well
        None,
        "Credits for an incident were agreed to and are not booked",
        "Look whether stop_charging is on, then in the log for incident_failed",
        _ONCALL,
    ),
    Alarm(
        "report_waits",
        "report_open_age",
        Call.WAIT,
        24 * HOUR,
        None,
        "Somebody reported a problem or abuse and has no answer",
        "Answer it on the staff page Problem reports or Abuse",
        _ONCALL,
    ),
    Alarm(
        "switch_forgotten",
        "switch_on",
        Call.WAIT,
        4 * HOUR,
        None,
        "A switch is on for hours",
        "Run manage.py switch list and turn off what is not needed",
        _ONCALL,
    ),
)
