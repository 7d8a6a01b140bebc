"""Events and webhook endpoints."""

from devstack.stripe import answers
from devstack.stripe.core import Simulator, matches_time, merged_metadata
from devstack.stripe.errors import invalid_request
from devstack.stripe.registry import PAGING, Answer, Params, operation
from devstack.stripe.webhooks import ENDPOINTS, SECRETS, is_loopback

KEPT_S = 30 * 24 * 3600


@operation("GET", "/v1/events/{id}", connected=True)
def retrieve(sim: Simulator, params: Params, *, id: str) -> Answer:
    return sim.fetch("event", id, param="id", in_path=True)


@operation(
    "GET", "/v1/events", takes=f"{PAGING} type types created delivery_success", connected=True
)
def listing(sim: Simulator, params: Params) -> Answer:
    if "type" in params and "types" in params:
        raise invalid_request(
            "You may only specify one of these parameters: type, types.",
            code="parameters_exclusive",
        )
    wanted = params.get("types") or ([params["type"]] if "type" in params else None)
    if wanted is not None and len(wanted) > 20:
        raise invalid_request("You may specify at most 20 types.", param="types")
    rows = [
        e
        for e in sim.store.rows("event")
        if e["created"] > sim.now() - KEPT_S
        and (wanted is None or any(_fits(e["type"], w) for w in wanted))
        and matches_time(e["created"], params.get("created"))
        and params.get("delivery_success") in (None, e["pending_webhooks"] == 0)
    ]
    return sim.page(rows, params, "/v1/events")


def _fits(kind: str, wanted: str) -> bool:
    """`charge.*` names a whole family, as in Stripe's `type` filter."""
    return kind.startswith(wanted[:-1]) if wanted.endswith(".*") else kind == wanted


def add_endpoint(
    sim: Simulator,
    url: str,
    enabled: list[str],
    *,
    secret: str | None = None,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
    api_version: str | None = None,
    everything: bool = False,
) -> Answer:
    """A stored, enabled endpoint; 400 for an address that is not loopback.

    With `everything` it also gets thin events and the events of connected accounts.
    """
    if not is_loopback(url):
        raise invalid_request(
            "Invalid URL: the simulator delivers to http(s) loopback addresses only.",
            param="url",
            code="url_invalid",
        )
    endpoint = answers.blank(
        ENDPOINTS,
        id=sim.new_id("we"),
        created=sim.now(),
        description=description,
        enabled_events=enabled,
        metadata=metadata or {},
        status="enabled",
        url=url,
        api_version=api_version,
    )
    sim.save(endpoint)
    row = {"secret": secret or sim.new_id("whsec", 32), "all": everything}
    sim.store.put(SECRETS, endpoint["id"], row)
    return endpoint


@operation(
    "POST", "/v1/webhook_endpoints", takes="url enabled_events description metadata api_version"
)
def create(sim: Simulator, params: Params) -> Answer:
    endpoint = add_endpoint(
        sim,
        params["url"],
        params["enabled_events"],
        description=params.get("description"),
        metadata=merged_metadata({}, params.get("metadata")),
        api_version=params.get("api_version"),
    )
    stored = sim.store.get(SECRETS, endpoint["id"])
    assert stored is not None
    # Stripe shows the secret once, in the answer to the creation.
    return {**endpoint, "secret": stored["secret"]}


@operation("GET", "/v1/webhook_endpoints/{webhook_endpoint}")
def retrieve_endpoint(sim: Simulator, params: Params, *, webhook_endpoint: str) -> Answer:
    return sim.fetch(ENDPOINTS, webhook_endpoint, param="id", in_path=True)


@operation(
    "POST",
    "/v1/webhook_endpoints/{webhook_endpoint}",
    takes="url enabled_events description metadata disabled",
)
def update_endpoint(sim: Simulator, params: Params, *, webhook_endpoint: str) -> Answer:
    endpoint = sim.fetch(ENDPOINTS, webhook_endpoint, param="id", in_path=True)
    if "url" in params and not is_loopback(params["url"]):
        raise invalid_request("Invalid URL", param="url", code="url_invalid")
    if "metadata" in params:
        endpoint["metadata"] = merged_metadata(endpoint["metadata"], params["metadata"])
    if "disabled" in params:
        endpoint["status"] = "disabled" if params["disabled"] else "enabled"
    for name in ("url", "enabled_events", "description"):
        if name in params:
            endpoint[name] = params[name] or None
    return sim.save(endpoint)


@operation("DELETE", "/v1/webhook_endpoints/{webhook_endpoint}")
def delete_endpoint(sim: Simulator, params: Params, *, webhook_endpoint: str) -> Answer:
    endpoint = sim.fetch(ENDPOINTS, webhook_endpoint, param="id", in_path=True)
    sim.store.remove(ENDPOINTS, endpoint["id"])
    sim.store.remove(SECRETS, endpoint["id"])
    return {"id": endpoint["id"], "object": ENDPOINTS, "deleted": True}


@operation("GET", "/v1/webhook_endpoints", takes=PAGING)
def list_endpoints(sim: Simulator, params: Params) -> Answer:
    return sim.page(sim.store.rows(ENDPOINTS), params, "/v1/webhook_endpoints")
