"""Connect: accounts and their sign-up, thin events, transfers, reversals, payouts."""

from __future__ import annotations

from typing import Any

import pytest
import stripe

from devstack.stripe.control import ControlError
from devstack.stripe.resources.accounts import LINK_LIVES_S
from devstack.stripe.resources.charges import fee_of
from devstack.stripe.resources.payouts import ARRIVES_AFTER_S
from tests.contract.conftest import Receiver, Target

SHOWN = ["configuration.recipient", "requirements"]
REQUIREMENTS = "v2.core.account[requirements].updated"
CAPABILITY = "v2.core.account[configuration.recipient].capability_status_updated"


def _v2(target: Target) -> Any:
    """The SDK's v2 services, untyped as Target.v1."""
    return target.client.v2


def _account(target: Target, **more: Any) -> Any:
    wanted = {"stripe_balance": {"stripe_transfers": {"requested": True}}}
    return _v2(target).core.accounts.create(
        {
            "contact_email": "provider@example.com",
            "display_name": "Provider",
            "dashboard": "express",
            "identity": {"country": "us", "entity_type": "company"},
            "defaults": {
                "responsibilities": {
                    "fees_collector": "application",
                    "losses_collector": "application",
                }
            },
            "configuration": {"recipient": {"capabilities": wanted}},
            "metadata": {"provider": "7"},
            "include": SHOWN,
            **more,
        }
    )


def _link(target: Target, account: str) -> Any:
    urls = {
        "refresh_url": "https://example.com/again",
        "return_url": "https://example.com/done",
    }
    return _v2(target).core.account_links.create(
        {
            "account": account,
            "use_case": {"type": "account_onboarding", "account_onboarding": urls},
        }
    )


def _transfers_of(account: Any) -> str:
    return str(account.configuration.recipient.capabilities.stripe_balance.stripe_transfers.status)


def _fund(target: Target, amount: int = 10_000) -> None:
    """Money that is available at once."""
    owner = target.customer()
    target.charge(owner.id, target.saved_card(owner.id, "pm_card_bypassPending").id, amount)


def _available(target: Target, account: str | None = None) -> int:
    options = {"stripe_account": account} if account else {}
    return int(target.v1.balance.retrieve({}, options).available[0].amount)


def test_a_provider_signs_up_and_thin_events_tell(target: Target, receiver: Receiver) -> None:
    control, v2 = target.control, _v2(target)
    heard: list[Any] = []

    def receive(body: bytes, signature: str) -> int:
        heard.append(target.client.parse_event_notification(body, signature, receiver.secret))
        return 200

    receiver.receive = receive  # type: ignore[method-assign]
    control.endpoint(receiver.url, receiver.secret, [REQUIREMENTS, CAPABILITY])
    made = _account(target)
    assert made.metadata["provider"] == "7"
    assert (_transfers_of(made), made.requirements.summary.minimum_deadline.status) == (
        "restricted",
        "currently_due",
    )
    assert v2.core.accounts.retrieve(made.id).requirements is None
    page = _link(target, made.id)
    assert control.submit(page.url, action="later") == (303, "https://example.com/done")
    assert control.submit(page.url, action="later") == (303, "https://example.com/again")
    late = _link(target, made.id)
    with pytest.raises(ControlError, match="test account numbers"):
        control.onboard_page(late.url, "12345")
    control.advance(LINK_LIVES_S)
    assert control.onboard_page(late.url) == "https://example.com/again"
    assert control.onboard_page(_link(target, made.id).url) == "https://example.com/done"
    ready = v2.core.accounts.retrieve(made.id, {"include": SHOWN})
    assert ready.requirements is not None
    assert (_transfers_of(ready), ready.requirements.entries) == ("active", [])
    control.flush()
    assert [n.type for n in heard] == [REQUIREMENTS, CAPABILITY, CAPABILITY]
    assert {n.related_object.id for n in heard} == {made.id}
    assert heard[0].fetch_related_object().id == made.id
    event: Any = heard[1].fetch_event()
    assert event.data.updated_capability == "stripe_balance.stripe_transfers"
    # A poller finds what a lost notification would have told, page by page.
    listed = v2.core.events.list({"object_id": made.id, "types": [CAPABILITY], "limit": 1})
    assert [e.id for e in listed.auto_paging_iter()] == [n.id for n in reversed(heard[1:])]
    later = {"created": {"gt": heard[-1].created}}
    assert v2.core.events.list(later).data == []
    control.order("require", account=made.id, description="identity.business_details.documents")
    assert _transfers_of(v2.core.accounts.retrieve(made.id, {"include": SHOWN})) == "restricted"
    assert [a.id for a in v2.core.accounts.list().data] == [made.id]
    renamed = v2.core.accounts.update(made.id, {"display_name": "New"})
    assert renamed.display_name == "New"
    assert v2.core.accounts.close(made.id).closed is True


