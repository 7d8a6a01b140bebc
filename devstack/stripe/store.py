"""Every object of the simulator, in memory, with undo and an optional journal on disk.

One writer at a time: the caller holds `lock` for a whole request. `transaction()` undoes all
writes when the block raises, so a refused request leaves no trace. With a directory, committed
writes are appended to journal.jsonl and read back at the next start; a torn last line, which a
kill leaves, is the write that was never answered and is dropped.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def copied(value: Any) -> Any:
    """A deep copy of JSON-like data (several times faster than copy.deepcopy)."""
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list):
        return [copied(v) for v in value]
    return value


class Store:
    """Tables of rows by id, in order of insertion."""

    def __init__(self, directory: Path | None = None) -> None:
        self.lock = threading.RLock()
        self._tables: dict[str, dict[str, Row]] = {}
        self._undo: list[tuple[str, str, Row | None]] | None = None
        self._journal = directory / "journal.jsonl" if directory else None
        if self._journal is not None:
            self._journal.parent.mkdir(parents=True, exist_ok=True)
            self._load(self._journal)
            self._compact(self._journal)

    def get(self, table: str, key: str) -> Row | None:
        """A copy of one row, or None."""
        row = self._tables.get(table, {}).get(key)
        return None if row is None else copied(row)

    def put(self, table: str, key: str, row: Row) -> None:
        """Insert or replace; the row is copied. A replaced row keeps its place in the order."""
        self._remember(table, key)
        self._tables.setdefault(table, {})[key] = copied(row)

    def remove(self, table: str, key: str) -> None:
        self._remember(table, key)
        self._tables.get(table, {}).pop(key, None)

    def rows(self, table: str) -> list[Row]:
        """All rows, oldest first. Not copied: the caller only reads, or copies what it keeps."""
        return list(self._tables.get(table, {}).values())

    def items(self, table: str) -> list[tuple[str, Row]]:
        """Like `rows`, with the keys."""
        return list(self._tables.get(table, {}).items())

    def tables(self) -> dict[str, int]:
        return {name: len(rows) for name, rows in sorted(self._tables.items()) if rows}

    def scope(self, prefix: str) -> "Store":
        """The same store with tables of its own, e.g. those of a connected account."""
        return _Scope(self, f"{prefix}/")

    def clear(self) -> None:
        with self.lock:
            self._tables.clear()
            if self._journal is not None:
                self._compact(self._journal)

    def _remember(self, table: str, key: str) -> None:
        if self._undo is None:
            raise RuntimeError("writes belong inside a transaction")
        self._undo.append((table, key, self._tables.get(table, {}).get(key)))

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All writes of the block, or none when it raises. Nested blocks join the outer one."""
        with self.lock:
            if self._undo is not None:
                yield
                return
            self._undo = []
            try:
                yield
            except BaseException:
                self._roll_back(self._undo)
                raise
            else:
                self._append(self._undo)
            finally:
                self._undo = None

    def _roll_back(self, undo: list[tuple[str, str, Row | None]]) -> None:
        for table, key, before in reversed(undo):
            if before is None:
                self._tables.get(table, {}).pop(key, None)
            else:
                self._tables.setdefault(table, {})[key] = before

    def _append(self, undo: list[tuple[str, str, Row | None]]) -> None:
        if self._journal is None or not undo:
            return
        touched = dict.fromkeys((table, key) for table, key, _ in undo)
        lines = [
            json.dumps([table, key, self._tables.get(table, {}).get(key)]) for table, key in touched
        ]
        with self._journal.open("a") as file:
            file.write("\n".join(lines) + "\n")

    def _load(self, journal: Path) -> None:
        if not journal.is_file():
            return
        lines = journal.read_text().split("\n")
        for number, line in enumerate(lines):
            if not line:
                continue
            try:
                table, key, row = json.loads(line)
            except ValueError:
                if number == len(lines) - 1:
                    return
                raise
            if row is None:
                self._tables.get(table, {}).pop(key, None)
            else:
                self._tables.setdefault(table, {})[key] = row

    def _compact(self, journal: Path) -> None:
        fresh = journal.with_suffix(".tmp")
        with fresh.open("w") as file:
            for table, rows in self._tables.items():
                for key, row in rows.items():
                    file.write(json.dumps([table, key, row]) + "\n")
        fresh.replace(journal)


class _Scope(Store):
    """Reads and writes tables named with a prefix; everything else is the store's."""

    def __init__(self, store: Store, prefix: str) -> None:
        self.lock = store.lock
        self._store = store
        self._prefix = prefix

    def get(self, table: str, key: str) -> Row | None:
        return self._store.get(self._prefix + table, key)

    def put(self, table: str, key: str, row: Row) -> None:
        self._store.put(self._prefix + table, key, row)

    def remove(self, table: str, key: str) -> None:
        self._store.remove(self._prefix + table, key)

    def rows(self, table: str) -> list[Row]:
        return self._store.rows(self._prefix + table)

    def items(self, table: str) -> list[tuple[str, Row]]:
        return self._store.items(self._prefix + table)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        with self._store.transaction():
            yield
