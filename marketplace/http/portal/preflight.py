"""The rules for clusters: the published table for everybody, and an own cluster held against it."""

from __future__ import annotations

from typing import Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from marketplace.accounts.access import Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, show
from marketplace.providers import onboard
from provisioner.contracts.preflight import Outcome
from provisioner.facade import preflight as rules_door

# What has to be done first comes first.
_ORDER: Final = (Outcome.FAIL, Outcome.WARN)


@page(public=True)
def rules(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    return show(request, principal, "portal/rules.html", {"table": rules_door.rules()})


@page(scope="provider:read")
def preflight(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    view = onboard.own_cluster(principal, cluster)
    found = onboard.preflight(acting=principal, cluster_id=cluster)
    titles = {result.rule: result.title for result in found.rules}
    context = {
        "cluster": view,
        "cluster_id": cluster,
        "preflight": found,
        "gaps": [
            result for outcome in _ORDER for result in found.rules if result.outcome == outcome
        ],
        "changes": [
            (titles.get(change.rule, change.rule), change)
            for change in found.changes
            if change.before is not None  # the first look is no change
        ],
        "may_write": "provider:write" in principal.scopes,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "portal/preflight.html", context)


@require_POST
@page(scope="provider:write")
def check(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """Look again at once; what was found is there some seconds later."""
    answer = once_to(
        claim_of(request, principal),
        lambda: onboard.ask_preflight(acting=principal, cluster_id=cluster),
        lambda _found: f"/provider/clusters/{cluster}/preflight",
    )
    messages.success(request, _("The cluster is being checked. Load the page again in a moment."))
    return answer


urls = [
    path("provider-rules", rules),
    path("provider/clusters/<str:cluster>/preflight", preflight),
    path("provider/clusters/<str:cluster>/preflight/check", check),
]
