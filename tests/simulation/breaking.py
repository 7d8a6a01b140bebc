"""What a mutant is: the product broken on purpose, one way per invariant.

A mutant patches product code from outside and, where the database would refuse the damage, drops
the constraint that does, inside the sandbox. Only the invariant under test counts meanwhile, so
none is proven by another one's alarm.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock


@dataclass(frozen=True)
class Mutant:
    """``damage``: enters patches into the stack. ``sql``: run first. ``manner``: of the schedules
    in which the damage shows."""

    invariant: str
    damage: Callable[[Break], None]
    sql: str = ""
    manner: dict[str, Any] = field(default_factory=dict)


class Break(ExitStack):
    """Patches that end together."""

    def put(self, owner: Any, name: str, value: Any) -> None:
        """``value`` in place of what the product has there. TypeError when it cannot be called as
        that can: a mutant that raises breaks everything but what it is to break."""
        before = getattr(owner, name, None)
        if inspect.isroutine(before) and callable(value):
            _fits(value, before)
        self.enter_context(mock.patch.object(owner, name, value, create=name in _BUILT_IN))

    def plain(self, owner: Any, name: str) -> Any:
        """What the product has there now, also where it only imported it."""
        return getattr(owner, name)

    def text(self, owner: Any, name: str, old: str, new: str) -> None:
        """Change a statement, or all of a dictionary of them; KeyError when the product's text no
        longer has ``old``."""
        before = getattr(owner, name)

        def changed(text: str) -> str:
            if old not in text:
                raise KeyError(f"{owner.__name__}.{name} has no {old!r}")
            return text.replace(old, new)

        if isinstance(before, dict):
            self.put(owner, name, {key: changed(text) for key, text in before.items()})
        else:
            self.put(owner, name, changed(before))

    def nothing(self, owner: Any, name: str, answer: Any = None) -> None:
        self.put(owner, name, lambda *given, **named: answer)


def _fits(value: Callable[..., Any], before: Callable[..., Any]) -> None:
    """Whether ``value`` takes every argument of ``before``, each in the ways it may be given."""
    there, offered = inspect.signature(before), inspect.signature(value)
    given = [one for one in there.parameters.values() if one.kind not in _ANY_NUMBER]
    for by_name in ({"KEYWORD_ONLY"}, {"KEYWORD_ONLY", "POSITIONAL_OR_KEYWORD"}):
        named = {one.name: None for one in given if one.kind.name in by_name}
        try:
            offered.bind(*[None for one in given if one.name not in named], **named)
        except TypeError as error:
            raise TypeError(f"{before.__qualname__}{there}: {error}") from None


_ANY_NUMBER = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)

# Python's own names, which a module of the product may be given its own of.
_BUILT_IN = ("list",)

MUTANTS: dict[str, Mutant] = {}


def mutant(
    invariant: str, sql: str = "", **manner: Any
) -> Callable[[Callable[[Break], None]], Callable[[Break], None]]:
    def add(damage: Callable[[Break], None]) -> Callable[[Break], None]:
        MUTANTS[damage.__name__] = Mutant(invariant, damage, sql, manner)
        return damage

    return add


@contextmanager
def damaged(one: Mutant) -> Iterator[None]:
    """The product with this damage; what ``sql`` changed is undone with the schedule."""
    with Break() as stack:
        one.damage(stack)
        yield
