"""The billing portal: configurations, and sessions with a page where a customer keeps cards and
address and finds invoices.

As at Stripe, a session needs a configuration of the caller's own until somebody has saved the
portal's settings in the Dashboard: `control.order("save_portal")`.

Limit: no subscriptions, no flows, no login page.
"""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import Simulator, merged_metadata
from devstack.stripe.errors import invalid_request, not_simulated
from devstack.stripe.registry import PAGING, Answer, Params, only, operation, order
from devstack.stripe.resources import customers

KIND = "billing_portal.configuration"
SESSIONS = "portal_session"
LIVES_S = 3600
_SETTINGS = "business_profile default_return_url features metadata name"
_FEATURES = "customer_update invoice_history payment_method_update"


@operation("POST", "/v1/billing_portal/configurations", takes=_SETTINGS)
def create(sim: Simulator, params: Params) -> Answer:
    return _new(sim, params, default=False)


def _new(sim: Simulator, params: Params, *, default: bool) -> Answer:
    configuration = answers.blank(
        KIND,
        id=sim.new_id("bpc"),
        active=True,
        business_profile=dict.fromkeys(("headline", "privacy_policy_url", "terms_of_service_url")),
        created=sim.now(),
        features=_nothing(),
        is_default=default,
        login_page={"enabled": False, "url": None},
        metadata={},
        updated=sim.now(),
    )
    _edit(sim, configuration, params)
    sim.emit("billing_portal.configuration.created", configuration)
    return configuration


def _nothing() -> dict[str, Any]:
    return {
        "customer_update": {"allowed_updates": [], "enabled": False},
        "invoice_history": {"enabled": False},
        "payment_method_update": {"enabled": False, "payment_method_configuration": None},
        "subscription_cancel": {
            "cancellation_reason": {"enabled": False, "options": []},
            "enabled": False,
            "mode": "at_period_end",
            "proration_behavior": "none",
        },
        "subscription_pause": {
            "duration": {"interval_options": [], "type": "indefinite"},
            "enabled": False,
        },
        "subscription_update": {
            "billing_cycle_anchor": None,
            "default_allowed_updates": [],
            "enabled": False,
            "products": [],
            "proration_behavior": "none",
            "schedule_at_period_end": {"conditions": []},
            "trial_update_behavior": "end_trial",
        },
    }


def _edit(sim: Simulator, configuration: Answer, params: Params) -> None:
    features = {
        name: given
        for name, given in params.get("features", {}).items()
        if name in _FEATURES.split() or given.get("enabled")
    }
    only(features, _FEATURES, "features")
    for name, given in features.items():
        configuration["features"][name] |= {k: v or [] if v == "" else v for k, v in given.items()}
    profile = params.get("business_profile", {})
    configuration["business_profile"] |= {k: v or None for k, v in profile.items()}
    for name in ("default_return_url", "name", "active"):
        if name in params:
            value = params[name]
            configuration[name] = None if value == "" else value
    configuration["metadata"] = merged_metadata(configuration["metadata"], params.get("metadata"))
    configuration["updated"] = sim.now()
    sim.save(configuration)


@order("save_portal")
def save_portal(sim: Simulator) -> Answer:
    """Somebody saved the portal's settings in the Dashboard: there is a default now."""
    everything = {
        "customer_update": {"enabled": True, "allowed_updates": ["email", "name", "address"]},
        "invoice_history": {"enabled": True},
        "payment_method_update": {"enabled": True},
    }
    return _new(sim, {"features": everything}, default=True)


@operation("POST", "/v1/billing_portal/configurations/{configuration}", takes=f"active {_SETTINGS}")
def update(sim: Simulator, params: Params, *, configuration: str) -> Answer:
    found = sim.fetch(KIND, configuration, param="configuration", in_path=True)
    _edit(sim, found, params)
    sim.emit("billing_portal.configuration.updated", found)
    return found


@operation("GET", "/v1/billing_portal/configurations/{configuration}")
def retrieve(sim: Simulator, params: Params, *, configuration: str) -> Answer:
    return sim.fetch(KIND, configuration, param="configuration", in_path=True)


@operation("GET", "/v1/billing_portal/configurations", takes=f"{PAGING} active is_default")
def listing(sim: Simulator, params: Params) -> Answer:
    rows = [
        c
        for c in sim.store.rows(KIND)
        if params.get("active") in (None, c["active"])
        and params.get("is_default") in (None, c["is_default"])
    ]
    return sim.page(rows, params, "/v1/billing_portal/configurations")


@operation("POST", "/v1/billing_portal/sessions", takes="configuration customer locale return_url")
def open_session(sim: Simulator, params: Params) -> Answer:
    if "customer" not in params:
        raise not_simulated("a portal session without a customer")
    customer = customers.fetch(sim, params["customer"])
    configuration = _configuration(sim, params)
    back = params.get("return_url") or configuration["default_return_url"]
    identifier = sim.new_id("bps")
    session = answers.blank(
        "billing_portal.session",
        id=identifier,
        configuration=configuration["id"],
        created=sim.now(),
        customer=customer["id"],
        locale=params.get("locale"),
        return_url=back,
        url=f"{sim.base_url}/p/session/{identifier}",
    )
    answers.check(session)
    sim.store.put(SESSIONS, identifier, session)
    sim.emit("billing_portal.session.created", session)
    return session


def _configuration(sim: Simulator, params: Params) -> Answer:
    if "configuration" in params:
        found = sim.fetch(KIND, params["configuration"], param="configuration")
        if not found["active"]:
            raise invalid_request("This configuration is not active.", param="configuration")
        return found
    default = next((c for c in sim.store.rows(KIND) if c["is_default"] and c["active"]), None)
    if default is None:
        raise invalid_request(
            "No configuration provided and your test mode default configuration has not been "
            "created. Provide a configuration or create your default by saving your customer "
            "portal settings in test mode."
        )
    return default
