"""Providers at Stripe: their accounts, Stripe's pages for them, and transfers to them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import stripe

from billing.models import CallKind, PayoutAccount, PayoutLine, StripeCall
from billing.payouts import account, converge, ready
from billing.stripe_gateway import connect, read
from billing.stripe_gateway.client import call
from billing.stripe_gateway.errors import NotReady
from billing.stripe_gateway.steps import Step, adopt, options, since
from kernel.errors import PermanentError
from kernel.money import CURRENCY, from_minor, to_minor

# How often a transfer that has to wait is tried: money comes in all day, and a hold lasts days.
PATIENCE = 600.0


class CreateAccount(Step):
    kind = CallKind.ACCOUNT

    def send(self, intent: StripeCall, key: str) -> Any:
        row = PayoutAccount.objects.get(provider_ref=intent.subject)
        params: Any = {
            "contact_email": row.email,
            "display_name": row.name,
            "identity": {"country": row.country.lower()},
            # None of Stripe's own: where the money goes is changed on our pages only.
            "dashboard": "none",
            "defaults": {
                "responsibilities": {
                    "fees_collector": "application",
                    "losses_collector": "application",
                }
            },
            "configuration": {
                "recipient": {
                    "capabilities": {"stripe_balance": {"stripe_transfers": {"requested": True}}}
                }
            },
            "metadata": {read.PROVIDER: intent.subject},
            "include": connect.INCLUDE,
        }
        return call(lambda client: client.v2.core.accounts.create(params, options(key)))

    def look(self, intent: StripeCall) -> Any:
        params: Any = {"applied_configurations": ["recipient"], "limit": 100}
        found = call(
            lambda client: adopt(
                client.v2.core.accounts.list(params).auto_paging_iter(),
                read.PROVIDER,
                intent.subject,
            )
        )
        return None if found is None else connect.account(found.id)

    def apply(self, intent: StripeCall, found: Any) -> None:
        account.created(UUID(intent.subject), connect.account_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        account.refused(UUID(intent.subject), str(error), opening=True)


class OpenPage(Step):
    """A page lives for minutes and can be opened once, so a lost one is simply made again."""

    kind = CallKind.ACCOUNT_LINK

    def send(self, intent: StripeCall, key: str) -> Any:
        row = PayoutAccount.objects.get(provider_ref=intent.subject)
        if row.stripe_id is None:
            if row.state == "failed":
                raise PermanentError("Stripe did not open the account.", code="no_account")
            raise NotReady("the account is not at Stripe yet")
        use = "account_update" if row.held_until is not None else "account_onboarding"
        # An expired page sends people back to ours, where a fresh one takes a password.
        pages = {"refresh_url": row.return_url, "return_url": row.return_url}
        params: Any = {"account": row.stripe_id, "use_case": {"type": use, use: pages}}
        return call(lambda client: client.v2.core.account_links.create(params, options(key)))

    def look(self, intent: StripeCall) -> None:
        return None

    def apply(self, intent: StripeCall, found: Any) -> None:
        number = int(intent.key.rpartition(":")[2])
        account.linked(UUID(intent.subject), number, connect.link_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        account.refused(UUID(intent.subject), str(error), opening=False)


class Transfer(Step):
    """One line of a payout run. It waits while something stands against it, and for cash."""

    kind = CallKind.TRANSFER

    def send(self, intent: StripeCall, key: str) -> stripe.Transfer:
        line = PayoutLine.objects.get(id=intent.subject)
        self._wait_unless_ready(line)
        params: Any = {
            "amount": to_minor(line.amount_micro),
            "currency": CURRENCY.lower(),
            "destination": line.account,
            "transfer_group": str(line.run_id),
            "metadata": {read.PAYOUT: intent.subject},
        }
        try:
            return call(lambda client: client.v1.transfers.create(params, options(key)))
        except PermanentError as error:
            if error.code != "balance_insufficient":
                raise
            # Stripe would answer this key the same for a day: the next try is a new attempt.
            StripeCall.objects.filter(id=intent.id, fence=intent.fence).update(
                attempt=intent.attempt + 1, first_sent_at=None
            )
            converge.waits(line.id, ready.NO_CASH)
            raise NotReady(str(error), delay=PATIENCE) from error

    def _wait_unless_ready(self, line: PayoutLine) -> None:
        why = ready.why_not(line)
        if not why and from_minor(connect.cash().available_minor) < line.amount_micro:
            why = ready.NO_CASH
        if why:
            converge.waits(line.id, why)
            raise NotReady(why, delay=PATIENCE)

    def look(self, intent: StripeCall) -> stripe.Transfer | None:
        line = PayoutLine.objects.get(id=intent.subject)
        params: Any = {"destination": line.account, "created": since(intent), "limit": 100}
        return call(
            lambda client: adopt(
                client.v1.transfers.list(params).auto_paging_iter(), read.PAYOUT, intent.subject
            )
        )

    def apply(self, intent: StripeCall, found: stripe.Transfer) -> None:
        converge.transfer_seen(UUID(intent.subject), connect.transfer_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.transfer_refused(UUID(intent.subject), str(error))


class ReverseTransfer(Step):
    """Take a transfer back that the bank refused; what it did is seen by fetching the transfer."""

    kind = CallKind.TRANSFER_REVERSAL

    def send(self, intent: StripeCall, key: str) -> stripe.Transfer:
        name = self._transfer(intent)
        there = connect.transfer(name)
        if not there.reversed:
            params: Any = {"metadata": {read.PAYOUT: intent.subject}}
            call(lambda client: client.v1.transfers.reversals.create(name, params, options(key)))
            there = connect.transfer(name)
        return there

    def look(self, intent: StripeCall) -> stripe.Transfer | None:
        there = connect.transfer(self._transfer(intent))
        return there if there.reversed else None

    def apply(self, intent: StripeCall, found: stripe.Transfer) -> None:
        converge.transfer_seen(UUID(intent.subject), connect.transfer_fact(found))

    def refuse(self, intent: StripeCall, error: PermanentError) -> None:
        converge.waits_for_person(UUID(intent.subject), f"It was not taken back: {error}")

    def _transfer(self, intent: StripeCall) -> str:
        name = PayoutLine.objects.get(id=intent.subject).stripe_id
        assert name is not None
        return name
