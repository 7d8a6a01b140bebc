"""Thin events (v2): retrieve and list, for a poller that looks for lost notifications."""

import base64
import json
from datetime import datetime
from typing import Any

from devstack.stripe.core import THIN, Simulator
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import Answer, Params, operation
from devstack.stripe.resources.events import KEPT_S

PAGE = 20


def page(rows: list[Answer], params: Params, path: str) -> Answer:
    """One v2 page of `rows`, newest first; the token of the next page carries the filters."""
    limit = params.get("limit", PAGE)
    if not 1 <= limit <= 100:
        raise invalid_request("limit must be between 1 and 100", param="limit")
    start = params.get("start", 0)
    ordered = rows[::-1]
    following = None
    if start + limit < len(ordered):
        token = json.dumps({**params, "start": start + limit}).encode()
        following = f"{path}?page={base64.urlsafe_b64encode(token).decode()}"
    return {
        "data": ordered[start : start + limit],
        "next_page_url": following,
        "previous_page_url": None,
    }


def filters(params: Params) -> Params:
    """The filters of the call, or those that its page token carries; 400 for a broken token."""
    if "page" not in params:
        return params
    try:
        return dict(json.loads(base64.urlsafe_b64decode(params["page"])))
    except ValueError:
        raise invalid_request("Invalid page token", param="page") from None


@operation("GET", "/v2/core/events/{id}")
def retrieve(sim: Simulator, params: Params, *, id: str) -> Answer:
    return sim.fetch(THIN, id, param="id", in_path=True)


@operation("GET", "/v2/core/events", takes="created limit object_id types")
def listing(sim: Simulator, params: Params) -> Answer:
    wanted = filters(params)
    rows = [
        e
        for e in sim.store.rows(THIN)
        if _seconds(e["created"]) > sim.now() - KEPT_S
        and wanted.get("object_id") in (None, e.get("related_object", {}).get("id"))
        and ("types" not in wanted or e["type"] in wanted["types"])
        and _within(e["created"], wanted.get("created", {}))
    ]
    return page(rows, wanted, "/v2/core/events")


def _seconds(text: str) -> float:
    try:
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise invalid_request(f"Invalid timestamp: {text}", param="created") from None


def _within(created: str, wanted: dict[str, Any]) -> bool:
    at = _seconds(created)
    limits = {name: _seconds(text) for name, text in wanted.items()}
    return (
        at > limits.get("gt", -1)
        and at >= limits.get("gte", 0)
        and at < limits.get("lt", at + 1)
        and at <= limits.get("lte", at)
    )
