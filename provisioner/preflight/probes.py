"""Asking a cluster everything that is judged: some hundred small questions, four at a time.

Every call has the client's own deadline, and all together have one; what fails or comes too late
is a fact of its own. Nothing is changed in the cluster: rights are asked for, pods are tried in a
dry run.
"""

from __future__ import annotations

import base64
import binascii
import json
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

from kernel.errors import VendorError
from kernel.text import clean
from provisioner.inventory.accelerators import Family, families
from provisioner.inventory.collect import EVERYWHERE, MAX_POOL, POOL_NAME
from provisioner.kube.client import mapping
from provisioner.kube.errors import code_of
from provisioner.kube.questions import Questions
from provisioner.preflight import network, trials
from provisioner.preflight.facts import (
    ADMITTED,
    REFUSED,
    Facts,
    MachineFacts,
    PodFacts,
    PolicyFacts,
    RightsFacts,
    TokenFacts,
    Trial,
    Unasked,
    nothing,
)
from provisioner.preflight.machines import is_labelled, machines, tainted_name
from provisioner.preflight.rights import (
    CLUSTER,
    EVERYTHING,
    OUTSIDE,
    POOL,
    Held,
    Needed,
    Refused,
    Right,
    gives,
    needed,
    refused,
    too_much,
    widest,
)

Json = dict[str, Any]
Given = TypeVar("Given")
Answer = TypeVar("Answer")

# Of one look, all questions together. Above it a slow cluster would keep a worker's threads from
# the others; half a second per question over a bad line still fits.
LOOK_SECONDS = 60.0
# As many as the loops ask one cluster at a time (reconcile/pool.py).
_AT_ONCE = 4
# Namespaces that are looked into one by one; a larger pool repeats the pattern of its beginning.
_NAMESPACES = 100
_TAINTED_SHOWN = 50


@dataclass(frozen=True)
class Known:
    """What the asker knows before: the token as the cluster gave it, the pool's names so far, and
    what a pod of ours is made of."""

    token: str
    namespaces: tuple[str, ...]
    image: str
    report_url: str
    asked_at: datetime


def look(api: Questions, known: Known) -> Facts:
    """Everything that is judged of one cluster. Raises nothing of the cluster's doing."""
    return _Look(api, known).facts()


def token_facts(token: str) -> TokenFacts:
    """What a token says of itself: hostile text, and nothing where it is no account's token."""
    parts = token.split(".")
    try:
        claims = mapping(json.loads(base64.urlsafe_b64decode(parts[1] + "==")))
    except (IndexError, ValueError, binascii.Error, RecursionError):
        return TokenFacts()
    return TokenFacts(
        subject=clean(claims.get("sub") or "", limit=200),
        issued_at=_moment(claims.get("iat")),
        expires_at=_moment(claims.get("exp")),
    )


