"""Small actions on one's own organization."""

from __future__ import annotations

from django.db import IntegrityError, transaction

from kernel.errors import InvalidRequest
from kernel.text import clean
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
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
        raise InvalidRequest({"name": ["there is a project with this name already"]}) from error
    audit.record(
        acting=acting,
        action="project.create",
        object=project.public_id,
        organization_ref=acting.owner_ref,
        details={"name": title},
    )
    return project
