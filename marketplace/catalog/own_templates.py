"""Templates that an organization makes for itself: the same content, the same checks.

The image is pinned before it comes here. Variables are sealed at rest: people paste tokens into
the wrong field. Curated templates are not to be found by these actions, so nobody can change them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.utils.text import slugify

from kernel.errors import InvalidRequest, NotFound
from kernel.text import clean
from marketplace.accounts import audit, vault
from marketplace.accounts.access import Principal, find, get_visible
from marketplace.accounts.ports import Given, read
from marketplace.accounts.registry_credentials import check_registry
from marketplace.catalog.templates import (
    ENV_FIELD,
    content_mistakes,
    env_of,
    ports_columns,
    ports_of,
)
from marketplace.images.reference import parse
from marketplace.models import RegistryCredential, Rental, Template

LIMIT: Final = 100  # per organization
_MAX_SLUG: Final = 60
_MAX_DESCRIPTION: Final = 500


@dataclass(frozen=True)
class TemplateOrder:
    """A template as its makers give it. image: by digest. registry_credentials: an id or None."""

    name: str
    image: str
    description: str = ""
    slug: str | None = None
    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    ports: tuple[Given, ...] = ()
    needs: Mapping[str, Any] = field(default_factory=dict)
    registry_credentials: str | None = None


def current(template: Template) -> TemplateOrder:
    """What a stored template was ordered as: the base of a change."""
    credential = template.registry_credential
    return TemplateOrder(
        name=template.name,
        image=template.image,
        description=template.description,
        slug=template.slug,
        command=tuple(template.command),
        env=env_of(template),
        ports=ports_of(template),
        needs=template.needs,
        registry_credentials=credential.public_id if credential else None,
    )


def create_template(*, acting: Principal, order: TemplateOrder) -> Template:
    """Store a template; joins the caller's transaction.

    Raises InvalidRequest, NotFound for foreign credentials, quota_exceeded.
    """
    vault.lock_organization(acting)
    mine = Template.objects.filter(organization=acting.org)
    vault.check_quota(mine.filter(active=True).count(), LIMIT, what="templates")
    template = Template(organization=acting.org, slug=_slug_for(acting, order))
    _apply(acting, template, order)
    _insert(template)
    _record(acting, "template.create", template)
    return template


def change_template(
    *,
    acting: Principal,
    template_id: str,
    changes: Mapping[str, Any],
    expected_version: int | None = None,
) -> Template:
    """Change these fields of its order; rentals that were made from it keep theirs.

    Raises NotFound, InvalidRequest, Refusal version_conflict.
    """
    template = own(acting, template_id, lock=True)
    vault.check_version(template.version, expected_version)
    _apply(acting, template, replace(current(template), **changes))
    template.version += 1
    template.save()
    _record(acting, "template.change", template)
    return template


def delete_template(
    *, acting: Principal, template_id: str, expected_version: int | None = None
) -> None:
    """Take it away. One that rentals name stays as an empty row, for their history."""
    template = own(acting, template_id, lock=True)
    vault.check_version(template.version, expected_version)
    _record(acting, "template.delete", template)
    if not Rental.objects.filter(template=template).exists():
        template.delete()
        return
    template.active = False
    template.env_sealed = None
    template.registry_credential = None
    template.version += 1
    template.save()


def own(acting: Principal, template_id: str, *, lock: bool = False) -> Template:
    """The organization's own template by id or slug; NotFound for any other, curated ones too."""
    rows = Template.objects.filter(organization=acting.org, active=True)
    rows = rows.select_related("registry_credential")
    if lock:
        rows = rows.select_for_update(of=("self",))
    if template_id.startswith("tpl_"):
        return find(rows, template_id)
    found = rows.filter(slug=template_id).first()
    if found is None:
        raise NotFound("template")
    return found


def _apply(acting: Principal, template: Template, order: TemplateOrder) -> None:
    """Write the checked order into the row; raises InvalidRequest, NotFound."""
    errors = content_mistakes(
        image=order.image,
        command=order.command,
        env=order.env,
        ports=order.ports,
        needs=order.needs,
    )
    if not clean(order.name, limit=80):
        errors["name"] = ["must not be empty"]
    if errors:
        raise InvalidRequest(errors)
    credential = None
    if order.registry_credentials is not None:
        credential = get_visible(RegistryCredential, acting, order.registry_credentials)
        check_registry(credential, parse(order.image).registry, field="registry_credentials")
    template.name = clean(order.name, limit=80)
    template.description = clean(order.description, limit=_MAX_DESCRIPTION)
    template.image = order.image
    template.command = list(order.command)
    for name, value in ports_columns(read(order.ports)).items():
        setattr(template, name, value)
    template.needs = dict(order.needs)
    template.registry_credential = credential
    template.env_sealed = vault.seal(
        json.dumps(dict(order.env)),
        organization_id=acting.org.id,
        row_id=template.id,
        field=ENV_FIELD,
    )


def _slug_for(acting: Principal, order: TemplateOrder) -> str:
    """The one asked for, or one made from the name that nothing of theirs has yet."""
    taken = set(
        Template.objects.filter(organization=acting.org).values_list("slug", flat=True)
    ) | set(Template.objects.filter(organization=None).values_list("slug", flat=True))
    if order.slug is not None:
        if order.slug != slugify(order.slug) or not 0 < len(order.slug) <= _MAX_SLUG:
            raise InvalidRequest({"slug": ["1 to 60 small letters, digits and dashes"]})
        if order.slug in taken:
            raise InvalidRequest({"slug": [_TAKEN]})
        return order.slug
    base = slugify(order.name)[: _MAX_SLUG - 5].strip("-") or "template"
    names = (base, *(f"{base}-{number}" for number in range(2, len(taken) + 3)))
    return next(name for name in names if name not in taken)


_TAKEN: Final = "a template is or was called so, and rentals may still name it: choose another"


def _insert(template: Template) -> None:
    try:
        with transaction.atomic():
            template.save(force_insert=True)
    except IntegrityError as error:
        raise InvalidRequest({"slug": [_TAKEN]}) from error


def _record(acting: Principal, action: str, template: Template) -> None:
    audit.record(
        acting=acting,
        action=action,
        object=template.public_id,
        organization_ref=acting.owner_ref,
        details={"slug": template.slug, "name": template.name, "image": template.image},
    )
