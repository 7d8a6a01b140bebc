"""Create, read, update, patch and delete objects of a store, with all that a real server checks.

Every function is one request after its right was found; callers hold the store's lock. Raises
StatusError for whatever is refused, and then nothing was changed.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime
import json
import secrets
from collections.abc import Mapping
from typing import Any

from devstack.kube.sim import admission, kinds, strategies
from devstack.kube.sim.clock import stamp
from devstack.kube.sim.errors import (
    StatusError,
    bad_request,
    conflict,
    exists,
    expired,
    modified,
    not_found,
)
from devstack.kube.sim.kinds import Kind, Target
from devstack.kube.sim.rules.patches import APPLY, copied, patched
from devstack.kube.sim.rules.rbac import User
from devstack.kube.sim.rules.selectors import selector_of
from devstack.kube.sim.store import Store, Stored

Json = dict[str, Any]

# Lists whose later pages were not asked for yet. More are forgotten, oldest first, with a 410.
OPEN_LISTS = 256
_FINISHED = frozenset({"Succeeded", "Failed"})


@dataclasses.dataclass(frozen=True)
class Page:
    """One page of a list."""

    kind: Kind
    version: str
    items: list[Stored]
    token: str = ""
    remaining: int = 0

    def metadata(self) -> Json:
        found: Json = {"resourceVersion": self.version}
        if self.token:
            found |= {"continue": self.token, "remainingItemCount": self.remaining}
        return found

    def json(self) -> Json:
        return {**self._head(), "items": [each.body for each in self.items]}

    def text(self) -> bytes:
        head = json.dumps(self._head(), separators=(",", ":"))[:-1].encode()
        return head + b',"items":[' + b",".join(each.text for each in self.items) + b"]}"

    def _head(self) -> Json:
        return {
            "kind": f"{self.kind.kind}List",
            "apiVersion": self.kind.api_version,
            "metadata": self.metadata(),
        }


class Verbs:
    """What can be done to the objects of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._open: dict[str, tuple[Kind, str, list[Stored]]] = {}

    # -- reading -------------------------------------------------------------------------------

    def get(self, target: Target) -> Stored:
        kind = _known(target)
        stored = self._store.get(kind, _space(kind, target), target.name)
        if stored is None:
            raise not_found(kind.key, target.name)
        return stored

    def page(self, target: Target, query: Mapping[str, str]) -> Page:
        """All, or `limit` of them; the pages after the first show what the first was cut from."""
        kind = _known(target)
        if token := query.get("continue", ""):
            version, items = self._rest_of(kind, token)
        else:
            version = str(self._store.version)
            select = selector_of(kind, query)
            items = self._store.list(kind, target.namespace)
            if select is not None:
                items = [each for each in items if select(each.body)]
        limit = _whole(query, "limit", 0)
        if not 0 < limit < len(items):
            return Page(kind, version, items)
        rest = items[limit:]
        return Page(kind, version, items[:limit], self._kept(kind, version, rest), len(rest))

    def forget_pages(self) -> None:
        """Later pages of every open list answer 410 from now on."""
        self._open.clear()

    # -- writing -------------------------------------------------------------------------------

    def create(self, target: Target, body: Json, *, user: User, dry_run: bool) -> Stored:
        kind = _known(target)
        body = self._headed(kind, target, body)
        if kind.namespaced:
            name = str(body["metadata"].get("name", ""))
            admission.check_namespace(self._store, kind, target.namespace, name)
        body = strategies.prepared(kind, body)
        if kind is kinds.PODS:
            admission.check_pod(self._store, user, body)
        elif kind is kinds.CLAIMS:
            body = admission.with_default_class(self._store, body)
        elif kind is kinds.SERVICES:
            body = admission.with_address(self._store, body)
        if refused := strategies.problem(kind, body):
            raise refused
        if kind.namespaced:
            admission.check_quota(self._store, kind, body)
        metadata = body["metadata"]
        if self._store.get(kind, metadata.get("namespace", ""), metadata["name"]):
            raise exists(kind.key, metadata["name"])
        if dry_run:
            return _dry(body, self._store)
        return self._store.create(kind, body)

    def update(self, target: Target, body: Json, *, dry_run: bool) -> Stored:
        """PUT: the whole object, or its status."""
        kind, old = _known(target), self.get(target)
        body = self._headed(kind, target, body)
        if body["metadata"].get("name") != target.name:
            raise bad_request("the name of the object does not match the name on the URL")
        return self._write(kind, old, body, status=target.subresource == "status", dry_run=dry_run)

    def patch(
        self, target: Target, patch: Json, content_type: str, *, user: User, dry_run: bool
    ) -> Stored:
        """PATCH. An apply of what is not there creates it."""
        kind = _known(target)
        old = self._store.get(kind, _space(kind, target), target.name)
        if old is None:
            if content_type != APPLY:
                raise not_found(kind.key, target.name)
            made = dataclasses.replace(target, name="")
            return self.create(made, copied(patch), user=user, dry_run=dry_run)
        body = patched(old.body, patch, content_type)
        return self._write(kind, old, body, status=target.subresource == "status", dry_run=dry_run)

    def delete(self, target: Target, options: Json, *, dry_run: bool) -> Stored | Json:
        """The object that is going or gone, or a Status for kinds that answer with one."""
        kind, old = _known(target), self.get(target)
        self._check_preconditions(kind, old, options.get("preconditions") or {})
        if dry_run:
            return old
        if kind is kinds.PODS:
            return self._delete_pod(old, options.get("gracePeriodSeconds"))
        if kind is kinds.NAMESPACES or old.metadata.get("finalizers"):
            return self.mark_deleted(kind, old)
        gone = self._store.remove(kind, old)
        if kind is kinds.CLAIMS or kind is kinds.VOLUMES:
            return gone
        details: Json = {"name": old.name, "kind": kind.plural, "uid": old.metadata["uid"]}
        if kind.group:
            details["group"] = kind.group
        head = {"kind": "Status", "apiVersion": "v1", "metadata": {}}
        return {**head, "status": "Success", "details": details}

    def mark_deleted(self, kind: Kind, old: Stored) -> Stored:
        """Deletion was asked for and something has to happen first; said once."""
        if "deletionTimestamp" in old.metadata:
            return old
        now = stamp(self._store.clock.now())
        metadata = {**old.metadata, "deletionTimestamp": now, "deletionGracePeriodSeconds": 0}
        body = {**old.body, "metadata": metadata}
        if kind is kinds.NAMESPACES:
            body["status"] = {**body["status"], "phase": "Terminating"}
        return self._store.replace(kind, old, body)

    # -- pieces --------------------------------------------------------------------------------

    def _delete_pod(self, old: Stored, grace: int | None) -> Stored:
        """At once where nothing runs, else with a grace that later requests only shorten."""
        spec, status = old.body["spec"], old.body.get("status", {})
        if grace is None:
            grace = int(spec["terminationGracePeriodSeconds"])
        if not spec.get("nodeName") or status.get("phase") in _FINISHED:
            grace = 0
        if grace <= 0:
            return self._store.remove(kinds.PODS, old)
        before = old.metadata.get("deletionGracePeriodSeconds")
        if before is not None and before <= grace:
            return old
        ends = self._store.clock.now() + datetime.timedelta(seconds=grace)
        going = {"deletionTimestamp": stamp(ends), "deletionGracePeriodSeconds": grace}
        body = {**old.body, "metadata": {**old.metadata, **going}}
        return self._store.replace(kinds.PODS, old, body)

    def _write(self, kind: Kind, old: Stored, body: Json, *, status: bool, dry_run: bool) -> Stored:
        asked = (body.get("metadata") or {}).get("resourceVersion")
        if asked and asked != old.metadata["resourceVersion"]:
            raise modified(kind.key, old.name)
        new = strategies.updated(kind, old.body, body, status=status)
        if dry_run:
            return Stored(new, old.version)
        going = "deletionTimestamp" in old.metadata and kind not in {kinds.PODS, kinds.NAMESPACES}
        if going and not new["metadata"].get("finalizers"):
            return self._store.remove(kind, old)
        return self._store.replace(kind, old, new)

    def _headed(self, kind: Kind, target: Target, body: Json) -> Json:
        """`body` with its namespace and name in place. Raises when it says another."""
        if body.get("kind", kind.kind) != kind.kind:
            given = f"{body.get('apiVersion', '')}, Kind={body['kind']}"
            raise bad_request(f"the object provided is unrecognized: {given}")
        metadata = dict(body.get("metadata") or {})
        if kind.namespaced:
            if metadata.get("namespace", target.namespace) != target.namespace:
                raise bad_request(
                    "the namespace of the provided object does not match the namespace sent on "
                    "the request"
                )
            metadata["namespace"] = target.namespace
        if not metadata.get("name") and metadata.get("generateName"):
            metadata["name"] = metadata["generateName"] + secrets.token_hex(3)[:5]
        return {**body, "metadata": metadata}

    def _check_preconditions(self, kind: Kind, old: Stored, wanted: Json) -> None:
        for key, shown in (("uid", "UID"), ("resourceVersion", "ResourceVersion")):
            if key in wanted and wanted[key] != old.metadata[key]:
                raise conflict(
                    kind.key,
                    old.name,
                    f"Precondition failed: {shown} in precondition: {wanted[key]}, "
                    f"{shown} in object meta: {old.metadata[key]}",
                )

    def _kept(self, kind: Kind, version: str, rest: list[Stored]) -> str:
        while len(self._open) >= OPEN_LISTS:
            self._open.pop(next(iter(self._open)))
        mark = {"v": "meta.k8s.io/v1", "rv": int(version), "start": secrets.token_hex(8)}
        token = base64.urlsafe_b64encode(json.dumps(mark).encode()).decode()
        self._open[token] = (kind, version, rest)
        return token

    def _rest_of(self, kind: Kind, token: str) -> tuple[str, list[Stored]]:
        kept = self._open.get(token)
        if kept is None or kept[0] is not kind:
            raise expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You must start a new list without the continue parameter."
            )
        return kept[1], kept[2]


def _known(target: Target) -> Kind:
    if target.kind is None:
        raise StatusError(404, "NotFound", "the server could not find the requested resource")
    return target.kind


def _space(kind: Kind, target: Target) -> str:
    return target.namespace if kind.namespaced else ""


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name) or str(default)
    if not text.isascii() or not text.isdigit():
        raise bad_request(f"{name}: {text!r} is not a whole number")
    return int(text)


def _dry(body: Json, store: Store) -> Stored:
    """What a creation would have answered: everything but a version."""
    identity = {"uid": secrets.token_hex(16), "creationTimestamp": stamp(store.clock.now())}
    return Stored({**body, "metadata": {**body["metadata"], **identity}}, 0)
