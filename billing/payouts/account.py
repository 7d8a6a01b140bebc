"""A provider's payout account: opened at Stripe, filled in on Stripe's page, converged on.

A page of Stripe's can change where the money goes. So asking for one for an account that works
holds all payouts for three days; that somebody proved to be a person with the right to ask, and
the mails about it, are the marketplace's part.
"""

from __future__ import annotations

from uuid import UUID

import structlog
from django.db import transaction

from billing.contracts.payouts import AccountState, PayoutAccountView
from billing.models import CallKind, PayoutAccount
from billing.payments.intents import intend
from billing.payments.topup import check_return_url
from billing.payouts.facts import AccountFact, LinkFact
from billing.payouts.rules import ACCOUNT_HOLD
from kernel.clock import now
from kernel.errors import NotFound

log = structlog.get_logger(__name__)


def open_page(
    *, provider_ref: UUID, name: str, email: str, country: str, return_url: str
) -> PayoutAccountView:
    """In a transaction: order Stripe's page, and the account first where there is none yet.

    The country is fixed with the account, once Stripe opened it. InvalidRequest for a return_url
    that is no address.
    """
    check_return_url(return_url)
    PayoutAccount.objects.bulk_create(
        [
            PayoutAccount(
                provider_ref=provider_ref,
                name=name[:200],
                email=email,
                country=country,
                return_url=return_url,
            )
        ],
        ignore_conflicts=True,
    )
    row = PayoutAccount.objects.select_for_update().get(provider_ref=provider_ref)
    key = f"acct:{provider_ref}"
    if row.state == AccountState.FAILED:
        # What Stripe refused stays refused under its key: this is another request.
        row.name, row.email, row.country = name[:200], email, country
        row.state, key = AccountState.PENDING, f"{key}:again:{row.links}"
    if row.state in (AccountState.ACTIVE, AccountState.RESTRICTED):
        row.held_until = now() + ACCOUNT_HOLD
    row.return_url = return_url
    row.links += 1
    row.link_url = row.link_expires_at = None
    row.failure = ""
    row.save()
    if row.stripe_id is None:
        intend(CallKind.ACCOUNT, key=key, subject=provider_ref)
    key = f"acct:{provider_ref}:link:{row.links}"
    intend(CallKind.ACCOUNT_LINK, key=key, subject=provider_ref)
    return view(row)


def account(*, provider_ref: UUID) -> PayoutAccountView:
    """The account as Stripe described it last; NotFound when none was ever asked for."""
    row = PayoutAccount.objects.filter(provider_ref=provider_ref).first()
    if row is None:
        raise NotFound("payout account")
    return view(row)


def seen(stripe_id: str, fact: AccountFact) -> bool:
    """An account as Stripe has it now; False when it is none of ours."""
    with transaction.atomic():
        row = PayoutAccount.objects.select_for_update().filter(stripe_id=stripe_id).first()
        if row is None:
            return False
        before, row.seen_at = row.state, now()
        if fact.receives:
            row.state = AccountState.ACTIVE
            if before != AccountState.ACTIVE:
                row.link_url = row.link_expires_at = None  # its page was used, and opens once
            # It works for the first time: whoever opened it had the page until now.
            row.held_until = row.held_until or row.seen_at + ACCOUNT_HOLD
        elif row.held_until is not None:
            row.state = AccountState.RESTRICTED
        else:
            row.state = AccountState.ONBOARDING
        row.requirements = list(fact.requirements)
        row.save()
    if row.state != before:
        log.info("payout_account", provider=str(row.provider_ref), state=row.state, was=before)
    return True


def created(provider_ref: UUID, fact: AccountFact) -> None:
    """Stripe opened the account; the first one stays."""
    PayoutAccount.objects.filter(provider_ref=provider_ref, stripe_id__isnull=True).update(
        stripe_id=fact.stripe_id
    )
    seen(fact.stripe_id, fact)


def linked(provider_ref: UUID, number: int, fact: LinkFact) -> None:
    """Stripe made the page that was ordered last; an older order's page is nobody's."""
    PayoutAccount.objects.filter(provider_ref=provider_ref, links=number).update(
        link_url=fact.url, link_expires_at=fact.expires_at
    )


def refused(provider_ref: UUID, failure: str, *, opening: bool) -> None:
    """Stripe will not open the account, or not make the page."""
    rows = PayoutAccount.objects.filter(provider_ref=provider_ref)
    rows.update(failure=failure[:500])
    if opening:
        rows.filter(stripe_id__isnull=True).update(state=AccountState.FAILED)


def view(row: PayoutAccount) -> PayoutAccountView:
    """The row as it crosses the door; a page that has expired is shown no more."""
    fresh = row.link_expires_at is not None and row.link_expires_at > now()
    return PayoutAccountView(
        provider_ref=row.provider_ref,
        state=AccountState(row.state),
        email=row.email,
        url=row.link_url if fresh else None,
        preparing=row.link_url is None and not row.failure,
        requirements=tuple(row.requirements),
        failure=row.failure,
        held_until=row.held_until,
        created_at=row.created_at,
    )
