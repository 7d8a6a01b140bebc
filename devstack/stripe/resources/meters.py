"""Billing meters, meter events and their summaries.

Meter events are accepted at once and judged later, as at Stripe: an unknown event name, an unknown
customer or a value that is no whole number is accepted and reported as an error afterwards. The
errors are kept in the table `meter_error` (control: objects);
`control.order("report_meter_errors")` sends Stripe's thin events about those not reported yet.
"""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator, iso
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, operation, order

KIND = "billing.meter"
EVENTS = "billing.meter_event"
ERRORS = "meter_error"
IDENTIFIERS = "meter_identifier"
UNIQUE_S = 24 * 3600
OLDEST_S = 35 * 24 * 3600
FUTURE_S = 5 * 60
WINDOWS = {None: 60, "hour": 3600, "day": 86400}


@operation(
    "POST",
    "/v1/billing/meters",
    takes="display_name event_name default_aggregation customer_mapping value_settings "
    "event_time_window",
)
def create(sim: Simulator, params: Params) -> Answer:
    for meter in sim.store.rows(KIND):
        if meter["event_name"] == params["event_name"] and meter["status"] == "active":
            raise invalid_request(
                f"An active meter already exists with event name {params['event_name']}.",
                param="event_name",
                code="resource_already_exists",
            )
    mapping = {"event_payload_key": "stripe_customer_id", "type": "by_id"}
    meter = answers.blank(
        KIND,
        id=sim.new_id("mtr_test", 32),
        created=sim.now(),
        customer_mapping=mapping | params.get("customer_mapping", {}),
        default_aggregation=params["default_aggregation"],
        display_name=params["display_name"],
        event_name=params["event_name"],
        event_time_window=params.get("event_time_window"),
        status="active",
        status_transitions={"deactivated_at": None},
        updated=sim.now(),
        value_settings={"event_payload_key": "value"} | params.get("value_settings", {}),
    )
    sim.save(meter)
    sim.emit("billing.meter.created", meter)
    return meter


def _fetch(sim: Simulator, meter: str) -> Answer:
    return sim.fetch(KIND, meter, param="id", in_path=True)


@operation("GET", "/v1/billing/meters/{id}")
def retrieve(sim: Simulator, params: Params, *, id: str) -> Answer:
    return _fetch(sim, id)


@operation("POST", "/v1/billing/meters/{id}", takes="display_name")
def update(sim: Simulator, params: Params, *, id: str) -> Answer:
    meter = _fetch(sim, id) | params | {"updated": sim.now()}
    sim.save(meter)
    sim.emit("billing.meter.updated", meter)
    return meter


@operation("GET", "/v1/billing/meters", takes=f"{PAGING} status")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [m for m in sim.store.rows(KIND) if params.get("status") in (None, m["status"])]
    return sim.page(rows, params, "/v1/billing/meters")


def _switch(sim: Simulator, meter: Answer, *, active: bool) -> Answer:
    wanted = "active" if active else "inactive"
    if meter["status"] == wanted:
        raise invalid_request(f"This meter is already {wanted}.")
    meter |= {
        "status": wanted,
        "status_transitions": {"deactivated_at": None if active else sim.now()},
        "updated": sim.now(),
    }
    sim.save(meter)
    sim.emit(f"billing.meter.{'reactivated' if active else 'deactivated'}", meter)
    return meter


@operation("POST", "/v1/billing/meters/{id}/deactivate")
def deactivate(sim: Simulator, params: Params, *, id: str) -> Answer:
    return _switch(sim, _fetch(sim, id), active=False)


@operation("POST", "/v1/billing/meters/{id}/reactivate")
def reactivate(sim: Simulator, params: Params, *, id: str) -> Answer:
    return _switch(sim, _fetch(sim, id), active=True)


@operation("POST", "/v1/billing/meter_events", takes="event_name payload identifier timestamp")
def record(sim: Simulator, params: Params) -> Answer:
    identifier = params.get("identifier") or sim.new_id("mevt")
    if len(identifier) > 100:
        raise invalid_request(
            "Invalid string: identifier must be at most 100 characters", param="identifier"
        )
    seen = sim.store.get(IDENTIFIERS, identifier)
    if seen is not None and seen["at"] > sim.now() - UNIQUE_S:
        raise invalid_request(
            f"An event already exists with identifier {identifier}.", param="identifier"
        )
    timestamp = params.get("timestamp", sim.now())
    if timestamp < sim.now() - OLDEST_S:
        raise invalid_request(
            "The timestamp must be within the past 35 calendar days.",
            param="timestamp",
            code="timestamp_too_far_in_past",
        )
    if timestamp > sim.now() + FUTURE_S:
        raise invalid_request(
            "The timestamp must be no more than 5 minutes in the future.",
            param="timestamp",
            code="timestamp_in_future",
        )
    event = answers.blank(
        EVENTS,
        created=sim.now(),
        event_name=params["event_name"],
        identifier=identifier,
        payload=params["payload"],
        timestamp=timestamp,
    )
    answers.check(event)
    sim.store.put(IDENTIFIERS, identifier, {"at": sim.now()})
    error = _judge(sim, event)
    row = {"event": event, "error": error, "canceled": False}
    sim.store.put(ERRORS if error else EVENTS, sim.new_id("row"), row)
    return event


def _meter_of(sim: Simulator, event_name: str) -> Answer | None:
    for meter in sim.store.rows(KIND):
        if meter["event_name"] == event_name and meter["status"] == "active":
            return meter
    return None


