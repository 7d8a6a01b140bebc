"""Drain the intents: claim one, ask Stripe, write down the answer; a crash anywhere repeats safely.

The same key is sent for up to 23 hours. After an answer that leaves open what happened we look at
Stripe first and adopt what is ours; only when nothing is there, and the key is too old or burnt by
a 5xx that it would replay, the intent goes on with a new attempt under a new key.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import Any

import structlog
from django.db import transaction
from django.db.models import F
from prometheus_client import Counter

from billing.models import CallKind, CallState, StripeCall
from billing.stripe_gateway.errors import NotReady, ServerError, Stuck
from billing.stripe_gateway.invoice_steps import (
    CreateInvoice,
    FinalizeInvoice,
    MarkUncollectible,
    PayInvoice,
    TaxLines,
    WriteLine,
)
from billing.stripe_gateway.meter_steps import CreateMeter, SendMeterEvent
from billing.stripe_gateway.payout_steps import (
    CreateAccount,
    OpenPage,
    ReverseTransfer,
    Transfer,
)
from billing.stripe_gateway.portal_steps import OpenPortal
from billing.stripe_gateway.return_steps import SendRefund, SubmitEvidence, WriteCreditNote
from billing.stripe_gateway.steps import (
    CardSetupPage,
    CreateCustomer,
    Step,
    TopUpCharge,
    TopUpCheckout,
)
from billing.stripe_gateway.tax_steps import AskRate, RecordTax, ReverseTax, TaxTopUp, TellCustomer
from kernel.clock import AppNow, now
from kernel.errors import PermanentError, TemporaryError, UnknownOutcome
from kernel.lanes import lane
from kernel.retry import backoff

log = structlog.get_logger(__name__)
CALLS = Counter("gpuyard_stripe_calls_total", "Intents executed", ["kind", "outcome"])

# Longer than one call with its 15 s: a row whose worker died comes back after this.
LEASE = timedelta(seconds=20)
# Stripe may forget a key after 24 hours; from here on a repeat could act twice.
KEY_LIFE = timedelta(hours=23)

STEPS: dict[str, Step] = {
    step.kind: step
    for step in (
        CreateCustomer(),
        TellCustomer(),
        AskRate(),
        TaxTopUp(),
        RecordTax(),
        ReverseTax(),
        TopUpCheckout(),
        TopUpCharge(),
        CardSetupPage(),
        CreateInvoice(),
        WriteLine(),
        TaxLines(),
        FinalizeInvoice(),
        PayInvoice(),
        MarkUncollectible(),
        CreateMeter(),
        SendMeterEvent(),
        OpenPortal(),
        SendRefund(),
        WriteCreditNote(),
        SubmitEvidence(),
        CreateAccount(),
        OpenPage(),
        Transfer(),
        ReverseTransfer(),
    )
}


class _Lost(Exception):
    """The intent was claimed by somebody else in the meantime; its answer is theirs to write."""


def drain(*, limit: int = 1000) -> int:
    """Execute due intents, one after the other; the number executed.

    One drain runs at a time: when Stripe hangs, one worker waits for it and not all of them. An
    unknown outcome ends the round, since the next call would most likely hang as well.
    """
    with lane("stripe_out") as free:
        if not free:
            return 0
        for count in range(limit):
            intent = _claim()
            if intent is None or not _run(intent):
                return count + (intent is not None)
    return limit


def _claim() -> StripeCall | None:
    with transaction.atomic():
        intent = (
            StripeCall.objects.select_for_update(skip_locked=True)
            .filter(state=CallState.PENDING, next_at__lte=AppNow())
            .order_by("next_at")
            .first()
        )
        if intent is None:
            return None
        present = now()
        intent.fence += 1
        intent.tries += 1
        # Whatever kills us before an answer, a crash on this very row included, waits longer
        # each time, so that one broken intent never starves the others.
        intent.next_at = present + LEASE * min(2 ** (intent.tries - 1), 64)
        intent.save(update_fields=["fence", "tries", "next_at"])
    return intent


def _run(intent: StripeCall) -> bool:
    """One intent; False when the round should end."""
    step = STEPS[intent.kind]
    try:
        answer = _perform(intent, step)
    except _Lost:
        return True
    except NotReady as error:
        _later(intent, error, error.delay, code="not_ready")
    except TemporaryError as error:
        _later(intent, error, error.delay + _pause(intent), code="temporary")
        return False
    except UnknownOutcome as error:
        burnt = "server_error" if isinstance(error, ServerError) else "connection"
        _later(intent, error, _pause(intent), code=burnt, must_look=True)
        return False
    except PermanentError as error:
        _finish(intent, CallState.FAILED, error=str(error), code=error.code)
        log.warning("stripe_refused", key=intent.key, code=error.code, error=str(error))
    except Stuck as error:
        _finish(intent, CallState.STUCK, error=str(error))
        log.error("stripe_stuck", key=intent.key, error=str(error))
    else:
        _finish(intent, CallState.DONE, answer=answer)
    return True


def _perform(intent: StripeCall, step: Step) -> Any:
    old = intent.first_sent_at is not None and now() - intent.first_sent_at > KEY_LIFE
    if old and not step.findable:
        raise Stuck("Not answered for 23 hours, and Stripe offers no way to look whether it came.")
    if old or intent.must_look:
        found = step.look(intent)
        if found is not None:
            return found
        if old or intent.error_code == "server_error":
            intent.attempt += 1
            # What can not be found counts its 23 hours from the very first attempt.
            intent.first_sent_at = None if step.findable else intent.first_sent_at
    _mark_sent(intent)
    return step.send(intent, _key(intent))


def _mark_sent(intent: StripeCall) -> None:
    """Commit, before the call, that this attempt was sent; and that the row is still ours."""
    present = now()
    intent.first_sent_at = intent.first_sent_at or present
    intent.next_at = max(intent.next_at, present + LEASE)
    owned = StripeCall.objects.filter(id=intent.id, fence=intent.fence).update(
        attempt=intent.attempt,
        first_sent_at=intent.first_sent_at,
        next_at=intent.next_at,
        must_look=False,
        error_code="",
    )
    if not owned:
        raise _Lost


def _key(intent: StripeCall) -> str:
    """Stripe's key: the intent's name, with the attempt where one may follow another."""
    numbered = intent.kind in (CallKind.TOPUP_CHECKOUT, CallKind.TOPUP_CHARGE, CallKind.TRANSFER)
    return f"{intent.key}:{intent.attempt}" if numbered or intent.attempt > 1 else intent.key


def _finish(
    intent: StripeCall,
    state: CallState,
    *,
    answer: Any = None,
    error: str = "",
    code: str = "",
) -> None:
    """The answer and the end of the intent in one transaction, if the intent is still ours."""
    with transaction.atomic():
        owned = StripeCall.objects.filter(
            id=intent.id, fence=intent.fence, state=CallState.PENDING
        ).update(state=state, done_at=AppNow(), error=error[:2000], error_code=code[:100])
        if not owned:
            return
        if state == CallState.DONE:
            STEPS[intent.kind].apply(intent, answer)
            _wake_waiting(intent)
        elif state == CallState.FAILED:
            STEPS[intent.kind].refuse(intent, PermanentError(error, code=code))
            _wake_waiting(intent)
    CALLS.labels(intent.kind, state.value).inc()


def _later(
    intent: StripeCall, error: Exception, delay: float, *, code: str, must_look: bool = False
) -> None:
    log.info("stripe_later", key=intent.key, delay=round(delay, 1), error=str(error))
    StripeCall.objects.filter(id=intent.id, fence=intent.fence).update(
        next_at=now() + timedelta(seconds=delay),
        must_look=F("must_look") if not must_look else True,
        error=str(error)[:2000],
        error_code=code,
        tries=0 if code == "not_ready" else intent.tries,
    )
    CALLS.labels(intent.kind, code).inc()


def _wake_waiting(intent: StripeCall) -> None:
    """What waited for a customer, a meter or an account goes on at once."""
    if intent.kind in (CallKind.CUSTOMER, CallKind.METER, CallKind.ACCOUNT):
        StripeCall.objects.filter(state=CallState.PENDING, error_code="not_ready").exclude(
            kind=CallKind.TRANSFER  # waits for cash or time
        ).update(next_at=AppNow())


def _pause(intent: StripeCall) -> float:
    return backoff(intent.tries - 1, base=1.0, cap=60.0, fraction=random.random())  # noqa: S311
