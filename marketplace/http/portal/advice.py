"""What a refusal adds for people: a title, whose matter it is, and where to go. Data, translatable.

What happened is the refusal's own detail, which is stored and served in English (docs/i18n.md).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from kernel.errors import Refusal
from marketplace.http.portal.words import Text


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
    "only_looking": Advice(_("You are only looking")),
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
