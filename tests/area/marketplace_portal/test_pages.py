"""Every page for everyone: who sees it, who is sent to sign in, and what a stranger's id gives."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, get_resolver, resolve

from devstack.pages import BELOW, LINKS, PAGES
from kernel.ids import new_id, public
from marketplace.accounts import switches
from marketplace.http.portal import urls as portal
from marketplace.http.staff import abuse as staff_abuse
from marketplace.http.staff import books as staff_books
from marketplace.http.staff import capacity as staff_capacity
from marketplace.http.staff import desk as staff_desk
from marketplace.http.staff import economics as staff_economics
from marketplace.http.staff import fees as staff_fees
from marketplace.http.staff import fraud as staff_fraud
from marketplace.http.staff import incidents as staff_incidents
from marketplace.http.staff import losses as staff_losses
from marketplace.http.staff import pages as staff_pages
from marketplace.http.staff import payouts as staff_payouts
from marketplace.http.staff import reports as staff_reports
from marketplace.http.staff import returns as staff_returns
from marketplace.models import User
from tests import market
from tests.area.marketplace_portal.visitors import PASSWORD, Visitor, visitor_of
from tests.authenticator import make_staff
from tests.browser.test_details import PLAIN

PUBLIC = PAGES[""]
PRIVATE = [
    "/rentals",
    "/volumes",
    "/billing",
    "/billing/transactions",
    "/billing/usage",
    "/billing/invoices",
    "/billing/budgets",
    "/billing/tax",
    "/api-keys",
    "/ssh-keys",
    "/secrets",
    "/templates",
    "/templates/new",
    "/webhooks",
    "/settings",
    "/settings/second-factor",
    "/provider",
    "/provider/economics",
    "/reports",
    "/team",
    "/projects",
    "/audit",
    "/settings/notifications",
    "/searches",
]
# For those who applied as a provider; nobody else has such a page.
SUPPLIERS = [
    "/provider/payouts",
    "/provider/earnings",
    "/provider/capacity",
    "/provider/join",
    "/provider/offers",
    "/provider/reliability",
]
STAFF = [path for path in PAGES["staff"] if path.startswith("/staff/")]
FOREIGN: list[tuple[str, str]] = [
    ("rental", "/rentals/{id}"),
    ("rental", "/rentals/{id}/live"),
    ("rental", "/rentals/{id}/changes"),
    ("rental", "/rentals/{id}/charts"),
    ("rental", "/rentals/{id}/edit"),
    ("rental", "/rentals/{id}/certificate"),
    ("rental", "/rentals/{id}/terminal"),
    ("rental", "/rentals/{id}/terminate"),
    ("rental", "/rentals/{id}/stop"),
    ("rental", "/rentals/{id}/start"),
    ("rental", "/rentals/{id}/restart"),
    ("rental", "/rentals/{id}/retry"),
    ("rental", "/rentals/{id}/ports"),
    ("rental", "/rentals/{id}/ports/{id}/enter"),
    ("volume", "/volumes/{id}"),
    ("volume", "/volumes/{id}/delete"),
    ("charge", "/charges/{id}"),
    ("topup", "/billing/topups/{id}"),
    ("card_setup", "/billing/cards/{id}"),
    ("invoice", "/billing/invoices/{id}"),
    ("portal_session", "/billing/stripe/{id}"),
    ("offer", "/offers/{id}"),
    ("offer", "/provider/offers/{id}/visibility"),
    ("template", "/templates/{id}"),
    ("webhook", "/webhooks/{id}"),
    ("cluster", "/provider/clusters/{id}/preflight"),
    ("cluster", "/provider/clusters/{id}/stop"),
    ("rental", "/provider/rentals/{id}/stop"),
    ("offer", "/provider/offers/{id}/times"),
    ("payout", "/provider/statements/{id}"),
    ("payout", "/provider/statements/{id}/export.csv"),
    ("rental", "/reports/new?rental={id}"),
    ("charge", "/reports/new?charge={id}"),
    ("cluster", "/provider/clusters/{id}"),
    ("cluster", "/provider/clusters/{id}/drain"),
    ("offer", "/provider/offers/{id}/price"),
    ("cluster", "/provider/clusters/{id}/preflight/live"),
    ("offer", "/cards/{id}"),
    ("user", "/team/members/{id}"),
    ("project", "/projects/{id}"),
]


@pytest.fixture
def staff(transactional_db: None) -> Visitor:
    make_staff(email="staff@example.com", password=PASSWORD)
    visitor = Visitor()
    visitor.client.force_login(
        User.objects.get(email="staff@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    return visitor


@pytest.mark.parametrize("path", PUBLIC)
def test_public_pages_need_no_account(stranger: Visitor, path: str) -> None:
    assert stranger.get(path).status_code == 200


@pytest.mark.parametrize("path", PRIVATE + SUPPLIERS + STAFF)
def test_private_pages_send_strangers_to_sign_in_and_back(stranger: Visitor, path: str) -> None:
    answer = stranger.get(path)
    assert answer.status_code == 302
    assert answer["Location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("path", PRIVATE)
def test_private_pages_serve_their_organization(renter: Visitor, path: str) -> None:
    answer = renter.get(path)
    assert answer.status_code == 200
    assert answer["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", STAFF)
def test_staff_pages_are_for_staff(renter: Visitor, staff: Visitor, path: str) -> None:
    assert renter.get(path).status_code == 403
    assert staff.get(path).status_code == 200


@pytest.mark.parametrize(("kind", "path"), FOREIGN)
def test_an_id_of_nobody_is_not_found(renter: Visitor, kind: str, path: str) -> None:
    for text in (public(kind, new_id()), "made-up"):
        assert renter.get(path.format(id=text)).status_code == 404


def test_another_organizations_rental_is_not_found(renter: Visitor, supply: market.Supply) -> None:
    status, rental = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202
    assert renter.get(f"/rentals/{rental['id']}").status_code == 200
    other = visitor_of(market.make_renter("Other"))
    for path in ("", "/live", "/terminate", "/terminal"):
        assert other.get(f"/rentals/{rental['id']}{path}").status_code == 404
    answer = other.post(f"/rentals/{rental['id']}/terminate")
    assert answer.status_code == 404
    assert renter.person.call("GET", f"/rentals/{rental['id']}")[1]["state"] == "provisioning"


def routes() -> dict[str, str]:
    """Every page's and form's route, with {id} for what varies: as it is, as the urlconf has it."""
    staff_urls = (
        *(staff_pages, staff_books, staff_losses),
        *(staff_payouts, staff_returns, staff_economics, staff_abuse),
        *(staff_reports, staff_desk, staff_fraud, staff_capacity),
        *(staff_fees, staff_incidents),
    )
    patterns = [*portal.urlpatterns, *(url for urls in staff_urls for url in urls.urlpatterns)]
    assert all(isinstance(pattern, URLPattern) for pattern in patterns)
    return {plain_of(str(pattern.pattern)): str(pattern.pattern) for pattern in patterns}


def plain_of(route: str) -> str:
    return "/" + "/".join("{id}" if part.startswith("<") else part for part in route.split("/"))


def test_every_page_is_in_a_list_above() -> None:
    """A page added without a line here would go untested for strangers and foreign ids."""
    known = {*PUBLIC, *PRIVATE, *SUPPLIERS, *STAFF, *(path for _kind, path in FOREIGN)}
    assert set(routes()) - known - POSTED == set()


# Looked at by a browser's test that no list leads to, each with the module that does.
JUDGED_ON_THE_WAY = {
    "/verify-email": "test_on_the_way",
    "/sign-in/code": "test_on_the_way",
    "/invitation": "test_on_the_way",
    "/staff/books/{id}": "test_desk_books",
    "/billing/cards/{id}": "test_saved_card",
    "/rentals/{id}/start": "test_organization",
    "/rentals/{id}/retry": "test_trouble",
}
# What GET gives there is no page of its own: a piece of one, news of one, a file, or another place.
NO_PAGES = {
    "/rentals/{id}/live",
    "/rentals/{id}/changes",
    "/rentals/changes",
    "/provider/clusters/{id}/preflight/live",
    "/provider/statements/{id}/export.csv",
    "/rentals/{id}/ports/{id}/enter",
    "/billing/{id}/return",
    "/billing/stripe/{id}",
}


def test_every_page_is_judged_by_a_browser(stranger: Visitor) -> None:
    """Width, weight, console and axe-core: for whatever answers to GET, and no page is listed that
    is not there."""
    listed = {path for paths in (*PAGES.values(), *PLAIN.values()) for path in paths}
    linked = {f"{prefix}x" for links in LINKS.values() for _page, prefix in links}
    under = {f"{start}x{name}" for start, names in BELOW.items() for name in names}
    # Of an offer there are only pages below it, so its links begin with more than a page.
    linked -= {f"{start}x" for start in BELOW if start.startswith("/provider/offers/")}
    judged = {*JUDGED_ON_THE_WAY, *(where(path) for path in listed | linked | under)}
    pages = {
        plain
        for plain in routes()
        if stranger.get(plain.format(id=public("offer", new_id()))).status_code != 405
    }
    assert pages - judged - NO_PAGES == set()
    assert (judged | NO_PAGES) - pages == set()


def where(path: str) -> str:
    """The route of an address in which things may be named instead of given."""
    address = path.partition("?")[0].format_map(defaultdict(lambda: "x"))
    return plain_of(resolve(address).route)


# Forms' targets and pages of staff about one object; each has a test of its own.
POSTED = {
    "/staff/payouts/run",
    "/staff/payouts/{id}/approve",
    "/staff/payouts/{id}/cancel",
    "/staff/payouts/providers/{id}/hold",
    "/staff/payouts/providers/{id}/release",
    "/staff/payouts/renters/{id}/release",
    "/provider/clusters/{id}/preflight/check",
    "/provider/join/cluster",
    "/provider/join/datacenter",
    "/provider/maintenance",
    "/provider/maintenance/{id}/withdraw",
    "/staff/abuse/{id}/decide",
    "/offers/{id}/quote",
    "/offers/{id}/price",
    "/offers/{id}/rent",
    "/billing/topups",
    "/billing/cards",
    "/billing/stripe",
    "/billing/refunds",
    "/staff/returns/{id}",
    "/staff/returns/{id}/{id}/approve",
    "/staff/returns/{id}/{id}/decline",
    "/staff/disputes/{id}",
    "/staff/write-offs/{id}",
    "/provider/clusters/{id}/relay",
    "/provider/datacenters/{id}/disk-price",
    "/staff/organizations/{id}/unfreeze",
    "/billing/auto-topup",
    "/billing/budgets/{id}/delete",
    "/billing/{id}/return",
    "/api-keys/{id}/revoke",
    "/ssh-keys/{id}/delete",
    "/secrets/{id}/delete",
    "/registry-credentials",
    "/registry-credentials/{id}/delete",
    "/templates/{id}/delete",
    "/rentals/{id}/ports/{id}/open",
    "/webhooks/{id}/test",
    "/webhooks/{id}/rotate-secret",
    "/webhooks/{id}/switch",
    "/webhooks/{id}/delete",
    "/webhooks/{id}/deliveries/{id}/redeliver",
    "/provider/apply",
    "/language",
    "/sign-out",
    "/sign-in/code",
    "/settings/second-factor/begin",
    "/settings/second-factor/confirm",
    "/settings/second-factor/recovery-codes",
    "/settings/second-factor/remove",
    "/verify-email",
    "/verify-email/resend",
    "/staff/providers/{id}",
    "/staff/organizations/{id}",
    "/staff/organizations/{id}/close-period",
    "/staff/books/{id}",
    "/staff/books/{id}/look",
    "/rentals/bulk",
    "/rentals/changes",
    "/team/choose",
    "/team/members/{id}/remove",
    "/team/invitations/{id}/resend",
    "/team/invitations/{id}/withdraw",
    "/invitation",
    "/staff/transactions/{id}",
    "/staff/months/{id}",
    "/staff/months/{id}/lock",
    "/reports/new",
    "/staff/reports/{id}/answer",
    "/staff/rentals/{id}/explain",
    "/staff/brakes/{id}/release",
    "/staff/fraud/{id}",
    "/staff/organizations/{id}/look",
    "/staff/look/end",
    "/staff/fees/preview",
    "/staff/fees/{id}/withdraw",
    "/staff/incidents/{id}",
    "/staff/incidents/{id}/post",
    "/staff/incidents/{id}/withdraw",
    "/provider/clusters/{id}/nodes/{id}/{id}",
    "/provider/clusters/{id}/token",
    "/provider/join/prices",
    "/provider/economics/save",
    "/provider/economics/{id}/forget",
    "/searches/{id}/delete",
}


@pytest.mark.parametrize("path", sorted(POSTED))
def test_forms_targets_refuse_strangers(stranger: Visitor, path: str) -> None:
    answer = stranger.post(path.format(id=public("offer", new_id())))
    proofs = {"/verify-email", "/verify-email/resend", "/invitation"}
    if path in {"/language", "/sign-out", "/sign-in/code", *proofs}:
        assert answer.status_code in {302, 303, 422}
    else:
        assert answer.status_code == 302
        assert answer["Location"].startswith("/sign-in")


def test_forms_need_their_csrf_token(renter: Visitor) -> None:
    renter.client.handler.enforce_csrf_checks = True
    answer = renter.post("/ssh-keys", {"name": "laptop", "public_key": market.SSH_KEY})
    assert answer.status_code == 403
    assert "Nothing was done" in answer.text


def test_an_unknown_address_is_a_page(stranger: Visitor) -> None:
    answer = stranger.get("/no-such-page")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.text


def test_nothing_shadows_the_api() -> None:
    assert get_resolver().resolve("/api/v1/offers").route.startswith("api/v1/")


def _queries(run: Callable[[], object]) -> int:
    switches.forget()  # read again every other second: counted always, not by the clock
    with CaptureQueriesContext(
        connection,
    ) as captured:
        run()
    return len(captured)


@pytest.mark.parametrize("path", ["/", "/rentals"])
def test_lists_cost_the_same_for_one_row_and_for_many(
    renter: Visitor, supply: market.Supply, path: str
) -> None:
    """At most 12 queries, and no more for 12 rows than for one."""
    rent(renter, supply)
    one = _queries(lambda: renter.get(path))
    for _ in range(5):
        rent(renter, supply)
    for _ in range(6):
        market.make_supply(1)
    assert _queries(lambda: renter.get(path)) == one
    assert one <= 12


def rent(renter: Visitor, supply: market.Supply) -> str:
    status, rental = renter.person.call("POST", "/rentals", market.order(supply.offer))
    assert status == 202, rental
    return str(rental["id"])
