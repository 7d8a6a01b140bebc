"""Holds the simulator to the SDK's description of what Stripe answers.

`blank` starts an object with every nullable field, `check` refuses an object with a field that
Stripe does not have, without one that Stripe always sends, or with a value outside its enum.
Every answer and every event passes `check`: a slip here is a 500, not a plausible answer.
"""

import ast
from functools import cache
from typing import Any

from devstack.stripe import annotations, sdk_source
from devstack.stripe.shapes import Nullable, Record, ShapeError

# Stripe leaves these out unless they are asked for by `expand` or apply to the object.
_ABSENT: dict[str, frozenset[str]] = {
    "customer": frozenset(
        [
            "deleted",
            "cash_balance",
            "sources",
            "subscriptions",
            "tax",
            "tax_ids",
            "invoice_credit_balance",
        ]
    ),
    "charge": frozenset(
        ["refunds", "level3", "presentment_details", "authorization_code", "transfer"]
    ),
    "tax_id": frozenset({"deleted"}),
    "tax.calculation": frozenset({"line_items"}),
    "tax.calculation_line_item": frozenset({"tax_breakdown"}),
    "tax.transaction": frozenset({"line_items"}),
    "refund": frozenset(
        ["description", "instructions_email", "next_action", "presentment_details"]
    ),
    "invoice": frozenset(["deleted", "payments", "confirmation_secret", "amount_paid_off_stripe"]),
    "invoiceitem": frozenset({"deleted"}),
    "checkout.session": frozenset(
        ["line_items", "presentment_details", "optional_items", "phone_number_collection"]
    ),
    "payment_intent": frozenset(
        ["presentment_details", "hooks", "amount_details", "payment_details", "payment_record"]
    ),
    "webhook_endpoint": frozenset(["deleted", "secret"]),
    "price": frozenset(["deleted", "currency_options", "tiers"]),
}
# One member per payment method type exists; only the member of its own type is sent.
_PRESENT: dict[str, frozenset[str]] = {
    "payment_method": frozenset(
        [
            "id",
            "object",
            "allow_redisplay",
            "billing_details",
            "created",
            "customer",
            "customer_account",
            "livemode",
            "metadata",
            "radar_options",
            "type",
        ]
    ),
}


class AnswerError(AssertionError):
    """The simulator built an object that Stripe would not send."""


@cache
def _classes() -> dict[str, tuple[str, str]]:
    """Object name -> (module, class), from the SDK's own table."""
    tree = ast.parse(sdk_source.module_path("stripe._object_classes").read_text())
    found: dict[str, tuple[str, str]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and isinstance(value, ast.Tuple):
                    module, name = (ast.literal_eval(e) for e in value.elts)
                    found.setdefault(str(key.value), (module, name))
    if "customer" not in found:
        raise LookupError("the stripe package's table of object classes was not understood")
    return found


@cache
def shape(object_name: str) -> Record:
    """Shape of an object by the value of its `object` member."""
    return annotations.answer_shape(*_classes()[object_name])


def blank(object_name: str, **fields: Any) -> dict[str, Any]:
    """A new object: `fields`, and null for each nullable field that Stripe always sends."""
    absent = _ABSENT.get(object_name, frozenset())
    present = _PRESENT.get(object_name)
    nulls = {
        name: None
        for name, kind in shape(object_name).fields.items()
        if isinstance(kind, Nullable)
        and name not in absent
        and (present is None or name in present)
    }
    always: dict[str, Any] = {"object": object_name}
    if "livemode" in shape(object_name).fields:
        always["livemode"] = False
    first = {"id": fields["id"]} if "id" in fields else {}
    return {**first, **always, **nulls, **fields}


def nulls(object_name: str, member: str) -> dict[str, Any]:
    """Null for each nullable field of an object's member, e.g. the evidence of a dispute."""
    inner = shape(object_name).fields[member]
    if isinstance(inner, Nullable):
        inner = inner.inner
    resolved = inner.resolve() if isinstance(inner, annotations.Later) else inner
    if not isinstance(resolved, Record):
        raise LookupError(f"{member} of {object_name} is no object")
    return {name: None for name, kind in resolved.fields.items() if isinstance(kind, Nullable)}


@cache
def _thin_shape(event_type: str) -> Record:
    """Shape of a thin event: what all have, and the data and related object of its own class."""
    path = sdk_source.module_path("stripe.events._event_classes")
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                if isinstance(key, ast.Constant) and key.value == event_type:
                    module, name = (str(n) for n in ast.literal_eval(value))
                    if name.endswith("Event"):
                        own = annotations.answer_shape(module, name)
                        return Record(
                            name,
                            shape("v2.core.event").fields | own.fields,
                            shape("v2.core.event").required | own.required,
                        )
    raise AnswerError(f"{event_type!r} is no thin event of the API")


def check(answer: dict[str, Any]) -> None:
    """AnswerError unless the object is one that the SDK's classes describe."""
    name = answer.get("object")
    if name == "list" or (name is None and "next_page_url" in answer):
        for item in answer["data"]:
            check(item)
        return
    if answer.get("deleted") is True:
        if set(answer) != {"id", "object", "deleted"}:
            raise AnswerError(f"a deleted {name} has more than id, object, deleted")
        return
    if name not in _classes():
        raise AnswerError(f"{name!r} is not an object of the API")
    described = _thin_shape(answer["type"]) if name == "v2.core.event" else shape(str(name))
    try:
        described.check(answer, "", "json")
    except ShapeError as error:
        raise AnswerError(f"{name} {answer.get('id')}: {error.message}") from error
