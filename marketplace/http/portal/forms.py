"""The portal's forms: names, labels and the plainest checks. Rules live in the domain."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Any, Final

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from kernel.money import BadAmount, parse_micro

PASSWORD_MAX: Final = 128  # hashing a megabyte would be a way to burn a processor
LIFETIMES: Final[dict[str, tuple[Any, Decimal | None]]] = {
    "1": (_("1 hour"), Decimal(1)),
    "8": (_("8 hours"), Decimal(8)),
    "24": (_("24 hours"), Decimal(24)),
    "168": (_("7 days"), Decimal(168)),
    "none": (_("No end date"), None),
}


def _password(label: Any, autocomplete: str, **options: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
    return forms.CharField(
        label=label, max_length=PASSWORD_MAX, strip=False, widget=widget, **options
    )


class SignUpForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    password = _password(
        _("Password"), "new-password", min_length=10, help_text=_("At least 10 characters.")
    )
    organization = forms.CharField(
        label=_("Organization"),
        max_length=120,
        help_text=_("Shown on invoices. Your own name is fine."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    accept = forms.BooleanField(error_messages={"required": _("Without this we cannot start.")})
    # The version that was on the page, not the one in force when the form arrives.
    accepted_terms_version = forms.CharField(max_length=20, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["accepted_terms_version"].initial = settings.TERMS_VERSION
        self.fields["accept"].label = _("I accept the terms of %(version)s") % {
            "version": settings.TERMS_VERSION
        }


class SignInForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    password = _password(_("Password"), "current-password")


class VerifyForm(forms.Form):
    password = _password(
        _("Password"),
        "current-password",
        help_text=_("The one chosen at sign-up: it shows that the account is really yours."),
    )


class AddressForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )


class NewPasswordForm(forms.Form):
    password = _password(
        _("New password"), "new-password", min_length=10, help_text=_("At least 10 characters.")
    )


class FilterForm(forms.Form):
    """The filter bar. It only draws: the catalogue's own parser reads the URL."""

    accelerator = forms.ChoiceField(label=_("Card"))
    gpus = forms.CharField(label=_("GPUs in one machine"))
    min_memory_gib = forms.CharField(label=_("Memory per card, GiB"))
    max_price = forms.CharField(label=_("At most, $ per GPU and hour"))
    region = forms.ChoiceField(label=_("Region"))
    ownership = forms.ChoiceField(
        label=_("Owner"),
        choices=[("", _("All")), ("owned", _("Our data centres")), ("partner", _("Partners"))],
    )
    order = forms.ChoiceField(
        label=_("Sort by"),
        choices=[("", _("Price, lowest first")), ("-price", _("Price, highest first"))],
    )

    def __init__(
        self, *args: Any, cards: list[tuple[str, str]], regions: list[str], **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self._choose("accelerator", [("", _("Any card")), *cards])
        self._choose("region", [("", _("Anywhere")), *((name, name) for name in regions)])
        for name in ("gpus", "min_memory_gib", "max_price"):
            self.fields[name].widget.attrs.update(inputmode="decimal", autocomplete="off")
        for field in self.fields.values():
            field.required = False

    def _choose(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices


class VolumeForm(forms.Form):
    """A new volume in one of the data centres with storage."""

    name = forms.CharField(label=_("Name"), max_length=80)
    size_gib = forms.IntegerField(
        label=_("Size, GiB"), min_value=1, help_text=_("It can grow later, and never shrinks.")
    )
    datacenter = forms.ChoiceField(label=_("Data centre"))

    def __init__(self, *args: Any, places: list[tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        field = self.fields["datacenter"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = places


class VolumeChangeForm(forms.Form):
    name = forms.CharField(label=_("Name"), max_length=80)
    size_gib = forms.IntegerField(label=_("Size, GiB"), min_value=1)


class ShapeForm(forms.Form):
    """What a quote is made of."""

    gpus = forms.IntegerField(label=_("GPUs"), min_value=1, max_value=4096)
    disk_gib = forms.IntegerField(
        label=_("Disk in GiB"), min_value=1, max_value=1_000_000, required=False
    )


class RentForm(ShapeForm):
    """The whole order beside the quote."""

    template = forms.CharField(max_length=60)
    ssh = forms.CharField(max_length=40)
    public_key = forms.CharField(
        label=_("Public key"),
        required=False,
        max_length=16_384,
        widget=forms.Textarea(
            attrs={
                "rows": 3,
                "class": "input--mono",
                "placeholder": "ssh-ed25519 AAAA… you@laptop",
                "spellcheck": "false",
                "autocapitalize": "off",
            }
        ),
    )
    name = forms.CharField(label=_("Name"), required=False, max_length=80)
    lifetime = forms.ChoiceField(choices=[(key, key) for key in LIFETIMES])
    quote = forms.CharField(max_length=40, widget=forms.HiddenInput)


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

    def clean_price(self) -> int:
        """Micro-units per GPU and hour."""
        try:
            return parse_micro(self.cleaned_data["price"].strip())
        except BadAmount as error:
            raise forms.ValidationError(_("Write a price such as 0.6500.")) from error


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


def whole_number(text: str, default: int) -> int:
    """A whole number from an address bar, or the default."""
    try:
        value = Decimal(text)
    except InvalidOperation:
        return default
    return int(value) if value == value.to_integral_value() and 0 < value < 4097 else default
