"""Forms of owners: times of an offer, maintenance, stop-now, data centres and clusters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from marketplace.catalog.availability import DAYS
from marketplace.models import Offer
from provisioner.contracts.supply import LEAST_MBPS, MOST_MBPS, Egress

_PLAIN: Final = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}
_DAY_NAMES: Final = dict(
    zip(DAYS, (_("Mon"), _("Tue"), _("Wed"), _("Thu"), _("Fri"), _("Sat"), _("Sun")), strict=True)
)


class UtcField(forms.DateTimeField):
    """A day and a time of day in UTC, which the label has to say."""

    def __init__(self, **kwargs: Any) -> None:
        shape = "%Y-%m-%dT%H:%M"
        super().__init__(
            widget=forms.DateTimeInput(attrs={"type": "datetime-local"}, format=shape),
            input_formats=[shape, f"{shape}:%S"],
            **kwargs,
        )

    def to_python(self, value: Any) -> datetime | None:
        found = super().to_python(value)
        return None if found is None else found.replace(tzinfo=UTC)


class TimesForm(forms.Form):
    """When an offer is for rent, and what it gives of the network. One window here; over the API
    there may be many."""

    state = forms.ChoiceField(
        label=_("New rentals"),
        choices=[
            (Offer.State.ACTIVE, _("Taken in these times")),
            (Offer.State.PAUSED, _("None until this is changed")),
        ],
    )
    days = forms.MultipleChoiceField(
        label=_("Days"),
        choices=list(_DAY_NAMES.items()),
        required=False,
        widget=forms.CheckboxSelectMultiple,
        help_text=_("None chosen: every hour of every day."),
    )
    start = forms.TimeField(
        label=_("From"), required=False, widget=forms.TimeInput({"type": "time"}, format="%H:%M")
    )
    to = forms.TimeField(
        label=_("To"),
        required=False,
        widget=forms.TimeInput({"type": "time"}, format="%H:%M"),
        help_text=_("Not later than its beginning: it ends on the next day."),
    )
    timezone = forms.CharField(
        label=_("In the clocks of"),
        required=False,
        max_length=60,
        widget=forms.TextInput({**_PLAIN, "placeholder": "Europe/Berlin"}),
    )
    ends_at = UtcField(
        label=_("End date, UTC"),
        required=False,
        help_text=_("Empty: no end. Rentals that run keep the end they were placed with."),
    )

    egress = forms.ChoiceField(
        label=_("What machines reach"),
        choices=[
            (Egress.INTERNET, _("The internet, without private networks and outgoing mail")),
            (Egress.WEB, _("HTTP and HTTPS only")),
            (Egress.NONE, _("Nothing")),
        ],
        help_text=_("For machines that start from now on."),
    )
    bandwidth_mbps = forms.IntegerField(
        label=_("At most, Mbit/s each way"),
        required=False,
        min_value=LEAST_MBPS,
        max_value=MOST_MBPS,
        help_text=_("Kept by your cluster's own network. Empty: no cap."),
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("days"):
            for name in ("start", "to", "timezone"):
                if not data.get(name) and name not in self.errors:
                    self.add_error(name, _("Needed with days."))
        return data

    def windows(self) -> dict[str, Any] | None:
        """As the API takes them."""
        data = self.cleaned_data
        if not data["days"]:
            return None
        window = {
            "days": data["days"],
            "from": f"{data['start']:%H:%M}",
            "to": f"{data['to']:%H:%M}",
        }
        return {"timezone": data["timezone"], "weekly": [window]}


class MaintenanceForm(forms.Form):
    """A time in which a cluster or a node is taken down."""

    what = forms.ChoiceField(label=_("What"))
    starts_at = UtcField(
        label=_("From, UTC"), help_text=_("48 hours from now at least, where somebody rents.")
    )
    ends_at = UtcField(
        label=_("To, UTC"), required=False, help_text=_("Empty: until you withdraw it.")
    )
    note = forms.CharField(
        label=_("Why, for renters"), required=False, max_length=300, widget=forms.TextInput
    )

    def __init__(self, *args: Any, places: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["what"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = places


class StopNowForm(forms.Form):
    """Why something is stopped at once."""

    reason = forms.ChoiceField(
        label=_("Reason"),
        choices=[
            ("maintenance", _("The hardware needs it")),
            ("abuse", _("Abuse: staff look at it")),
        ],
    )
    text = forms.CharField(
        label=_("What happens"),
        required=False,
        max_length=2000,
        widget=forms.Textarea({"rows": 3}),
        help_text=_("Renters read it, or for abuse our staff."),
    )


class DataCenterForm(forms.Form):
    """Where the cards stand."""

    name = forms.CharField(label=_("Name of the data centre"), max_length=60)
    region = forms.CharField(
        label=_("Region"),
        max_length=40,
        widget=forms.TextInput({**_PLAIN, "placeholder": "eu-central"}),
        help_text=_("Renters filter by it."),
    )
    country = forms.CharField(
        label=_("Country"),
        max_length=2,
        widget=forms.TextInput({**_PLAIN, "placeholder": "DE"}),
        help_text=_("Two letters."),
    )


class ClusterForm(forms.Form):
    """A cluster at an address, or behind NAT with an agent that dials out."""

    name = forms.CharField(label=_("Name of the cluster"), max_length=100)
    datacenter = forms.ChoiceField(label=_("Data centre"))
    mode = forms.ChoiceField(
        label=_("How we reach it"),
        choices=[
            ("direct", _("At its address")),
            ("agent", _("Behind NAT: an agent dials out to us")),
        ],
    )
    api_url = forms.CharField(
        label=_("API server"),
        required=False,
        max_length=300,
        widget=forms.TextInput({**_PLAIN, "placeholder": "https://k8s.example.com:6443"}),
    )
    ca_pem = forms.CharField(
        label=_("CA certificate, PEM"),
        required=False,
        widget=forms.Textarea({**_PLAIN, "rows": 4}),
    )
    token = forms.CharField(
        label=_("Token"),
        required=False,
        widget=forms.Textarea({**_PLAIN, "rows": 3}),
        help_text=_("Kept encrypted, and never shown again."),
    )

    def __init__(self, *args: Any, places: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["datacenter"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = places

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if data.get("mode") == "direct":
            for name in ("api_url", "ca_pem", "token"):
                if not data.get(name):
                    self.add_error(name, _("Needed for a cluster at an address."))
        return data
