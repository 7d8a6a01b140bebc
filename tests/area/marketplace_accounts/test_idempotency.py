"""One effect per key, the same answer for the same key, nothing after a refusal."""

from __future__ import annotations

import hashlib
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client

from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts import idempotency
from marketplace.accounts.idempotency import Claim, once
from marketplace.models import ApiKey, AuditEntry, IdempotencyKey, Project
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import Api


def at_once(count: int, act: Callable[[], Any]) -> list[Any]:
    """Results of ``act`` in ``count`` threads that start together."""
    results: list[Any] = []
    ready = threading.Barrier(count)

    def run() -> None:
        ready.wait()
        try:
            results.append(act())
        finally:
            connection.close()

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


@pytest.mark.django_db(transaction=True)
def test_sixty_four_at_once_have_one_effect_and_the_same_bytes() -> None:
    key = people.owner().key
    answers = at_once(
        64,
        lambda: Api(Client(), key).post("projects", {"name": "alpha"}, Idempotency_Key="k-1"),
    )
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.content for answer in answers}) == 1
    assert Project.objects.count() == 1
    assert AuditEntry.objects.filter(action="project.create").count() == 1
    assert sum("Idempotency-Replayed" not in answer for answer in answers) == 1


def test_same_key_with_another_body_or_path_is_refused(owner: Api) -> None:
    first = owner.post("projects", {"name": "alpha"}, Idempotency_Key="k-1")
    other_body = owner.post("projects", {"name": "beta"}, Idempotency_Key="k-1")
    other_path = owner.post(
        "api-keys", {"name": "alpha", "scopes": ["account:read"]}, Idempotency_Key="k-1"
    )
    assert first.status_code == 201
    for answer in (other_body, other_path):
        assert (answer.status_code, answer.data["type"]) == (
            422,
            "/problems/idempotency_key_reuse",
        )
    assert Project.objects.count() == 1


def test_order_of_fields_and_spaces_do_not_make_another_request(owner: Api) -> None:
    first = owner.post("projects", '{"name": "alpha"}', Idempotency_Key="k-1")
    again = owner.post("projects", '{ "name":"alpha" }', Idempotency_Key="k-1")
    assert again.content == first.content
    assert again["Idempotency-Replayed"] == "true"


def test_a_key_belongs_to_an_organization(owner: Api) -> None:
    other = people.owner()
    mine = owner.post("projects", {"name": "alpha"}, Idempotency_Key="k-1")
    theirs = other.post("projects", {"name": "alpha"}, Idempotency_Key="k-1")
    assert theirs.status_code == 201
    assert theirs.data["id"] != mine.data["id"]


def test_a_refusal_leaves_nothing_and_the_key_free(owner: Api) -> None:
    rows = IdempotencyKey.objects.count()
    audits = AuditEntry.objects.count()
    refused = owner.post("projects", {"name": " \t "}, Idempotency_Key="k-1")
    assert refused.status_code == 422
    assert IdempotencyKey.objects.count() == rows
    assert AuditEntry.objects.count() == audits
    assert owner.post("projects", {"name": "alpha"}, Idempotency_Key="k-1").status_code == 201


def test_a_secret_is_shown_once(owner: Api) -> None:
    body = {"name": "robot", "scopes": ["rentals:read"]}
    first = owner.post("api-keys", body, Idempotency_Key="k-1")
    again = owner.post("api-keys", body, Idempotency_Key="k-1")
    assert again.status_code == first.status_code == 201
    assert again.data == {**first.data, "secret": None, "shown_once": True}
    stored = bytes(IdempotencyKey.objects.get(key="k-1").answer)
    assert first.data["secret"].split("_", 3)[3].encode() not in stored


@pytest.mark.parametrize("key", ["", "k" * 256, "caf\u00e9", "tab\tkey"])
def test_unusable_keys_are_malformed(owner: Api, key: str) -> None:
    answer = owner.post("projects", {"name": "alpha"}, Idempotency_Key=key)
    assert (answer.status_code, answer.data["type"]) == (400, "/problems/malformed")
    assert "Idempotency-Key" in answer.data["detail"]
    assert Project.objects.count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_duplicate_waits_and_then_says_in_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idempotency, "_WAIT_MS", 200)
    claim = Claim(uuid.uuid4(), "k-1", hashlib.sha256(b"x").digest())
    inside, go_on = threading.Event(), threading.Event()
    first: list[Any] = []

    def slow() -> str:
        inside.set()
        assert go_on.wait(20)
        return "done"

    def run() -> None:
        try:
            first.append(once(claim, slow, lambda value: (200, {"value": value})))
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(20)
    with pytest.raises(Refusal) as refused:
        once(claim, slow, lambda value: (200, {"value": value}))
    assert refused.value.slug == "in_progress"
    go_on.set()
    thread.join()
    again = once(claim, slow, lambda value: (200, {"value": value}))
    assert (again.body, again.replayed) == (first[0].body, True)


@pytest.mark.django_db(transaction=True)
def test_when_the_first_is_refused_a_waiting_duplicate_acts() -> None:
    claim = Claim(uuid.uuid4(), "k-1", hashlib.sha256(b"x").digest())
    inside, go_on = threading.Event(), threading.Event()

    def refuse() -> None:
        inside.set()
        assert go_on.wait(20)
        raise InvalidRequest({"field": ["no"]})

    def run() -> None:
        try:
            with pytest.raises(InvalidRequest):
                once(claim, refuse, lambda _: (200, {}))
        finally:
            connection.close()

    thread = threading.Thread(target=run)
    thread.start()
    assert inside.wait(20)
    threading.Timer(0.2, go_on.set).start()
    answer = once(claim, lambda: 7, lambda value: (200, {"value": value}))
    thread.join()
    assert (answer.body, answer.replayed) == (b'{"value":7}', False)


@pytest.mark.django_db(transaction=True)
def test_a_crash_between_effect_and_commit_leaves_neither() -> None:
    owner = people.sign_up()
    organization = people.acting(owner).org
    claim = Claim(organization.id, "k-1", hashlib.sha256(b"x").digest())

    def crash(_: Any) -> tuple[int, Any]:
        raise KeyboardInterrupt

    def act() -> Project:
        return Project.objects.create(organization=organization, name="alpha")

    with pytest.raises(KeyboardInterrupt):
        once(claim, act, crash)
    assert Project.objects.count() == 0
    assert IdempotencyKey.objects.filter(key="k-1").count() == 0


@pytest.mark.django_db(transaction=True)
def test_an_action_inside_another_transaction_is_a_mistake() -> None:
    with pytest.raises(RuntimeError, match="durable"), transaction.atomic():
        once(None, lambda: None, lambda _: (200, {}))


def test_keys_are_forgotten_after_thirty_days(owner: Api) -> None:
    owner.post("projects", {"name": "alpha"}, Idempotency_Key="old")
    owner.post("projects", {"name": "beta"}, Idempotency_Key="new")
    IdempotencyKey.objects.filter(key="old").update(created_at="2026-01-01T00:00:00Z")
    assert idempotency.forget() == 1
    assert list(IdempotencyKey.objects.values_list("key", flat=True)) == ["new"]
    assert ApiKey.objects.count() == 1
