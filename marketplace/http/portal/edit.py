"""Changing a rental while it lives: name, labels, end, idle stop, keys, lock; its certificate."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse, QueryDict
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.clock import now
from kernel.errors import Refusal
from marketplace.accounts.access import Principal, visible
from marketplace.http.portal import words
from marketplace.http.portal.base import blame, once_to, page, posted, show, show_form
from marketplace.models import Rental, SshKey
from marketplace.rentals import edit, read, way_in
from marketplace.rentals.certificate import certify
from marketplace.rentals.state import ENDING

_HOURS: Final[dict[str, words.Text]] = {
    "1": gettext_lazy("1 hour later"),
    "8": gettext_lazy("8 hours later"),
    "24": gettext_lazy("1 day later"),
    "168": gettext_lazy("7 days later"),
}
_IDLE: Final = (15, 30, 60, 120, 240, 480)


class EditForm(forms.Form):
    """What may be changed. Rules live in the domain; here texts become values."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=80)
    later = forms.ChoiceField(label=gettext_lazy("End date"), required=False)
    idle_stop = forms.ChoiceField(
        label=gettext_lazy("Stop when idle"),
        required=False,
        help_text=gettext_lazy(
            "When all its cards did nothing for so long you are told, and five minutes later it "
            "stops. Data on volumes is kept."
        ),
    )
    labels = forms.CharField(
        label=gettext_lazy("Labels"),
        required=False,
        widget=forms.Textarea(attrs={"rows": 3, "spellcheck": "false", "class": "input--mono"}),
        help_text=gettext_lazy("One per line, such as team=vision."),
    )
    keys = forms.MultipleChoiceField(
        label=gettext_lazy("SSH keys that open it"),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=gettext_lazy("They change within seconds, while it runs."),
    )
    lock = forms.BooleanField(
        label=gettext_lazy("Locked: nobody can stop or terminate it by mistake"),
        required=False,
    )

    def __init__(
        self, data: QueryDict | None, *, rental: Rental, keys: list[tuple[str, str]] | None
    ) -> None:
        super().__init__(data, initial=_initial(rental, keys))
        stays = _("Leave it as it is") if rental.expires_at else _("None; until you end it")
        self._choose("later", [("", stays), *_HOURS.items()])
        minutes = sorted({rental.idle_stop_minutes or _IDLE[0], *_IDLE})
        idle = [(str(n), _("after %(n)d minutes") % {"n": n}) for n in minutes]
        self._choose("idle_stop", [("", _("Never")), *idle])
        if keys is None:
            del self.fields["keys"]
        else:
            self._choose("keys", keys)

    def _choose(self, name: str, choices: Any) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def clean_labels(self) -> dict[str, str]:
        lines = [line.strip() for line in self.cleaned_data["labels"].splitlines()]
        found = {}
        for line in filter(None, lines):
            name, sign, value = line.partition("=")
            if not sign:
                raise forms.ValidationError(
                    _("%(line)s is no label: write name=value.") % {"line": line[:40]}
                )
            found[name.strip()] = value.strip()
        return found

    def end_of(self, rental: Rental) -> datetime | None:
        """The end date that was chosen; None: leave it."""
        later = self.cleaned_data["later"]
        return (rental.expires_at or now()) + timedelta(hours=int(later)) if later else None


def _initial(rental: Rental, keys: list[tuple[str, str]] | None) -> dict[str, Any]:
    return {
        "name": rental.name,
        "idle_stop": str(rental.idle_stop_minutes or ""),
        "labels": "\n".join(f"{name}={value}" for name, value in rental.labels.items()),
        "keys": [line for line, _label in keys or [] if line in rental.ssh_keys],
        "lock": rental.locked,
    }


def _keys(principal: Principal, rental: Rental) -> list[tuple[str, str]] | None:
    """Each key that may be given, as its line; those it has now that are no longer stored too.
    None where nobody gets in."""
    if way_in.is_shut(rental.offer):
        return None
    stored = visible(SshKey, principal).order_by("name")
    known = {key.public_key: key.name for key in stored}
    pasted = [line for line in rental.ssh_keys if line not in known]
    ends = [(line, _("pasted, ending in %(end)s") % {"end": line[-12:]}) for line in pasted]
    return [*known.items(), *ends]


@page(scope="rentals:write")
def edit_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """The form; POST changes what differs."""
    found = read.get(principal, rental)
    form = EditForm(posted(request), rental=found, keys=_keys(principal, found))
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                None,
                lambda: _change(principal, found, form),
                lambda changed: f"/rentals/{changed.public_id}",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("Changed."))
            return answer
    context = {
        "rental": {"id": found.public_id, "name": found.name, "expires_at": found.expires_at},
        "ending": found.state in ENDING,
    }
    return show_form(
        request, principal, "portal/rental/edit.html", form, refusal=refusal, context=context
    )


def _change(principal: Principal, rental: Rental, form: EditForm) -> Rental:
    data = form.cleaned_data
    keys = data.get("keys")
    same = keys is None or set(keys) == set(rental.ssh_keys)
    return edit.change(
        acting=principal,
        rental_id=rental.public_id,
        name=data["name"],
        labels=data["labels"],
        expires_at=form.end_of(rental),
        idle_stop_minutes=int(data["idle_stop"]) if data["idle_stop"] else None,
        lock=data["lock"],
        keys=None if same else keys,
    )


@page(scope="rentals:read")
def certificate_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """Whether its cards are of one kind, and what was measured of each."""
    found = read.get(principal, rental)
    context = {
        "rental": {"id": found.public_id, "name": found.name},
        "certificate": certify(found),
    }
    return show(request, principal, "portal/rental/certificate.html", context)


urls = [
    path("rentals/<str:rental>/edit", edit_page),
    path("rentals/<str:rental>/certificate", certificate_page),
]
