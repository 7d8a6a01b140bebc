"""Account: sign-up, session, keys, SSH keys, people, projects, audit log."""

from __future__ import annotations

from typing import Any

from django.contrib.auth import authenticate, login, logout
from django.http import HttpResponse
from django.middleware.csrf import get_token
from django.urls import path
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request

from kernel.errors import Refusal
from marketplace.accounts import join, keys, organizations, ssh_keys
from marketplace.accounts.access import SCOPES, Principal, get_visible, principal_of, visible
from marketplace.http import ratelimit
from marketplace.http.api.base import ApiView, Body
from marketplace.http.api.fields import IdOut, MoneyOut, NameIn, PublicShown, Shown, shown
from marketplace.http.api.schema import paged
from marketplace.models import ApiKey, AuditEntry, Membership, Project, SshKey, User

_ACCEPTED = {"state": "accepted"}
# Tokens of the caller's bucket: a stranger's sign-ups and guesses run at a tenth of the rate.
_DEAR = 10.0


class Password(serializers.CharField):
    """At most 128 characters: hashing a megabyte would be a way to burn a processor."""

    def __init__(self, **options: Any) -> None:
        super().__init__(max_length=128, trim_whitespace=False, **options)


class Accepted(Shown):
    """Taken note of; what follows comes by e-mail."""

    state = serializers.ChoiceField(["accepted"])


class SignUpIn(Body):
    email = serializers.EmailField(max_length=254)
    password = Password()
    organization = NameIn(max_length=120)
    accepted_terms_version = serializers.CharField(max_length=20)
    name = NameIn(max_length=120, required=False, allow_blank=True)


