"""Ports of a rental: opened by a link, changed while the machine runs, entered by the team."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from kernel.errors import NotFound, Refusal
from marketplace.accounts.access import Principal
from marketplace.accounts.idempotency import once
from marketplace.http.portal import port_text
from marketplace.http.portal.base import (
    blame,
    go,
    once_to,
    page,
    posted,
    show,
    show_form,
)
from marketplace.rentals import edit, port_views, ports, read
from marketplace.rentals.present import describe


class PortsForm(forms.Form):
    ports = port_text.PortsField()


@page(scope="rentals:write")
def port_page(request: HttpRequest, principal: Principal, rental: str) -> HttpResponse:
    """GET: each port with its state and a button to open it. POST: other ports, other modes."""
    found = read.get(principal, rental)
    initial = {"ports": port_text.write(port_views.own(found))}
    form, refusal = PortsForm(posted(request), initial=initial), None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                None,
                lambda: edit.change(
                    acting=principal,
                    rental_id=rental,
                    given_ports=form.cleaned_data["ports"],
                ),
                lambda changed: f"/rentals/{changed.public_id}/ports",
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The ports are changed. It takes a few seconds."))
            return answer
    context = {"rental": describe(found), "form": form, "refusal": refusal}
    return show_form(
        request, principal, "portal/rental/ports.html", form, refusal=refusal, context=context
    )


@require_POST
@page(scope="rentals:write")
def open_port(request: HttpRequest, principal: Principal, rental: str, port: str) -> HttpResponse:
    """Make a link and go there. Browsers do not let a form lead to another host (form-action of our
    own pages forbids it), so the page that follows does, and says where to."""
    if not (port.isascii() and port.isdigit() and len(port) < 6):
        raise NotFound("port")
    made: list[str] = []

    def act() -> None:
        made.append(
            ports.link(
                acting=principal,
                rental_id=rental,
                port=int(port),
                replace=request.POST.get("replace") == "yes",
            )
        )

    once(None, act, lambda _nothing: (200, None))
    context: dict[str, Any] = {"rental": rental, "port": port, "url": made[0]}
    response = show(request, principal, "portal/rental/port_open.html", context)
    if request.POST.get("replace") != "yes":
        response["Refresh"] = f"0; url={made[0]}"
    return response


@require_GET
@page(scope="rentals:write")
def enter(request: HttpRequest, principal: Principal, rental: str, port: str) -> HttpResponse:
    """Where the gateway sends a browser to a team's port: back, with our word for who it is."""
    return go(ports.enter(principal, rental, port, request.GET.get("to", "/")))


urls = [
    path("rentals/<str:rental>/ports", port_page),
    path("rentals/<str:rental>/ports/<str:port>/open", open_port),
    path("rentals/<str:rental>/ports/<str:port>/enter", enter),
]
