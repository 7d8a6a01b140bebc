"""Projects: cost centres with what lives on each and what it cost this month."""

from __future__ import annotations

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from kernel.errors import Refusal
from marketplace.accounts import organizations
from marketplace.accounts.access import Principal, get_visible
from marketplace.http.portal.base import (
    blame,
    claim_of,
    once_to,
    page,
    posted,
    show_form,
)
from marketplace.models import Project
from marketplace.rentals import projects

_HERE = "/projects"


class ProjectForm(forms.Form):
    name = forms.CharField(
        label=gettext_lazy("Name"),
        max_length=80,
        help_text=gettext_lazy("A team, a customer, a job."),
    )


@page(scope="account:read")
def projects_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The list; POST adds one. What is spent is for those who may see money."""
    form = ProjectForm(posted(request))
    refusal = None
    if request.method == "POST":
        principal.require("account:write")
        if form.is_valid():
            try:
                answer = once_to(
                    claim_of(request, principal),
                    lambda: organizations.create_project(
                        acting=principal, name=form.cleaned_data["name"]
                    ),
                    lambda _made: _HERE,
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("The project is made. Choose it when you rent."))
                return answer
    rows, since = projects.overview(principal)
    context = {
        "rows": rows,
        "some": len(rows) > 1,
        "since": since,
        "may_write": "account:write" in principal.scopes,
        "may_see_money": "billing:read" in principal.scopes,
    }
    return show_form(
        request, principal, "portal/projects.html", form, refusal=refusal, context=context
    )


@page(scope="account:write")
def project_page(request: HttpRequest, principal: Principal, project: str) -> HttpResponse:
    """Another name for one."""
    found = get_visible(Project, principal, project)
    form = ProjectForm(posted(request), initial={"name": found.name})
    refusal = None
    if request.method == "POST" and form.is_valid():
        try:
            answer = once_to(
                None,
                lambda: organizations.rename_project(
                    acting=principal, project_id=project, name=form.cleaned_data["name"]
                ),
                lambda _renamed: _HERE,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The project has its new name, on past months as well."))
            return answer
    context = {
        "title": _("Rename a project"),
        "lead": found.name,
        "crumbs": [(_("Projects"), _HERE)],
        "submit": _("Rename"),
    }
    return show_form(
        request, principal, "portal/form_page.html", form, refusal=refusal, context=context
    )


urls = [
    path("projects", projects_page),
    path("projects/<str:project>", project_page),
]
