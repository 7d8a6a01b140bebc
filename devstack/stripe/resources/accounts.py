"""Connected accounts (v2) as recipients of transfers, and the page on which their owner signs up.

An account starts with requirements and a restricted transfers capability; the onboarding page,
or `control.order("onboard", account=...)`, meets them. `control.order("require", ...)` asks for
more later, as Stripe does.

Limits: the recipient configuration and its transfers capability only; of the identity, country,
entity type and names; no tokens, no persons.
"""

from typing import Any

from devstack.stripe import answers
from devstack.stripe.core import CONNECTED, Simulator, iso, merged_metadata
from devstack.stripe.errors import StripeError, invalid_request
from devstack.stripe.registry import Answer, Params, only, operation, order
from devstack.stripe.resources import charges
from devstack.stripe.resources.thin_events import filters, page

LINKS = "account_link_row"
BANKS = "bank_row"
LINK_LIVES_S = 5 * 60
# Stripe's test numbers of US bank accounts, with the failure of every payout to them.
BANK_ACCOUNTS: dict[str, str | None] = {
    "000123456789": None,
    "000111111116": "no_account",
    "000111111113": "account_closed",
    "000222222227": "insufficient_funds",
    "000333333335": "debit_not_authorized",
    "000444444440": "invalid_currency",
}
CAPABILITIES = ("stripe_transfers", "payouts")
_INCLUDES = {
    "configuration.customer": "configuration",
    "configuration.merchant": "configuration",
    "configuration.recipient": "configuration",
    "defaults": "defaults",
    "future_requirements": "future_requirements",
    "identity": "identity",
    "requirements": "requirements",
}
_NEEDED = (
    "identity.individual.verification",
    "identity.attestations.terms_of_service.account",
    "configuration.recipient.default_outbound_destination",
)


def fetch(sim: Simulator, account: str) -> Answer:
    """A connected account named in the path."""
    return sim.fetch(CONNECTED, account, param="id", in_path=True)


def _shown(account: Answer, params: Params) -> Answer:
    """An account as v2 shows it: what `include` does not name is null."""
    asked = {_INCLUDES[name] for name in params.get("include", [])}
    return account | dict.fromkeys(set(_INCLUDES.values()) - asked)


@operation(
    "POST",
    "/v2/core/accounts",
    takes="configuration contact_email contact_phone dashboard defaults display_name identity "
    "include metadata",
)
def create(sim: Simulator, params: Params) -> Answer:
    wanted = _capabilities(params.get("configuration", {}))
    account = answers.blank(
        CONNECTED,
        id=sim.new_id("acct", 16),
        applied_configurations=["recipient"] if wanted is not None else [],
        closed=False,
        configuration={"customer": None, "merchant": None, "recipient": None},
        contact_email=params.get("contact_email"),
        contact_phone=params.get("contact_phone"),
        created=iso(sim.clock.now()),
        dashboard=params.get("dashboard"),
        defaults=_defaults(params),
        display_name=params.get("display_name"),
        identity=_identity(params.get("identity", {})),
        metadata=merged_metadata({}, params.get("metadata")),
        requirements={
            "alternatives": None,
            "entries": [],
            "summary": {"minimum_deadline": None},
        },
    )
    if wanted is not None:
        requested = wanted.get("stripe_balance", {}).get("stripe_transfers", {}).get("requested")
        _configure(account, requested=bool(requested))
    sim.save(account)
    _tell(sim, account, "v2.core.account.created")
    return _shown(account, params)


def _capabilities(configuration: Params) -> Params | None:
    only(configuration, "recipient", "configuration")
    if "recipient" not in configuration:
        return None
    capabilities: Params = configuration["recipient"].get("capabilities", {})
    only(capabilities, "stripe_balance", "configuration[recipient][capabilities]")
    return capabilities


def _configure(account: Answer, *, requested: bool) -> None:
    granted = {name: _status("restricted") for name in CAPABILITIES}
    account["configuration"]["recipient"] = {
        "applied": True,
        "capabilities": {
            "bank_accounts": None,
            "cards": None,
            "stripe_balance": granted if requested else None,
        },
    }
    if requested:
        account["requirements"] = _requirements([_entry(name, "currently_due") for name in _NEEDED])


