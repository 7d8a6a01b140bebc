"""What every resource builds on: ids, objects, lists, events, time.

A `Simulator` is one Stripe test account. Resources are functions over it; they run one at a
time, inside one transaction of the store.
"""

import secrets
import string
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from devstack.stripe import answers, sdk_source
from devstack.stripe.clock import VirtualClock
from devstack.stripe.errors import invalid_request, no_such, not_simulated
from devstack.stripe.registry import DUE, INCLUDED, Params
from devstack.stripe.store import Row, Store, copied

_ALPHABET = string.ascii_letters + string.digits
# Stripe expands four levels deep at most.
MAX_EXPAND = 4
LATER = "later"
CONNECTED = "v2.core.account"
THIN = "v2.core.event"

PREFIXES = {
    "cus": "customer",
    "pm": "payment_method",
    "pi": "payment_intent",
    "seti": "setup_intent",
    "ch": "charge",
    "re": "refund",
    "du": "dispute",
    "tr": "transfer",
    "trr": "transfer_reversal",
    "po": "payout",
    "txn": "balance_transaction",
    "in": "invoice",
    "ii": "invoiceitem",
    "inpay": "invoice_payment",
    "cn": "credit_note",
    "txi": "tax_id",
    "bpc": "billing_portal.configuration",
    "cbtxn": "customer_balance_transaction",
    "cs": "checkout.session",
    "evt": "event",
    "we": "webhook_endpoint",
    "mtr": "billing.meter",
}


@dataclass
class Caller:
    """Who caused what is happening now; becomes the `request` member of events."""

    request_id: str | None = None
    idempotency_key: str | None = None


