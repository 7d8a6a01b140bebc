"""The shape of every error, and requests that are no requests."""

from __future__ import annotations

import ast
import logging
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db.utils import OperationalError

from kernel.errors import Refusal
from marketplace.accounts import organizations
from marketplace.http import problems, ratelimit
from marketplace.models import Project
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api


def test_every_error_has_the_same_shape(owner: Api, anyone: Api) -> None:
    answers = [
        anyone.get("me"),
        owner.get("projects?x=1"),
        owner.get("ssh-keys/ssh_unknown"),
        owner.get("nowhere"),
        owner.call("PUT", "me"),
        owner.post("projects", "{"),
        owner.post("projects", {}),
        owner.get("staff/books"),
    ]
    assert [answer.status_code for answer in answers] == [401, 400, 404, 404, 405, 400, 422, 403]
    for answer in answers:
        assert answer["Content-Type"] == "application/problem+json"
        assert answer["X-Request-Id"]
        slug = answer.data["type"].removeprefix("/problems/")
        assert problems.PROBLEMS[slug][0] == answer.status_code == answer.data["status"]
        assert answer.data["title"]
        assert answer.data["detail"].endswith(".")
        page = anyone.get(answer.data["type"])
        assert page.status_code == 200
        assert slug in page.content.decode()


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "",
        '{"name": NaN}',
        '{"name": 1e999}',
        '{"name": "\\u0000"}',
        '{"name": "\\ud800"}',
        '{"\\ud800": 1}',
        '{"name": "x", "x": ' + "9" * 5000 + "}",
        "[" * 100_000,
        '{"name": ' + "[" * 3000 + "]" * 3000 + "}",
        "\ufeff{}",
    ],
)
def test_what_is_no_json_is_malformed_or_named(owner: Api, body: str) -> None:
    answer = owner.post("projects", body)
    assert answer.status_code in {400, 422}
    assert answer.data["type"] in {"/problems/malformed", "/problems/invalid_request"}
    assert Project.objects.count() == 0


def test_a_form_is_no_json(owner: Api) -> None:
    answer = owner.client.post(
        "/api/v1/projects", {"name": "x"}, headers={"Authorization": f"Bearer {owner.key}"}
    )
    assert answer.status_code == 415


def test_a_huge_body_is_refused_before_it_is_read(owner: Api) -> None:
    answer = owner.post("projects", {"name": "x" * settings.DATA_UPLOAD_MAX_MEMORY_SIZE})
    assert (answer.status_code, answer.data["type"]) == (413, "/problems/payload_too_large")


def test_a_fault_of_ours_gives_an_id_and_no_stack(
    owner: Api, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(**_: Any) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(organizations, "create_project", fail)
    with caplog.at_level(logging.ERROR):
        answer = owner.post("projects", {"name": "x"})
    assert (answer.status_code, answer.data["type"]) == (500, "/problems/internal")
    assert "secret detail" not in answer.content.decode()
    assert answer.data["correlation_id"].startswith("err_")
    assert answer.data["correlation_id"] in caplog.text


def test_a_silent_database_is_503(owner: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: Any) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(organizations, "create_project", fail)
    answer = owner.post("projects", {"name": "x"})
    assert (answer.status_code, answer["Retry-After"]) == (503, "1")


def test_a_harmless_request_id_is_kept_and_a_harmful_one_replaced(anyone: Api) -> None:
    assert anyone.get("me", X_Request_Id="abc-12345678")["X-Request-Id"] == "abc-12345678"
    assert anyone.get("me", X_Request_Id="<script>")["X-Request-Id"] != "<script>"


def test_too_many_requests_say_how_long_to_wait(
    owner: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ratelimit, "requests", ratelimit.Buckets(rate=1.0, burst=3.0))
    codes = [owner.get("me").status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429]
    answer = owner.get("me")
    assert (answer.data["type"], answer["Retry-After"]) == ("/problems/rate_limited", "1")
    other = people.owner()
    assert other.get("me").status_code == 200


def refusals() -> set[str]:
    """Every slug that product code hands to Refusal(...) as a literal."""
    root = Path(problems.__file__).parents[2]
    found = set()
    for area in ("kernel", "marketplace", "billing", "provisioner"):
        for path in (root / area).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Name)
                    and node.func.id == "Refusal"
                    and node.args
                    and isinstance(node.args[0], ast.Constant)
                ):
                    found.add(str(node.args[0].value))
    return found


def test_every_refusal_in_the_code_has_a_problem_type() -> None:
    found = refusals()
    assert {"offer_taken", "idempotency_key_reuse"} <= found
    assert found - set(problems.PROBLEMS) == set()
    assert Refusal("not_found", "x").slug in problems.PROBLEMS
