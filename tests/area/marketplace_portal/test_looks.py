"""Staff see the portal as an organization does: read-only, on the record, and not for long."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from kernel.clock import now
from kernel.ids import new_id, public
from marketplace.accounts import looks
from marketplace.http import seeing
from marketplace.models import AuditEntry, Look, Project, User
from tests import market
from tests.area.marketplace_accounts import people
from tests.area.marketplace_portal.test_pages import rent
from tests.area.marketplace_portal.test_returns import member
from tests.area.marketplace_portal.visitors import Visitor, read, visitor_of

UNSAFE = ("POST", "PUT", "PATCH", "DELETE")


def looking(renter: Visitor, name: str = "ann") -> Visitor:
    """A member of the staff who looks as the renter's organization."""
    visitor = member(name)
    path = f"/staff/organizations/{renter.person.principal.org.public_id}"
    page = visitor.get(path)
    assert visitor.send(page, f"{path}/look", reason="a <b>call</b>").status_code == 303
    return visitor


def routes(patterns: list[Any] | None = None, prefix: str = "") -> Iterator[str]:
    """Every address of the platform, as its urlconf writes it."""
    for pattern in get_resolver().url_patterns if patterns is None else patterns:
        route = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from routes(pattern.url_patterns, route)
        elif isinstance(pattern, URLPattern):
            yield route


def addresses() -> list[str]:
    """One address for each route; Django admin is one door with patterns of its own."""
    named = [route for route in routes() if not route.startswith(("admin/", "^"))]
    return [
        "/" + "/".join("x" if part.startswith("<") else part for part in route.split("/"))
        for route in named
    ] + ["/admin/"]


def test_a_look_shows_the_organizations_pages_with_a_banner_and_an_end(
    renter: Visitor, supply: market.Supply
) -> None:
    rental = rent(renter, supply)
    ann = member("ann")
    path = f"/staff/organizations/{renter.person.principal.org.public_id}"
    bare = ann.post(f"{path}/look", {"idempotency_key": "b", "reason": " "})
    assert (bare.status_code, "say why" in bare.text) == (422, True)
    assert Look.objects.count() == 0
    page = ann.get(path)
    assert ann.send(page, f"{path}/look", reason="a call").status_code == 303
    for page in ("/rentals", f"/rentals/{rental}", "/billing", "/billing/usage", "/volumes"):
        answer = ann.get(page)
        assert answer.status_code == 200, page
        assert "You look as Acme" in answer.text, page
        assert [form for form in read(answer.text).forms if form["action"] == seeing.END], page
    assert rental in ann.get("/rentals").text
    assert ann.get("/staff/").status_code == 403, "who looks is no staff meanwhile"
    ended = ann.post(seeing.END)
    assert (ended.status_code, ended["Location"]) == (303, path)
    assert ann.get("/staff/").status_code == 200
    assert ann.get(f"/rentals/{rental}").status_code == 403, "no renter either"
    assert "You look as" not in ann.get("/staff/").text
    assert ann.post(seeing.END).status_code == 303, "ended twice is ended"
    assert Look.objects.get().ended_at is not None


def test_the_organization_reads_in_its_own_log_who_looked_and_why(renter: Visitor) -> None:
    ann = looking(renter)
    ann.post(seeing.END)
    status, log = renter.person.call("GET", "/audit-log")
    assert status == 200
    told = [row for row in log["items"] if row["action"].startswith("organization.look")]
    assert [row["action"] for row in told] == ["organization.look_end", "organization.look_begin"]
    assert told[1]["details"]["reason"] == "a <b>call</b>"
    actor = f"staff:{public('user', User.objects.get(email='ann@example.com').pk)}"
    assert {row["actor"] for row in told} == {actor}


@pytest.mark.usefixtures("supply")
def test_every_address_refuses_every_change_but_the_end(renter: Visitor) -> None:
    ann = looking(renter)
    tried = addresses()
    assert len(tried) > 200, "the walk finds the platform"
    rows = AuditEntry.objects.count(), Project.objects.count()
    for address in tried:
        for method in UNSAFE:
            if (method, address) == ("POST", seeing.END):
                continue
            answer = ann.client.generic(method, address)
            assert answer.status_code == 403, f"{method} {address}"
            assert b"only looking" in answer.content, f"{method} {address}"
    assert (AuditEntry.objects.count(), Project.objects.count()) == rows
    page = ann.post("/ssh-keys", {"name": "x", "public_key": market.SSH_KEY})
    assert "You are only looking" in page.text
    assert "End the look" in page.text


