"""Which operations the simulator has, and which parameters of each.

Anything outside, an operation or a parameter, is a 501: Stripe would have acted on it, and
ignoring it would be a success that never happened.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from devstack.stripe import oracle
from devstack.stripe.errors import not_simulated

if TYPE_CHECKING:
    from devstack.stripe.core import Simulator

Params = dict[str, Any]
Answer = dict[str, Any]
PAGING = "limit starting_after ending_before"


@dataclass(frozen=True)
class Handler:
    run: Callable[..., Answer]
    takes: frozenset[str]
    connected: bool = False  # may be called for a connected account (Stripe-Account)


HANDLERS: dict[tuple[str, str], Handler] = {}
# What a test may order over the control interface, and what time brings, each by its name.
ORDERS: dict[str, Callable[..., Any]] = {}
DUE: dict[str, Callable[["Simulator", str], None]] = {}
INCLUDED: dict[tuple[str, str], Callable[["Simulator", Answer], Any]] = {}


def operation(
    method: str, path: str, *, takes: str = "", connected: bool = False
) -> Callable[[Callable[..., Answer]], Callable[..., Answer]]:
    """Register `run(sim, params, **path_arguments)`; LookupError if Stripe has no such call or
    parameter, so a slip in this package shows at import."""
    known = oracle.table().operations.get((method, path))
    names = frozenset(takes.split())
    if known is None:
        raise LookupError(f"the SDK has no {method} {path}")
    if not names <= set(known.shape.fields):
        raise LookupError(f"{method} {path} has no {sorted(names - set(known.shape.fields))}")

    def register(run: Callable[..., Answer]) -> Callable[..., Answer]:
        HANDLERS[method, path] = Handler(run, names | {"expand", "page"}, connected)
        return run

    return register


def included(object_name: str, member: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register how a member that Stripe sends only when expanded is made."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        INCLUDED[object_name, member] = run
        return run

    return register


def order(name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register what the bank, the card network or the account's owner does outside the API."""

    def register(run: Callable[..., Any]) -> Callable[..., Any]:
        ORDERS[name] = run
        return run

    return register


def due(name: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register what `Simulator.later(name, ...)` runs when its time has come."""

    def register(run: Callable[..., None]) -> Callable[..., None]:
        DUE[name] = run
        return run

    return register


def only(params: Params, names: str, where: str = "") -> None:
    """501 unless `params` has only these names."""
    for name in params:
        if name not in names.split():
            raise not_simulated(f"the parameter {f'{where}[{name}]' if where else name}")