def test_a_transfer_takes_available_money_only_and_reverses_within_limits(target: Target) -> None:
    control, v1 = target.control, target.v1
    account = _account(target).id
    order = {"amount": 4_000, "currency": "usd", "destination": account, "metadata": {"line": "1"}}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        v1.transfers.create(order)
    assert refused.value.code == "insufficient_capabilities_for_transfer"
    control.order("onboard", account=account)
    owner = target.customer()
    target.charge(owner.id, target.saved_card(owner.id).id, 10_000)  # pending for two days
    with pytest.raises(stripe.InvalidRequestError) as refused:
        v1.transfers.create(order)
    assert refused.value.code == "balance_insufficient"
    _fund(target)
    made = v1.transfers.create({**order, "expand": ["balance_transaction"]})
    assert (made.balance_transaction.type, made.balance_transaction.net) == ("transfer", -4_000)
    assert (_available(target), _available(target, account)) == (
        10_000 - fee_of(10_000) - 4_000,
        4_000,
    )
    assert v1.transfers.update(made.id, {"metadata": {"seen": "1"}}).metadata.to_dict() == {
        "line": "1",
        "seen": "1",
    }
    part = v1.transfers.reversals.create(made.id, {"amount": 1_500, "metadata": {"claw": "1"}})
    assert v1.balance_transactions.retrieve(part.balance_transaction).type == "transfer_refund"
    with pytest.raises(stripe.InvalidRequestError, match=r"\$25.00"):
        v1.transfers.reversals.create(made.id, {"amount": 2_501})
    control.order("payout", account=account, amount=1_000)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        v1.transfers.reversals.create(made.id)
    assert refused.value.code == "balance_insufficient"
    v1.transfers.reversals.create(made.id, {"amount": 1_500})
    now = v1.transfers.retrieve(made.id)
    assert (now.amount_reversed, now.reversed, len(now.reversals.data)) == (3_000, False, 2)
    assert [r.id for r in v1.transfers.reversals.list(made.id).data][1] == part.id
    assert v1.transfers.reversals.retrieve(made.id, part.id).amount == 1_500
    assert [t.id for t in v1.transfers.list({"destination": account}).data] == [made.id]
    types = [e["type"] for e in control.objects("event") if e["type"].startswith("transfer")]
    assert types == [
        "transfer.created",
        "transfer.updated",
        "transfer.reversed",
        "transfer.reversed",
    ]


def test_payouts_of_an_account_arrive_or_fail_and_tell_whose_they_are(
    target: Target, receiver: Receiver
) -> None:
    control, v1 = target.control, target.v1
    control.endpoint(receiver.url, receiver.secret, ["payout.paid", "payout.failed"])
    good, bad = _account(target).id, _account(target).id
    control.order("onboard", account=good)
    control.onboard_page(_link(target, bad).url, bank="000111111113")
    _fund(target, 20_000)
    for account in (good, bad):
        v1.transfers.create({"amount": 5_000, "currency": "usd", "destination": account})
        control.order("payout", account=account)
    assert _available(target, bad) == 0
    control.advance(ARRIVES_AFTER_S)
    events = receiver.wait(2)
    assert {(e.type, e.account) for e in events} == {("payout.paid", good), ("payout.failed", bad)}
    [failed] = v1.payouts.list({}, {"stripe_account": bad}).data
    entries = v1.balance_transactions.list({"payout": failed.id}, {"stripe_account": bad}).data
    assert [(e.type, e.net) for e in entries] == [("payout", -5_000), ("payment", 5_000)]
    assert (failed.status, failed.failure_code) == ("failed", "account_closed")
    assert (_available(target, good), _available(target, bad)) == (0, 5_000)
    assert [e.type for e in v1.events.list({"type": "payout.*"}, {"stripe_account": bad})] == [
        "payout.failed",
        "payout.created",
    ]
    assert v1.events.list({"type": "payout.*"}).data == []
    [paid] = v1.payouts.list({}, {"stripe_account": good}).data
    control.order("decide_payout", payout=paid.id, account=good, status="failed")
    assert _available(target, good) == 5_000
    with pytest.raises(ControlError, match="nothing available"):
        control.order("payout", account=_onboarded(target))
    own = v1.payouts.create({"amount": 300, "currency": "usd"})
    assert v1.payouts.cancel(own.id).status == "canceled"
    with pytest.raises(stripe.InvalidRequestError):
        v1.payouts.create({"amount": 10**7, "currency": "usd"})
    with pytest.raises(stripe.PermissionError):
        v1.balance.retrieve({}, {"stripe_account": "acct_none"})


def _onboarded(target: Target) -> str:
    account = str(_account(target).id)
    target.control.order("onboard", account=account)
    return account
