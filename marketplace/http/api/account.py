"""Account: who I am, keys, SSH keys, people, projects, audit log."""

from __future__ import annotations

from typing import Any

from django.http import HttpResponse
from django.urls import path
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.money import CURRENCY
from marketplace.accounts import keys, organizations, ssh_keys
from marketplace.accounts.access import SCOPES, Principal, get_visible, role_of, visible
from marketplace.accounts.spend_limit import spend_limit
from marketplace.http import ratelimit
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import (
    IdOut,
    MoneyOut,
    NameIn,
    PublicShown,
    Shown,
    moment,
    shown,
)
from marketplace.http.api.schema import paged
from marketplace.models import ApiKey, AuditEntry, Membership, Organization, Project, SshKey
from marketplace.rentals import ssh_keys as rental_keys


class PersonOut(Shown):
    id = IdOut("user")
    email = serializers.EmailField(read_only=True)
    name = serializers.CharField(read_only=True)
    email_verified_at = serializers.DateTimeField(read_only=True, allow_null=True)
    terms_version = serializers.CharField(read_only=True)
    is_staff = serializers.BooleanField(read_only=True)
    second_factor_at = serializers.DateTimeField(read_only=True, allow_null=True)


class OrganizationOut(PublicShown):
    name = serializers.CharField(read_only=True)
    state = serializers.CharField(read_only=True)
    reason = serializers.CharField(read_only=True)


class LimitsOut(Shown):
    quota_gpus = serializers.IntegerField(allow_null=True)
    requests_per_second = serializers.IntegerField()


class SpendLimitOut(Shown):
    per_hour = MoneyOut()
    currency = serializers.CharField()
    raises_at = serializers.DateTimeField(allow_null=True)


class MeOut(Shown):
    user = PersonOut()
    organization = OrganizationOut(allow_null=True)
    role = serializers.CharField(allow_null=True)
    api_key = serializers.CharField(allow_null=True)
    scopes = serializers.ListField(child=serializers.CharField())
    limits = LimitsOut()
    spend_limit = SpendLimitOut(allow_null=True)


def describe_me(principal: Principal) -> Any:
    """Identity, organization, rights and limits, JSON-ready."""
    organization = principal.organization
    value = {
        "user": principal.user,
        "organization": organization,
        "role": role_of(principal),
        "api_key": principal.key.public_id if principal.key else None,
        "scopes": sorted(principal.scopes),
        "limits": {
            "quota_gpus": organization.quota_gpus if organization else None,
            "requests_per_second": int(ratelimit.RATE),
        },
        "spend_limit": _spend_limit(organization) if organization else None,
    }
    return MeOut(value).data


def _spend_limit(organization: Organization) -> dict[str, Any]:
    allowed = spend_limit(organization)
    return {
        "per_hour": allowed.per_hour_micro,
        "currency": CURRENCY,
        "raises_at": allowed.raises_at,
    }


class Me(ApiView):
    """Who the credentials belong to and what they allow."""

    @extend_schema(responses={200: MeOut})
    def get(self, request: Request) -> HttpResponse:
        return self.show(describe_me(self.principal(request)))


class KeyIn(Body):
    name = NameIn(max_length=80)
    scopes = serializers.ListField(child=serializers.CharField(max_length=30), max_length=20)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class KeyOut(PublicShown):
    name = serializers.CharField(read_only=True)
    scopes = serializers.ListField(child=serializers.ChoiceField(sorted(SCOPES)), read_only=True)
    state = serializers.SerializerMethodField()
    actions = serializers.SerializerMethodField()
    expires_at = serializers.DateTimeField(read_only=True, allow_null=True)
    revoked_at = serializers.DateTimeField(read_only=True, allow_null=True)
    last_used_at = serializers.DateTimeField(read_only=True, allow_null=True)

    def get_state(self, key: ApiKey) -> str:
        return keys.state_of(key)

    def get_actions(self, key: ApiKey) -> list[str]:
        return ["revoke"] if keys.state_of(key) == "active" else []


class NewKeyOut(KeyOut):
    secret = serializers.CharField(allow_null=True)