def _status(status: str) -> dict[str, Any]:
    missing = {"code": "requirements_past_due", "resolution": "provide_info"}
    return {"status": status, "status_details": [] if status == "active" else [missing]}


def _entry(description: str, deadline: str) -> dict[str, Any]:
    return {
        "awaiting_action_from": "user",
        "description": description,
        "errors": [],
        "impact": {
            "restricts_capabilities": [
                {
                    "capability": "stripe_balance.stripe_transfers",
                    "configuration": "recipient",
                    "deadline": {"status": deadline},
                }
            ]
        },
        "minimum_deadline": {"status": deadline},
        "reference": None,
        "requested_reasons": [{"code": "routine_onboarding"}],
    }


def _requirements(entries: list[dict[str, Any]]) -> dict[str, Any]:
    worst = next(
        (
            status
            for status in ("past_due", "currently_due", "eventually_due")
            if any(e["minimum_deadline"]["status"] == status for e in entries)
        ),
        None,
    )
    deadline = None if worst is None else {"status": worst, "time": None}
    return {"alternatives": None, "entries": entries, "summary": {"minimum_deadline": deadline}}


def _defaults(params: Params) -> dict[str, Any]:
    given = params.get("defaults", {})
    only(given, "currency locales profile responsibilities", "defaults")
    responsibilities = {"fees_collector": "application", "losses_collector": "application"}
    return {
        "currency": given.get("currency", "usd"),
        "locales": given.get("locales"),
        "payout_methods": None,
        "profile": None
        if "profile" not in given
        else dict.fromkeys(("business_url", "doing_business_as", "product_description"))
        | given["profile"],
        "responsibilities": responsibilities
        | given.get("responsibilities", {})
        | {"requirements_collector": "application" if not params.get("dashboard") else "stripe"},
    }


def _identity(given: Params) -> dict[str, Any]:
    only(given, "business_details country entity_type", "identity")
    details = given.get("business_details")
    only(details or {}, "registered_name", "identity[business_details]")
    return answers.nulls(CONNECTED, "identity") | {
        "country": given.get("country", "us"),
        "entity_type": given.get("entity_type"),
        "business_details": details,
    }


@operation("GET", "/v2/core/accounts/{id}", takes="include")
def retrieve(sim: Simulator, params: Params, *, id: str) -> Answer:
    return _shown(fetch(sim, id), params)


@operation("GET", "/v2/core/accounts", takes="applied_configurations closed limit")
def listing(sim: Simulator, params: Params) -> Answer:
    wanted = filters(params)
    rows = [
        _shown(a, {})
        for a in sim.store.rows(CONNECTED)
        if set(wanted.get("applied_configurations", [])) <= set(a["applied_configurations"])
        and a["closed"] == wanted.get("closed", False)
    ]
    return page(rows, wanted, "/v2/core/accounts")


@operation(
    "POST",
    "/v2/core/accounts/{id}",
    takes="contact_email contact_phone display_name include metadata",
)
def update(sim: Simulator, params: Params, *, id: str) -> Answer:
    account = fetch(sim, id)
    if "metadata" in params:
        account["metadata"] = merged_metadata(account["metadata"], params["metadata"])
    for name in ("contact_email", "contact_phone", "display_name"):
        account[name] = params.get(name, account[name])
    sim.save(account)
    _tell(sim, account, "v2.core.account.updated")
    return _shown(account, params)


@operation("POST", "/v2/core/accounts/{id}/close", takes="applied_configurations")
def close(sim: Simulator, params: Params, *, id: str) -> Answer:
    account = fetch(sim, id)
    if any(charges.totals(sim.on(id)).values()):
        raise invalid_request("This account has a balance and cannot be closed.")
    account |= {"closed": True, "applied_configurations": []}
    sim.save(account)
    _tell(sim, account, "v2.core.account.closed")
    return _shown(account, params)


