"""What staff do about the breaks of the nightly reconciliation. Each action leaves an audit row."""

from __future__ import annotations

from collections.abc import Callable
from uuid import UUID

from billing.contracts.reconciliation import BreakView
from billing.facade import reconciliation as billing
from kernel.errors import NotFound
from kernel.ids import BadId, parse, public
from marketplace.accounts import audit
from marketplace.accounts.access import STAFF, Principal


def find(break_id: str) -> BreakView:
    """One by its public id; NotFound."""
    return billing.one_break(break_id=_key(break_id))


def note(*, acting: Principal, break_id: str, note: str) -> BreakView:
    """In a transaction: write down what was found. NotFound."""
    return _done(
        acting, break_id, "break.note", lambda key: billing.edit_break(break_id=key, note=note)
    )


def own(*, acting: Principal, break_id: str, owner: str) -> BreakView:
    """In a transaction: who looks after it; "" for nobody. NotFound."""
    return _done(
        acting, break_id, "break.owner", lambda key: billing.edit_break(break_id=key, owner=owner)
    )


def resolve(*, acting: Principal, break_id: str, note: str) -> BreakView:
    """In a transaction: explain it. If it is still there, the next run opens it again.

    NotFound; InvalidRequest without a note; Refusal invalid_transition when it is resolved.
    """
    by = acting.staff_actor
    return _done(
        acting,
        break_id,
        "break.resolve",
        lambda key: billing.resolve_break(break_id=key, by=by, note=note),
    )


def _done(
    acting: Principal, break_id: str, action: str, act: Callable[[UUID], BreakView]
) -> BreakView:
    acting.require(STAFF)
    view = act(_key(break_id))
    audit.record(
        acting=acting,
        action=action,
        object=public("break", view.id),
        organization_ref=None,
        details={"subject": view.subject, "owner": view.owner, "note": view.note},
    )
    return view


def _key(break_id: str) -> UUID:
    try:
        return parse("break", break_id)
    except BadId as error:
        raise NotFound("break") from error
