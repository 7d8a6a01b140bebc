"""The portal's forms: names, labels and the plainest checks. Rules live in the domain."""

from __future__ import annotations

import shlex
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django import forms
from django.utils.translation import gettext_lazy as _

from kernel.money import BadAmount, parse_micro
from marketplace.http.portal.entry_forms import password_field
from marketplace.http.portal.offer_words import spelled
from marketplace.http.portal.port_text import PortsField

_PLAIN: Final = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class VolumeForm(forms.Form):
    """A new volume in one of the data centres with storage."""

    name = forms.CharField(label=_("Name"), max_length=80)
    size_gib = forms.IntegerField(
        label=_("Size, GiB"), min_value=1, help_text=_("It can grow later, and never shrinks.")
    )
    datacenter = forms.ChoiceField(
        label=_("Data centre"), help_text=_("With its price per GiB and month.")
    )

    def __init__(self, *args: Any, places: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["datacenter"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = places


class VolumeChangeForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80)
    size_gib = forms.IntegerField(label=_("Size, GiB"), min_value=1)


class TopUpForm(forms.Form):
    amount = forms.CharField(
        label=_("Amount in USD"),
        max_length=12,
        initial="50.00",
        help_text=_("From $5 to $10,000."),
        widget=forms.TextInput(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )

    def clean_amount(self) -> int:
        """Micro-units; a comma or a currency sign is not guessed at."""
        try:
            return parse_micro(self.cleaned_data["amount"].strip())
        except BadAmount as error:
            raise forms.ValidationError(_("Write an amount such as 50.00.")) from error


class PriceForm(forms.Form):
    price = forms.CharField(max_length=20)
    interruptible = forms.CharField(max_length=20, required=False)

    def clean_price(self) -> int:
        """Micro-units per GPU and hour."""
        return self._micro("price")

    def clean_interruptible(self) -> int | None:
        """The same; 0 where it was emptied, None where the form has no such field."""
        if "interruptible" not in self.data:
            return None
        return self._micro("interruptible") if self.cleaned_data["interruptible"].strip() else 0

    def _micro(self, field: str) -> int:
        try:
            return parse_micro(self.cleaned_data[field].strip())
        except BadAmount as error:
            raise forms.ValidationError(_("Write a price such as 0.6500.")) from error


class DiskPriceForm(PriceForm):
    """Micro-units per GiB and month."""


class ApplyForm(forms.Form):
    contact_email = forms.EmailField(label=_("Contact e-mail"), max_length=254)
    description = forms.CharField(
        label=_("Which cards, where?"),
        max_length=500,
        required=False,
        widget=forms.Textarea(attrs={"rows": 4}),
    )


class ApiKeyForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("What will use it?"))
    scopes = forms.CharField(required=False)
    days = forms.ChoiceField(
        label=_("Ends after"),
        choices=[
            ("30", _("30 days")),
            ("90", _("90 days")),
            ("365", _("a year")),
            ("", _("never")),
        ],
        initial="90",
        required=False,
    )


class WebhookForm(forms.Form):
    url = forms.CharField(
        label=_("Address"),
        max_length=500,
        help_text=_("https only, and public."),
        widget=forms.URLInput(
            attrs={"placeholder": "https://example.com/hooks", "autocomplete": "off"}
        ),
    )
    event_types = forms.CharField(required=False)


class SshKeyForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80, help_text=_("For example: laptop"))
    public_key = forms.CharField(
        label=_("Public key"),
        max_length=16_384,
        widget=forms.Textarea(
            attrs={
                "rows": 4,
                "class": "input--mono",
                "placeholder": "ssh-ed25519 AAAA… you@laptop",
                "spellcheck": "false",
                "autocapitalize": "off",
            }
        ),
    )


class SecretForm(forms.Form):
    name = forms.CharField(
        label=_("Name"),
        max_length=128,
        help_text=_("The variable it becomes, for example HF_TOKEN."),
        widget=forms.TextInput(attrs={"class": "input--mono", **_PLAIN}),
    )
    value = password_field(_("Value"), "off", help_text=_("Never shown again, also not to you."))

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        value = self.fields["value"]
        assert isinstance(value, forms.CharField)
        value.max_length = None  # the domain says how long a value may be


class CredentialForm(forms.Form):
    registry = forms.CharField(
        label=_("Registry"),
        max_length=300,
        widget=forms.TextInput(attrs={"placeholder": "ghcr.io", **_PLAIN}),
    )
    username = forms.CharField(
        label=_("User name"), max_length=255, widget=forms.TextInput(attrs=_PLAIN)
    )
    password = password_field(_("Password or token"), "off", help_text=_("Never shown again."))


class TemplateForm(forms.Form):
    """A template as people write it: a command line, variables and ports as text."""

    name = forms.CharField(label=_("Name"), max_length=80)
    description = forms.CharField(label=_("Description"), required=False, max_length=500)
    image = forms.CharField(
        label=_("Image"),
        max_length=400,
        help_text=_("By tag or digest. A tag is looked up now and pinned to its digest."),
        widget=forms.TextInput(
            attrs={"class": "input--mono", "placeholder": "ghcr.io/you/app:1.0", **_PLAIN}
        ),
    )
    registry_credentials = forms.ChoiceField(label=_("Registry user"), required=False)
    command = forms.CharField(
        label=_("Command"),
        required=False,
        max_length=32_768,
        help_text=_("As in a shell, but no shell runs it. Empty: the image's own."),
        widget=forms.Textarea(attrs={"rows": 2, "class": "input--mono", **_PLAIN}),
    )
    env = forms.CharField(
        label=_("Variables"),
        required=False,
        max_length=65_536,
        help_text=_("NAME=value, one a line. For tokens use secrets."),
        widget=forms.Textarea(attrs={"rows": 3, "class": "input--mono", **_PLAIN}),
    )
    ports = PortsField()
    vendor = forms.MultipleChoiceField(
        label=_("Needs cards of"),
        required=False,
        help_text=_("Nothing chosen: any vendor."),
        widget=forms.SelectMultiple(attrs={"size": 4}),
    )
    toolkit = forms.ChoiceField(label=_("Needs toolkit"), required=False)
    min_memory_gib = forms.IntegerField(
        label=_("Needs memory per card, GiB"), required=False, min_value=1, max_value=1_000_000
    )
    min_cuda = forms.CharField(label=_("Needs CUDA"), required=False, max_length=8)

    def __init__(
        self,
        *args: Any,
        logins: list[tuple[str, str]],
        vendors: list[tuple[str, str]],
        toolkits: list[str],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        for name, choices in (
            ("registry_credentials", [("", _("none: anybody may pull it")), *logins]),
            ("vendor", vendors),
            (
                "toolkit",
                [("", _("any toolkit")), *((one, spelled("toolkit", one)) for one in toolkits)],
            ),
        ):
            field = self.fields[name]
            assert isinstance(field, forms.ChoiceField)
            field.choices = choices

    def clean_command(self) -> tuple[str, ...]:
        try:
            return tuple(shlex.split(self.cleaned_data["command"]))
        except ValueError as error:
            raise forms.ValidationError(_("A quotation mark has no partner.")) from error

    def clean_env(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in self.cleaned_data["env"].splitlines():
            name, equals, value = line.partition("=")
            if not line.strip():
                continue
            if not equals:
                raise forms.ValidationError(_("Write each line as NAME=value."))
            found[name.strip()] = value
        return found


def whole_number(text: str, default: int) -> int:
    """A whole number from an address bar, or the default."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return default
    return int(value) if value == value.to_integral_value() and 0 < value < 4097 else default
