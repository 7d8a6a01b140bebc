"""The audit log: who did what in the organization's name, newest first, and filters in the URL."""

from __future__ import annotations

import re
from datetime import UTC, datetime, time, timedelta
from typing import Any, Final

from django import forms
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext_lazy as _

from kernel.ids import public
from marketplace.accounts.access import Principal, visible
from marketplace.http.api.paging import keyset_page
from marketplace.http.portal.base import page, show
from marketplace.http.portal.deeds import DEEDS, deed, place
from marketplace.models import ApiKey, AuditEntry, Membership

_PAGE: Final = 50
_CHOICES: Final = 200  # people and keys to choose from; more are found by the URL's ``actor``
_PLATFORM: Final = "platform"
_ACTOR: Final = re.compile(r"(user|key|staff):[a-z]{3}_[0-9a-z]{26}")


class AuditForm(forms.Form):
    """Filters; empty ones count for everything."""

    actor = forms.ChoiceField(label=_("Who"), required=False)
    action = forms.ChoiceField(label=_("What"), required=False)
    object = forms.CharField(
        label=_("On which id"),
        required=False,
        max_length=80,
        widget=forms.TextInput(attrs={"placeholder": "ren_…", "autocomplete": "off"}),
    )
    since = forms.DateField(
        label=_("From (UTC)"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label=_("Until, included"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )

    def __init__(self, data: Any, *, actors: dict[str, str]) -> None:
        super().__init__(data)
        kept = dict(actors)
        wanted = data.get("actor", "")
        if _ACTOR.fullmatch(wanted):  # of somebody who left, or of a key beyond those shown
            kept.setdefault(wanted, wanted)
        deeds = sorted(((key, str(text)) for key, text in DEEDS.items()), key=lambda one: one[1])
        for name, choices in (("actor", list(kept.items())), ("action", deeds)):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = [("", _("All")), *choices]

    def chosen(self) -> Q:
        """The valid form as a condition."""
        data, wanted = self.cleaned_data, Q()
        for name in ("actor", "object"):
            if data[name]:
                wanted &= Q(**{name: data[name].strip()})
        if data["action"]:
            wanted &= Q(action=data["action"]) | Q(action__startswith=f"{data['action']}.")
        if data["since"]:
            wanted &= Q(ts__gte=_midnight(data["since"]))
        if data["until"]:
            wanted &= Q(ts__lt=_midnight(data["until"]) + timedelta(days=1))
        return wanted


def _midnight(day: Any) -> datetime:
    return datetime.combine(day, time(), UTC)


@page(scope="account:read")
def audit_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    actors = _actors(principal)
    form = AuditForm(request.GET, actors=actors)
    rows: QuerySet[AuditEntry] = visible(AuditEntry, principal)
    found: list[AuditEntry] = []
    following = None
    if form.is_valid():
        found, following = keyset_page(
            rows.filter(form.chosen()),
            order=("-id",),
            cursor=request.GET.get("cursor"),
            limit=_PAGE,
        )
    query = request.GET.copy()
    query["cursor"] = following or ""
    context = {
        "entries": [_entry(row, actors) for row in found],
        "form": form,
        "filtered": any(request.GET.get(name) for name in form.fields),
        "next_cursor": following,
        "more_query": query.urlencode(),
    }
    status = 422 if form.errors else 200
    return show(request, principal, "portal/audit.html", context, status=status)


def _actors(principal: Principal) -> dict[str, str]:
    """Who acts for the organization, as audit rows name them."""
    members = visible(Membership, principal).select_related("user").order_by("user__email")
    keys = visible(ApiKey, principal).order_by("-id")
    return {
        **{f"user:{public('user', row.user_id)}": row.user.email for row in members[:_CHOICES]},
        **{
            f"key:{key.public_id}": f"{_('Key')} {key.name}"
            for key in keys.only("id", "name")[:_CHOICES]
        },
        _PLATFORM: str(_("The platform")),
    }


def _entry(row: AuditEntry, actors: dict[str, str]) -> dict[str, Any]:
    named = actors.get(row.actor, "")
    if row.actor.startswith("staff:"):
        named = str(_("Staff of gpuyard"))
    return {
        "row": row,
        "actor": named or row.actor,
        "deed": deed(row.action),
        "link": place(row.object),
        "details": [(key.replace("_", " "), value) for key, value in row.details.items()],
    }


urls = [path("audit", audit_page)]
