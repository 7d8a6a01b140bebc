"""Tax ids of customers. Their value decides the verification, as on Stripe's testing page."""

from devstack.stripe import answers
from devstack.stripe.core import Simulator
from devstack.stripe.registry import PAGING, Answer, Params, included, operation
from devstack.stripe.resources import customers

KIND = "tax_id"
_VERDICTS = {"000000000": "verified", "111111111": "unverified", "222222222": "pending"}
_VERIFIED_TYPES = frozenset(["eu_vat", "gb_vat", "au_abn"])


def of(sim: Simulator, customer: str) -> list[Answer]:
    """Tax ids of a customer, oldest first."""
    return [t for t in sim.store.rows(KIND) if t["customer"] == customer]


@operation("POST", "/v1/customers/{customer}/tax_ids", takes="type value")
def create(sim: Simulator, params: Params, *, customer: str) -> Answer:
    owner = customers.fetch(sim, customer, in_path=True)["id"]
    status = next((v for k, v in _VERDICTS.items() if params["value"].endswith(k)), "pending")
    known = params["type"] in _VERIFIED_TYPES
    tax_id = answers.blank(
        KIND,
        id=sim.new_id("txi"),
        country=params["type"][:2].upper() if params["type"] != "eu_vat" else params["value"][:2],
        created=sim.now(),
        customer=owner,
        owner={
            "account": None,
            "application": None,
            "customer": owner,
            "customer_account": None,
            "type": "customer",
        },
        type=params["type"],
        value=params["value"],
        verification={
            "status": status if known else "unavailable",
            "verified_address": None,
            "verified_name": None,
        },
    )
    sim.save(tax_id)
    sim.emit("customer.tax_id.created", tax_id)
    return tax_id


@operation("GET", "/v1/customers/{customer}/tax_ids/{id}")
def retrieve(sim: Simulator, params: Params, *, customer: str, id: str) -> Answer:
    customers.fetch(sim, customer, in_path=True)
    return sim.fetch(KIND, id, param="id", in_path=True)


@operation("DELETE", "/v1/customers/{customer}/tax_ids/{id}")
def delete(sim: Simulator, params: Params, *, customer: str, id: str) -> Answer:
    found = retrieve(sim, params, customer=customer, id=id)
    sim.store.remove(KIND, id)
    sim.emit("customer.tax_id.deleted", found)
    return {"id": id, "object": KIND, "deleted": True}


@operation("GET", "/v1/customers/{customer}/tax_ids", takes=PAGING)
def listing(sim: Simulator, params: Params, *, customer: str) -> Answer:
    owner = customers.fetch(sim, customer, in_path=True)["id"]
    return sim.page(of(sim, owner), params, f"/v1/customers/{owner}/tax_ids")


@included("customer", "tax_ids")
def _included(sim: Simulator, customer: Answer) -> Answer:
    return sim.page(of(sim, customer["id"]), {}, f"/v1/customers/{customer['id']}/tax_ids")
