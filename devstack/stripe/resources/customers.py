"""Customers."""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import no_such
from devstack.stripe.registry import PAGING, Answer, Params, included, only, operation

ADDRESS = "city country line1 line2 postal_code state"
_TEXTS = "address description email name phone preferred_locales shipping tax_exempt"
_SETTINGS = "custom_fields default_payment_method footer rendering_options"


def fetch(sim: Simulator, customer: str, *, in_path: bool = False) -> Answer:
    """A live customer; a deleted one is refused where it would be used."""
    found = sim.fetch("customer", customer, param="id" if in_path else "customer", in_path=in_path)
    if found.get("deleted") and not in_path:
        raise no_such("customer", customer, param="customer")
    return found


@operation("POST", "/v1/customers", takes=f"{_TEXTS} metadata invoice_settings payment_method")
def create(sim: Simulator, params: Params) -> Answer:
    customer = answers.blank(
        "customer",
        id=sim.new_id("cus", 14),
        balance=0,
        created=sim.now(),
        delinquent=False,
        invoice_prefix=sim.new_id("x", 8)[2:].upper(),
        invoice_settings={
            "custom_fields": None,
            "default_payment_method": None,
            "footer": None,
            "rendering_options": None,
        },
        metadata={},
        next_invoice_sequence=1,
        preferred_locales=[],
        tax_exempt="none",
    )
    method = params.pop("payment_method", None)
    sim.save(customer)
    _apply(sim, customer, {k: v for k, v in params.items() if k != "invoice_settings"})
    if method is not None:
        from devstack.stripe.resources import payment_methods

        payment_methods.attach_to(sim, payment_methods.resolve(sim, method), customer["id"])
    if "invoice_settings" in params:
        _apply(sim, customer, {"invoice_settings": params["invoice_settings"]})
    sim.save(customer)
    sim.emit("customer.created", customer)
    return customer


@operation("POST", "/v1/customers/{customer}", takes=f"{_TEXTS} metadata invoice_settings")
def update(sim: Simulator, params: Params, *, customer: str) -> Answer:
    found = fetch(sim, customer, in_path=True)
    if found.get("deleted"):
        raise no_such("customer", customer, param="id", status=404)
    before = {k: found[k] for k in params}
    _apply(sim, found, params)
    sim.save(found)
    changed = {k: v for k, v in before.items() if found[k] != v}
    if changed:
        sim.emit("customer.updated", found, changed)
    return found


def _apply(sim: Simulator, customer: Answer, params: Params) -> None:
    for name, value in params.items():
        if name == "metadata":
            customer["metadata"] = merged_metadata(customer["metadata"], value)
        elif name == "invoice_settings":
            _settings(sim, customer, value)
        elif name == "address":
            customer[name] = _address(value)
        elif name == "shipping":
            customer[name] = _shipping(value)
        elif name == "tax_exempt":
            customer[name] = value or "none"
        else:
            customer[name] = value if value != "" else None


def _address(value: Any) -> Any:
    return None if value == "" else dict.fromkeys(ADDRESS.split()) | value


def _shipping(value: Any) -> Any:
    if value == "":
        return None
    blank = dict.fromkeys(["carrier", "name", "phone", "tracking_number"])
    return blank | value | {"address": _address(value["address"])}


def _settings(sim: Simulator, customer: Answer, change: Params) -> None:
    only(change, _SETTINGS, "invoice_settings")
    method = change.get("default_payment_method")
    if method:
        found = sim.fetch(
            "payment_method", method, param="invoice_settings[default_payment_method]"
        )
        if found["customer"] != customer["id"]:
            from devstack.stripe.errors import invalid_request

            raise invalid_request(
                "The customer does not have a payment method with the ID "
                f"{method}. The payment method must be attached to the customer.",
                param="invoice_settings[default_payment_method]",
                code="resource_missing",
            )
    customer["invoice_settings"] |= {k: v if v != "" else None for k, v in change.items()}


@operation("GET", "/v1/customers/{customer}")
def retrieve(sim: Simulator, params: Params, *, customer: str) -> Answer:
    return fetch(sim, customer, in_path=True)


@operation("DELETE", "/v1/customers/{customer}")
def delete(sim: Simulator, params: Params, *, customer: str) -> Answer:
    found = fetch(sim, customer, in_path=True)
    if found.get("deleted"):
        raise no_such("customer", customer, param="id", status=404)
    for method in sim.store.rows("payment_method"):
        if method["customer"] == customer:
            from devstack.stripe.resources import payment_methods

            payment_methods.detach_from(sim, sim.fetch("payment_method", method["id"], param="id"))
    gone = {"id": customer, "object": "customer", "deleted": True}
    sim.save(gone)
    sim.emit("customer.deleted", found)
    return gone


@operation("GET", "/v1/customers", takes=f"{PAGING} email created")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        c
        for c in sim.store.rows("customer")
        if not c.get("deleted")
        and params.get("email") in (None, c["email"])
        and matches_time(c["created"], params.get("created"))
    ]
    return sim.page(rows, params, "/v1/customers")


@included("customer", "sources")
def _sources(sim: Simulator, customer: Answer) -> Answer:
    # Sources are the API before payment methods; no customer here has any.
    url = f"/v1/customers/{customer['id']}/sources"
    return {"object": "list", "data": [], "has_more": False, "url": url}