class Keys(ApiView):
    """API keys of the organization."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True

    @extend_schema(responses={200: paged(KeyOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, visible(ApiKey, self.principal(request)), shown(KeyOut))

    @extend_schema(request=KeyIn, responses={201: NewKeyOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(KeyIn)
        return self.act(
            request,
            lambda: keys.create_key(
                acting=principal,
                name=data["name"],
                scopes=data["scopes"],
                expires_at=data.get("expires_at"),
            ),
            lambda new: (201, {**KeyOut(new.key).data, "secret": new.secret}),
            secret_fields=["secret"],
        )


class OneKey(ApiView):
    """One API key. DELETE revokes it at once; it stays readable."""

    scopes = {"GET": "account:read", "DELETE": "account:write"}

    @extend_schema(responses={200: KeyOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(KeyOut(get_visible(ApiKey, self.principal(request), id)).data)

    @extend_schema(responses={200: KeyOut})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: keys.revoke_key(acting=principal, key_id=id),
            lambda key: (200, KeyOut(key).data),
        )


class SshKeyIn(Body):
    name = NameIn(max_length=80)
    public_key = serializers.CharField(max_length=16_384)


class SshKeyOut(PublicShown):
    name = serializers.CharField(read_only=True)
    public_key = serializers.CharField(read_only=True)
    fingerprint = serializers.CharField(read_only=True)


class SshKeys(ApiView):
    """SSH public keys of the organization, for use in rentals."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True

    @extend_schema(responses={200: paged(SshKeyOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, visible(SshKey, self.principal(request)), shown(SshKeyOut))

    @extend_schema(request=SshKeyIn, responses={201: SshKeyOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(SshKeyIn)
        return self.act(
            request,
            lambda: ssh_keys.add_key(
                acting=principal, name=data["name"], public_key=data["public_key"]
            ),
            lambda key: (201, SshKeyOut(key).data),
        )


class OneSshKey(ApiView):
    """One SSH key. DELETE forgets it, and no machine of the organization lets it in any more."""

    scopes = {"GET": "account:read", "DELETE": "account:write"}

    @extend_schema(responses={200: SshKeyOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(SshKeyOut(get_visible(SshKey, self.principal(request), id)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: rental_keys.delete_key(acting=principal, key_id=id), lambda _: (204, None)
        )


class MemberOut(Shown):
    id = IdOut("user", source="user_id")
    email = serializers.EmailField(source="user.email")
    name = serializers.CharField(source="user.name")
    role = serializers.CharField()
    created_at = serializers.DateTimeField()


class Members(ApiView):
    """People of the organization."""

    scopes = {"GET": "account:read"}
    lists = True

    @extend_schema(responses={200: paged(MemberOut)})
    def get(self, request: Request) -> HttpResponse:
        rows = visible(Membership, self.principal(request)).select_related("user")
        return self.page(request, rows, shown(MemberOut), order=("id",))


class ProjectIn(Body):
    name = NameIn(max_length=80)


class ProjectOut(PublicShown):
    name = serializers.CharField(read_only=True)


class Projects(ApiView):
    """Cost centres of the organization."""

    scopes = {"GET": "account:read", "POST": "account:write"}
    lists = True

    @extend_schema(responses={200: paged(ProjectOut)})
    def get(self, request: Request) -> HttpResponse:
        return self.page(request, visible(Project, self.principal(request)), shown(ProjectOut))

    @extend_schema(request=ProjectIn, responses={201: ProjectOut})
    def post(self, request: Request) -> HttpResponse:
        principal, data = self.principal(request), self.body(ProjectIn)
        return self.act(
            request,
            lambda: organizations.create_project(acting=principal, name=data["name"]),
            lambda project: (201, ProjectOut(project).data),
        )


class OneProject(ApiView):
    """One cost centre. PATCH gives it another name; what was booked on it stays."""

    scopes = {"GET": "account:read", "PATCH": "account:write"}

    @extend_schema(responses={200: ProjectOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(ProjectOut(get_visible(Project, self.principal(request), id)).data)

    @extend_schema(request=ProjectIn, responses={200: ProjectOut})
    def patch(self, request: Request, id: str) -> HttpResponse:
        principal, name = self.principal(request), self.body(ProjectIn)["name"]
        return self.change(
            lambda: organizations.rename_project(acting=principal, project_id=id, name=name),
            lambda project: (200, ProjectOut(project).data),
        )


class AuditOut(Shown):
    id = serializers.UUIDField()
    at = serializers.DateTimeField(source="ts")
    actor = serializers.CharField()
    action = serializers.CharField()
    object = serializers.CharField()
    details = serializers.JSONField()


class AuditLog(ApiView):
    """What was done in the organization's name, newest first."""

    scopes = {"GET": "account:read"}
    lists = True

    @extend_schema(
        parameters=[
            OpenApiParameter("action", str),
            OpenApiParameter("object", str),
            OpenApiParameter("actor", str),
            OpenApiParameter("from", str),
            OpenApiParameter("to", str),
        ],
        responses={200: paged(AuditOut)},
    )
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(
            request, {"action": str, "object": str, "actor": str, "from": moment, "to": moment}
        )
        times = {"from": "ts__gte", "to": "ts__lt"}
        rows = visible(AuditEntry, self.principal(request)).filter(
            **{times.get(name, name): value for name, value in wanted.items()}
        )
        return self.page(request, rows, shown(AuditOut))


urls = [
    path("me", Me.as_view()),
    path("api-keys", Keys.as_view()),
    path("api-keys/<str:id>", OneKey.as_view()),
    path("ssh-keys", SshKeys.as_view()),
    path("ssh-keys/<str:id>", OneSshKey.as_view()),
    path("members", Members.as_view()),
    path("projects", Projects.as_view()),
    path("projects/<str:id>", OneProject.as_view()),
    path("audit-log", AuditLog.as_view()),
]