class SignUp(ApiView):
    """Make a person and an organization.

    The answer is the same whether or not the address has an account; what to do next is in the
    e-mail. ``accepted_terms_version`` must be the version in force, which a wrong one is told.
    """

    public = True
    cost = _DEAR

    @extend_schema(request=SignUpIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(SignUpIn)
        return self.change(
            lambda: join.sign_up(
                email=data["email"],
                password=data["password"],
                organization=data["organization"],
                terms_version=data["accepted_terms_version"],
                name=data.get("name", ""),
            ),
            lambda _: (202, _ACCEPTED),
        )


class AddressIn(Body):
    email = serializers.EmailField(max_length=254)


class ResendProof(ApiView):
    """Send the link that confirms an e-mail address again, if it is known and unconfirmed."""

    public = True
    cost = _DEAR

    @extend_schema(request=AddressIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        email = self.body(AddressIn)["email"]
        return self.change(lambda: join.resend_proof(email=email), lambda _: (202, _ACCEPTED))


class ProofIn(Body):
    token = serializers.CharField(max_length=200)
    password = Password()


class Verified(Shown):
    """The address is proven."""

    email = serializers.EmailField(read_only=True)
    email_verified_at = serializers.DateTimeField(read_only=True)


class VerifyEmail(ApiView):
    """Confirm an e-mail address with the token from the mail and the account's password."""

    public = True
    cost = _DEAR

    @extend_schema(request=ProofIn, responses={200: Verified})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(ProofIn)
        return self.change(
            lambda: join.verify_email(token=data["token"], password=data["password"]),
            lambda user: (200, Verified(user).data),
        )


class AskReset(ApiView):
    """Ask for a mail with a link to set a new password; the answer is always the same."""

    public = True
    cost = _DEAR

    @extend_schema(request=AddressIn, responses={202: Accepted})
    def post(self, request: Request) -> HttpResponse:
        email = self.body(AddressIn)["email"]
        return self.change(lambda: join.ask_reset(email=email), lambda _: (202, _ACCEPTED))


class ConfirmReset(ApiView):
    """Set a new password with the token from the mail; ends all sessions of the person."""

    public = True
    cost = _DEAR

    @extend_schema(request=ProofIn, responses={200: Verified})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(ProofIn)
        return self.change(
            lambda: join.reset_password(token=data["token"], password=data["password"]),
            lambda user: (200, Verified(user).data),
        )


class SignInIn(Body):
    email = serializers.EmailField(max_length=254)
    password = Password()


class PersonOut(Shown):
    id = IdOut("user")
    email = serializers.EmailField(read_only=True)
    name = serializers.CharField(read_only=True)
    email_verified_at = serializers.DateTimeField(read_only=True, allow_null=True)
    terms_version = serializers.CharField(read_only=True)
    is_staff = serializers.BooleanField(read_only=True)


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


class SignedInOut(Shown):
    csrf_token = serializers.CharField()
    me = MeOut()


def describe_me(principal: Principal) -> Any:
    """Identity, organization, rights and limits, JSON-ready."""
    organization = principal.organization
    role = None
    if organization is not None:
        found = Membership.objects.filter(user=principal.user, organization=organization).first()
        role = found.role if found else None
    value = {
        "user": principal.user,
        "organization": organization,
        "role": role,
        "api_key": principal.key.public_id if principal.key else None,
        "scopes": sorted(principal.scopes),
        "limits": {
            "quota_gpus": organization.quota_gpus if organization else None,
            "requests_per_second": int(ratelimit.RATE),
        },
        # raises_at stays empty until limits rise by themselves; staff raise them.
        "spend_limit": {
            "per_hour": organization.spend_limit_micro_h,
            "currency": "USD",
            "raises_at": None,
        }
        if organization
        else None,
    }
    return MeOut(value).data


class Session(ApiView):
    """POST signs in: a session cookie and its CSRF token. DELETE signs out."""

    public = frozenset({"POST"})
    cost = _DEAR

    @extend_schema(request=SignInIn, responses={200: SignedInOut})
    def post(self, request: Request) -> HttpResponse:
        data = self.body(SignInIn)
        user = authenticate(
            request._request, username=data["email"].lower(), password=data["password"]
        )
        if not isinstance(user, User):
            raise Refusal(
                "unauthenticated",
                "E-mail address and password do not belong together, or there were too many "
                "wrong tries. Check both, wait a while, or ask for a new password.",
            )
        login(request._request, user)
        return self.show(
            {"csrf_token": get_token(request._request), "me": describe_me(principal_of(user))}
        )

    @extend_schema(request=None, responses={204: None})
    def delete(self, request: Request) -> HttpResponse:
        # The REST framework put the principal there; Django's own code expects the person.
        request._request.user = self.principal(request).user
        logout(request._request)
        return HttpResponse(status=204)


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
    """One SSH key. DELETE forgets it; machines that were given it keep it."""

    scopes = {"GET": "account:read", "DELETE": "account:write"}

    @extend_schema(responses={200: SshKeyOut})
    def get(self, request: Request, id: str) -> HttpResponse:
        return self.show(SshKeyOut(get_visible(SshKey, self.principal(request), id)).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, id: str) -> HttpResponse:
        principal = self.principal(request)
        return self.change(
            lambda: ssh_keys.delete_key(acting=principal, key_id=id), lambda _: (204, None)
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
        rows = visible(Membership.objects.select_related("user"), self.principal(request))
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

    @extend_schema(parameters=[], responses={200: paged(AuditOut)})
    def get(self, request: Request) -> HttpResponse:
        wanted = self.filters(request, {"action": str, "object": str, "actor": str})
        rows = visible(AuditEntry, self.principal(request)).filter(**wanted)
        return self.page(request, rows, shown(AuditOut))


urls = [
    path("signup", SignUp.as_view()),
    path("email-verification", VerifyEmail.as_view()),
    path("email-verification/resend", ResendProof.as_view()),
    path("password-reset", AskReset.as_view()),
    path("password-reset/confirm", ConfirmReset.as_view()),
    path("session", Session.as_view()),
    path("me", Me.as_view()),
    path("api-keys", Keys.as_view()),
    path("api-keys/<str:id>", OneKey.as_view()),
    path("ssh-keys", SshKeys.as_view()),
    path("ssh-keys/<str:id>", OneSshKey.as_view()),
    path("members", Members.as_view()),
    path("projects", Projects.as_view()),
    path("audit-log", AuditLog.as_view()),
]
