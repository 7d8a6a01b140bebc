"""Objects of one cluster, their versions, and what changed since when.

No I/O and no threads of its own: callers hold `lock` around whatever belongs together. A stored
object is never changed in place, so readers may keep it, lists are cheap, and its JSON text is made
once however many watches and lists show it.
"""

from __future__ import annotations

import dataclasses
import json
import threading
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from devstack.kube.sim.clock import Clock, stamp
from devstack.kube.sim.kinds import Kind

Json = dict[str, Any]

# Changes kept per kind for watches that resume. A real server keeps some minutes: shorter than
# that makes watches relist for no reason, longer only costs memory.
HISTORY = 4000


class TooOldError(Exception):
    """Changes since that version are not kept any more. `oldest` is the first that is possible."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")


class Stored:
    """One version of one object. `body` must not be changed."""

    __slots__ = ("_text", "body", "version")

    def __init__(self, body: Json, version: int) -> None:
        self.body = body
        self.version = version
        self._text: bytes | None = None

    @property
    def metadata(self) -> Json:
        metadata: Json = self.body["metadata"]
        return metadata

    @property
    def name(self) -> str:
        return str(self.body["metadata"]["name"])

    @property
    def namespace(self) -> str:
        return str(self.body["metadata"].get("namespace", ""))

    @property
    def text(self) -> bytes:
        """As JSON on the wire."""
        if self._text is None:
            self._text = json.dumps(self.body, separators=(",", ":")).encode()
        return self._text


@dataclasses.dataclass(frozen=True, slots=True)
class Change:
    """`old` is None when it was added; a deletion's `new` is the last body with a new version."""

    version: int
    type: str
    new: Stored
    old: Stored | None


class Store:
    """`new_uid` makes identities: random ones, or a simulation's own sequence."""

    def __init__(
        self,
        clock: Clock,
        *,
        history: int = HISTORY,
        new_uid: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        self.clock = clock
        self.lock = threading.RLock()
        self.version = 1
        self._history_limit = history
        self._new_uid = new_uid
        self._objects: dict[Kind, dict[str, dict[str, Stored]]] = {}
        self._history: dict[Kind, deque[Change]] = {}
        self._floor: dict[Kind, int] = {}
        self._listeners: list[Callable[[Kind, Change], None]] = []

    def listen(self, listener: Callable[[Kind, Change], None]) -> None:
        """Call for every change, under the lock and before the writer is answered."""
        self._listeners.append(listener)

    def unlisten(self, listener: Callable[[Kind, Change], None]) -> None:
        self._listeners.remove(listener)

    # -- reading -------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Stored | None:
        return self._objects.get(kind, {}).get(namespace, {}).get(name)

    def list(self, kind: Kind, namespace: str = "") -> list[Stored]:
        """By namespace and name, as etcd orders its keys; all namespaces when none is given."""
        spaces = self._objects.get(kind, {})
        if namespace or not kind.namespaced:
            space = spaces.get(namespace if kind.namespaced else "", {})
            return [space[name] for name in sorted(space)]
        return [spaces[space][name] for space in sorted(spaces) for name in sorted(spaces[space])]

    def count(self, kind: Kind, namespace: str) -> int:
        return len(self._objects.get(kind, {}).get(namespace, {}))

    def changes_since(self, kind: Kind, version: int) -> Iterable[Change]:
        """Oldest first. Raises TooOldError."""
        if version < self._floor.get(kind, 0):
            raise TooOldError(version, self._floor[kind])
        kept = self._history.get(kind)
        if not kept or kept[-1].version <= version:
            return ()
        return _newer(kept, version)

    def last_change(self, kind: Kind) -> int:
        """The version of the newest change of this kind that is remembered, 0 for none."""
        kept = self._history.get(kind)
        return kept[-1].version if kept else 0

    # -- writing -------------------------------------------------------------------------------

    def create(self, kind: Kind, body: Json) -> Stored:
        """A new object with identity and version. The caller made sure that the name is free."""
        self.version += 1
        metadata = {
            **body["metadata"],
            "uid": self._new_uid(),
            "resourceVersion": str(self.version),
            "creationTimestamp": stamp(self.clock.now()),
        }
        stored = Stored({**body, "metadata": metadata}, self.version)
        self._put(kind, stored)
        self._note(kind, Change(self.version, "ADDED", stored, None))
        return stored

    def replace(self, kind: Kind, old: Stored, body: Json) -> Stored:
        """The next version of an object; a write that changes nothing makes none."""
        if body == old.body:
            return old
        self.version += 1
        metadata = {**body["metadata"], "resourceVersion": str(self.version)}
        stored = Stored({**body, "metadata": metadata}, self.version)
        self._put(kind, stored)
        self._note(kind, Change(self.version, "MODIFIED", stored, old))
        return stored

    def remove(self, kind: Kind, old: Stored) -> Stored:
        """The object as it was, with the version of its end."""
        self.version += 1
        last = Stored(
            {**old.body, "metadata": {**old.metadata, "resourceVersion": str(self.version)}},
            self.version,
        )
        space = self._objects[kind][old.namespace]
        del space[old.name]
        if not space:
            del self._objects[kind][old.namespace]
        self._note(kind, Change(self.version, "DELETED", last, old))
        return last

    def compact(self) -> None:
        """Forget all history, as etcd does after a while: older watches and pages get 410."""
        for kind in {*self._objects, *self._history}:
            self._history.pop(kind, None)
            self._floor[kind] = self.version

    def _put(self, kind: Kind, stored: Stored) -> None:
        spaces = self._objects.setdefault(kind, {})
        spaces.setdefault(stored.namespace, {})[stored.name] = stored

    def _note(self, kind: Kind, change: Change) -> None:
        kept = self._history.setdefault(kind, deque())
        kept.append(change)
        if len(kept) > self._history_limit:
            self._floor[kind] = kept.popleft().version
        for listener in tuple(self._listeners):
            listener(kind, change)


def _newer(kept: deque[Change], version: int) -> Iterator[Change]:
    """The tail after `version`: near the end for every watch that keeps up."""
    tail: deque[Change] = deque()
    for change in reversed(kept):
        if change.version <= version:
            break
        tail.appendleft(change)
    return iter(tail)
