"""One client's view of changes: what it selects, from where on, as watch events.

A watch keeps a position and no queue: a client that does not read costs nothing, and one that falls
behind the history gets the 410 that a real server gives it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from devstack.kube.sim.errors import expired
from devstack.kube.sim.kinds import Kind
from devstack.kube.sim.rules.selectors import Selector
from devstack.kube.sim.store import Change, Store, Stored, TooOldError

Json = dict[str, Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Event:
    """One line of a watch."""

    type: str
    object: Stored

    def line(self) -> bytes:
        return b'{"type":"%s","object":%s}\n' % (self.type.encode(), self.object.text)

    def json(self) -> Json:
        return {"type": self.type, "object": self.object.body}


class Watch:
    """Changes of `kind` in `namespace` that `selector` lets through, after `since`.

    `since` None: begin with what exists now. `on_change` is called under the store's lock whenever
    there may be something to `take`.
    """

    def __init__(
        self,
        store: Store,
        kind: Kind,
        namespace: str,
        selector: Selector | None,
        since: int | None,
    ) -> None:
        self.kind = kind
        self.namespace = namespace
        self.position = store.version if since is None else since
        self._opened_at = max(self.position, store.last_change(kind))
        self.ended = False
        self.on_change: Callable[[], None] = lambda: None
        self._store = store
        self._selector = selector
        self._first = [] if since is not None else [*self._present()]
        store.listen(self._heard)

    def take(self) -> list[Event]:
        """What is new, oldest first. An ERROR event is the last one that a watch has."""
        with self._store.lock:
            if self.ended:
                return []
            events, self._first = self._first, []
            try:
                for change in self._store.changes_since(self.kind, self.position):
                    self.position = change.version
                    if (event := self._seen(change)) is not None:
                        events.append(event)
            except TooOldError as error:
                self.close()
                events.append(Event("ERROR", Stored(expired(str(error)).body(), 0)))
            return events

    def bookmark(self) -> Event | None:
        """How far this watch has come. None while nothing of its kind has changed since it opened:
        a real 1.20 says nothing then, however long that lasts."""
        with self._store.lock:
            version = self._store.last_change(self.kind)
            if version <= self._opened_at:
                return None
        body = {
            "kind": self.kind.kind,
            "apiVersion": self.kind.api_version,
            "metadata": {"resourceVersion": str(version), "creationTimestamp": None},
        }
        return Event("BOOKMARK", Stored(body, version))

    def close(self) -> None:
        with self._store.lock:
            if not self.ended:
                self.ended = True
                self._store.unlisten(self._heard)

    def _heard(self, kind: Kind, change: Change) -> None:
        if kind is self.kind and self.namespace in {"", change.new.namespace}:
            self.on_change()

    def _present(self) -> Iterator[Event]:
        for stored in self._store.list(self.kind, self.namespace):
            if self._selector is None or self._selector(stored.body):
                yield Event("ADDED", stored)

    def _seen(self, change: Change) -> Event | None:
        """How a change looks through the selector: what leaves it was deleted, as far as this
        client can tell."""
        if self.namespace not in {"", change.new.namespace}:
            return None
        select = self._selector or (lambda body: True)
        was = change.old is not None and select(change.old.body)
        if change.type == "DELETED":
            return Event("DELETED", change.new) if was else None
        now = select(change.new.body)
        if now:
            return Event("MODIFIED" if was else "ADDED", change.new)
        if was and change.old is not None:
            head = {**change.old.metadata, "resourceVersion": str(change.version)}
            return Event("DELETED", Stored({**change.old.body, "metadata": head}, change.version))
        return None
