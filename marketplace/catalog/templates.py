"""Templates: which exist for whom. Curated ones come from templates.toml, checked when loaded.

Organizations make their own in own_templates.py.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from django.db import transaction
from django.db.models import F, QuerySet

from kernel.errors import NotFound, Refusal
from kernel.text import rfc3339
from marketplace.accounts import vault
from marketplace.accounts.access import Principal, find, visible
from marketplace.accounts.ports import Given, Port, read, shell_mistakes, together
from marketplace.accounts.ports import mistakes as ports_mistakes
from marketplace.accounts.variables import command_mistakes, env_mistakes
from marketplace.catalog import needs as card_needs
from marketplace.catalog.needs import Has, unmet
from marketplace.catalog.registry import by_slug
from marketplace.images.reference import BadReference, parse
from marketplace.models import Offer, Template
from provisioner import facade as provisioner

CURATED: Final = Path(__file__).with_name("templates.toml")
ENV_FIELD: Final = "template.env"
_GIVEN: Final = ("name", "description", "image", "command", "env", "ports", "needs")
_FIELDS: Final = (*_GIVEN, "ports_kept")
_KNOWN: Final = frozenset({"slug", *_GIVEN})
_KNOWN_NEEDS: Final = frozenset({"vendor", "toolkit", "min_memory_gib", "min_cuda"})


def load_curated(path: Path = CURATED) -> int:
    """Bring the curated templates to what the file says; how many changed. Repeating is harmless.

    A template that left the file is switched off, never deleted: rentals point to it.
    Raises ValueError naming the template that is not well formed.
    """
    rows = [_checked(row) for row in tomllib.loads(path.read_text())["template"]]
    changed = 0
    with transaction.atomic():
        for row in rows:
            changed += _store(row)
        gone = Template.objects.filter(organization=None, active=True)
        changed += gone.exclude(slug__in=[row["slug"] for row in rows]).update(
            active=False, version=F("version") + 1
        )
    return changed


def _checked(row: dict[str, Any]) -> dict[str, Any]:
    unknown = set(row) - _KNOWN | set(row.get("needs", {})) - _KNOWN_NEEDS
    if unknown:
        raise ValueError(f"template {row.get('slug')}: unknown {', '.join(sorted(unknown))}")
    mistakes = content_mistakes(
        image=row["image"],
        command=row.get("command"),
        env=row.get("env", {}),
        ports=row.get("ports", []),
        needs=row.get("needs", {}),
    )
    if mistakes:
        raise ValueError(f"template {row['slug']}: {mistakes}")
    return {
        "description": "",
        **row,
        "command": row.get("command", []),
        "env": row.get("env", {}),
        **ports_columns(read(row.get("ports", []))),
        "needs": row.get("needs", {}),
    }


def ports_columns(ports: Sequence[Port]) -> dict[str, Any]:
    """Ports as a template's row holds them."""
    return {
        "ports": [port.port for port in ports],
        "ports_kept": [port.kept() for port in ports],
    }


def ports_of(template: Template) -> tuple[Port, ...]:
    return together(template.ports, template.ports_kept)


def content_mistakes(
    *,
    image: str,
    command: Sequence[str] | None,
    env: Mapping[str, str],
    ports: Sequence[Given],
    needs: Mapping[str, Any],
) -> dict[str, list[str]]:
    """What is wrong with a template's content, by field, whoever wrote it."""
    found: dict[str, list[str]] = {}
    try:
        if parse(image).digest is None:
            found["image"] = ["is not pinned by digest: a tag may mean another image tomorrow"]
    except BadReference as error:
        found["image"] = [str(error)]
    ports_found = ports_mistakes(ports) or shell_mistakes(read(ports), ())
    for name, message in (
        *command_mistakes(command or None),
        *env_mistakes(env),
        *ports_found,
        *card_needs.mistakes(needs, provisioner.accelerators()),
    ):
        found.setdefault(name, []).append(message)
    return found


def _store(row: dict[str, Any]) -> int:
    found = Template.objects.select_for_update().filter(organization=None, slug=row["slug"])
    template = found.first()
    if template is None:
        Template.objects.create(organization=None, **row)
        return 1
    if template.active and all(getattr(template, name) == row[name] for name in _FIELDS):
        return 0
    for name in _FIELDS:
        setattr(template, name, row[name])
    template.active = True
    template.version += 1
    template.save()
    return 1


def list_templates(acting: Principal | None) -> QuerySet[Template]:
    """Those that the caller may use; without a caller, or the right to rent, the curated ones."""
    rows = Template.objects.filter(active=True).select_related("registry_credential")
    if acting is None or acting.scopes.isdisjoint({"rentals:read", "rentals:write"}):
        return rows.filter(organization=None)
    return visible(rows, acting)


def get_template(acting: Principal | None, given: str) -> Template:
    """By id or slug, the organization's own before a curated one; raises NotFound."""
    rows = list_templates(acting)
    if given.startswith("tpl_"):
        return find(rows, given)
    rows = rows.filter(slug=given)
    found = rows.order_by(F("organization").asc(nulls_last=True)).first()
    if found is None:
        raise NotFound("template")
    return found


def env_of(template: Template) -> dict[str, str]:
    """The template's variables; raises sealed.CannotOpen."""
    if template.organization_id is None or template.env_sealed is None:
        return dict(template.env)
    plain = vault.unseal(
        template.env_sealed,
        organization_id=template.organization_id,
        row_id=template.id,
        field=ENV_FIELD,
    )
    return dict(json.loads(plain))


def describe(template: Template) -> dict[str, Any]:
    """The template as the API shows it."""
    credential = template.registry_credential
    return {
        "id": template.public_id,
        "slug": template.slug,
        "name": template.name,
        "description": template.description,
        "curated": template.organization_id is None,
        "image": template.image,
        "command": template.command,
        "env": env_of(template),
        "ports": [port.kept() for port in ports_of(template)],
        "needs": template.needs,
        "registry_credentials": credential.public_id if credential else None,
        "created_at": rfc3339(template.created_at),
        "version": template.version,
    }


def has(offer: Offer) -> Has:
    """What the card of a loaded offer has."""
    group = offer.group
    card = by_slug().get(group.accelerator)
    return Has(
        vendor=group.vendor,
        toolkit=card.toolkit if card else "",
        memory_mib=group.memory_mib,
        cuda_max_x100=group.cuda_max_x100 or 0,
    )


def check_fit(needs: Mapping[str, Any], offer: Offer) -> None:
    """Raise Refusal template_mismatch (422) unless the offer's card meets the needs."""
    card = has(offer)
    missing = unmet(dict(needs), card)
    if missing:
        raise Refusal(
            "template_mismatch",
            f"The template needs something that {offer.group.accelerator} on this offer does not "
            f"have: {', '.join(missing)}. Choose another offer or template. Nothing was rented.",
            needs=dict(needs),
            has=card.shown(),
            missing=missing,
        )