class Simulator:
    """One test account: its objects, its clock and its outbox of events."""

    def __init__(self, store: Store, clock: VirtualClock, account: str | None = None) -> None:
        self.store = store
        self.clock = clock
        self.account = account
        self.caller = Caller()
        self.base_url = ""
        self.on_event: Callable[[Simulator, Row], None] = lambda sim, event: None

    def on(self, account: str | None) -> "Simulator":
        """The objects of a connected account: its balance, payouts and events."""
        if account is None:
            return self
        scoped = Simulator(self.store.scope(account), self.clock, account)
        scoped.caller, scoped.base_url, scoped.on_event = (
            self.caller,
            self.base_url,
            self.on_event,
        )
        return scoped

    def connected(self) -> "list[Simulator]":
        """Every connected account, oldest first."""
        return [self.on(str(row["id"])) for row in self.store.rows(CONNECTED)]

    def now(self) -> int:
        return int(self.clock.now())

    def new_id(self, prefix: str, length: int = 24) -> str:
        return f"{prefix}_" + "".join(secrets.choice(_ALPHABET) for _ in range(length))

    def save(self, obj: Row) -> Row:
        """Store an object under its own `object` name; returns it."""
        answers.check(obj)
        self.store.put(obj["object"], obj["id"], obj)
        return obj

    def find(self, kind: str, identifier: str) -> Row | None:
        return self.store.get(kind, identifier)

    def fetch(self, kind: str, identifier: str, *, param: str, in_path: bool = False) -> Row:
        """The object or Stripe's resource_missing: 404 for a path, 400 for a parameter."""
        found = self.store.get(kind, identifier)
        if found is None:
            label = kind.rsplit(".", 1)[-1].replace("_", "") if kind == "payment_method" else kind
            label = {"paymentmethod": "PaymentMethod", "checkout.session": "checkout.session"}.get(
                label, label
            )
            raise no_such(label, identifier, param=param, status=404 if in_path else 400)
        return found

    def emit(self, kind: str, obj: Row, previous: dict[str, Any] | None = None) -> Row:
        """Record an event with a snapshot of the object and hand it to the webhooks."""
        data: Row = {"object": copied(obj)}
        if previous is not None:
            data["previous_attributes"] = previous
        event = {
            "id": self.new_id("evt"),
            "object": "event",
            "api_version": sdk_source.api_version(),
            "created": self.now(),
            "data": data,
            "livemode": False,
            "pending_webhooks": 0,
            "request": {
                "id": self.caller.request_id,
                "idempotency_key": self.caller.idempotency_key,
            },
            "type": kind,
        }
        if self.account is not None:
            event["account"] = self.account
        self.save(event)
        self.on_event(self, event)
        return event

    def emit_thin(
        self, kind: str, related: tuple[str, str, str] | None, data: dict[str, Any] | None = None
    ) -> Row:
        """Record a thin event about `related` (id, object, url); only its notification is sent."""
        caused = self.caller.request_id is not None
        event: Row = {
            "id": self.new_id("evt_test", 40),
            "object": THIN,
            "changes": None,
            "context": None,
            "created": iso(self.clock.now()),
            "livemode": False,
            "reason": {
                "type": "request",
                "request": {
                    "id": self.caller.request_id,
                    "idempotency_key": self.caller.idempotency_key or "",
                },
            }
            if caused
            else None,
            "snapshot_event": None,
            "type": kind,
        }
        if related is not None:
            event["related_object"] = dict(zip(("id", "type", "url"), related, strict=True))
        if data is not None:
            event["data"] = data
        self.save(event)
        self.on_event(self, event)
        return event

    # -- what time brings ---------------------------------------------------------------------

    def later(self, seconds: float, what: str, identifier: str) -> None:
        """Run DUE[what](self, identifier) once the clock has moved on by `seconds`."""
        row = {"at": self.clock.now() + seconds, "what": what, "id": identifier}
        self.store.put(LATER, self.new_id("later"), row)

    def run_due(self) -> None:
        """Do what is due, earliest first. The caller is inside a transaction."""
        for account in self.connected():
            account.run_due()
        now = self.clock.now()
        ready = [(row["at"], key, row) for key, row in self.store.items(LATER) if row["at"] <= now]
        for _, key, row in sorted(ready, key=lambda r: float(r[0])):
            self.store.remove(LATER, key)
            DUE[row["what"]](self, row["id"])

    # -- lists and expansion ------------------------------------------------------------------

    def page(
        self,
        rows: list[Row],
        params: Params,
        url: str,
        *,
        newest_first: bool = True,
    ) -> Row:
        """One page of `rows` (oldest first) by Stripe's cursors."""
        ordered = list(reversed(rows)) if newest_first else rows
        limit = params.get("limit", 10)
        if not 1 <= limit <= 100:
            raise invalid_request(
                f"Invalid limit: {limit}; must be between 1 and 100",
                param="limit",
                code="parameter_invalid_integer",
            )
        after, before = params.get("starting_after"), params.get("ending_before")
        if after is not None and before is not None:
            raise invalid_request(
                "You may only specify one of these parameters: starting_after, ending_before.",
                code="parameters_exclusive",
            )
        ids = [row["id"] for row in ordered]
        if after is not None:
            rest = ordered[self._index(ids, after, "starting_after") + 1 :]
            data, more = rest[:limit], len(rest) > limit
        elif before is not None:
            rest = ordered[: self._index(ids, before, "ending_before")]
            data, more = rest[-limit:], len(rest) > limit
        else:
            data, more = ordered[:limit], len(ordered) > limit
        return {"object": "list", "data": copied(data), "has_more": more, "url": url}

    @staticmethod
    def _index(ids: list[str], cursor: str, param: str) -> int:
        try:
            return ids.index(cursor)
        except ValueError:
            raise no_such("object", cursor, param=param) from None

    def expand(self, answer: Row, paths: list[str]) -> None:
        """Replace ids by objects in place, along each dotted path."""
        for path in paths:
            parts = path.split(".")
            if len(parts) > MAX_EXPAND + (parts[0] == "data"):
                raise invalid_request(
                    f"You cannot expand more than {MAX_EXPAND} levels of a property ({path}).",
                    param="expand",
                )
            self._expand(answer, parts, path)

    def _expand(self, node: Any, parts: list[str], path: str) -> None:
        if not parts or node is None:
            return
        if isinstance(node, list):
            for item in node:
                self._expand(item, parts, path)
            return
        name = parts[0]
        kind = node.get("object") if isinstance(node, dict) else None
        if isinstance(node, dict) and (kind, name) in INCLUDED and name not in node:
            node[name] = INCLUDED[str(kind), name](self, node)
        if not isinstance(node, dict) or not self._has(node, name):
            raise invalid_request(f"This property cannot be expanded ({path}).", param="expand")
        value = node.get(name)
        if isinstance(value, str):
            node[name] = self._object_of(value, path)
        self._expand(node.get(name), parts[1:], path)

    @staticmethod
    def _has(node: Row, name: str) -> bool:
        if name in node:
            return True
        kind = node.get("object")
        return kind not in (None, "list") and name in answers.shape(str(kind)).fields

    def _object_of(self, identifier: str, path: str) -> Row:
        kind = PREFIXES.get(identifier.split("_", 1)[0])
        if kind is None and "_" in identifier:
            raise not_simulated(f"the object {path} ({identifier})")
        found = self.store.get(kind, identifier) if kind else None
        if found is None:
            raise invalid_request(f"This property cannot be expanded ({path}).", param="expand")
        return found


def iso(seconds: float) -> str:
    """A time as v2 prints it: RFC 3339 in UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"


def matches_time(value: int, wanted: Any) -> bool:
    """Stripe's `created` filter: an exact second or a mapping with gt, gte, lt, lte."""
    if wanted is None:
        return True
    if isinstance(wanted, int):
        return value == wanted
    return bool(
        value > wanted.get("gt", -1)
        and value >= wanted.get("gte", 0)
        and value < wanted.get("lt", value + 1)
        and value <= wanted.get("lte", value)
    )


def merged_metadata(current: dict[str, str], change: Any) -> dict[str, str]:
    """Metadata after an update: '' for one key removes it, '' for all clears."""
    if change == "":
        return {}
    result = {k: v for k, v in {**current, **(change or {})}.items() if v != ""}
    if len(result) > 50:
        raise invalid_request("Metadata can have at most 50 keys", param="metadata")
    for key, value in result.items():
        if len(key) > 40 or len(value) > 500:
            raise invalid_request(
                "Metadata keys can have up to 40 characters and values up to 500",
                param=f"metadata[{key[:40]}]",
            )
    return result


def usd_only(currency: str, param: str = "currency") -> str:
    """The simulator keeps one balance, in US dollars; other currencies are a 501."""
    if currency.lower() != "usd":
        if not (len(currency) == 3 and currency.isascii() and currency.isalpha()):
            raise invalid_request(f"Invalid currency: {currency}", param=param)
        raise not_simulated(f"the currency {currency}")
    return "usd"
