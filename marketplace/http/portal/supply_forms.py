"""Forms of owners: times of an offer, maintenance, stop-now, data centres and clusters."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from marketplace.catalog.availability import DAYS
from marketplace.http.portal.money_forms import OptionalMoneyField
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


class AgentForm(forms.Form):
    """A cluster behind NAT, whose agent dials out to us."""

    mode = forms.CharField(initial="agent", widget=forms.HiddenInput)
    name = forms.CharField(
        label=_("Name of the cluster"),
        max_length=60,
        help_text=_("Yours alone to read."),
    )
    datacenter = forms.ChoiceField(label=_("Data centre"))

    def __init__(self, *args: Any, places: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["datacenter"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = places


class SecretText(forms.Textarea):
    """A secret of several lines, which a form that is shown again holds no more: what was typed
    once is in no answer of ours, as with a password."""

    def get_context(self, name: str, value: Any, attrs: dict[str, Any] | None) -> dict[str, Any]:
        return super().get_context(name, None, attrs)


class ClusterForm(AgentForm):
    """A cluster at an address: the three things we ever take of it."""

    mode = forms.CharField(initial="direct", widget=forms.HiddenInput)
    api_url = forms.CharField(
        label=_("API server"),
        max_length=300,
        widget=forms.TextInput({**_PLAIN, "placeholder": "https://k8s.example.com:6443"}),
        help_text=_("Its public address, or one that our staff bound for you."),
    )
    ca_pem = forms.CharField(
        label=_("CA certificate, PEM"),
        max_length=65_536,
        widget=forms.Textarea({**_PLAIN, "rows": 4}),
    )
    token = forms.CharField(
        label=_("Token"),
        max_length=16_384,
        widget=SecretText({**_PLAIN, "rows": 3}),
        help_text=_("Kept encrypted, renewed by itself, and never shown again."),
    )


class OfferPricesForm(forms.Form):
    """A price for each of a cluster's offers that has none; those left empty stay drafts."""

    def __init__(self, *args: Any, rows: list[tuple[str, str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for offer, name, said in rows:
            self.fields[offer] = OptionalMoneyField(label=name, help_text=said)

    def prices(self) -> list[tuple[str, int]]:
        """Of the valid form: offers with what their owner wants for a GPU-hour, in micro-units."""
        return [(offer, micro) for offer, micro in self.cleaned_data.items() if micro is not None]

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        if not self.errors and all(micro is None for micro in data.values()):
            raise forms.ValidationError(_("Write a price beside one of them at least."))
        return data
