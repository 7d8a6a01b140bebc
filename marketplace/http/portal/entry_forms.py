"""Forms of signing up, signing in and the second factor."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.conf import settings
from django.utils.translation import gettext_lazy as _

PASSWORD_MAX: Final = 128  # hashing a megabyte would be a way to burn a processor


def password_field(label: Any, autocomplete: str, **options: Any) -> forms.CharField:
    widget = forms.PasswordInput(attrs={"autocomplete": autocomplete})
    return forms.CharField(
        label=label, max_length=PASSWORD_MAX, strip=False, widget=widget, **options
    )


class TermsForm(forms.Form):
    """What every form that makes an account asks for."""

    accept = forms.BooleanField(error_messages={"required": _("Without this we cannot start.")})
    # The version that was on the page, not the one in force when the form arrives.
    accepted_terms_version = forms.CharField(max_length=20, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["accepted_terms_version"].initial = settings.TERMS_VERSION
        self.fields["accept"].label = _("I accept the terms of %(version)s") % {
            "version": settings.TERMS_VERSION
        }


class SignUpForm(TermsForm):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    password = password_field(
        _("Password"), "new-password", min_length=10, help_text=_("At least 10 characters.")
    )
    organization = forms.CharField(
        label=_("Organization"),
        max_length=120,
        help_text=_("Shown on invoices. Your own name is fine."),
        widget=forms.TextInput(attrs={"autocomplete": "organization"}),
    )
    field_order = ("email", "password", "organization", "accept", "accepted_terms_version")


class SignInForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )
    password = password_field(_("Password"), "current-password")


def code_field(**options: Any) -> forms.CharField:
    """A code of the second factor; longer than six digits it is a recovery code."""
    attrs = {"autocomplete": "one-time-code", "autocapitalize": "off", "spellcheck": "false"}
    return forms.CharField(
        label=_("Code of your app"), max_length=40, widget=forms.TextInput(attrs=attrs), **options
    )


class CodeForm(forms.Form):
    code = code_field()


class PasswordForm(forms.Form):
    password = password_field(_("Your password"), "current-password")


class PasswordAndCodeForm(PasswordForm):
    code = code_field(help_text=_("Six digits, or one of your recovery codes."))


class VerifyForm(forms.Form):
    password = password_field(
        _("Password"),
        "current-password",
        help_text=_("The one chosen at sign-up: it shows that the account is really yours."),
    )


class AddressForm(forms.Form):
    email = forms.EmailField(
        label=_("E-mail"), max_length=254, widget=forms.EmailInput(attrs={"autocomplete": "email"})
    )


class NewPasswordForm(forms.Form):
    password = password_field(
        _("New password"), "new-password", min_length=10, help_text=_("At least 10 characters.")
    )
