"""The form that sends credit back."""

from __future__ import annotations

from django import forms
from django.utils.translation import gettext_lazy as _

from kernel.money import BadAmount, parse_micro


class RefundForm(forms.Form):
    amount = forms.CharField(
        label=_("To refund, in USD"),
        required=False,
        max_length=12,
        help_text=_("Empty: all that can be refunded."),
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    reason = forms.CharField(label=_("Reason"), max_length=500)

    def clean_amount(self) -> int | None:
        """Micro-units; None for all."""
        text = self.cleaned_data["amount"].strip()
        if not text:
            return None
        try:
            return parse_micro(text)
        except BadAmount as error:
            raise forms.ValidationError(_("Write an amount such as 50.00.")) from error
