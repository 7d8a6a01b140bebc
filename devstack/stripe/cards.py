"""Stripe's documented test cards: what each does when attached, set up or charged.

Numbers and `pm_card_...` names are those of Stripe's testing page. A number that is not listed
there is refused by name, never treated as a good card.
"""

from dataclasses import dataclass
from typing import Literal

# never: pays without a challenge. always: every payment needs one. until_set_up: none once the
# card was set up with a challenge. on_session: set up already, only off-session passes without.
Challenge = Literal["never", "always", "until_set_up", "on_session"]

# at_once: succeeds. slow: pending at first, succeeds later. fails: succeeds at first, fails later.
Refund = Literal["at_once", "slow", "fails"]
Dispute = Literal["fraudulent", "product_not_received", "inquiry"]


@dataclass(frozen=True)
class Decline:
    code: str
    reason: str | None
    message: str


_GENERIC = Decline("card_declined", "generic_decline", "Your card was declined.")
_FUNDS = Decline("card_declined", "insufficient_funds", "Your card has insufficient funds.")
_LOST = Decline("card_declined", "lost_card", "Your card was declined.")
_STOLEN = Decline("card_declined", "stolen_card", "Your card was declined.")
_VELOCITY = Decline(
    "card_declined",
    "card_velocity_exceeded",
    "Your card was declined for making repeated attempts too frequently or exceeding its amount "
    "limit.",
)
_EXPIRED = Decline("expired_card", None, "Your card has expired.")
_CVC = Decline("incorrect_cvc", "incorrect_cvc", "Your card's security code is incorrect.")
_PROCESSING = Decline(
    "processing_error",
    None,
    "An error occurred while processing your card. Try again in a little bit.",
)
_FRAUD = Decline("card_declined", "fraudulent", "Your card was declined.")
UNAUTHENTICATED = Decline(
    "authentication_required",
    "authentication_required",
    "Your card was declined. This transaction requires authentication.",
)


@dataclass(frozen=True)
class Card:
    """One test card."""

    number: str
    names: tuple[str, ...]
    brand: str = "visa"
    funding: str = "credit"
    country: str = "US"
    declines: Decline | None = None  # every charge
    attaches: bool = True  # False: attaching or setting up is declined as well
    challenge: Challenge = "never"
    at_once: bool = False  # funds are available at once instead of in two days
    refund: Refund = "at_once"
    dispute: Dispute | None = None  # what the bank does after each payment

    @property
    def last4(self) -> str:
        return self.number[-4:]


def _bad(number: str, decline: Decline, *names: str) -> Card:
    return Card(number, names, declines=decline, attaches=False)


CARDS: tuple[Card, ...] = (
    Card("4242424242424242", ("pm_card_visa", "tok_visa")),
    Card("4000056655665556", ("pm_card_visa_debit", "tok_visa_debit"), funding="debit"),
    Card("5555555555554444", ("pm_card_mastercard", "tok_mastercard"), "mastercard"),
    Card("378282246310005", ("pm_card_amex", "tok_amex"), "amex"),
    Card("6011111111111117", ("pm_card_discover", "tok_discover"), "discover"),
    Card("4000000000000077", ("pm_card_bypassPending", "tok_bypassPending"), at_once=True),
    Card("4000000000007726", ("pm_card_pendingRefund", "tok_pendingRefund"), refund="slow"),
    Card("4000000000005126", ("pm_card_refundFail", "tok_refundFail"), refund="fails"),
    Card("4000000000000259", ("pm_card_createDispute", "tok_createDispute"), dispute="fraudulent"),
    Card(
        "4000000000002685",
        ("pm_card_createDisputeProductNotReceived", "tok_createDisputeProductNotReceived"),
        dispute="product_not_received",
    ),
    Card(
        "4000000000001976",
        ("pm_card_createDisputeInquiry", "tok_createDisputeInquiry"),
        dispute="inquiry",
    ),
    _bad(
        "4000000000000002",
        _GENERIC,
        "pm_card_chargeDeclined",
        "pm_card_visa_chargeDeclined",
        "tok_chargeDeclined",
        "tok_visa_chargeDeclined",
    ),
    _bad(
        "4000000000009995",
        _FUNDS,
        "pm_card_chargeDeclinedInsufficientFunds",
        "pm_card_visa_chargeDeclinedInsufficientFunds",
        "tok_visa_chargeDeclinedInsufficientFunds",
    ),
    _bad("4000000000009987", _LOST, "pm_card_visa_chargeDeclinedLostCard"),
    _bad("4000000000009979", _STOLEN, "pm_card_visa_chargeDeclinedStolenCard"),
    _bad("4000000000006975", _VELOCITY, "pm_card_visa_chargeDeclinedVelocityLimitExceeded"),
    _bad("4000000000000069", _EXPIRED, "pm_card_chargeDeclinedExpiredCard"),
    _bad("4000000000000127", _CVC, "pm_card_chargeDeclinedIncorrectCvc"),
    _bad("4000000000000119", _PROCESSING, "pm_card_chargeDeclinedProcessingError"),
    _bad("4100000000000019", _FRAUD, "pm_card_radarBlock"),
    Card(
        "4000000000000341",
        ("pm_card_chargeCustomerFail", "tok_chargeCustomerFail"),
        declines=_GENERIC,
    ),
    Card("4000002500003155", ("pm_card_authenticationRequiredOnSetup",), challenge="until_set_up"),
    Card("4000002760003184", ("pm_card_authenticationRequired",), challenge="always"),
    Card(
        "4000003800000446",
        ("pm_card_authenticationRequiredSetupForOffSession",),
        challenge="on_session",
    ),
    Card(
        "4000008260003178",
        ("pm_card_authenticationRequiredChargeDeclinedInsufficientFunds",),
        declines=_FUNDS,
        challenge="always",
    ),
    Card("4000000000003220", ("pm_card_threeDSecure2Required",), challenge="always"),
    Card(
        "4000008400001629",
        ("pm_card_threeDSecureRequiredChargeDeclined",),
        declines=_GENERIC,
        challenge="always",
    ),
)

BY_NUMBER = {card.number: card for card in CARDS}
BY_NAME = {name: card for card in CARDS for name in card.names}
