"""Forms about standing orders and budgets. Rules live in the domain; here texts become values."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext_lazy as _
from django.utils.translation import pgettext_lazy

from billing.contracts import PaymentMethodView
from billing.contracts.autotopup import AutoTopUpWish
from kernel.money import BadAmount, format_micro, parse_micro


class MoneyField(forms.CharField):
    """USD as a plain decimal; micro-units when cleaned."""

    def __init__(self, **options: Any) -> None:
        widget = forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"})
        super().__init__(max_length=16, widget=widget, **options)

    def clean(self, value: Any) -> int:
        text = str(super().clean(value)).strip()
        try:
            return parse_micro(text)
        except BadAmount as error:
            raise forms.ValidationError(_("Write an amount such as 50.00.")) from error


class OptionalMoneyField(MoneyField):
    """None where nothing is written."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, **options})

    def clean(self, value: Any) -> Any:
        return super().clean(value) if str(value or "").strip() else None


class AutoTopUpForm(forms.Form):
    enabled = forms.BooleanField(label=_("Charge my card when the balance is low"), required=False)
    threshold = MoneyField(label=_("When less than this is left, USD"))
    target = MoneyField(label=_("Up to this, USD"), help_text=_("One charge, at most one an hour."))
    daily_ceiling = MoneyField(label=_("At most in 24 hours, USD"))
    payment_method = forms.ChoiceField(label=pgettext_lazy("payment", "Card"), required=False)

    def __init__(self, *args: Any, methods: Sequence[PaymentMethodView], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["payment_method"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [
            ("", _("The newest saved card")),
            *(
                (str(one.id), f"{one.brand} ···· {one.last4}")
                for one in methods
                if one.state == "active"
            ),
        ]

    def wish(self) -> AutoTopUpWish:
        """What the valid form asks for."""
        data = self.cleaned_data
        return AutoTopUpWish(
            enabled=data["enabled"],
            threshold_micro=data["threshold"],
            target_micro=data["target"],
            daily_micro=data["daily_ceiling"],
            method_id=UUID(data["payment_method"]) if data["payment_method"] else None,
        )


class BudgetForm(forms.Form):
    """A budget for everything or one project, with one action at its end and a word before it."""

    project = forms.ChoiceField(label=_("For"), required=False)
    amount = MoneyField(label=_("Per calendar month, USD"))
    notify_at = forms.IntegerField(
        label=_("Mail at percent"), min_value=1, max_value=100, initial=80, required=False
    )
    then = forms.ChoiceField(
        label=_("When it is spent"),
        choices=[
            ("notify", _("Send a mail only")),
            ("block_new", _("Refuse new rentals")),
            ("stop", _("Refuse new rentals and stop what runs")),
        ],
    )

    def __init__(self, *args: Any, projects: Iterable[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["project"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("The whole organization")), *projects]

    def thresholds(self) -> list[dict[str, Any]]:
        """What the valid form asks for."""
        data = self.cleaned_data
        early = [{"percent": data["notify_at"], "action": "notify"}] if data["notify_at"] else []
        return [*early, {"percent": 100, "action": data["then"]}]


def initial_of(wish: AutoTopUpWish) -> dict[str, Any]:
    """The form's values for an order as it stands."""
    return {
        "enabled": wish.enabled,
        "threshold": format_micro(wish.threshold_micro, places=2),
        "target": format_micro(wish.target_micro, places=2),
        "daily_ceiling": format_micro(wish.daily_micro, places=2),
        "payment_method": str(wish.method_id or ""),
    }
