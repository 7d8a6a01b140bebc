"""The map of the portal: areas, their groups of pages, and which of them the reader is in.

Data only. A page that belongs on the map gets a line here; the frame of every page (side list on a
desk, menu and neighbours on a phone) is drawn from it. A page without a line belongs to the place
whose address begins its own: /billing/invoices/inv_… is in Invoices.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from marketplace.accounts.access import Principal
from marketplace.http.portal.words import Text


@dataclass(frozen=True)
class Place:
    """A page on the map. also: further beginnings of addresses that belong to it."""

    label: Text
    url: str
    icon: str
    also: tuple[str, ...] = ()

    def covers(self, path: str) -> int:
        """How much of the address is this place's; 0: none of it."""
        fits = [
            len(start)
            for start in (self.url, *self.also)
            if path == start or (path.startswith(f"{start.rstrip('/')}/") and start != "/")
        ]
        return max(fits, default=0)


@dataclass(frozen=True)
class Group:
    label: Text
    places: tuple[Place, ...]


@dataclass(frozen=True)
class Area:
    """What one kind of person does here."""

    name: str
    label: Text
    home: str
    groups: tuple[Group, ...]


_RENT: Final = Area(
    "rent",
    _("Rent"),
    "/",
    (
        Group(
            _("Machines"),
            (
                Place(_("Catalogue"), "/", "search", ("/offers", "/compare")),
                Place(_("Cards"), "/cards", "tag"),
                Place(_("Rentals"), "/rentals", "gpu", ("/charges",)),
                Place(_("Volumes"), "/volumes", "disk"),
                Place(_("Templates"), "/templates", "document"),
                Place(_("Secrets"), "/secrets", "lock"),
                Place(_("SSH keys"), "/ssh-keys", "key"),
                Place(_("Saved searches"), "/searches", "bell"),
            ),
        ),
        Group(
            _("Billing"),
            (
                Place(_("Balance"), "/billing", "wallet"),
                Place(_("Usage"), "/billing/usage", "chart"),
                Place(_("Transactions"), "/billing/transactions", "document"),
                Place(_("Invoices"), "/billing/invoices", "document"),
                Place(_("Budgets"), "/billing/budgets", "flag"),
                Place(_("Tax"), "/billing/tax", "percent"),
            ),
        ),
        Group(
            _("Organization"),
            (
                Place(_("Team"), "/team", "people"),
                Place(_("Projects"), "/projects", "folder"),
                Place(_("API keys"), "/api-keys", "key"),
                Place(_("Webhooks"), "/webhooks", "server"),
                Place(_("Audit log"), "/audit", "shield"),
                Place(_("Your reports"), "/reports", "flag"),
            ),
        ),
    ),
)
_PROVIDE: Final = Area(
    "provide",
    _("Provide"),
    "/provider",
    (
        Group(
            _("Capacity"),
            (
                Place(_("Overview"), "/provider", "home"),
                Place(_("Add a cluster"), "/provider/join", "plus"),
                Place(_("Offers and prices"), "/provider/offers", "tag"),
                Place(_("Rentals and maintenance"), "/provider/capacity", "calendar"),
                Place(_("Starts"), "/provider/reliability", "shield"),
            ),
        ),
        Group(
            _("Money"),
            (
                Place(_("Earnings per card"), "/provider/earnings", "chart"),
                Place(_("Payouts"), "/provider/payouts", "wallet", ("/provider/statements",)),
                Place(_("What a card costs"), "/provider/economics", "percent"),
            ),
        ),
    ),
)
_STAFF: Final = Area(
    "staff",
    _("Staff"),
    "/staff/",
    (
        Group(
            _("Work"),
            (
                Place(_("Queues"), "/staff/", "home"),
                Place(_("Problem reports"), "/staff/reports", "flag"),
                Place(_("Providers"), "/staff/providers", "server"),
                Place(_("Preflights"), "/staff/preflights", "check"),
                Place(_("Organizations"), "/staff/organizations", "people"),
                Place(_("Fraud"), "/staff/fraud", "shield"),
                Place(_("Abuse"), "/staff/abuse", "stop"),
                Place(_("Disputes"), "/staff/disputes", "alert"),
                Place(_("Refunds"), "/staff/returns", "out"),
            ),
        ),
        Group(
            _("Money"),
            (
                Place(_("Books"), "/staff/books", "document", ("/staff/transactions",)),
                Place(_("Months"), "/staff/months", "calendar"),
                Place(_("Fees"), "/staff/fees", "percent"),
                Place(_("Incidents"), "/staff/incidents", "bell"),
                Place(_("Payouts"), "/staff/payouts", "wallet"),
                Place(_("Margins"), "/staff/economics", "chart"),
                Place(_("Bad debt"), "/staff/write-offs", "alert"),
            ),
        ),
        Group(
            _("Platform"),
            (
                Place(_("Capacity"), "/staff/capacity", "gpu"),
                Place(_("Switches"), "/staff/switches", "toggle"),
                Place(_("Brakes"), "/staff/brakes", "stop"),
                Place(_("Unknown objects"), "/staff/unknown", "search"),
                Place(_("Records"), "/admin/", "document"),
            ),
        ),
    ),
)
# Of the account rather than of an area: shown in the account's menu, and no side list is lit.
_NOWHERE: Final = ("/settings", "/sign-", "/terms", "/styleguide")


def _areas(principal: Principal, *, is_provider: bool) -> list[Area]:
    """The areas that the reader may work in."""
    return [
        *[_RENT] * (principal.organization is not None),
        *[_PROVIDE] * is_provider,
        *[_STAFF] * principal.is_staff,
    ]


def navigation(path: str, principal: Principal | None, *, is_provider: bool) -> dict[str, Any]:
    """areas to choose from, the groups of the one that ``path`` is in, and the group it is in.

    Empty lists for strangers and for members of the staff who have no second factor yet.
    """
    areas = _areas(principal, is_provider=is_provider) if principal else []
    here = _here(path, areas)
    area = here[0] if here else (areas[0] if areas else None)
    return {
        "areas": [{"area": each, "current": each is area} for each in areas],
        "area": area,
        "place": here[2] if here else None,
        "neighbours": here[1] if here else None,
    }


def _here(path: str, areas: list[Area]) -> tuple[Area, Group, Place] | None:
    if path.startswith(_NOWHERE):
        return None
    found = [
        (place.covers(path), area, group, place)
        for area in areas
        for group in area.groups
        for place in group.places
    ]
    longest = max(found, key=lambda each: each[0], default=None)
    return longest[1:] if longest and longest[0] else None
