"""How states, reasons and refusals read to people: data, translatable, no logic of its own.

A state's tone picks its colour; ``settled`` says that nothing changes without a new request, so
the page may stop asking. Texts of single events come from the rental itself, never from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kernel.errors import Refusal

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
        _("Will stop"), "wait", _("A stop was announced; see the timeline."), True
    ),
    "stopping": Word(_("Stopping"), "wait", _("The meter stopped at your request."), True),
    "stopped": Word(_("Stopped"), "idle", _("No cards held. Data is kept."), settled=True),
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
    "lost": Word(_("Lost"), "bad", settled=True),
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
    "open": Word(_("Open"), "info", _("Issued and waiting for payment.")),
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

KINDS: Final[dict[str, dict[str, Word]]] = {
    "rental": RENTAL,
    "volume": VOLUME,
    "payment": PAYMENT,
    "refund": REFUND,
    "dispute": DISPUTE,
    "invoice": INVOICE,
    "cluster": CLUSTER,
    "preflight": PREFLIGHT,
    "stage": STAGE,
    "rule": RULE,
    "offer": OFFER,
    "maintenance": MAINTENANCE,
    "abuse": ABUSE,
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
    "funds": _("Balance used up"),
    "unknown": _("Cause unknown, so not charged"),
}

OBSERVATIONS: Final[dict[str, Text]] = {
    "list": _("full list of the cluster, everything in order"),
    "watch": _("unbroken watch of the cluster"),
}

TRANSACTIONS: Final[dict[str, Text]] = {
    "topup": _("Top-up"),
    "usage": _("Usage"),
    "invoice": _("Invoice"),
    "invoice_void": _("Invoice cancelled"),
    "outage_credit": _("Given back"),
    "refund": _("Refund"),
    "refund_returned": _("Refund failed"),
    "dispute_lost": _("Chargeback"),
    "dispute_won": _("Chargeback turned"),
    "credit_note": _("Credit note"),
    "adjustment": _("Adjustment"),
    "promo_grant": _("Promotion"),
    "promo_expired": _("Promotion expired"),
}


def word(kind: str, state: object) -> Word:
    """The word for a state; an unknown one is shown as it is rather than hidden."""
    text = str(state)
    known = KINDS[kind].get(text)
    return known or Word(text.replace("_", " ").capitalize(), "idle")


# Steps that share a state with the one before and are worth a name of their own.
STEPS: Final[dict[str, Text]] = {"placed": _("Cards reserved")}


def step(state: str, reason: str) -> Text:
    """The heading of a step in a timeline."""
    return STEPS.get(reason) or word("rental", state).label


@dataclass(frozen=True)
class Advice:
    """What a refusal adds for people: a title, whose matter it is, and where to go."""

    title: Text
    whose: Text = ""
    link: str = ""
    link_text: Text = ""


REFUSALS: Final[dict[str, Advice]] = {
    "insufficient_funds": Advice(_("Not enough balance"), "", "/billing#top-up", _("Top up")),
    "payment_requires_action": Advice(_("Your bank wants a confirmation")),
    "email_unverified": Advice(
        _("Confirm your e-mail address first"), "", "/settings#email", _("Send the link again")
    ),
    "second_factor_required": Advice(
        _("Your second factor is needed"),
        "",
        "/settings/second-factor",
        _("Switch it on"),
    ),
    "account_frozen": Advice(_("This organization is frozen")),
    "spend_rate_limit": Advice(_("Above your hourly spending limit")),
    "quota_exceeded": Advice(_("Above your quota")),
    "volume_in_use": Advice(_("This volume is in use"), "", "/volumes", _("See volumes")),
    "data_loss_confirmation_required": Advice(_("Please confirm that the data will be lost")),
    "insufficient_scope": Advice(_("Your role does not allow this")),
    "not_found": Advice(_("Not found"), "", "/", _("Open the catalogue")),
    "no_capacity": Advice(_("No free card for this order")),
    "offer_taken": Advice(_("Somebody was quicker")),
    "price_changed": Advice(_("The price has changed")),
    "quote_expired": Advice(_("The quote ran out"), _("Nothing was stored. Here is a fresh one.")),
    "quote_used": Advice(_("This quote was used already"), "", "/rentals", _("See rentals")),
    "invalid_transition": Advice(_("Not possible in this state")),
    "invalid_request": Advice(_("Please correct the marked fields")),
    "address_forbidden": Advice(_("This address is not allowed")),
    "ssh_key_invalid": Advice(_("This SSH key cannot be used")),
    "ssh_key_missing": Advice(_("An SSH key is needed")),
    "template_mismatch": Advice(_("This template does not run on this card")),
    "unknown_filter": Advice(_("Unknown filter"), "", "/", _("Start over without filters")),
    "invalid_filter": Advice(
        _("A filter has a value it does not take"),
        "",
        "/",
        _("Start over without filters"),
    ),
    "idempotency_key_reuse": Advice(
        _("This form was sent before with other content"),
        _("The first one counted. Check your rentals before you send another."),
        "/rentals",
        _("See rentals"),
    ),
    "in_progress": Advice(
        _("The same request is still being worked on"), _("Wait a few seconds, then look again.")
    ),
    "cluster_unreachable": Advice(_("The data centre does not answer"), _("Not your fault.")),
    "read_only": Advice(_("Changes are paused"), _("Our doing; please try again soon.")),
    "rate_limited": Advice(_("Too many requests"), _("Wait a moment, then try again.")),
}


def advice(refusal: Refusal) -> Advice:
    """Title, whose matter, and next step for a refusal; extra links come from its own fields."""
    known = REFUSALS.get(refusal.slug) or Advice(refusal.slug.replace("_", " ").capitalize())
    url: Any = refusal.extra.get("url")
    if refusal.slug == "payment_requires_action" and isinstance(url, str):
        return Advice(known.title, known.whose, url, _("Continue with your bank"))
    return known
