"""How states, reasons and refusals read to people: data, translatable, no logic of its own.

A state's tone picks its colour; ``settled`` says that nothing changes without a new request, so
the page may stop asking. Texts of single events come from the rental itself, never from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

Text = str | Promise


@dataclass(frozen=True)
class Word:
    """A state as a badge, and the sentence that explains it."""

    label: Text
    tone: str  # good, wait, bad, info, idle
    text: Text = ""
    busy: bool = False  # it is moving: show that it moves
    settled: bool = False


RENTAL: Final[dict[str, Word]] = {
    "requested": Word(_("Finding a place"), "wait", _("Looking for a free card. Free."), True),
    "queued": Word(_("Queued"), "wait", _("Waits for capacity, as you allowed. Free."), True),
    "provisioning": Word(
        _("Placing"), "wait", _("The cards are yours; the machine is made."), True
    ),
    "pulling": Word(
        _("Fetching image"), "wait", _("Cards are checked, the image downloaded. Free."), True
    ),
    "starting": Word(_("Starting"), "wait", _("The container is up; not ready yet. Free."), True),
    "running": Word(_("Running"), "good", _("Proven ready. The meter runs.")),
    "degraded": Word(_("Degraded"), "bad", _("A check fails; the timeline says which.")),
    "unreachable": Word(
        _("Unreachable"), "bad", _("We have no fresh sign of it, so you are not charged."), True
    ),
    "interrupting": Word(
        _("Will stop"), "wait", _("It runs, and is charged, until it is stopped."), True
    ),
    "stopping": Word(_("Stopping"), "wait", _("The meter has stopped; the machine goes."), True),
    "stopped": Word(
        _("Stopped"), "idle", _("No cards are held. What is on volumes is kept."), settled=True
    ),
    "migrating": Word(_("Moving"), "wait", _("Data moves to another place. Free."), True),
    "failed": Word(
        _("Failed"),
        "bad",
        _("It could not be made useful. You were not charged for it."),
        settled=True,
    ),
    "terminating": Word(
        _("Ending"), "wait", _("The meter stopped at the request. Waiting to see it gone."), True
    ),
    "terminated": Word(
        _("Ended"), "idle", _("Nothing is left and nothing is charged."), settled=True
    ),
}

VOLUME: Final[dict[str, Word]] = {
    "requested": Word(_("Ordered"), "wait", busy=True),
    "creating": Word(_("Not made yet"), "wait"),
    "available": Word(_("Available"), "good"),
    "attached": Word(_("In use"), "info"),
    "resizing": Word(_("Growing"), "wait", busy=True),
    "deleting": Word(_("Being deleted"), "wait", busy=True),
    "deleted": Word(_("Deleted"), "idle", settled=True),
    "lost": Word(_("Lost"), "bad", settled=True),
}

REFUND: Final[dict[str, Word]] = {
    "waiting": Word(_("Waits for approval"), "wait"),
    "declined": Word(_("Declined"), "idle", settled=True),
    "active": Word(_("Given"), "good", settled=True),
    "expired": Word(_("Expired"), "idle", settled=True),
    "pending": Word(_("On its way"), "wait", busy=True),
    "succeeded": Word(_("Done"), "good", settled=True),
    "done": Word(_("Done"), "good", settled=True),
    "partial": Word(_("Refunded in part"), "info", settled=True),
    "failed": Word(_("Failed"), "bad", settled=True),
}

DISPUTE: Final[dict[str, Word]] = {
    "warning_needs_response": Word(_("Inquiry: answer it"), "bad"),
    "warning_under_review": Word(_("Inquiry under review"), "wait"),
    "warning_closed": Word(_("Inquiry closed"), "good", settled=True),
    "needs_response": Word(_("Answer it"), "bad"),
    "under_review": Word(_("Under review"), "wait"),
    "won": Word(_("Won"), "good", settled=True),
    "lost": Word(pgettext_lazy("dispute", "Lost"), "bad", settled=True),
    "prevented": Word(_("Prevented"), "idle", settled=True),
}

PAYMENT: Final[dict[str, Word]] = {
    "pending": Word(_("Being prepared"), "wait", busy=True),
    "open": Word(_("Waits for payment"), "wait", busy=True),
    "succeeded": Word(_("Paid"), "good", settled=True),
    "failed": Word(_("Failed"), "bad", settled=True),
    "canceled": Word(_("Cancelled"), "idle", settled=True),
}

INVOICE: Final[dict[str, Word]] = {
    "draft": Word(_("Draft"), "wait", _("Being written; its lines are already fixed."), True),
    "open": Word(pgettext_lazy("invoice", "Open"), "info", _("Issued and waiting for payment.")),
    "paid": Word(_("Paid"), "good", settled=True),
    "void": Word(_("Void"), "idle", settled=True),
    "uncollectible": Word(_("Uncollectible"), "bad", settled=True),
}

CLUSTER: Final[dict[str, Word]] = {
    "connecting": Word(_("Connecting"), "wait", busy=True),
    "ready": Word(_("Ready"), "good"),
    "unreachable": Word(_("Unreachable"), "bad"),
    "credential_rejected": Word(_("Token refused"), "bad"),
    "tls_rejected": Word(_("Certificate refused"), "bad"),
    "draining": Word(_("Draining"), "wait"),
    "retired": Word(_("Retired"), "idle", settled=True),
}

PREFLIGHT: Final[dict[str, Word]] = {
    "waiting": Word(_("Not checked yet"), "wait", busy=True),
    "passed": Word(_("Passed"), "good"),
    "failed": Word(_("Failed"), "bad"),
    "unanswered": Word(_("Not answered"), "wait"),
}

STAGE: Final[dict[str, Word]] = {
    "enrolled": Word(_("Enrolled"), "wait", busy=True),
    "preflight": Word(_("In preflight"), "wait", busy=True),
    "benchmarking": Word(_("Being measured"), "wait", busy=True),
    "probation": Word(_("New, for rent"), "good"),
    "listed": Word(_("Listed"), "good"),
    "draining": Word(_("Draining"), "wait"),
    "maintenance": Word(_("Maintenance"), "wait"),
    "retired": Word(_("Retired"), "idle", settled=True),
}

SEAT: Final[dict[str, Word]] = {
    "free": Word(_("free"), "good"),
    "rented": Word(_("rented"), "info"),
    "dirty": Word(_("being cleaned"), "wait"),
    "measured": Word(_("being measured by us"), "wait"),
    "occupied": Word(_("taken by something else of yours"), "bad"),
    "quarantined": Word(_("in quarantine"), "bad"),
    "cordoned": Word(_("cordoned by you"), "idle"),
    "off": Word(_("not sold"), "idle"),
}

REAPER: Final[dict[str, Word]] = {
    "unknown": Word(_("Not looked at yet"), "wait"),
    "running": Word(_("Running"), "good"),
    "missing": Word(_("Missing"), "wait"),
    "silent": Word(_("Silent"), "bad"),
    "outdated": Word(_("Old version"), "wait"),
}

RULE: Final[dict[str, Word]] = {
    "pass": Word(_("Passed"), "good", settled=True),
    "warn": Word(_("Gap"), "wait", settled=True),
    "fail": Word(_("Failed"), "bad", settled=True),
    "unknown": Word(_("Not known"), "idle", settled=True),
}

OFFER: Final[dict[str, Word]] = {
    "draft": Word(_("Draft"), "wait", _("Derived from your cards; needs a price.")),
    "active": Word(_("On sale"), "good"),
    "paused": Word(_("Paused"), "idle"),
    "ended": Word(_("Ended"), "idle", settled=True),
}

REPORT: Final[dict[str, Word]] = {
    "open": Word(_("Waits for an answer"), "wait"),
    "answered": Word(_("Answered"), "good", settled=True),
    "closed": Word(_("Closed"), "idle", settled=True),
}

NEED: Final[dict[str, Word]] = {
    "suspended": Word(_("Suspended"), "bad"),
    "not_approved": Word(_("Waits for approval"), "wait"),
    "no_cluster": Word(_("No cluster yet"), "wait"),
    "cluster_offline": Word(_("A cluster does not answer"), "bad"),
    "preflight_failed": Word(_("The preflight fails"), "bad"),
    "reaper": Word(_("The reaper"), "wait"),
    "relay": Word(_("The relay"), "wait"),
    "quarantined": Word(_("Nodes in quarantine"), "bad"),
    "no_price": Word(_("A price is missing"), "bad"),
    "below_floor": Word(_("Below your floor price"), "wait"),
    "maintenance": Word(_("Maintenance"), "info"),
    "payout_account": Word(_("Payout account"), "wait"),
}

WHY: Final[dict[str, Word]] = {
    "hides": Word(_("Hides it"), "bad"),
    "full": Word(_("No order fits now"), "wait"),
    "narrows": Word(_("Some pass it by"), "idle"),
    "ranks": Word(_("Others come first"), "idle"),
}

VERDICT: Final[dict[str, Word]] = {
    "kept": Word(_("Kept"), "good"),
    "failed": Word(_("Failed"), "bad"),
    "uncounted": Word(_("Not counted"), "idle"),
}

PROVIDER: Final[dict[str, Word]] = {
    "applied": Word(_("Waits for approval"), "wait"),
    "approved": Word(_("Approved"), "good"),
    "suspended": Word(_("Suspended"), "bad"),
}

MAINTENANCE: Final[dict[str, Word]] = {
    "announced": Word(_("Announced"), "info"),
    "under_way": Word(_("Under way"), "wait"),
    "over": Word(_("Over"), "idle", settled=True),
    "withdrawn": Word(_("Called off"), "idle", settled=True),
}

ABUSE: Final[dict[str, Word]] = {
    "open": Word(_("Staff look at it"), "wait"),
    "upheld": Word(_("Upheld"), "bad", settled=True),
    "dismissed": Word(_("Dismissed"), "idle", settled=True),
}

INCIDENT: Final[dict[str, Word]] = {
    "draft": Word(_("Draft"), "idle"),
    "waiting": Word(_("Waits for a second person"), "wait"),
    "posting": Word(_("Being booked"), "info", busy=True),
    "posted": Word(_("Given"), "good", settled=True),
    "withdrawn": Word(_("Withdrawn"), "idle", settled=True),
}

PAYOUT: Final[dict[str, Word]] = {
    "planned": Word(_("Planned"), "wait"),
    "clearing": Word(_("On its way to Stripe"), "wait", busy=True),
    "sent": Word(_("Sent to your bank"), "wait", busy=True),
    "paid": Word(_("Paid"), "good", settled=True),
    "failed": Word(_("Refused by the bank"), "bad"),
    "returned": Word(_("Due again"), "idle", settled=True),
    "canceled": Word(_("Left out"), "idle", settled=True),
}

PAYOUT_ACCOUNT: Final[dict[str, Word]] = {
    "pending": Word(_("Being opened"), "wait", busy=True),
    "onboarding": Word(_("Stripe needs details"), "wait"),
    "active": Word(_("Receives"), "good"),
    "restricted": Word(_("Stopped by Stripe"), "bad"),
    "failed": Word(_("Not opened"), "bad"),
}

PAYOUT_RUN: Final[dict[str, Word]] = {
    "waiting": Word(_("Waits for approval"), "wait"),
    "started": Word(_("Started"), "good", settled=True),
    "canceled": Word(_("Given up"), "idle", settled=True),
}

WEBHOOK: Final[dict[str, Word]] = {
    "enabled": Word(_("Enabled"), "good"),
    "disabled": Word(_("Disabled"), "idle", settled=True),
}

DELIVERY: Final[dict[str, Word]] = {
    "pending": Word(_("On its way"), "wait", busy=True),
    "succeeded": Word(_("Delivered"), "good", settled=True),
    "failed": Word(_("Failed"), "bad", settled=True),
}

# What an endpoint may be told, as the form offers it.
WEBHOOK_FAMILIES: Final[dict[str, Text]] = {
    "rental.*": _("Every new state of a rental"),
    "notice.*": _("Announcements: maintenance, end dates"),
    "balance.*": _("Balance low or empty"),
    "topup.*": _("Top-ups"),
    "invoice.*": _("Invoices"),
}

ORGANIZATION: Final[dict[str, Word]] = {
    "active": Word(_("Active"), "good"),
    "frozen": Word(_("Frozen"), "bad"),
}

OWNERSHIP: Final[dict[str, Word]] = {
    "owned": Word(_("Owned by the platform"), "info"),
    "partner": Word(_("Partner"), "info"),
}

MONTH: Final[dict[str, Word]] = {
    "open": Word(pgettext_lazy("month", "Open"), "info"),
    "closing": Word(_("Being locked"), "wait", busy=True),
    "locked": Word(_("Locked"), "good", settled=True),
}

KINDS: Final[dict[str, dict[str, Word]]] = {
    "month": MONTH,
    "organization": ORGANIZATION,
    "ownership": OWNERSHIP,
    "rental": RENTAL,
    "volume": VOLUME,
    "payment": PAYMENT,
    "refund": REFUND,
    "dispute": DISPUTE,
    "invoice": INVOICE,
    "cluster": CLUSTER,
    "preflight": PREFLIGHT,
    "stage": STAGE,
    "seat": SEAT,
    "reaper": REAPER,
    "rule": RULE,
    "offer": OFFER,
    "maintenance": MAINTENANCE,
    "abuse": ABUSE,
    "report": REPORT,
    "incident": INCIDENT,
    "need": NEED,
    "why": WHY,
    "verdict": VERDICT,
    "provider": PROVIDER,
    "payout": PAYOUT,
    "payout_account": PAYOUT_ACCOUNT,
    "payout_run": PAYOUT_RUN,
    "webhook": WEBHOOK,
    "delivery": DELIVERY,
}

FAULTS: Final[dict[str, Text]] = {
    "renter": _("Cause on your side"),
    "host": _("The host's fault"),
    "platform": _("Our fault"),
    "funds": _("A matter of your balance or a budget"),
    "unknown": _("Cause unknown, so not charged"),
}

OBSERVATIONS: Final[dict[str, Text]] = {
    "list": _("full list of the cluster, everything in order"),
    "watch": _("unbroken watch of the cluster"),
}


def word(kind: str, state: object) -> Word:
    """The word for a state; an unknown one is shown as it is rather than hidden."""
    text = str(state)
    known = KINDS[kind].get(text)
    return known or Word(text.replace("_", " ").capitalize(), "idle")


# Steps that share a state with the one before and are worth a name of their own.
STEPS: Final[dict[str, Text]] = {
    "placed": _("Cards reserved"),
    "incident_credit": _("Credit given"),
}


def step(state: str, reason: str) -> Text:
    """The heading of a step in a timeline."""
    return STEPS.get(reason) or word("rental", state).label
