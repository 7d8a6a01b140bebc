"""The standing order to top up: set by people, carried out and told of by a loop."""

from __future__ import annotations

from typing import Final

from django.db import transaction
from django.utils.translation import gettext_noop as _

from billing.contracts.autotopup import AutoTopUpNews, AutoTopUpView, AutoTopUpWish
from billing.facade import autotopup as billing
from kernel.money import CURRENCY, format_micro
from kernel.turns import turns
from kernel.wake import wake_on_commit
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.accounts.money_mail import tell
from marketplace.accounts.phrases import phrase
from marketplace.models import Organization

_BATCH: Final = 200

_NEWS: Final = {
    "failed": (
        _("Automatic top-up is switched off"),
        _(
            "Your card was refused three times, so we do not charge it by ourselves any more. The "
            "last try was {amount}: {failure} What runs goes on as long as the balance lasts. Save "
            "another card or top up, then switch automatic top-up on again."
        ),
    ),
    "no_card": (
        _("Automatic top-up is switched off"),
        _(
            "The card it was to charge is not saved any more, so nothing was charged. What runs "
            "goes on as long as the balance lasts. Save a card, then switch automatic top-up on "
            "again."
        ),
    ),
    "action": (
        _("Your bank wants you to confirm a top-up"),
        _(
            "We tried to add {amount} to your balance, and your bank asks for you: {failure} "
            "Nothing was charged. Top up once on Stripe's page, where you can confirm; then "
            "automatic top-up goes on by itself."
        ),
    ),
}


def set_order(*, acting: Principal, wish: AutoTopUpWish) -> AutoTopUpView:
    """Set it; joins the caller's transaction. Refusals of the door, email_unverified, frozen."""
    acting.require_verified()
    if wish.enabled:
        acting.require_unfrozen()
    view = billing.set_order(org_ref=acting.org.id, wish=wish)
    audit.record(
        acting=acting,
        action="auto_topup.set",
        object=acting.org.public_id,
        organization_ref=acting.org.id,
        details={
            "enabled": wish.enabled,
            "threshold": format_micro(wish.threshold_micro),
            "target": format_micro(wish.target_micro),
            "daily_ceiling": format_micro(wish.daily_micro),
        },
    )
    wake_on_commit("marketplace.auto_topup")
    return view


def run() -> int:
    """Charge where it is due, tell what people have to know; the charges started.

    A frozen organization's card is left alone: whose it is may be what is in doubt.
    """
    frozen = Organization.objects.filter(state=Organization.State.FROZEN)
    started = 0
    with turns("auto_topup") as turn:
        with turn(billing.run):
            started = billing.run(besides=set(frozen.values_list("id", flat=True)))
        with turn(_tell), transaction.atomic(durable=True):
            for news in billing.take_news(limit=_BATCH):
                _tell(news)
    return started


def _tell(news: AutoTopUpNews) -> None:
    subject, text = _NEWS[news.what]
    amount = f"{format_micro(news.amount_micro, places=2)} {CURRENCY}"
    tell(
        news.org_ref,
        "auto_topup.off",
        subject=phrase(subject),
        text=phrase(text, amount=amount, failure=news.failure),
    )
