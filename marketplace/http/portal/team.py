"""The organization's people: members and their roles, invitations, and which one to work for."""

from __future__ import annotations

from typing import Any, Final

from django import forms
from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from kernel.clock import now
from kernel.errors import NotFound, Refusal
from kernel.ids import BadId, parse, public
from marketplace.accounts import invitations, keys, team
from marketplace.accounts.access import Principal, get_visible, role_of, visible
from marketplace.accounts.idempotency import once
from marketplace.http.portal.base import (
    blame,
    claim_of,
    go,
    once_to,
    page,
    posted,
    show_form,
)
from marketplace.http.portal.deeds import ROLES
from marketplace.http.seeing import CHOSEN
from marketplace.models import Invitation, Membership, Organization, Rental
from marketplace.rentals.state import COMMITTED

_HERE: Final = "/team"
# More people than this belong to no organization that looks at them on one page.
_SHOWN: Final = 500
_DONE: Final = (200, None)
_CHOICES: Final = [(role, word.label) for role, word in ROLES.items()]


class InviteForm(forms.Form):
    email = forms.EmailField(
        label=gettext_lazy("E-mail"),
        max_length=254,
        widget=forms.EmailInput(attrs={"autocomplete": "off"}),
    )
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=_CHOICES, initial="member")


class RoleForm(forms.Form):
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=_CHOICES)


@page(scope="account:read")
def team_page(request: HttpRequest, principal: Principal) -> HttpResponse:
    """The list; POST invites."""
    form = InviteForm(posted(request))
    refusal = None
    if request.method == "POST":
        principal.require("account:write")
        if form.is_valid():
            try:
                answer = once_to(
                    claim_of(request, principal),
                    lambda: invitations.invite(acting=principal, **form.cleaned_data),
                    lambda _made: _HERE,
                )
            except Refusal as error:
                refusal = blame(form, error)
            else:
                messages.success(request, _("The invitation is on its way. It is good for 7 days."))
                return answer
    rows, at = visible(Membership, principal).select_related("user").order_by("user__email"), now()
    context = {
        "members": [_member(row) for row in rows[:_SHOWN]],
        "invitations": [
            {"row": row, "state": invitations.state_of(row, at), "role": ROLES[row.role]}
            for row in invitations.waiting(principal)[:_SHOWN]
        ],
        "is_owner": role_of(principal) == Membership.Role.OWNER,
        "me": public("user", principal.user.id),
        "roles": ROLES.values(),
    }
    return show_form(request, principal, "portal/team.html", form, refusal=refusal, context=context)


def _member(row: Membership) -> dict[str, Any]:
    return {"id": public("user", row.user_id), "row": row, "role": ROLES[row.role]}


@page(scope="account:read")
def member_page(request: HttpRequest, principal: Principal, member: str) -> HttpResponse:
    """One person: what their role lets them do, and what a change or their going brings about.
    POST changes the role."""
    row = _find(principal, member)
    form = RoleForm(posted(request), initial={"role": row.role})
    refusal = None
    if request.method == "POST" and form.is_valid():
        principal.require("account:write")
        try:
            answer = once_to(
                None,
                lambda: team.change_role(
                    acting=principal, user_id=member, role=form.cleaned_data["role"]
                ),
                lambda _changed: _HERE,
            )
        except Refusal as error:
            refusal = blame(form, error)
        else:
            messages.success(request, _("The role is changed. It counts from now on."))
            return answer
    return _one(request, principal, row, form, refusal)


def _one(
    request: HttpRequest,
    principal: Principal,
    row: Membership,
    form: RoleForm,
    refusal: Refusal | None = None,
) -> HttpResponse:
    theirs = visible(Rental, principal).filter(created_by=row.user_id, state__in=COMMITTED)
    context = {
        "member": _member(row),
        "is_me": row.user_id == principal.user.id,
        "is_owner": role_of(principal) == Membership.Role.OWNER,
        "keys": keys.live_of(user=row.user, organization_id=row.organization_id),
        "rentals": theirs.count(),
        "roles": ROLES.values(),
    }
    return show_form(
        request, principal, "portal/member.html", form, refusal=refusal, context=context
    )


def _find(principal: Principal, member: str) -> Membership:
    try:
        identifier = parse("user", member)
    except BadId as error:
        raise NotFound("member") from error
    rows = visible(Membership, principal).select_related("user")
    found = rows.filter(user_id=identifier).first()
    if found is None:
        raise NotFound("member")
    return found


@require_POST
@page(scope="account:read")
def remove(request: HttpRequest, principal: Principal, member: str) -> HttpResponse:
    """Take somebody out, or leave; whoever may look may leave."""
    row = _find(principal, member)
    try:
        once(None, lambda: team.remove(acting=principal, user_id=member), lambda _none: _DONE)
    except Refusal as error:
        return _one(request, principal, row, RoleForm(initial={"role": row.role}), error)
    if row.user_id == principal.user.id:
        request.session.pop(CHOSEN, None)
        text = _("You belong to %(name)s no more.") % {"name": principal.org.name}
        messages.success(request, text)
        return go("/")
    messages.success(request, _("They belong to the organization no more; their keys are dead."))
    return go(_HERE)


@require_POST
@page(scope="account:write")
def resend(request: HttpRequest, principal: Principal, invitation: str) -> HttpResponse:
    answer = once_to(
        claim_of(request, principal),
        lambda: invitations.resend(acting=principal, invitation_id=invitation),
        lambda _sent: _HERE,
    )
    messages.success(request, _("Sent again. The link of the earlier mail is worth nothing now."))
    return answer


@require_POST
@page(scope="account:write")
def withdraw(request: HttpRequest, principal: Principal, invitation: str) -> HttpResponse:
    get_visible(Invitation, principal, invitation)
    answer = once_to(
        None,
        lambda: invitations.withdraw(acting=principal, invitation_id=invitation),
        lambda _gone: _HERE,
    )
    messages.success(request, _("The invitation is withdrawn. Its link is worth nothing now."))
    return answer


@require_POST
@page()
def choose(request: HttpRequest, principal: Principal) -> HttpResponse:
    """Work for another of one's organizations, in this session."""
    wanted = request.POST.get("organization", "")
    mine: dict[str, Organization] = {one.public_id: one for one in principal.organizations}
    if wanted not in mine:
        raise NotFound("organization")
    request.session[CHOSEN] = str(mine[wanted].id)
    messages.success(request, _("You work for %(name)s now.") % {"name": mine[wanted].name})
    return go("/")


urls = [
    path("team", team_page),
    path("team/choose", choose),
    path("team/members/<str:member>", member_page),
    path("team/members/<str:member>/remove", remove),
    path("team/invitations/<str:invitation>/resend", resend),
    path("team/invitations/<str:invitation>/withdraw", withdraw),
]