def _judge(sim: Simulator, event: Answer) -> str | None:
    """Stripe's later verdict: an error code of the error report, or None when it counts."""
    meter = _meter_of(sim, event["event_name"])
    if meter is None:
        named = any(m["event_name"] == event["event_name"] for m in sim.store.rows(KIND))
        return "archived_meter" if named else "no_meter"
    customer = event["payload"].get(meter["customer_mapping"]["event_payload_key"])
    if customer is None:
        return "meter_event_no_customer_defined"
    found = sim.find("customer", customer)
    if found is None or found.get("deleted"):
        return "meter_event_customer_not_found"
    if meter["default_aggregation"]["formula"] == "count":
        return None
    value = event["payload"].get(meter["value_settings"]["event_payload_key"])
    whole = value is not None and value.removeprefix("-").isdecimal()
    return None if whole else "meter_event_invalid_value"


@order("report_meter_errors")
def report_errors(sim: Simulator) -> int:
    """Tell about the refused events that were not told about yet; returns how many."""
    waiting = [(k, r) for k, r in sim.store.items(ERRORS) if not r.get("reported")]
    groups: dict[str | None, list[dict[str, Any]]] = {}
    for key, row in waiting:
        sim.store.put(ERRORS, key, row | {"reported": True})
        groups.setdefault(_reported_on(sim, row["event"]["event_name"]), []).append(row)
    for meter, rows in groups.items():
        data = _report(sim, rows)
        if meter is None:
            sim.emit_thin("v1.billing.meter.no_meter_found", None, data)
        else:
            related = (meter, KIND, f"/v1/billing/meters/{meter}")
            sim.emit_thin("v1.billing.meter.error_report_triggered", related, data)
    return len(waiting)


def _reported_on(sim: Simulator, event_name: str) -> str | None:
    named = [m["id"] for m in sim.store.rows(KIND) if m["event_name"] == event_name]
    return str(named[-1]) if named else None


def _report(sim: Simulator, rows: list[dict[str, Any]]) -> dict[str, Any]:
    codes = list(dict.fromkeys(row["error"] for row in rows))
    kinds = [[row for row in rows if row["error"] == code] for code in codes]
    return {
        "developer_message_summary": f"There are {len(rows)} invalid event(s)",
        "reason": {
            "error_count": len(rows),
            "error_types": [
                {
                    "code": same[0]["error"],
                    "error_count": len(same),
                    "sample_errors": [
                        {
                            "error_message": row["error"],
                            "request": {"identifier": row["event"]["identifier"]},
                        }
                        for row in same[:10]
                    ],
                }
                for same in kinds
            ],
        },
        "validation_end": iso(sim.clock.now()),
        "validation_start": iso(min(row["event"]["created"] for row in rows)),
    }


@operation("POST", "/v1/billing/meter_event_adjustments", takes="event_name type cancel")
def adjust(sim: Simulator, params: Params) -> Answer:
    identifier = params.get("cancel", {}).get("identifier")
    for key, row in _events(sim):
        event = row["event"]
        if event["identifier"] == identifier and event["event_name"] == params["event_name"]:
            if event["created"] < sim.now() - UNIQUE_S:
                raise invalid_request("Events can only be cancelled within 24 hours.")
            sim.store.put(EVENTS, key, {**row, "canceled": True})
            return answers.blank(
                "billing.meter_event_adjustment",
                cancel={"identifier": identifier},
                event_name=params["event_name"],
                status="complete",
                type="cancel",
            )
    raise invalid_request(
        f"No meter event found with identifier {identifier}.",
        param="cancel[identifier]",
        code="resource_missing",
    )


def _events(sim: Simulator) -> list[tuple[str, dict[str, Any]]]:
    return sim.store.items(EVENTS)


@operation(
    "GET",
    "/v1/billing/meters/{id}/event_summaries",
    takes=f"{PAGING} customer start_time end_time value_grouping_window",
)
def summaries(sim: Simulator, params: Params, *, id: str) -> Answer:
    meter = _fetch(sim, id)
    window = params.get("value_grouping_window")
    start, end = params["start_time"], params["end_time"]
    for name, value in (("start_time", start), ("end_time", end)):
        if value % WINDOWS[window]:
            raise invalid_request(
                f"The {name} must be aligned with {window or 'minute'} boundaries.", param=name
            )
    if end <= start:
        raise invalid_request("The end_time must be after the start_time.", param="end_time")
    step = WINDOWS[window] if window else end - start
    key = meter["customer_mapping"]["event_payload_key"]
    counted = [
        row["event"]
        for _, row in _events(sim)
        if not row["canceled"]
        and row["event"]["event_name"] == meter["event_name"]
        and row["event"]["payload"].get(key) == params["customer"]
        and start <= row["event"]["timestamp"] < end
    ]
    rows = []
    for begin in range(start, end, step):
        inside = [e for e in counted if begin <= e["timestamp"] < begin + step]
        if inside or window is None:
            rows.append(
                answers.blank(
                    "billing.meter_event_summary",
                    id=f"mtrusg_test_{meter['id'][-8:]}{begin}",
                    aggregated_value=_aggregate(meter, inside),
                    meter=meter["id"],
                    start_time=begin,
                    end_time=min(begin + step, end),
                )
            )
    return sim.page(rows, params, f"/v1/billing/meters/{meter['id']}/event_summaries")


def _aggregate(meter: Answer, events: list[Answer]) -> int:
    formula = meter["default_aggregation"]["formula"]
    key = meter["value_settings"]["event_payload_key"]
    if formula == "count":
        return len(events)
    values = [int(e["payload"][key]) for e in sorted(events, key=lambda e: int(e["timestamp"]))]
    if formula == "sum":
        return sum(values)
    if formula == "last":
        return values[-1] if values else 0
    raise not_simulated(f"the aggregation {formula}")
