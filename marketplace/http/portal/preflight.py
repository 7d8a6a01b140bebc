"""The rules for clusters: the published table for everybody, and an own cluster held against it."""

from __future__ import annotations

from typing import Any, Final

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.ids import public
from marketplace.accounts.access import Principal
from marketplace.http.portal.base import claim_of, new_key, once_to, page, piece, show
from marketplace.providers import onboard
from provisioner.contracts import ClusterView
from provisioner.contracts.preflight import Outcome, PreflightState, PreflightView
from provisioner.facade import preflight as rules_door

# What has to be done first comes first.
_ORDER: Final = (Outcome.FAIL, Outcome.WARN)
# A look takes some seconds; a cluster that fails is looked at every minute without being asked.
QUICK, _SLOW = 2, 15


@page(public=True)
def rules(request: HttpRequest, principal: Principal | None) -> HttpResponse:
    return show(request, principal, "portal/rules.html", {"table": rules_door.rules()})


@page(scope="provider:read")
def preflight(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    view = onboard.own_cluster(principal, cluster)
    context = {
        **found_in(principal, view),
        "may_write": "provider:write" in principal.scopes,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "portal/preflight.html", context)


@page(scope="provider:read")
def live(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """The results alone, which ask for themselves again while they may change."""
    view = onboard.own_cluster(principal, cluster)
    context = found_in(principal, view, wizard="wizard" in request.GET)
    return piece(request, "portal/preflight_rules.html", context)


def found_in(principal: Principal, view: ClusterView, *, wizard: bool = False) -> dict[str, Any]:
    """What was found in a cluster, what has to be done first coming first."""
    found = onboard.preflight(acting=principal, cluster_id=public("cluster", view.id))
    titles = {result.rule: result.title for result in found.rules}
    asked = [result for result in found.rules if result.outcome is not None]
    return {
        "cluster": view,
        "cluster_id": public("cluster", view.id),
        "stage": onboard.stage_of(view),
        "preflight": found,
        "gaps": [
            result for outcome in _ORDER for result in found.rules if result.outcome == outcome
        ],
        "passed": [result for result in asked if result.outcome not in _ORDER],
        "asked": len(asked),
        "changes": [
            (titles.get(change.rule, change.rule), change)
            for change in found.changes
            if change.before is not None  # the first look is no change
        ],
        "wizard": wizard,
        "every": _every(found),
    }


def _every(found: PreflightView) -> int | None:
    """Seconds until the page looks again by itself; None where nothing is on its way."""
    if found.looking or found.state == PreflightState.WAITING:
        return QUICK
    return None if found.sells and found.state == PreflightState.PASSED else _SLOW


@require_POST
@page(scope="provider:write")
def check(request: HttpRequest, principal: Principal, cluster: str) -> HttpResponse:
    """Look again at once; what was found is there some seconds later."""
    answer = once_to(
        claim_of(request, principal),
        lambda: onboard.ask_preflight(acting=principal, cluster_id=cluster),
        lambda _found: f"/provider/clusters/{cluster}/preflight",
    )
    messages.success(request, _("The cluster is being checked. What is found appears below."))
    return answer


urls = [
    path("provider-rules", rules),
    path("provider/clusters/<str:cluster>/preflight", preflight),
    path("provider/clusters/<str:cluster>/preflight/live", live),
    path("provider/clusters/<str:cluster>/preflight/check", check),
]
