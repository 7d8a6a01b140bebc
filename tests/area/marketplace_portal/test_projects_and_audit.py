"""Projects with what lives on them and cost; the audit log with its filters and pages."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from kernel.ids import new_id, public
from marketplace.http.portal.deeds import DEEDS, PLACES, deed
from marketplace.models import AuditEntry, Budget, Project, Rental
from tests import market
from tests.area.marketplace_portal.visitors import Visitor, visitor_of

MARKETPLACE = Path(__file__).resolve().parents[3] / "marketplace"
# Actions that are put together where they are recorded, and what they begin with.
COMPOSED = {
    "rental.": ("start", "retry"),
    "rental.stop.": ("funds", "idle"),
    "rental.end.": ("end_date", "abuse"),
    "switch.": ("on", "off"),
    "abuse.": ("upheld", "dismissed"),
    "problem.": ("answered", "closed"),
    "refund.": ("order", "approve", "decline"),
    "credit_note.": ("order", "approve", "decline"),
    "adjustment.": ("order", "approve", "decline"),
    "promotion.": ("order", "approve", "decline"),
}


def recorded() -> set[str]:
    """Every action that the code records, as written there."""
    found: set[str] = set()
    for path in MARKETPLACE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
            if name.strip("_") in {"record", "audit", "save", "done", "removed"}:
                found |= {
                    part.value
                    for part in ast.walk(node)
                    if isinstance(part, ast.Constant)
                    and isinstance(part.value, str)
                    and re.fullmatch(r"[a-z_]+\.[a-z_]+", part.value)
                }
    return found


def test_every_action_of_the_code_has_its_words_and_none_is_left_over() -> None:
    written = recorded()
    assert {"member.remove", "api_key.create", "organization.freeze", "break.owner"} <= written
    assert written - DEEDS.keys() == set()
    composed = {start + end for start, ends in COMPOSED.items() for end in ends}
    assert DEEDS.keys() - written - composed == set()
    for action in composed:
        assert str(deed(action)) != action.replace(".", " ").replace("_", " ").capitalize(), action


def test_projects_show_what_lives_and_what_it_cost(renter: Visitor, supply: market.Supply) -> None:
    assert "No project yet" in renter.get("/projects").text
    made = renter.send(renter.get("/projects"), "/projects", name="Vision")
    assert (made.status_code, made["Location"]) == (303, "/projects")
    twice = renter.send(renter.get("/projects"), "/projects", name="Vision")
    assert twice.status_code == 422
    assert "there is a project with this name already" in twice.text
    project = Project.objects.get()
    body = market.order(supply.offer, project=project.public_id)
    assert renter.person.call("POST", "/rentals", body)[0] == 202
    budget = {
        "project": project.public_id,
        "amount": "70",
        "thresholds": [{"percent": 80, "action": "notify"}],
    }
    assert renter.person.call("POST", "/budgets", budget)[0] == 201
    page = renter.get("/projects").text
    row = page[page.index("Vision") : page.index("Without a project")]
    assert re.search(r'data-label="Live rentals">\s*1<', row)
    assert "$70.00" in row
    path = f"/projects/{project.public_id}"
    renamed = renter.send(renter.get(path), path, name="Speech")
    assert renamed.status_code == 303
    assert "Speech" in renter.get("/projects").text
    other = visitor_of(market.make_renter("Other"))
    assert other.get(path).status_code == 404
    assert other.post(path, {"name": "theirs"}).status_code == 404
    assert Rental.objects.get().project == project


def test_two_hundred_projects_cost_as_many_queries_as_one(
    renter: Visitor, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    organization = renter.person.principal.org
    projects = Project.objects.bulk_create(
        Project(organization=organization, name=f"project {number}") for number in range(200)
    )
    Budget.objects.bulk_create(
        Budget(
            organization=organization,
            project=project,
            amount_micro=1_000_000,
            thresholds=[{"percent": 80, "action": "notify"}],
        )
        for project in projects
    )
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        assert "project 199" in renter.get("/projects").text


def entries(text: str) -> list[str]:
    return re.findall(r'<span class="table__sub"><code>([a-z_.]+)</code>', text)


def test_the_log_is_filtered_by_who_what_which_and_when(renter: Visitor) -> None:
    renter.send(renter.get("/projects"), "/projects", name="Vision")
    project = Project.objects.get()
    me = renter.person.principal.actor
    page = renter.get("/audit").text
    assert "Project made" in page
    assert f'<a href="/projects"><code class="small">{project.public_id}</code></a>' in page
    assert renter.person.principal.user.email in page
    assert entries(renter.get("/audit?action=project.create").text) == ["project.create"]
    assert entries(renter.get(f"/audit?object={project.public_id}").text) == ["project.create"]
    assert "project.create" in entries(renter.get(f"/audit?actor={me}").text)
    assert entries(renter.get(f"/audit?actor=user:{public('user', new_id())}").text) == []
    assert entries(renter.get("/audit?until=2020-01-01").text) == []
    assert entries(renter.get("/audit?since=2099-01-01").text) == []
    day = AuditEntry.objects.get(action="project.create").ts.date().isoformat()
    assert "project.create" in entries(renter.get(f"/audit?since={day}&until={day}").text)
    for bad in ("since=yesterday", "action=nothing.known", "actor=%00", "object=%00"):
        assert renter.get(f"/audit?{bad}").status_code == 422, bad
    assert renter.get("/audit?cursor=x").status_code == 400


def test_the_log_goes_on_by_pages_and_costs_few_queries(
    renter: Visitor, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    organization = renter.person.principal.org
    AuditEntry.objects.bulk_create(
        AuditEntry(
            organization_ref=organization.id,
            actor="platform",
            action="rental.stop.funds",
            object=public("rental", new_id()),
            details={"number": number, "text": "<b>not bold</b>"},
        )
        for number in range(200)
    )
    with django_assert_max_num_queries(12):  # type: ignore[operator]
        first = renter.get("/audit?actor=platform").text
    assert "Stopped by the platform" in first
    assert "<b>not bold" not in first
    seen, page = re.findall(r"<dd>(\d+)</dd>", first), first
    while more := re.search(r'href="(\?[^"]*cursor=[^"]+)"', page):
        page = renter.get("/audit" + more[1].replace("&amp;", "&")).text
        seen += re.findall(r"<dd>(\d+)</dd>", page)
    assert len(seen) == len(set(seen)) == 200
    other = visitor_of(market.make_renter("Other"))
    assert entries(other.get("/audit?actor=platform").text) == []


def test_places_are_pages_of_the_portal() -> None:
    from marketplace.http.portal.urls import urlpatterns

    routes = {re.sub(r"<[^>]*>", "{}", "/" + str(one.pattern)) for one in urlpatterns}
    assert {path.partition("#")[0] for path in PLACES.values()} - routes == set()