# -- sign-up --------------------------------------------------------------------------------


@operation("POST", "/v2/core/account_links", takes="account use_case")
def link(sim: Simulator, params: Params) -> Answer:
    account = sim.fetch(CONNECTED, params["account"], param="account")
    kind = params["use_case"]["type"]
    if kind not in params["use_case"]:
        raise invalid_request(f"Missing required param: use_case[{kind}].", param="use_case")
    given = params["use_case"][kind]
    key = sim.new_id("link", 24)
    row = {
        "account": account["id"],
        "until": sim.now() + LINK_LIVES_S,
        "used": False,
        "refresh_url": given["refresh_url"],
        "return_url": given.get("return_url"),
    }
    sim.store.put(LINKS, key, row)
    empty = {"account_onboarding": None, "account_update": None}
    full = {"collection_options": None, "return_url": None} | given
    return {
        "object": "v2.core.account_link",
        "account": account["id"],
        "created": iso(sim.clock.now()),
        "expires_at": iso(row["until"]),
        "livemode": False,
        "url": f"{sim.base_url}/_hosted/onboarding/{key}",
        "use_case": empty | {"type": kind, kind: full},
    }


@order("onboard")
def onboard(sim: Simulator, *, account: str, bank: str = "000123456789") -> Answer:
    """The owner gave everything that was asked for; payouts go to that test bank account."""
    if bank not in BANK_ACCOUNTS:
        raise ValueError(f"{bank} is none of Stripe's test bank accounts")
    found = sim.fetch(CONNECTED, account, param="account")
    sim.on(account).store.put(BANKS, "own", {"number": bank})
    found["requirements"] = _requirements([])
    changed = _grant(found, "active")
    sim.save(found)
    _tell(sim, found, "v2.core.account[requirements].updated")
    _tell_capabilities(sim, found, changed)
    return found


@order("require")
def require(
    sim: Simulator, *, account: str, description: str, deadline: str = "past_due"
) -> Answer:
    """Stripe asks for more; past_due takes the capabilities away, a later deadline does not."""
    found = sim.fetch(CONNECTED, account, param="account")
    entries = [*found["requirements"]["entries"], _entry(description, deadline)]
    found["requirements"] = _requirements(entries)
    changed = _grant(found, "restricted") if deadline == "past_due" else []
    sim.save(found)
    _tell(sim, found, "v2.core.account[requirements].updated")
    _tell_capabilities(sim, found, changed)
    return found


def _grant(account: Answer, status: str) -> list[str]:
    """Set the capabilities and return those that changed."""
    recipient = account["configuration"]["recipient"] or {"capabilities": {}}
    held = recipient["capabilities"].get("stripe_balance") or {}
    changed = [name for name in held if held[name]["status"] != status]
    for name in changed:
        held[name] = _status(status)
    return changed


def _tell(sim: Simulator, account: Answer, kind: str, data: Params | None = None) -> None:
    identifier = account["id"]
    related = (identifier, CONNECTED, f"/v2/core/accounts/{identifier}")
    sim.emit_thin(kind, related, data)


def _tell_capabilities(sim: Simulator, account: Answer, changed: list[str]) -> None:
    for name in changed:
        _tell(
            sim,
            account,
            "v2.core.account[configuration.recipient].capability_status_updated",
            {"updated_capability": f"stripe_balance.{name}"},
        )


def need_transfers(sim: Simulator, destination: str) -> Answer:
    """The account that money may be transferred to, or Stripe's 400."""
    account = sim.fetch(CONNECTED, destination, param="destination")
    recipient = account["configuration"]["recipient"] or {"capabilities": {}}
    held = recipient["capabilities"].get("stripe_balance") or {}
    if account["closed"] or held.get("stripe_transfers", {}).get("status") != "active":
        raise StripeError(
            400,
            "Your destination account needs to have at least one of the following capabilities "
            "enabled: transfers, crypto_transfers, legacy_payments",
            code="insufficient_capabilities_for_transfer",
        )
    return account