def test_what_is_not_named_as_open_is_closed(renter: Visitor) -> None:
    ann = looking(renter)
    known = set(routes())
    assert known >= seeing.OPEN, "an open page that does not exist hides a slip of the pen"
    for address, route in zip(addresses(), [*_named(), "admin/"], strict=True):
        expected = {200, 404} if route in seeing.OPEN else {403}
        assert ann.client.get(address).status_code in expected, address


def _named() -> list[str]:
    return [route for route in routes() if not route.startswith(("admin/", "^"))]


def test_what_is_inside_a_machine_stays_inside(renter: Visitor, supply: market.Supply) -> None:
    rental = rent(renter, supply)
    ann = looking(renter)
    page, own = ann.get(f"/rentals/{rental}"), renter.get(f"/rentals/{rental}")
    for name in ("rental-access", "rental-log"):
        assert f'id="{name}"' in own.text
        assert f'id="{name}"' not in page.text
    assert "rental-access" not in ann.get(f"/rentals/{rental}/live", htmx=True).text
    for path in ("/terminal", "/ports", "/ports/8000/enter"):
        assert ann.get(f"/rentals/{rental}{path}").status_code == 403
    for path in ("/secrets", "/api-keys", "/webhooks", "/templates", "/settings"):
        assert ann.get(path).status_code == 403, path
    logs = ann.client.get(f"/api/v1/rentals/{rental}/logs")
    assert (logs.status_code, logs.json()["type"]) == (403, "/problems/only_looking")


def test_a_key_beside_the_session_acts_for_itself(renter: Visitor, supply: market.Supply) -> None:
    rental, other = rent(renter, supply), market.make_renter("Other")
    ann = looking(renter)
    with_key = {"Authorization": f"Bearer {other.secret}"}
    foreign = ann.client.get(f"/api/v1/rentals/{rental}", headers=with_key)
    assert foreign.status_code == 404
    key = people.key_of(User.objects.get(email="ann@example.com"))
    staff = Client().get("/api/v1/staff/providers", headers={"Authorization": f"Bearer {key}"})
    assert staff.status_code == 200
    nothing = Client().get("/api/v1/rentals", headers={"Authorization": f"Bearer {key}"})
    assert nothing.status_code == 403, "a key of somebody who looks sees nothing of what they see"


def test_half_an_hour_later_it_is_over_and_in_the_log(renter: Visitor) -> None:
    ann = looking(renter)
    assert looks.sweep() == 0
    assert timedelta(minutes=29) < Look.objects.get().until - now() <= looks.LONGEST
    Look.objects.update(until=now() - timedelta(seconds=1))
    answer = ann.get("/rentals")
    assert "You look as" not in answer.text
    assert ann.get("/staff/").status_code == 200
    assert looks.sweep() == 1
    assert looks.sweep() == 0
    entry = AuditEntry.objects.get(action="organization.look_end")
    assert (entry.actor, entry.organization_ref) == ("platform", renter.person.org)


def test_who_is_no_staff_any_more_looks_no_more(renter: Visitor) -> None:
    ann = looking(renter)
    User.objects.filter(email="ann@example.com").update(is_staff=False)
    assert "You look as" not in ann.get("/rentals").text


def test_one_look_at_a_time_and_only_by_staff(renter: Visitor) -> None:
    other = visitor_of(market.make_renter("Other"))
    looking(renter)
    again = Visitor()
    again.client.force_login(
        User.objects.get(email="ann@example.com"),
        backend="django.contrib.auth.backends.ModelBackend",
    )
    path = f"/staff/organizations/{other.person.principal.org.public_id}/look"
    assert again.post(path, {"idempotency_key": "2", "reason": "another"}).status_code == 303
    assert Look.objects.filter(ended_at=None).get().organization == other.person.principal.org
    assert AuditEntry.objects.filter(action="organization.look_end").count() == 1
    assert renter.post(path, {"idempotency_key": "3", "reason": "me"}).status_code == 403
    made_up = f"/staff/organizations/{public('organization', new_id())}/look"
    again.post(seeing.END)
    assert again.post(made_up, {"idempotency_key": "4", "reason": "x"}).status_code == 404
