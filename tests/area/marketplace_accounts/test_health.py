"""Probes, metrics, the OpenAPI file, Django admin and the commands of staff."""

from __future__ import annotations

import io
import time
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.test import Client

from devstack.ports import free_port
from marketplace.models import User
from tests.area.marketplace_accounts import people
from tests.area.marketplace_accounts.people import PASSWORD, Api


def test_alive_and_ready(anyone: Api) -> None:
    assert anyone.get("/healthz").data == {"status": "ok"}
    ready = anyone.get("/readyz")
    assert (ready.status_code, ready.data["status"]) == (200, "ok"), ready.content
    assert ready.data["database"]["ok"]
    assert ready.data["broker"]["age_seconds"] < 5


def test_ready_answers_quickly_when_the_broker_is_dead(anyone: Api, settings: Any) -> None:
    settings.CELERY_BROKER_URL = f"redis://127.0.0.1:{free_port()}/0"
    started = time.monotonic()
    ready = anyone.get("/readyz")
    assert time.monotonic() - started < 2
    assert (ready.status_code, ready.data["status"]) == (200, "degraded")
    assert (ready.data["broker"]["ok"], ready.data["broker"]["error"]) == (
        False,
        "ConnectionError",
    )


def test_metrics_are_prometheus_text(anyone: Api) -> None:
    people.sign_up(verified=False)
    text = anyone.get("/metrics").content.decode()
    assert "gpuyard_mail_unsent 1.0" in text
    assert "gpuyard_wake_lost_total" in text
    assert "gpuyard_audit_unsealed" in text


def test_the_description_is_openapi_3_1(anyone: Api) -> None:
    answer = anyone.get("openapi.json")
    assert answer.status_code == 200
    assert answer.data["openapi"].startswith("3.1")
    schemes = answer.data["components"]["securitySchemes"]
    assert schemes["apiKey"]["scheme"] == "bearer"
    report = answer.data["paths"]["/api/v1/instance-reports"]["post"]
    assert report["security"] == [{"instanceToken": []}]
    assert {"200", "401", "422", "429"} <= set(report["responses"])
    made = answer.data["paths"]["/api/v1/projects"]["post"]
    assert made["x-scope"] == "account:write"
    assert {"name": "Idempotency-Key", "in": "header", "required": True}.items() <= next(
        parameter for parameter in made["parameters"] if parameter["in"] == "header"
    ).items()
    assert {"201", "400", "401", "403", "422", "429"} <= set(made["responses"])


@pytest.fixture
def browser(db: None) -> Client:
    client = Client()
    client.force_login(people.staff(), backend="django.contrib.auth.backends.ModelBackend")
    return client


def ours() -> list[Any]:
    areas = {"marketplace", "billing", "provisioner"}
    return [model for model in apps.get_models() if model._meta.app_label in areas]


def test_admin_shows_records_and_changes_nothing(browser: Client) -> None:
    people.sign_up("ada@example.com")
    shown = 0
    for model in ours():
        if not admin.site.is_registered(model):
            continue
        base = f"/admin/{model._meta.app_label}/{model._meta.model_name}/"
        assert browser.get(base).status_code == 200, base
        assert browser.get(f"{base}add/").status_code == 403, base
        row = model.objects.first()
        if row is not None and model._meta.app_label == "marketplace":
            page = browser.get(f"{base}{row.pk}/change/")
            assert page.status_code == 200
            assert b"md5$" not in page.content
            assert browser.post(f"{base}{row.pk}/change/", {}).status_code == 403
            assert browser.post(f"{base}{row.pk}/delete/", {"post": "yes"}).status_code == 403
            shown += 1
    assert shown >= 4


def test_admin_is_for_staff(db: None) -> None:
    client = Client()
    user = people.sign_up()
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    assert client.get("/admin/marketplace/user/").status_code == 302


def test_staff_are_made_by_command(db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPUYARD_STAFF_PASSWORD", PASSWORD)
    out = io.StringIO()
    call_command("create_staff", "Root@example.com", "--name", "Root", stdout=out)
    user = User.objects.get(email="root@example.com")
    assert (user.is_staff, user.is_superuser, user.check_password(PASSWORD)) == (True, False, True)
    assert user.email_verified_at is not None
    assert PASSWORD not in out.getvalue()
    with pytest.raises(CommandError, match="no e-mail"):
        call_command("create_staff", "root")
    monkeypatch.setenv("GPUYARD_STAFF_PASSWORD", "short")
    with pytest.raises(CommandError, match="too short"):
        call_command("create_staff", "other@example.com")
    assert User.objects.count() == 1
