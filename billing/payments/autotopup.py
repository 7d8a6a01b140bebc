"""The standing order to top up: set it, look at it, carry it out.

A run looks at every order that is on and decides from rows alone (rating/autotopup.py), under the
order's lock, so running it twice at once, or every second, charges no more often. The database
refuses a second open charge whatever a run believes.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

import structlog
from django.conf import settings
from django.db import transaction

from billing.contracts import PaymentState
from billing.contracts.autotopup import AutoTopUpNews, AutoTopUpView, AutoTopUpWish
from billing.models import Account, AccountKind, AutoTopUp, PaymentMethod, RentalMeter, TopUp
from billing.payments.tenants import find_customer
from billing.payments.topup import LARGEST, SMALLEST, ask, check_amount, find_method, taxed
from billing.rating.autotopup import Decision, Try, charged, decide, failures, waits_for_owner
from billing.rating.tax import with_tax
from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.money import CURRENCY, MICRO
from kernel.turns import each

log = structlog.get_logger(__name__)
# The wish of those who never set one; what the form proposes.
USUAL = AutoTopUpWish(
    enabled=False,
    threshold_micro=10 * MICRO,
    target_micro=50 * MICRO,
    daily_micro=200 * MICRO,
    method_id=None,
)
# One an hour: a day's and a good deal more, so that failures in a row are seen as well.
_TRIES = 50


def set_order(*, org_ref: UUID, wish: AutoTopUpWish) -> AutoTopUpView:
    """In a transaction: what is to be from now on; failures so far are forgotten.

    InvalidRequest: no whole cents, a target not above the threshold, a ceiling below the target's
    first charge, enabled without a saved card. NotFound: another's card.
    """
    check_amount("target", wish.target_micro)
    check_amount("daily_ceiling", wish.daily_micro)
    if not 0 <= wish.threshold_micro < wish.target_micro:
        raise InvalidRequest({"threshold": ["not negative, and below the target"]})
    customer, method = find_customer(org_ref), find_method(org_ref, wish.method_id)
    if wish.enabled and _card(org_ref, method) is None:
        raise InvalidRequest({"payment_method": ["save a card first: it is charged by itself"]})
    order = AutoTopUp.objects.select_for_update().filter(customer=org_ref).first()
    order = order or AutoTopUp(customer=customer, version=0)
    order.enabled, order.off_reason, order.news = wish.enabled, "", ""
    order.threshold_micro, order.target_micro = wish.threshold_micro, wish.target_micro
    order.daily_micro, order.method, order.asked_ref = wish.daily_micro, method, None
    order.set_at = now()
    order.version += 1
    order.save()
    return view(org_ref=org_ref)


def view(*, org_ref: UUID) -> AutoTopUpView:
    """The order as it stands; the usual figures, off, for who never set one."""
    order = AutoTopUp.objects.filter(customer=org_ref).first()
    if order is None:
        find_customer(org_ref)
        return AutoTopUpView("off", "", USUAL, 0, 0, None, None, None, 0)
    rows = _rows(org_ref)
    tries, last = [_try(row) for row in rows], next((row for row in rows if row.auto), None)
    return AutoTopUpView(
        state=_state(order, tries),
        off_reason=order.off_reason,
        wish=_wish(order),
        charged_micro=charged(tries, now()),
        failures=failures(tries, order.set_at),
        last_topup=last.id if last else None,
        last_at=last.created_at if last else None,
        last_failure=last.failure if last else None,
        version=order.version,
    )


def run(*, besides: Collection[UUID]) -> int:
    """Carry out every order that is on, but those of ``besides``; the charges started."""
    orders = AutoTopUp.objects.filter(enabled=True).exclude(customer__in=besides)
    waiting: list[UUID] = list(orders.order_by("customer").values_list("customer_id", flat=True))
    return sum(each("auto_topup", waiting, _run))


def take_news(*, limit: int) -> list[AutoTopUpNews]:
    """In a transaction: what is to be told, taken off the list; the caller tells it in the same."""
    rows = list(
        AutoTopUp.objects.select_for_update(skip_locked=True)
        .exclude(news="")
        .order_by("pk")[:limit]
    )
    found = []
    for order in rows:
        last = TopUp.objects.filter(customer=order.customer_id, auto=True).order_by("-id").first()
        found.append(
            AutoTopUpNews(
                org_ref=order.customer_id,
                what=order.news,
                amount_micro=last.amount_micro if last else 0,
                failure=(last.failure if last else None) or "",
            )
        )
        order.news = ""
        order.save(update_fields=["news"])
    return found


def _run(org_ref: UUID) -> bool:
    with transaction.atomic():
        rows = AutoTopUp.objects.select_for_update(skip_locked=True)
        order = rows.filter(customer=org_ref, enabled=True).first()
        if order is None:
            return False
        decision = _decide(order)
        if decision.do == "ask" and order.asked_ref != decision.about:
            order.asked_ref, order.news = decision.about, "action"
            order.save(update_fields=["asked_ref", "news"])
        elif decision.do == "stop":
            _switch_off(order, "failed")
        elif decision.do == "charge":
            return _charge(order, decision.amount_micro)
        return False


def _decide(order: AutoTopUp) -> Decision:
    tenant = Account.objects.get(
        kind=AccountKind.TENANT, owner_ref=order.customer_id, currency=CURRENCY
    )
    running = RentalMeter.objects.filter(org_ref=order.customer_id, running_since__isnull=False)
    prices = running.values_list("price_micro_h", "tax_ppm")
    burn = sum(with_tax(price, ppm) for price, ppm in prices)
    return decide(
        _wish(order),
        set_at=order.set_at,
        tries=[_try(row) for row in _rows(order.customer_id)],
        spendable_micro=(tenant.balance_micro or 0) - (tenant.floor_micro or 0),
        burn_micro_h=burn,
        smallest_micro=SMALLEST,
        largest_micro=LARGEST,
        at=now(),
    )


def _charge(order: AutoTopUp, amount_micro: int) -> bool:
    card = _card(order.customer_id, order.method)
    if card is None:
        _switch_off(order, "no_card")
        return False
    try:
        tax = taxed(order.customer_id)
    except InvalidRequest as error:
        # Its rate is asked for, or its people have to say where they are: tried again then.
        log.warning("auto_topup_untaxable", org=str(order.customer_id), why=error.detail)
        return False
    topup = TopUp.objects.create(
        customer_id=order.customer_id,
        amount_micro=amount_micro,
        currency=CURRENCY,
        return_url=f"{settings.GPUYARD_BASE_URL}/billing",
        method=card,
        taxed=tax,
        auto=True,
    )
    ask(topup)
    log.info("auto_topup", org=str(order.customer_id), topup=str(topup.id))
    return True


def _switch_off(order: AutoTopUp, why: str) -> None:
    order.enabled, order.off_reason, order.news = False, why, why
    order.save(update_fields=["enabled", "off_reason", "news"])
    log.warning("auto_topup_off", org=str(order.customer_id), why=why)


def _card(org_ref: UUID, chosen: PaymentMethod | None) -> PaymentMethod | None:
    """The chosen card, else the newest; None when it is not active any more."""
    active = PaymentMethod.objects.filter(customer=org_ref, state=PaymentMethod.ACTIVE)
    return (active.filter(pk=chosen.pk) if chosen else active).order_by("-id").first()


def _rows(org_ref: UUID) -> list[TopUp]:
    """Its own charges, and what its people paid themselves; newest first."""
    rows = TopUp.objects.filter(customer=org_ref).order_by("-id")
    auto = list(rows.filter(auto=True)[:_TRIES])
    paid = rows.filter(auto=False, state=PaymentState.SUCCEEDED)[:1]
    return sorted([*auto, *paid], key=lambda row: row.id, reverse=True)


def _try(row: TopUp) -> Try:
    return Try(
        id=row.id,
        at=row.created_at,
        amount_micro=row.amount_micro,
        state=PaymentState(row.state),
        auto=row.auto,
        code=row.failure_code,
    )


def _wish(order: AutoTopUp) -> AutoTopUpWish:
    return AutoTopUpWish(
        enabled=order.enabled,
        threshold_micro=order.threshold_micro,
        target_micro=order.target_micro,
        daily_micro=order.daily_micro,
        method_id=order.method_id,
    )


def _state(order: AutoTopUp, tries: list[Try]) -> str:
    if not order.enabled:
        return "off"
    if any(one.state in (PaymentState.PENDING, PaymentState.OPEN) for one in tries if one.auto):
        return "waiting"
    return "action_required" if waits_for_owner(tries, order.set_at) else "on"
