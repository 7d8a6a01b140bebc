"""The portal's pages and how a visitor comes to each: what `make screenshots` takes pictures of and
the browser tests judge. Data only.

Pages about one thing are reached by the links that people follow, so that a page nobody can get to
is missed here too.
"""

from __future__ import annotations

# By who looks; "" is a stranger.
PAGES: dict[str, tuple[str, ...]] = {
    "": (
        "/",
        "/sign-up",
        "/sign-in",
        "/reset-password",
        "/terms",
        "/styleguide",
        "/provider-rules",
        "/compare",
        "/cards",
    ),
    "renter": (
        "/",
        "/cards",
        "/cards/nvidia-h100-80gb-sxm?days=7",
        "/compare",
        "/searches",
        "/rentals",
        "/volumes",
        "/templates",
        "/templates/new",
        "/secrets",
        "/ssh-keys",
        "/api-keys",
        "/webhooks",
        "/billing",
        "/billing/transactions",
        "/billing/usage",
        "/billing/invoices",
        "/billing/budgets",
        "/billing/tax",
        "/team",
        "/projects",
        "/audit",
        "/reports",
        "/settings",
        "/settings/notifications",
        "/settings/second-factor",
        "/provider",
        "/terms",
        "/styleguide",
    ),
    "postpaid": ("/billing",),
    "provider": (
        "/provider",
        "/provider/join",
        "/provider/offers",
        "/provider/capacity",
        "/provider/reliability",
        "/provider/earnings",
        "/provider/earnings?days=90",
        "/provider/payouts",
        "/provider/economics",
        "/provider/economics?purchase_price=26280&utilisation=70&price=2&watts_load=1000"
        "&watts_idle=100&kwh_price=0.2&life_years=8&method=market_value",
    ),
    "staff": (
        "/settings/second-factor",
        "/staff/",
        "/staff/reports",
        "/staff/providers",
        "/staff/preflights",
        "/staff/organizations",
        "/staff/fraud",
        "/staff/abuse",
        "/staff/disputes",
        "/staff/returns",
        "/staff/books",
        "/staff/months",
        "/staff/fees",
        "/staff/incidents",
        "/staff/payouts",
        "/staff/economics",
        "/staff/write-offs",
        "/staff/capacity",
        "/staff/switches",
        "/staff/brakes",
        "/staff/unknown",
    ),
}
# A page with links, and what the first of them in its content begins with.
LINKS: dict[str, tuple[tuple[str, str], ...]] = {
    "renter": (
        ("/", "/offers/ofr_"),
        ("/rentals", "/rentals/ren_"),
        ("/volumes", "/volumes/vol_"),
        ("/templates", "/templates/tpl_"),
        ("/webhooks", "/webhooks/whk_"),
        ("/billing", "/billing/topups/top_"),
        ("/team", "/team/members/"),
        ("/projects", "/projects/prj_"),
    ),
    "postpaid": (("/billing/invoices", "/billing/invoices/inv_"),),
    "provider": (
        ("/provider", "/provider/clusters/clu_"),
        ("/provider/offers", "/provider/offers/ofr_"),
        ("/provider/offers", "/provider/economics?card="),
        ("/provider/payouts", "/provider/statements/"),
    ),
    "staff": (
        ("/staff/reports", "/staff/transactions/txn_"),
        ("/staff/providers", "/staff/providers/prv_"),
        ("/staff/organizations", "/staff/organizations/org_"),
        ("/staff/disputes", "/staff/disputes/"),
        ("/staff/incidents", "/staff/incidents/inc_"),
        ("/staff/months", "/staff/months/"),
    ),
}
# What lies below the page of one thing, for who may act on it.
BELOW: dict[str, tuple[str, ...]] = {
    "/rentals/ren_": (
        *("/edit", "/certificate", "/charts", "/ports", "/terminal"),
        *("/stop", "/restart", "/terminate"),
    ),
    "/volumes/vol_": ("/delete",),
    "/provider/clusters/clu_": ("/preflight", "/drain", "/stop"),
    "/provider/offers/ofr_": ("/price", "/times", "/visibility"),
}


def below(link: str) -> list[str]:
    """The pages below the one that ``link`` leads to."""
    root = "/".join(link.split("/")[: 3 + link.startswith(("/provider/", "/staff/"))])
    return [
        root + name for start, names in BELOW.items() if link.startswith(start) for name in names
    ]
