"""Forms of the staff pages. Rules live in the domain; here texts become values."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from kernel.money import BadAmount, parse_micro
from marketplace.models import Provider, Switch


class ApproveForm(forms.Form):
    ownership = forms.ChoiceField(label=_("Ownership"), choices=Provider.Ownership.choices)
    networks = forms.CharField(
        label=_("Networks its API servers may live on"),
        required=False,
        max_length=2000,
        help_text=_("One CIDR per line, for a VPN. Empty: public addresses only."),
        widget=forms.Textarea(attrs={"rows": 3, "class": "input--mono"}),
    )
    ports = forms.CharField(
        label=_("Ports"),
        required=False,
        max_length=300,
        help_text=_("Separated by commas. Empty: the usual ones only."),
    )
    fee_bps = forms.IntegerField(
        label=_("Fee in basis points"),
        required=False,
        help_text=_(
            "1500 is 15 %. Empty: the platform's default. Once approved it is changed at Fees."
        ),
    )

    def clean_networks(self) -> list[str]:
        return str(self.cleaned_data["networks"]).split()

    def clean_ports(self) -> list[int]:
        words = str(self.cleaned_data["ports"]).replace(",", " ").split()
        if not all(word.isascii() and word.isdigit() and int(word) <= 65_535 for word in words):
            raise forms.ValidationError(_("Whole numbers up to 65535, separated by commas."))
        return [int(word) for word in words]


class _Money(forms.CharField):
    """A decimal string as micro-units; empty is None: not to be changed."""

    def clean(self, value: object) -> int | None:
        text = str(super().clean(value)).strip()
        if not text:
            return None
        try:
            micro = parse_micro(text)
        except BadAmount as error:
            raise forms.ValidationError(_("Write an amount such as 500.00.")) from error
        if micro < 0:
            raise forms.ValidationError(_("Not negative."))
        return micro


class _Signed(forms.CharField):
    """A decimal string as micro-units, negative or not."""

    def clean(self, value: object) -> int:
        try:
            return parse_micro(str(super().clean(value)).strip())
        except BadAmount as error:
            raise forms.ValidationError(_("Write an amount such as 25.00 or -25.00.")) from error


class RefundOrderForm(forms.Form):
    organization = forms.CharField(label=_("Organization"), max_length=40)
    amount = _Money(label=_("Amount, USD"), required=False, help_text=_("Empty: all of it."))
    reason = forms.CharField(label=_("Reason"), max_length=500)


class CreditNoteForm(forms.Form):
    invoice = forms.CharField(label=_("Invoice"), max_length=40)
    amount = _Signed(label=_("Amount, USD"))
    reason = forms.CharField(label=_("Reason"), max_length=500)


class AdjustmentForm(forms.Form):
    organization = forms.CharField(label=_("Organization"), max_length=40)
    amount = _Signed(label=_("Amount, USD"), help_text=_("Negative: taken from it."))
    against = forms.ChoiceField(
        label=_("Borne by"),
        choices=[("platform_cost", _("Platform cost")), ("revenue", _("Revenue"))],
    )
    transaction = forms.CharField(label=_("About transaction"), max_length=40, required=False)
    reason = forms.CharField(label=_("Reason"), max_length=500)


class PromotionForm(forms.Form):
    organization = forms.CharField(label=_("Organization"), max_length=40)
    amount = _Signed(label=_("Amount, USD"))
    expires_at = forms.DateTimeField(
        label=_("Expires, UTC"),
        help_text=_("What is not spent by then is taken back."),
        widget=forms.DateTimeInput(attrs={"type": "datetime-local"}),
    )
    reason = forms.CharField(label=_("Reason"), max_length=500)


class EvidenceForm(forms.Form):
    uncategorized_text = forms.CharField(
        label=_("Summary"), max_length=20_000, widget=forms.Textarea(attrs={"rows": 8})
    )
    access_activity_log = forms.CharField(
        label=_("Use, window by window"),
        max_length=20_000,
        widget=forms.Textarea(attrs={"rows": 12}),
    )


class LimitForm(forms.Form):
    """Empty fields stay as they are."""

    credit_limit_micro = _Money(
        label=_("Credit limit, USD"), required=False, help_text=_("0 is prepaid.")
    )
    quota_gpus = forms.IntegerField(
        label=_("GPUs at once"), required=False, min_value=0, max_value=100_000
    )
    spend_limit_micro_h = _Money(label=_("Spending per hour, USD"), required=False)


class SwitchForm(forms.Form):
    """A switch to turn. The note is shown to those who are refused."""

    name = forms.ChoiceField(
        label=_("Switch"),
        choices=[
            (Switch.Name.STOP_RENTALS, _("Stop new rentals")),
            (Switch.Name.STOP_CHARGING, _("Stop charging")),
            (Switch.Name.READ_ONLY, _("Show only: refuse every change")),
        ],
    )
    cluster = forms.ChoiceField(
        label=_("Where"), required=False, help_text=_("One cluster: only to stop new rentals.")
    )
    note = forms.CharField(
        label=_("Why"),
        max_length=250,
        required=False,
        help_text=_("Shown to those who are refused. Turning off needs none."),
    )

    def __init__(self, *args: Any, clusters: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["cluster"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("Everywhere")), *clusters]
