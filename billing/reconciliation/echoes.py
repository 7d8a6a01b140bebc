"""Name what is wrong once: totals that are wrong only because a row named before is wrong. PURE."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from billing.contracts.reconciliation import Difference


def without_echoes(
    differences: Iterable[Difference], *, known: Sequence[Difference] = ()
) -> list[Difference]:
    """Those that say something of their own, in their order, which is from rows to totals.

    An earlier one about the same explains a later one if the amounts agree, alone or together with
    others; and whenever the two are told in units that cannot be compared (seconds, objects).
    ``known``: differences that were told elsewhere and are not repeated here.
    """
    told = list(known)
    fresh: list[Difference] = []
    for one in differences:
        near = [other for other in told if other.about & one.about]
        if not _explained(one, near):
            told.append(one)
            fresh.append(one)
    return fresh


def _explained(one: Difference, near: Sequence[Difference]) -> bool:
    if any(other.unit != one.unit for other in near):
        return True
    amounts = [abs(other.amount) for other in near if other.amount is not None]
    total = abs(sum(other.amount for other in near if other.amount is not None))
    return bool(amounts) and one.amount is not None and abs(one.amount) in {*amounts, total}
