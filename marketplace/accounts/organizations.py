"""Small actions on one's own organization."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from kernel.errors import InvalidRequest
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import Principal, get_visible
from marketplace.models import Project


def create_project(*, acting: Principal, name: str) -> Project:
    """A cost centre; joins the caller's transaction. InvalidRequest: the name exists."""
    title = clean(name, limit=80)
    if not title:
        raise InvalidRequest({"name": ["must not be empty"]})
    try:
        with transaction.atomic():
            project = Project.objects.create(organization=acting.org, name=title)
    except IntegrityError as error:
        raise _taken() from error
    audit.record(
        acting=acting,
        action="project.create",
        object=project.public_id,
        organization_ref=acting.owner_ref,
        details={"name": title},
    )
    return project


def rename_project(*, acting: Principal, project_id: str, name: str) -> Project:
    """Another name; joins the caller's transaction. NotFound; InvalidRequest: the name exists."""
    project = get_visible(Project.objects.select_for_update(of=("self",)), acting, project_id)
    title, before = clean(name, limit=80), project.name
    if not title:
        raise InvalidRequest({"name": ["must not be empty"]})
    if title == before:
        return project
    project.name = title
    project.version += 1
    try:
        with transaction.atomic():
            project.save(update_fields=["name", "version"])
    except IntegrityError as error:
        raise _taken() from error
    audit.record(
        acting=acting,
        action="project.rename",
        object=project.public_id,
        organization_ref=acting.owner_ref,
        details={"name": title, "before": before},
    )
    return project


def _taken() -> InvalidRequest:
    return InvalidRequest({"name": ["there is a project with this name already"]})
