"""Who belongs to the organization: invitations, roles, leaving."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.clock import now
from marketplace.accounts import invitations, team
from marketplace.accounts.access import ROLE_SCOPES, get_visible, visible
from marketplace.http.api.account import MemberOut
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import PublicShown
from marketplace.http.api.schema import paged
from marketplace.models import Invitation

_ROLES = list(ROLE_SCOPES)


class RoleIn(Body):
    role = serializers.ChoiceField(_ROLES)


class OneMember(ApiView):
    """One member, by the person's id. Only owners change others; DELETE of oneself is leaving."""

    scopes = {"PATCH": "account:write", "DELETE": "account:write"}

    @extend_schema(request=RoleIn, responses={200: MemberOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        principal, role = self.principal(request), self.body(RoleIn)["role"]
        return self.change(
            lambda: team.change_role(acting=principal, user_id=id, role=role),
            lambda member: (200, MemberOut(member).data),
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: team.remove(acting=principal, user_id=id), lambda _none: (204, None)
        )


class InvitationIn(Body):
    email = serializers.EmailField(max_length=254)
    role = serializers.ChoiceField(_ROLES)


class InvitationOut(PublicShown):
    email = serializers.EmailField(read_only=True)
    role = serializers.ChoiceField(_ROLES, read_only=True)
    state = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField(read_only=True)
    accepted_at = serializers.DateTimeField(read_only=True, allow_null=True)
    withdrawn_at = serializers.DateTimeField(read_only=True, allow_null=True)

    def get_state(self, invitation: Invitation) -> str:
        return invitations.state_of(invitation, self.context["at"])


def _all_shown(rows: Sequence[Invitation]) -> list[Any]:
    """With their states as of one moment: the clock is the database's, and asked once."""
    return list(InvitationOut(rows, many=True, context={"at": now()}).data)


def _shown(invitation: Invitation) -> Any:
    return _all_shown([invitation])[0]


class Invitations(ApiView):
    """Places offered by e-mail. The answer is the same whether or not the address has an
    account."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True

    @extend_schema(responses={200: paged(InvitationOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(Invitation, self.principal(request))
        return self.page_many(request, rows, _all_shown)

    @extend_schema(request=InvitationIn, responses={201: InvitationOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(InvitationIn)
        return self.act(
            request,
            lambda: invitations.invite(acting=principal, email=data["email"], role=data["role"]),
            lambda made: (201, _shown(made)),
        )


class OneInvitation(ApiView):
    """One invitation. DELETE withdraws it: its link is worth nothing from then on."""

    scopes = {"GET": "account:read", "DELETE": "account:write"}

    @extend_schema(responses={200: InvitationOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        found = get_visible(Invitation, self.principal(request), id)
        return self.show(_shown(found))

    @extend_schema(responses={200: InvitationOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: invitations.withdraw(acting=principal, invitation_id=id),
            lambda gone: (200, _shown(gone)),
        )


class ResendInvitation(ApiView):
    """Send the mail again with another link; the earlier link ends. Good for seven days."""

    scopes = {"POST": "account:write"}

    @extend_schema(request=None, responses={200: InvitationOut})
    def post(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.act(
            request,
            lambda: invitations.resend(acting=principal, invitation_id=id),
            lambda sent: (200, _shown(sent)),
        )


urls = [
    path("members/invitations", Invitations.as_view()),
    path("members/invitations/<str:id>", OneInvitation.as_view()),
    path("members/invitations/<str:id>/resend", ResendInvitation.as_view()),
    path("members/<str:id>", OneMember.as_view()),
]
