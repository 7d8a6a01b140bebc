"""Templates: the curated ones to look at, the organization's own to make, change and delete."""

from __future__ import annotations

import shlex
from typing import Any

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from kernel.errors import Refusal
from marketplace.accounts.access import Principal, visible
from marketplace.accounts.idempotency import once, stored
from marketplace.accounts.ports import read as read_ports
from marketplace.catalog import own_templates, registry, templates
from marketplace.catalog.own_templates import TemplateOrder
from marketplace.http.pinning import pinned
from marketplace.http.portal import port_text
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    once_to,
    page,
    posted,
    show,
    show_form,
)
from marketplace.http.portal.forms import TemplateForm
from marketplace.models import RegistryCredential

_HOME = "/templates"


@page(scope="rentals:read")
def template_list(request: HttpRequest, principal: Principal) -> HttpResponse:
    rows = list(templates.list_templates(principal).order_by("name", "id"))
    context = {
        "own": [row for row in rows if row.organization_id is not None],
        "curated": [row for row in rows if row.organization_id is None],
        "may_write": "rentals:write" in principal.scopes,
    }
    return show(request, principal, "portal/templates.html", context)


@page(scope="rentals:write")
def new_template(request: HttpRequest, principal: Principal) -> HttpResponse:
    form = _form(request, principal)
    refusal = None
    if request.method == "POST" and form.is_valid():
        claim = claim_of(request, principal, write_only=["env"])
        try:
            given = _content(form.cleaned_data)
            if stored(claim) is None:
                user = given["registry_credentials"]
                given["image"] = pinned(principal, given["image"], user)
            answer = once_to(
                claim,
                lambda: own_templates.create_template(
                    acting=principal, order=TemplateOrder(**given)
                ),
                lambda _made: _HOME,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The template is stored. Choose it when you rent."))
            return answer
    return _show(request, principal, form, title=_("New template"), refusal=refusal)


@page(scope="rentals:write")
def edit_template(request: HttpRequest, principal: Principal, template: str) -> HttpResponse:
    """Change one's own; what was changed by somebody else meanwhile is not overwritten."""
    row = own_templates.own(principal, template)
    before = own_templates.current(row)
    form = _form(request, principal, initial=_texts(before))
    if any(len(value.splitlines()) > 1 for value in before.env.values()):
        del form.fields["env"]  # a line each cannot show these; they stay as they are
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            changes = _content(form.cleaned_data)
            user = changes["registry_credentials"]
            changes["image"] = pinned(principal, changes["image"], user)
            once(
                None,
                lambda: own_templates.change_template(
                    acting=principal,
                    template_id=row.public_id,
                    changes=changes,
                    expected_version=_version(request),
                ),
                lambda _changed: (200, None),
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The template is changed. Rentals keep what they had."))
            return go(_HOME)
    return _show(request, principal, form, title=row.name, refusal=refusal, row=row)


@require_POST
@page(scope="rentals:write")
def delete_template(request: HttpRequest, principal: Principal, template: str) -> HttpResponse:
    once(
        None,
        lambda: own_templates.delete_template(acting=principal, template_id=template),
        lambda _nothing: (200, None),
    )
    messages.success(request, _("The template is deleted. Rentals made from it go on."))
    return go(_HOME)


def _form(
    request: HttpRequest, principal: Principal, initial: dict[str, Any] | None = None
) -> TemplateForm:
    cards = registry.by_slug().values()
    return TemplateForm(
        posted(request),
        initial=initial,
        logins=logins(principal),
        vendors=sorted({(card.vendor, card.vendor_name) for card in cards}, key=lambda one: one[1]),
        toolkits=sorted({card.toolkit for card in cards}),
    )


def logins(principal: Principal) -> list[tuple[str, str]]:
    """Registry users as choices."""
    rows = visible(RegistryCredential, principal).order_by("registry", "username")
    return [(row.public_id, f"{row.registry}, {row.username}") for row in rows]


def _content(data: dict[str, Any]) -> dict[str, Any]:
    """The form as fields of an order."""
    needs = ("vendor", "toolkit", "min_memory_gib", "min_cuda")
    kept = ("name", "description", "image", "command", "env", "ports")
    return {
        **{name: data[name] for name in kept if name in data},
        "needs": {name: data[name] for name in needs if data[name]},
        "registry_credentials": data["registry_credentials"] or None,
    }


def _texts(order: TemplateOrder) -> dict[str, Any]:
    """A stored order as the form shows it."""
    needs = order.needs
    return {
        "name": order.name,
        "description": order.description,
        "image": order.image,
        "registry_credentials": order.registry_credentials or "",
        "command": shlex.join(order.command),
        "env": "\n".join(f"{name}={value}" for name, value in order.env.items()),
        "ports": port_text.write(read_ports(order.ports)),
        "vendor": needs.get("vendor") or [],
        "toolkit": needs.get("toolkit", ""),
        "min_memory_gib": needs.get("min_memory_gib"),
        "min_cuda": needs.get("min_cuda", ""),
    }


def _version(request: HttpRequest) -> int:
    """The version that the form was made from; a form without one cannot be current."""
    text = request.POST.get("version", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _show(
    request: HttpRequest,
    principal: Principal,
    form: TemplateForm,
    *,
    title: str,
    refusal: Refusal | None,
    row: Any = None,
) -> HttpResponse:
    context = {
        "title": title,
        "template": row,
        # The version that was on the page: what was changed since must not be overwritten.
        "version": request.POST.get("version") or (row.version if row else ""),
    }
    return show_form(
        request, principal, "portal/template.html", form, refusal=refusal, context=context
    )


urls = [
    path("templates", template_list),
    path("templates/new", new_template),
    path("templates/<str:template>", edit_template),
    path("templates/<str:template>/delete", delete_template),
]
