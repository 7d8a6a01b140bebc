"""Product transactions as savepoints of one PostgreSQL transaction that is never committed.

The product and Django notice nothing: BEGIN, COMMIT and ROLLBACK are translated where Django hands
them to the driver. So `durable=True` still refuses nesting, hooks still run after the outermost
commit, "inside a transaction" is still true exactly there, and deferred constraints are checked at
each commit. Undoing a whole schedule is one ROLLBACK TO.

Limits: there is one session, so nothing ever waits for a lock, is skipped by SKIP LOCKED or sees
another's uncommitted rows (tests/races has those); a statement that fails outside a transaction
breaks the schedule loudly instead of failing alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from types import TracebackType
from typing import Any

_CHECKED = "SET CONSTRAINTS ALL IMMEDIATE; SET CONSTRAINTS ALL DEFERRED; "
# Statements that change nothing, and those whose count says whether they did. Anything else, such
# as WITH, may write whatever it answers.
_WORD = re.compile(r"\s*(\w+)")
_READS = {"SELECT", "SAVEPOINT", "RELEASE", "SET"}
_COUNTED = {"UPDATE", "INSERT", "DELETE"}


class Sandbox:
    """A context manager over one Django connection in autocommit mode.

    ``boundary`` is called with "before" and "after" at each product commit and may raise: a worker
    that dies there leaves nothing, or everything but its wake-ups.
    """

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._written = True
        self._unsaid = ""
        self._changed = False
        self.boundary: Callable[[str], None] = lambda _: None

    def __enter__(self) -> Sandbox:
        self._connection.ensure_connection()
        self._execute("BEGIN")
        self._connection.execute_wrappers.append(self._noticed)
        # On the instance: they hide the class's methods and vanish again with `del`.
        self._connection._set_autocommit = self._begin_or_nothing
        self._connection._commit = self._commit
        self._connection._rollback = self._rollback
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for name in ("_set_autocommit", "_commit", "_rollback"):
            delattr(self._connection, name)
        self._connection.execute_wrappers.remove(self._noticed)
        self._execute("ROLLBACK")
        self._connection.run_on_commit = []

    def mark(self) -> None:
        """What is there now is what `undo` goes back to."""
        self._execute(_CHECKED + "SAVEPOINT world")

    def tell(self, sql: str) -> None:
        """Send this before the next statement, outside of every product transaction; the last one
        told wins."""
        self._unsaid = sql

    def undo(self) -> None:
        """Forget everything since `mark`, the clock's setting included."""
        self._connection.run_on_commit = []
        self._unsaid = ""
        self._execute("ROLLBACK TO SAVEPOINT world")
        self._written = True

    def was_written(self) -> bool:
        """Whether a statement since the last call may have changed anything."""
        written, self._written = self._written, False
        return written

    def _noticed(self, execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        if self._unsaid:
            self._execute("")
        done = execute(sql, params, many, context)
        word = _WORD.match(str(sql))
        kind = word.group(1).upper() if word else ""
        if kind not in _READS and not (kind in _COUNTED and context["cursor"].rowcount == 0):
            self._written = self._changed = True
        return done

    def _begin_or_nothing(self, autocommit: bool) -> None:
        if not autocommit:
            self._execute("SAVEPOINT product")

    def _commit(self) -> None:
        try:
            self.boundary("before")
        except BaseException:
            self._rollback()
            self._connection.run_on_commit = []
            raise
        with self._connection.wrap_database_errors:
            self._execute((_CHECKED if self._changed else "") + "RELEASE SAVEPOINT product")
        self._changed = False
        try:
            self.boundary("after")
        except BaseException:
            self._connection.run_on_commit = []
            raise

    def _rollback(self) -> None:
        self._execute("ROLLBACK TO SAVEPOINT product; RELEASE SAVEPOINT product")

    def _execute(self, sql: str) -> None:
        if self._unsaid:
            sql, self._unsaid = f"{self._unsaid}; {sql}", ""
        self._connection.connection.execute(sql)
