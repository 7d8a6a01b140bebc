"""What import-linter cannot see: foreign keys, task names, signals, admin reach, module sizes."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.apps import apps
from django.db import models

ROOT = Path(__file__).resolve().parents[2]
AREAS = ("marketplace", "billing", "provisioner")
BELOW = {
    "marketplace": {"marketplace", "billing", "provisioner"},
    "billing": {"billing"},
    "provisioner": {"provisioner"},
}


def _sources(*packages: str) -> list[Path]:
    return [
        path
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if "migrations" not in path.parts
    ]


def test_foreign_keys_point_down_only() -> None:
    wrong = [
        f"{model._meta.label}.{field.name} -> {field.related_model._meta.label}"
        for area in AREAS
        for model in apps.get_app_config(area).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
        and isinstance(field.related_model, type)
        and field.related_model._meta.app_label in AREAS
        and field.related_model._meta.app_label not in BELOW[area]
    ]
    assert wrong == []


def test_no_reverse_relation_reaches_up() -> None:
    """A foreign key across areas must hide its reverse name, or the lower area could climb it."""
    wrong = [
        f"{model._meta.label}.{field.name}"
        for area in AREAS
        for model in apps.get_app_config(area).get_models()
        for field in model._meta.get_fields()
        if isinstance(field, models.ForeignKey)
        and isinstance(field.related_model, type)
        and field.related_model._meta.app_label in AREAS
        and field.related_model._meta.app_label != area
        and not field.remote_field.hidden
    ]
    assert wrong == []


def test_every_scheduled_task_exists_and_takes_no_argument() -> None:
    import inspect

    from config.celery import app

    app.loader.import_default_modules()
    for name, entry in app.conf.beat_schedule.items():
        task = app.tasks.get(entry["task"])
        assert task is not None, f"{name}: no task is named {entry['task']}"
        assert not inspect.signature(task.run).parameters, f"{entry['task']} takes arguments"


def test_every_woken_task_exists() -> None:
    """Wake-ups name tasks as text; a misspelt one would be a message nobody reads."""
    from config.celery import app

    app.loader.import_default_modules()
    names = set()
    for path in _sources(*AREAS):
        for node in ast.walk(ast.parse(path.read_text())):
            if (
                isinstance(node, ast.Call)
                and getattr(node.func, "id", getattr(node.func, "attr", "")) in WAKERS
                and node.args
                and isinstance(node.args[0], ast.Constant)
            ):
                names.add(node.args[0].value)
    assert names, "no wake-up was found: the search itself is broken"
    assert names <= set(app.tasks), f"unknown: {names - set(app.tasks)}"


WAKERS = {"wake", "wake_on_commit"}


def test_what_is_claimed_is_chosen_once() -> None:
    """PostgreSQL may run the choice behind IN (...) once for every row of the table; one that skips
    locked rows finds others each time, and its limit does not hold."""
    found, claims = [], 0
    for path in _sources(*AREAS, "kernel"):
        text = path.read_text()
        claims += text.count("ANY(ARRAY(\n  SELECT")
        for start in re.finditer(r"\bIN\s*\(\s*SELECT\b", text):
            inside = _in_brackets(text[start.start() :])
            if "LIMIT" in inside and re.search(r"\bFOR\b.*\bUPDATE\b", inside):
                found.append(
                    f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, start.start()) + 1}"
                )
    assert found == []
    assert claims, "no claim was found: the search itself is broken"


def _in_brackets(text: str) -> str:
    """From the first opening bracket to the one that closes it."""
    start = text.index("(")
    depth = 0
    for place, letter in enumerate(text[start:], start):
        depth += {"(": 1, ")": -1}.get(letter, 0)
        if not depth:
            return text[start:place]
    return text[start:]


def test_no_signal_dispatch_between_areas() -> None:
    found = [
        str(path.relative_to(ROOT))
        for path in _sources(*AREAS)
        if "django.db.models.signals" in path.read_text() or "@receiver" in path.read_text()
    ]
    assert found == []


def test_get_model_by_text_stays_inside_its_area() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for area in AREAS
        for path in _sources(area)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call)
        and getattr(node.func, "attr", "") == "get_model"
        and isinstance(node.args[0], ast.Constant)
        and str(node.args[0].value).split(".")[0] not in BELOW[area]
    ]
    assert wrong == []


def test_nothing_in_the_product_knows_that_it_is_tested_or_shown() -> None:
    """No branch on a test, demo or simulator, in any product package."""
    words = ("pytest", "devstack", "simulator", "in_test", "is_demo", "TESTING")
    wrong = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in _sources("config", "kernel", *AREAS)
        for word in words
        if word in path.read_text() and path.name not in {"test.py", "local.py"}
    ]
    assert wrong == []


def test_http_and_tasks_never_touch_tables() -> None:
    """They translate and make a domain call; which rows are meant is the domain's business."""
    doors = [*(ROOT / "marketplace" / "http").rglob("*.py"), *ROOT.glob("*/tasks.py")]
    wrong = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in doors
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "objects"
    ]
    assert wrong == []


def test_web_process_does_not_import_kubernetes_or_stripe() -> None:
    """They cost a second each at start, and nothing that answers a request may speak to them."""
    program = (
        "import sys, config.wsgi\n"
        "from django.urls import get_resolver\n"
        "get_resolver().url_patterns\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'kubernetes', 'stripe'}))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["config", "kernel", *AREAS, "devstack"])
def test_modules_keep_a_sense_of_proportion(package: str) -> None:
    """400 lines is the most; above it a newcomer no longer guesses the room."""
    large = {
        str(path.relative_to(ROOT)): lines
        for path in _sources(package)
        if (lines := len(path.read_text().splitlines())) > 400
    }
    assert large == {}
