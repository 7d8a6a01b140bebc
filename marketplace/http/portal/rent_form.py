"""The order form: what may be filled in, and the domain's order that it makes.

The common order needs none of :data:`MORE`: those are folded away until one says something.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final
from urllib.parse import urlencode

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from marketplace.accounts.access import Principal, get_visible
from marketplace.catalog.query import OfferQuery
from marketplace.http.portal.port_text import PortsField
from marketplace.http.portal.words import Text
from marketplace.models import Offer, Secret
from marketplace.rentals.order import RentOrder
from marketplace.volumes.mounts import VolumeOrder

LIFETIMES: Final[dict[str, tuple[Any, Decimal | None]]] = {
    "1": (gettext_lazy("1 hour"), Decimal(1)),
    "8": (gettext_lazy("8 hours"), Decimal(8)),
    "24": (gettext_lazy("24 hours"), Decimal(24)),
    "168": (gettext_lazy("7 days"), Decimal(168)),
    "none": (gettext_lazy("No end date"), None),
}
# Seconds that an order waits for cards at most.
WAITS: Final[Mapping[str, Text]] = {
    "3600": gettext_lazy("up to an hour"),
    "28800": gettext_lazy("up to 8 hours"),
    "86400": gettext_lazy("up to a day"),
    "604800": gettext_lazy("up to a week"),
}
# Minutes without work until a machine is stopped.
IDLE: Final[Mapping[str, Text]] = {
    "15": gettext_lazy("after 15 minutes without work"),
    "30": gettext_lazy("after 30 minutes without work"),
    "60": gettext_lazy("after an hour without work"),
    "240": gettext_lazy("after 4 hours without work"),
}
# Stands in the form for "no template but this image", and for "make a volume".
OWN_IMAGE: Final = "image"
NEW_VOLUME: Final = "new"
MORE: Final = ("ports", "idle_stop", "queue", "failover", "project", "labels")
# What an address carries, so that whoever went away to pay comes back to the same order. No key and
# no secret: addresses are kept by browsers.
CARRIED: Final = (
    *("gpus", "disk_gib", "interruptible", "volume", "volume_gib", "mount", "template", "image"),
    *("name", "lifetime", *MORE),
)
_LONGEST: Final = 300  # of one value in an address
_PLAIN: Final = {"spellcheck": "false", "autocapitalize": "off", "autocomplete": "off"}


class ShapeForm(forms.Form):
    """What a quote is made of."""

    gpus = forms.IntegerField(label=gettext_lazy("GPUs"), min_value=1, max_value=4096)
    disk_gib = forms.IntegerField(
        label=gettext_lazy("Disk in GiB"), min_value=1, max_value=1_000_000, required=False
    )
    interruptible = forms.BooleanField(required=False)
    volume = forms.CharField(label=gettext_lazy("Volume"), required=False, max_length=40)
    volume_gib = forms.IntegerField(
        label=gettext_lazy("Size of the new volume, GiB"),
        min_value=1,
        max_value=1_000_000,
        required=False,
    )

    def clean(self) -> dict[str, Any]:
        data = super().clean() or {}
        is_new = data.get("volume") == NEW_VOLUME
        if is_new and not data.get("volume_gib") and "volume_gib" not in self.errors:
            self.add_error("volume_gib", _("Say how large it should be."))
        data["new_gib"] = (data.get("volume_gib") or 0) if is_new else 0
        return data


class RentForm(ShapeForm):
    """The whole order beside the quote."""

    template = forms.CharField(max_length=60)
    image = forms.CharField(
        label=gettext_lazy("Image"),
        required=False,
        max_length=400,
        widget=forms.TextInput(
            attrs={"class": "input--mono", "placeholder": "ghcr.io/you/app:1.0", **_PLAIN}
        ),
    )
    registry_credentials = forms.CharField(required=False, max_length=40)
    ssh = forms.CharField(max_length=40)
    public_key = forms.CharField(
        label=gettext_lazy("Public key"),
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
    mount = forms.CharField(
        label=gettext_lazy("Where in the machine"),
        required=False,
        max_length=400,
        initial="/data",
        widget=forms.TextInput(attrs={"class": "input--mono", **_PLAIN}),
    )
    ports = PortsField()
    name = forms.CharField(label=gettext_lazy("Name"), required=False, max_length=80)
    lifetime = forms.ChoiceField(choices=[(key, key) for key in LIFETIMES])
    idle_stop = forms.ChoiceField(
        label=gettext_lazy("Stop it when idle"),
        required=False,
        choices=[("", gettext_lazy("never")), *IDLE.items()],
        help_text=gettext_lazy(
            "When all its GPUs do nothing for so long. You are told before; volumes are kept."
        ),
    )
    queue = forms.ChoiceField(
        label=gettext_lazy("If the cards are gone when you order"),
        required=False,
        choices=[
            ("", gettext_lazy("tell me, and rent nothing")),
            *((key, text) for key, text in WAITS.items()),
        ],
        help_text=gettext_lazy("An order that waits costs nothing, and may be ended at any time."),
    )
    failover = forms.BooleanField(
        label=gettext_lazy("Go on elsewhere if its host is lost, at this price or less"),
        required=False,
    )
    project = forms.ChoiceField(label=gettext_lazy("Project"), required=False)
    labels = forms.CharField(
        label=gettext_lazy("Labels"),
        required=False,
        max_length=2000,
        help_text=gettext_lazy("For your own bookkeeping, such as team=vision, run=42."),
        widget=forms.TextInput(attrs={"class": "input--mono", **_PLAIN}),
    )
    quote = forms.CharField(max_length=40, widget=forms.HiddenInput)

    def __init__(
        self, *args: Any, projects: Iterable[tuple[str, str]] = (), waits: bool = False, **kw: Any
    ) -> None:
        """waits: an order for cards that are not there; no quote fixes its price, a cap does."""
        super().__init__(*args, **kw)
        field = self.fields["project"]
        assert isinstance(field, forms.ChoiceField)
        field.choices = [("", _("none")), *projects]
        self.has_projects = bool(projects)
        self.waits = waits
        self.fields["quote"].required = not waits

    def clean_labels(self) -> dict[str, str]:
        found: dict[str, str] = {}
        for entry in self.cleaned_data["labels"].replace("\n", ",").split(","):
            name, equals, value = entry.strip().partition("=")
            if not entry.strip():
                continue
            if not equals:
                raise forms.ValidationError(_("Write each label as name=value."))
            found[name.strip()] = value.strip()
        return found

    def clean(self) -> dict[str, Any]:
        data = super().clean()
        if data["new_gib"] and (self.waits or data.get("queue")):
            self.add_error(
                "volume",
                _("A new volume cannot wait with the order. Make it first, then choose it here."),
            )
        return data

    @property
    def more_fields(self) -> list[forms.BoundField]:
        names = [name for name in MORE if name != "project" or self.has_projects]
        return [self[name] for name in names]

    @property
    def says_more(self) -> bool:
        """Whether a folded field has a value or an error: then it is not folded away."""
        return any(bound.errors or bound.value() for bound in self.more_fields)


def order_of(
    principal: Principal, form: RentForm, offer: Offer, *, secrets: list[str]
) -> RentOrder:
    """The valid form as the domain's order. A secret becomes the variable that it is called after.

    A form that waits orders cards like those of the offer, in its region, at its price or less.
    """
    data = form.cleaned_data
    hours = LIFETIMES[data["lifetime"]][1]
    own_image = data["template"] == OWN_IMAGE
    chosen = [get_visible(Secret, principal, secret) for secret in secrets]
    order = RentOrder(
        quote_id=data["quote"],
        name=data["name"],
        project=data["project"] or None,
        labels=data["labels"],
        template=None if own_image else data["template"],
        image=data["image"].strip() if own_image else None,
        registry_credentials=(data["registry_credentials"] or None) if own_image else None,
        ports=data["ports"],
        secrets={secret.name: secret.public_id for secret in chosen},
        max_hours=hours,
        no_limit=hours is None,
        volumes=_volumes(data),
        queue_seconds=int(data["queue"]) if data["queue"] else None,
        failover=data["failover"],
        idle_stop_minutes=int(data["idle_stop"]) if data["idle_stop"] else None,
    )
    if form.waits:
        order = replace(
            order,
            quote_id=None,
            requirement=_like(offer, data),
            disk_gib=data["disk_gib"],
            queue_seconds=order.queue_seconds or int(next(iter(WAITS))),
        )
    if data["ssh"] == "none":
        return replace(order, ssh=False)
    key = data["public_key"] if data["ssh"] == "paste" else data["ssh"]
    return replace(order, ssh_keys=(key,) if key.strip() else ())


def _volumes(data: Mapping[str, Any]) -> tuple[VolumeOrder, ...]:
    mount = data["mount"] or "/data"
    if data["new_gib"]:
        return (VolumeOrder(mount=mount, size_gib=data["new_gib"]),)
    return (VolumeOrder(mount=mount, volume=data["volume"]),) if data["volume"] else ()


def _like(offer: Offer, data: Mapping[str, Any]) -> OfferQuery:
    """What is asked for where the offer itself has no free cards."""
    cheap = offer.interruptible_price_micro_h if data["interruptible"] else None
    return OfferQuery(
        accelerator=(offer.group.accelerator,),
        gpus=data["gpus"],
        region=offer.region,
        isolation=offer.isolation,
        interruptible=cheap is not None or None,
        max_price=offer.price_micro_h if cheap is None else cheap,
        egress=offer.group.egress,
    )


def address_of(offer_id: str, given: Mapping[str, Any]) -> str:
    """The address of the offer's page with the order as far as it is filled in."""
    kept = {name: str(given.get(name) or "")[:_LONGEST] for name in CARRIED}
    return f"/offers/{offer_id}?{urlencode({name: text for name, text in kept.items() if text})}"
