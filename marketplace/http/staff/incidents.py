"""Incidents for staff: name one, look at whom it touched and what it comes to, post it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.clock import now
from kernel.errors import Refusal
from kernel.ids import public
from kernel.text import clean
from marketplace.accounts import staffing
from marketplace.accounts.access import STAFF, Principal
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import (
    blame,
    claim_of,
    new_key,
    once_to,
    page,
    posted,
    show,
    show_form,
    status_of,
)
from marketplace.models import Incident
from marketplace.models.incident import ALONE
from marketplace.providers import review
from marketplace.rentals import incidents
from provisioner import facade as provisioner

_HERE = "/staff/incidents"
_PAGE = 25
_LINES = 200  # of an incident on its page; all of them are in the API's answer
_CAUSES = {
    Incident.Cause.PLATFORM.value: gettext_lazy("Ours: the platform pays"),
    Incident.Cause.HOST.value: gettext_lazy("The host's: its owner pays, up to a day's earnings"),
}
_BASES = {
    Incident.Basis.MEASURED.value: gettext_lazy("What was interrupted or degraded"),
    Incident.Basis.WHOLE.value: gettext_lazy("All of the time in which it ran"),
}


def _time(label: Any) -> forms.DateTimeField:
    return forms.DateTimeField(
        label=label, widget=forms.DateTimeInput(attrs={"type": "datetime-local"})
    )


class IncidentForm(forms.Form):
    """Names as in the API."""

    title = forms.CharField(
        label=gettext_lazy("What happened"),
        max_length=120,
        help_text=gettext_lazy("Renters read it: a few words."),
    )
    note = forms.CharField(
        label=gettext_lazy("Note"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 3}),
        help_text=gettext_lazy("Goes into the mail."),
    )
    cause = forms.ChoiceField(label=gettext_lazy("Whose fault"), choices=list(_CAUSES.items()))
    provider = forms.ChoiceField(label=gettext_lazy("Provider"), required=False)
    clusters = forms.MultipleChoiceField(
        label=gettext_lazy("Clusters"),
        required=False,
        widget=forms.SelectMultiple(attrs={"size": 4}),
        help_text=gettext_lazy("Nothing chosen: all of the provider's."),
    )
    from_at = _time(gettext_lazy("From, UTC"))
    to_at = _time(gettext_lazy("To, UTC"))
    basis = forms.ChoiceField(label=gettext_lazy("What counts"), choices=list(_BASES.items()))
    percent = forms.IntegerField(
        label=gettext_lazy("Percent of the price"), min_value=1, max_value=100, initial=100
    )

    def __init__(self, data: Any = None) -> None:
        super().__init__(data)
        provider, clusters = self.fields["provider"], self.fields["clusters"]
        assert isinstance(provider, forms.ChoiceField)
        assert isinstance(clusters, forms.ChoiceField)
        owners = {row.id: row for row in review.providers().order_by("-id")}
        provider.choices = [
            ("", _("The whole platform")),
            *((row.public_id, row.organization.name) for row in owners.values()),
        ]
        clusters.choices = [
            (
                public("cluster", view.id),
                f"{owners[view.provider_ref].organization.name}: {view.name}",
            )
            for view in provisioner.clusters()
        ]

    def order(self) -> incidents.IncidentOrder:
        """Of the valid form."""
        data = self.cleaned_data
        return incidents.IncidentOrder(
            **{
                **data,
                "provider": data["provider"] or None,
            }
        )


@page(scope=STAFF)
def overview(request: HttpRequest, principal: Principal) -> HttpResponse:
    """All incidents with the form; POST names one."""
    form, refusal = IncidentForm(posted(request)), None
    if request.method == "POST" and form.is_valid():
        try:
            return once_to(
                claim_of(request, principal),
                lambda: incidents.create(acting=principal, asked=form.order()),
                lambda row: f"{_HERE}/{row.public_id}",
            )
        except Refusal as error:
            refusal = blame(form, error)
    rows, following = keyset_page(
        incidents.incidents(principal),
        order=("-id",),
        cursor=request.GET.get("cursor"),
        limit=_PAGE,
    )
    people = staffing.emails()
    context = {
        "rows": [(row, people.get(row.made_by, row.made_by)) for row in rows],
        "next_cursor": following,
        "more_query": f"cursor={following}",
    }
    return show_form(
        request, principal, "staff/incidents.html", form, refusal=refusal, context=context
    )


@page(scope=STAFF)
def incident_page(request: HttpRequest, principal: Principal, incident: str) -> HttpResponse:
    """Whom it touched, what each is given, who pays, and the button that orders it."""
    return _one(request, principal, incident)


def _one(
    request: HttpRequest, principal: Principal, incident: str, refusal: Refusal | None = None
) -> HttpResponse:
    row = incidents.one(principal, incident)
    seen = incidents.preview(principal, row)
    people = staffing.emails()
    mine, alone = row.ordered_by == principal.staff_actor, staffing.alone()
    alone_from = row.ordered_at + ALONE if row.ordered_at else None
    waits = row.state == Incident.State.WAITING
    context = {
        "incident": row,
        **{
            name: people.get(getattr(row, name), getattr(row, name))
            for name in ("made_by", "ordered_by", "approved_by", "withdrawn_by")
        },
        "cause": _CAUSES[row.cause],
        "basis": _BASES[row.basis],
        "preview": seen,
        "lines": [
            {
                "line": line,
                "id": public("rental", line.rental_ref),
                "organization": public("organization", line.org_ref),
            }
            for line in seen.lines[:_LINES]
        ],
        "left_out": max(0, len(seen.lines) - _LINES),
        "clusters": [public("cluster", ref) for ref in row.cluster_refs],
        "ready_at": row.to_at + incidents.SETTLED,
        "too_early": now() < row.to_at + incidents.SETTLED,
        "may_withdraw": "withdraw" in incidents.actions_of(row),
        "may_post": row.state == Incident.State.DRAFT
        or (waits and (not mine or bool(alone and alone_from and alone_from <= now()))),
        "waits": waits,
        "alone_from": alone_from if waits and mine and alone else None,
        "refusal": refusal,
        "idempotency_key": new_key(),
    }
    return show(request, principal, "staff/incident.html", context, status=status_of(refusal))


@require_POST
@page(scope=STAFF)
def post(request: HttpRequest, principal: Principal, incident: str) -> HttpResponse:
    return _do(
        request,
        principal,
        incident,
        lambda: incidents.post(acting=principal, incident_id=incident),
        _("Done. Above the limit it waits for a second person, else it is booked now."),
    )


@require_POST
@page(scope=STAFF)
def withdraw(request: HttpRequest, principal: Principal, incident: str) -> HttpResponse:
    reason = clean(request.POST.get("reason", ""), limit=500)
    return _do(
        request,
        principal,
        incident,
        lambda: incidents.withdraw(acting=principal, incident_id=incident, reason=reason),
        _("Withdrawn. Nothing was moved."),
    )


def _do(
    request: HttpRequest,
    principal: Principal,
    incident: str,
    act: Callable[[], object],
    said: str,
) -> HttpResponse:
    try:
        answer = once_to(claim_of(request, principal), act, lambda _row: f"{_HERE}/{incident}")
    except Refusal as error:
        return _one(request, principal, incident, error)
    messages.success(request, said)
    return answer


urlpatterns = [
    path("staff/incidents", overview),
    path("staff/incidents/<str:incident>", incident_page),
    path("staff/incidents/<str:incident>/post", post),
    path("staff/incidents/<str:incident>/withdraw", withdraw),
]
