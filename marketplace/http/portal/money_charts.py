"""The charts of the billing pages: what was spent per day, and how the balance will run."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from django.utils.translation import gettext as _

from billing.contracts import BalanceView
from kernel.clock import now
from marketplace.accounts.access import Principal, visible
from marketplace.http.portal.charts import Chart, Line
from marketplace.models import Rental
from marketplace.rentals import costs
from marketplace.rentals.ahead import Running, ahead
from marketplace.rentals.state import COMMITTED

_DAYS: Final = 30
_AHEAD: Final = timedelta(days=7)
_MICRO: Final = 1_000_000


def spent_per_day(principal: Principal) -> Chart:
    """The last thirty days in UTC, each with what it cost after credits and with tax."""
    today = now().astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    days = [today - timedelta(days=back) for back in range(_DAYS - 1, -1, -1)]
    sums = costs.totals(principal.org, days[0], today + timedelta(days=1), "day")
    spent = {one.key: one.usage_micro + one.credit_micro + one.tax_micro for one in sums}
    values = [spent.get(day.date().isoformat(), 0) / _MICRO if spent else None for day in days]
    return Chart(
        "chart-spent",
        _("Spent per day"),
        days,
        [Line(_("Spent"), values)],
        unit="$",
        kind="bars",
        daily=True,
        note=_("last 30 days, UTC"),
        none=_("Nothing was spent in these days."),
    )


def balance_ahead(principal: Principal, balance: BalanceView) -> Chart | None:
    """The next week if what runs goes on to its end dates; None when nothing runs."""
    at = now()
    live = visible(Rental, principal).filter(state__in=COMMITTED)
    running = [
        Running(price, ends_at)
        for price, ends_at in live.values_list("price_micro_h", "expires_at")
    ]
    # Disks and tax on use cost on beside the cards, and have no end date.
    beside = balance.burn_micro_h - sum(each.per_hour_micro for each in running)
    if beside > 0:
        running.append(Running(beside, None))
    if not running:
        return None
    funds = balance.spendable_micro + balance.held_micro
    points = ahead(funds, running, at=at, until=at + _AHEAD)
    if not points:
        return None
    return Chart(
        "chart-ahead", _("Balance ahead"), _rising([point.at for point in points]),
        [Line(_("Left"), [point.left_micro / _MICRO for point in points])],
        unit="$", note=_("if what runs goes on to its end dates"),
    )  # fmt: skip


def _rising(moments: list[datetime]) -> list[datetime]:
    """Whole seconds, each later than the one before: what a scale of time needs."""
    found: list[datetime] = []
    for moment in moments:
        whole = moment.replace(microsecond=0)
        found.append(max(whole, found[-1] + timedelta(seconds=1)) if found else whole)
    return found