class _Look:
    """One look at one cluster."""

    def __init__(self, api: Questions, known: Known) -> None:
        self._api = api
        self._known = known
        self._began = time.monotonic()
        self._ends = self._began + LOOK_SECONDS

    def facts(self) -> Facts:
        given = token_facts(self._known.token)
        version = self._ask(self._api.server_version)
        first = self._ask(lambda: self._may(EVERYTHING, ""))
        for answer in (version, first):
            # Whoever does not answer these answers nothing, and each question would cost seconds.
            if isinstance(answer, Unasked) and answer.code != "forbidden":
                return nothing(given, answer, at=self._known.asked_at)
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="preflight") as threads:
            self._threads = threads
            namespaces = self._pool(everywhere=first is True)
            pool = [] if isinstance(namespaces, Unasked) else list(namespaces[:_NAMESPACES])
            nodes = self._nodes()
            pods, skew = self._pods(pool, nodes, version)
            return Facts(
                asked_at=self._known.asked_at,
                version=version,
                token=given,
                token_rejected=False,
                skew=skew,
                namespaces=namespaces,
                rights=self._rights(pool, everything=first is True),
                pods=pods,
                machines=self._machines(nodes),
                policies=self._policies(pool),
                classes=self._classes(),
            )

    # --- asking ---------------------------------------------------------------------------------

    def _ask(self, call: Callable[[], Answer]) -> Answer | Unasked:
        if time.monotonic() > self._ends:
            return Unasked("too_late")
        try:
            return call()
        except VendorError as error:
            return Unasked(code_of(error))

    def _each(
        self, call: Callable[[Given], Answer], given: Iterable[Given]
    ) -> list[Answer | Unasked]:
        """One question per item, some at a time, in the items' order."""
        return list(self._threads.map(lambda item: self._ask(lambda: call(item)), given))

    def _may(self, right: Right, where: str) -> bool:
        return self._api.allowed(
            right.verb, right.resource, group=right.group, namespace=where, name=right.name
        )

    # --- the pool -------------------------------------------------------------------------------

    def _pool(self, *, everywhere: bool) -> tuple[str, ...] | Unasked:
        """From the first name on until the first that is not ours; those we know are asked too,
        some at a time, because one may have been lost. Whose token may create pods everywhere has
        no pool that could be told from the rest, and would be asked for all its names."""
        if everywhere or self._ask(lambda: self._api.may_create_pods(EVERYWHERE)) is True:
            return self._known.namespaces or (POOL_NAME.format(1),)
        found: list[str] = []
        step = max(len(self._known.namespaces), _AT_ONCE)
        while len(found) < MAX_POOL:
            names = [POOL_NAME.format(len(found) + number) for number in range(1, step + 1)]
            for name, answer in zip(
                names, self._each(self._api.may_create_pods, names), strict=True
            ):
                if isinstance(answer, Unasked):
                    return answer
                if not answer:
                    return tuple(found)
                found.append(name)
        return tuple(found)

    def _policies(self, pool: Sequence[str]) -> PolicyFacts | Unasked:
        if not pool:
            return Unasked("no_namespaces")
        answers = self._each(self._api.list_network_policies, pool)
        asked = [
            (name, answer)
            for name, answer in zip(pool, answers, strict=True)
            if not isinstance(answer, Unasked)
        ]
        unclosed = tuple(name for name, found in asked if not network.is_closed(found))
        return PolicyFacts(
            closed=len(asked) - len(unclosed),
            open=unclosed,
            unasked=tuple(answer for answer in answers if isinstance(answer, Unasked)),
            wide=tuple(name for name, found in asked if not network.is_graded(found)),
        )

    def _classes(self) -> tuple[str, ...] | Unasked:
        names = self._ask(self._api.runtime_classes)
        return names if isinstance(names, Unasked) else tuple(names)

    # --- rights ---------------------------------------------------------------------------------

    def _rights(self, pool: Sequence[str], *, everything: bool) -> RightsFacts:
        """Roles are read as the server shows them, which names rights that hold for some objects
        only; every question that decides is asked of the server besides, because its roles need not
        be all that it goes by."""
        if everything:
            return RightsFacts(excess=(Held(EVERYTHING, ""),))
        places = [*pool, *OUTSIDE]
        shown = self._each(self._api.rules_in, places)
        rules = {
            place: [] if isinstance(answer, Unasked) else answer
            for place, answer in zip(places, shown, strict=True)
        }
        missing = self._missing(rules, pool)
        excess = self._each(lambda entry: self._excess(entry, pool), refused())
        seen = [held for place in places for held in too_much(rules[place], place, pool)]
        asked = [found for found in excess if not isinstance(found, Unasked)]
        silent = [answer for answer in (*shown, *missing, *excess) if isinstance(answer, Unasked)]
        return RightsFacts(
            missing=tuple(held for held in missing if isinstance(held, Held)),
            excess=widest([*(held for found in asked for held in found), *seen]),
            unasked=tuple(silent),
        )

    def _missing(
        self, rules: dict[str, list[Json]], pool: Sequence[str]
    ) -> list[Held | Unasked | None]:
        """What the roles do not show is asked for by itself; None where it is there after all."""
        wanted = [
            Held(entry.right, place)
            for entry in needed()
            for place in _places_of(entry, pool)
            if not gives(rules[place or OUTSIDE[0]], entry.right)
        ]
        return self._each(lambda held: None if self._may(held.right, held.where) else held, wanted)

    def _excess(self, entry: Refused, pool: Sequence[str]) -> list[Held]:
        """Where a refused right is held: in the whole cluster, else where it would do most harm."""
        if self._may(entry.right, ""):
            return [Held(entry.right, "")]
        if not entry.namespaced:
            return []
        places = [place for place in (*OUTSIDE, *pool[:1]) if not entry.is_own(place, pool, ())]
        return [Held(entry.right, place) for place in places if self._may(entry.right, place)]

    # --- nodes ----------------------------------------------------------------------------------

    def _nodes(self) -> tuple[list[Json], tuple[str, ...] | Unasked] | Unasked:
        """(nodes with our label, names of those with our taint alone). A cluster too large to be
        walked through still shows the first."""
        whole = self._ask(self._all_nodes)
        if not isinstance(whole, Unasked):
            return whole
        labelled = self._ask(self._api.list_nodes)
        return labelled if isinstance(labelled, Unasked) else (labelled, whole)

    def _all_nodes(self) -> tuple[list[Json], tuple[str, ...]]:
        pool: list[Json] = []
        tainted: list[str] = []
        for item in self._api.every_node():
            if is_labelled(item):
                pool.append(item)
            elif (name := tainted_name(item)) and len(tainted) < _TAINTED_SHOWN:
                tainted.append(name)
        return pool, tuple(tainted)

    def _machines(
        self, nodes: tuple[list[Json], tuple[str, ...] | Unasked] | Unasked
    ) -> MachineFacts | Unasked:
        if isinstance(nodes, Unasked):
            return nodes
        return machines(nodes[0], only_taint=nodes[1])

    # --- pods -----------------------------------------------------------------------------------

    def _pods(
        self,
        pool: Sequence[str],
        nodes: tuple[list[Json], tuple[str, ...] | Unasked] | Unasked,
        version: str | Unasked,
    ) -> tuple[PodFacts | Unasked, float | Unasked]:
        """How pods fare, and how far the cluster's clock is from ours: it dates what it admits."""
        if not pool:
            return Unasked("no_namespaces"), Unasked("no_namespaces")
        ours = trials.plain(
            _family([] if isinstance(nodes, Unasked) else nodes[0]),
            image=self._known.image,
            report_url=self._known.report_url,
            version=None if isinstance(version, Unasked) else version,
        )
        plain, skew = self._try_plain(pool[0], ours)
        bodies = trials.forbidden(ours)
        wanted = [(kind, pool[0]) for kind in bodies]
        wanted += [(trials.FIRST_KIND, namespace) for namespace in pool[1:]]
        answers = self._each(lambda pair: self._try(pair[1], bodies[pair[0]]), wanted)
        tried = [Trial(*pair, answer) for pair, answer in zip(wanted, answers, strict=True)]
        return PodFacts(plain, tuple(tried)), skew

    def _try_plain(self, namespace: str, body: Json) -> tuple[str | Unasked, float | Unasked]:
        sent = time.monotonic()
        try:
            made = self._api.try_pod(namespace, body)
        except VendorError as error:
            why: str | Unasked = Unasked(code_of(error))
            if code_of(error) in ("not_admitted", "invalid"):
                why = clean(str(error), limit=300)
            return why, Unasked(code_of(error))
        middle = (sent + time.monotonic()) / 2 - self._began
        dated = mapping(made.get("metadata")).get("creationTimestamp")
        return ADMITTED, _skew(dated, self._known.asked_at.timestamp() + middle)

    def _try(self, namespace: str, body: Json) -> str:
        """Raises whatever is no verdict of the server about the pod."""
        try:
            self._api.try_pod(namespace, body)
        except VendorError as error:
            if code_of(error) == "not_admitted":
                return REFUSED
            raise
        return ADMITTED


def _places_of(entry: Needed, pool: Sequence[str]) -> Sequence[str]:
    if entry.where == POOL:
        return pool
    return ("",) if entry.where == CLUSTER else (entry.where,)


def _family(pool: Iterable[Json]) -> Family:
    """Of the cards that the first node with any offers, else the registry's first."""
    for item in pool:
        offered = mapping(mapping(item.get("status")).get("capacity"))
        for name, family in families().items():
            if name in offered:
                return family
    return next(iter(families().values()))


def _skew(dated: object, middle: float) -> float | Unasked:
    """Seconds that the server is ahead; it dates in whole seconds, so half of one is unknown."""
    if not isinstance(dated, str):
        return Unasked("not_json")
    try:
        moment = datetime.fromisoformat(dated[:40].replace("Z", "+00:00"))
    except ValueError:
        return Unasked("not_json")
    if moment.tzinfo is None:
        return Unasked("not_json")
    return moment.timestamp() + 0.5 - middle


def _moment(value: object) -> datetime | None:
    """Of a token's claim; None for what is no time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return datetime.fromtimestamp(value, tz=UTC)
    except (OverflowError, ValueError, OSError):
        return None
