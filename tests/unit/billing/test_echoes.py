"""What is wrong is named once: a total that follows from a named row is no second break."""

from __future__ import annotations

from billing.contracts.reconciliation import CHECKS, MICRO, Difference
from billing.reconciliation.echoes import without_echoes


def one(subject: str, amount: int | None, *about: str, unit: str = MICRO) -> Difference:
    return Difference(
        name="transaction_balanced",
        subject=subject,
        expected="0",
        found=str(amount),
        text="",
        amount=amount,
        unit=unit,
        about=frozenset({subject, *about}),
    )


def subjects(*differences: Difference, known: tuple[Difference, ...] = ()) -> list[str]:
    return [left.subject for left in without_echoes(differences, known=known)]


def test_a_total_that_is_wrong_by_what_a_row_says_is_an_echo() -> None:
    assert subjects(one("txn:1", 7, "account:a"), one("account:a", -7)) == ["txn:1"]


def test_a_total_that_is_wrong_by_more_is_told() -> None:
    rows = one("txn:1", 7, "account:a"), one("account:a", -8)
    assert subjects(*rows) == ["txn:1", "account:a"]


def test_two_rows_add_up_to_a_total() -> None:
    rows = one("txn:1", 7, "account:a"), one("txn:2", -3, "account:a"), one("account:a", 4)
    assert subjects(*rows) == ["txn:1", "txn:2"]


def test_what_is_about_something_else_explains_nothing() -> None:
    rows = one("txn:1", 7, "account:a"), one("account:b", -7)
    assert subjects(*rows) == ["txn:1", "account:b"]


def test_units_that_do_not_compare_are_one_thing() -> None:
    rows = one("stripe:pi_1", -970, "cash"), one("payment_intent:pi_1", None, unit="objects")
    assert len(subjects(*rows)) == 2
    rows = one("stripe:pi_1", -970), one("pi", None, "stripe:pi_1", unit="objects")
    assert subjects(*rows) == ["stripe:pi_1"]


def test_what_was_told_elsewhere_is_not_told_here() -> None:
    known = one("rental:1", 3, "provider:p", unit="seconds of rentals")
    assert subjects(one("provider:p", 12), known=(known,)) == []


def test_every_check_belongs_to_a_rule() -> None:
    assert {check.rule for check in CHECKS.values()} == {f"R{number}" for number in range(1, 8)}
