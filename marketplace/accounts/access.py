"""Who acts, with which rights, and what that lets them see: lookup and permission in one step.

Every view and every page starts from :func:`visible`; an id that is not in it does not exist for
the caller, so another organization's object and no object at all give the same answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db.models import Model, Q, QuerySet

from kernel.errors import NotFound, Refusal
from kernel.ids import BadId, parse, public
from marketplace.models import (
    AbuseReport,
    ApiKey,
    AuditEntry,
    Budget,
    CardCost,
    DataCenter,
    Invitation,
    Maintenance,
    Membership,
    Offer,
    Organization,
    ProblemReport,
    Project,
    Provider,
    Quote,
    RegistryCredential,
    Rental,
    RentalEvent,
    SavedSearch,
    Secret,
    SshKey,
    Template,
    User,
    Volume,
    WebhookDelivery,
    WebhookEndpoint,
)

M = TypeVar("M", bound=Model)

STAFF = "staff"
SCOPES: dict[str, str] = {
    "account:read": "see the organization, its people, keys, projects, webhooks and audit log",
    "account:write": "change keys, SSH keys, secrets, projects and webhooks",
    "rentals:read": "see rentals and quotes",
    "rentals:write": "rent, stop and change rentals; change templates",
    "billing:read": "see balance, transactions and invoices",
    "billing:write": "top up, save payment methods and set budgets",
    "provider:read": "see clusters, offers and earnings",
    "provider:write": "register clusters and price offers",
    STAFF: "act for the platform",
}
READS = frozenset(scope for scope in SCOPES if scope.endswith(":read"))
ROLE_SCOPES: dict[str, frozenset[str]] = {
    Membership.Role.OWNER: frozenset(SCOPES) - {STAFF},
    Membership.Role.MEMBER: READS | {"account:write", "rentals:write"},
    Membership.Role.BILLING: READS | {"billing:write"},
    Membership.Role.VIEWER: READS,
}


@dataclass(frozen=True)
class Principal:
    """Somebody who acts: a person at the portal, or a person's key.

    organization is None for staff who belong to none. scopes of a key are those it was given, less
    those its maker has lost since. organizations: of a person at the portal, all they belong to.
    seen_by: the member of the staff who looks as the organization does (accounts/looks.py), and
    whom nothing is changed for.
    """

    user: User
    organization: Organization | None
    scopes: frozenset[str]
    key: ApiKey | None = None
    seen_by: str | None = None
    organizations: tuple[Organization, ...] = ()

    # Django and DRF ask these two of whatever stands in request.user.
    is_authenticated = True
    is_anonymous = False

    @property
    def actor(self) -> str:
        """``key:key_…``, ``staff:usr_…`` or ``user:usr_…``: what audit rows and prices name."""
        if self.seen_by is not None:
            return self.seen_by
        if STAFF in self.scopes and self.organization is None:
            return self.staff_actor
        if self.key is not None:
            return f"key:{self.key.public_id}"
        return f"user:{public('user', self.user.id)}"

    @property
    def staff_actor(self) -> str:
        """The actor of an action for the platform, whoever the person belongs to besides."""
        return staff_actor(self.user)

    @property
    def is_staff(self) -> bool:
        return STAFF in self.scopes

    @property
    def org(self) -> Organization:
        """The organization acted for; a Refusal for staff who have none."""
        if self.organization is None and not self.user.is_staff:
            raise _belongs_nowhere()
        if self.organization is None:
            raise Refusal(
                "insufficient_scope",
                "You act for the platform and belong to no organization. Use a key or a sign-in "
                "of the organization concerned.",
            )
        return self.organization

    @property
    def owner_ref(self) -> UUID:
        """Whose idempotency keys and audit rows these are: the organization, else the person."""
        return self.organization.id if self.organization else self.user.id

    def require(self, scope: str) -> None:
        """Refuse with 403 unless the scope is held."""
        if self.seen_by is not None and scope not in self.scopes:
            raise only_looking()
        if scope == STAFF and lacks_factor(self.user):
            raise Refusal(
                "second_factor_required",
                "Members of the staff need a second factor, and yours is not on. Switch it on "
                "under Settings, Second factor, or with POST /api/v1/second-factor.",
            )
        if scope not in self.scopes:
            if self.organization is None and not self.user.is_staff:
                raise _belongs_nowhere(scope=scope)
            held = ", ".join(sorted(self.scopes)) or "none"
            raise Refusal(
                "insufficient_scope",
                f'This needs the scope "{scope}" ({SCOPES[scope]}); yours: {held}. Use a key '
                "or a person with it.",
                scope=scope,
            )

    def require_verified(self) -> None:
        """Money moves only for people whose e-mail address is proven."""
        if self.user.email_verified_at is None:
            raise Refusal(
                "email_unverified",
                "Your e-mail address is not verified yet. Open the link we sent you, or ask for "
                "a new one with POST /api/v1/email-verification/resend.",
            )

    def require_unfrozen(self) -> None:
        """A frozen organization may look and stop, and spend nothing."""
        if self.org.state == Organization.State.FROZEN:
            raise Refusal(
                "account_frozen",
                f"This organization is frozen: {self.org.reason or 'ask support'}. "
                "Write to support to have it reviewed.",
            )


def staff_actor(user: User) -> str:
    """A member of the staff as audit rows name them."""
    return f"staff:{public('user', user.id)}"


def only_looking() -> Refusal:
    """The refusal of whatever a look is not for."""
    return Refusal(
        "only_looking",
        "You look at this organization's pages as its people see them. Nothing is changed "
        "meanwhile, and what is only theirs stays closed: secrets and keys, templates and "
        "webhooks, and what is inside their machines (terminal, log, ports). Nothing was done. "
        "End the look to go on as yourself.",
    )


def _belongs_nowhere(**extra: str) -> Refusal:
    return Refusal(
        "insufficient_scope",
        "You belong to no organization any more. Ask one of its owners for an invitation.",
        **extra,
    )


def scopes_of(user: User, membership: Membership | None) -> frozenset[str]:
    """What a person may do at most: by role, and as staff."""
    scopes = ROLE_SCOPES[membership.role] if membership else frozenset()
    if user.is_staff:
        # Staff without an organization still look after their own keys.
        scopes |= {"account:read", "account:write"}
        if not lacks_factor(user):
            scopes |= {STAFF}
    return scopes


def lacks_factor(user: User) -> bool:
    """Whether a member of the staff may not act as one yet: a password alone, however it was lost,
    must open nobody else's money. Keys end with it, since they have their maker's rights."""
    required: bool = settings.GPUYARD_STAFF_SECOND_FACTOR
    return user.is_staff and required and user.second_factor_at is None


def principal_of(user: User, chosen: object = None) -> Principal:
    """The signed-in person with the organization they chose, else the first they joined.

    chosen: its id as the session keeps it. It counts for as long as they are a member.
    """
    memberships = _memberships(user)
    membership = next(
        (one for one in memberships if str(one.organization_id) == chosen),
        memberships[0] if memberships else None,
    )
    return Principal(
        user=user,
        organization=membership.organization if membership else None,
        scopes=scopes_of(user, membership),
        organizations=tuple(one.organization for one in memberships),
    )


def _memberships(user: User) -> list[Membership]:
    return list(Membership.objects.select_related("organization").filter(user=user).order_by("id"))


def role_of(principal: Principal) -> str | None:
    """The person's role in the organization acted for; None where there is none."""
    if principal.organization is None:
        return None
    mine = Membership.objects.filter(user=principal.user, organization=principal.organization)
    return mine.values_list("role", flat=True).first()


def _by(path: str) -> Callable[[Principal], Q]:
    return lambda principal: Q(**{path: principal.organization})


def _keys(principal: Principal) -> Q:
    if principal.organization is None:
        return Q(organization=None, created_by=principal.user)
    return Q(organization=principal.organization)


def _templates(principal: Principal) -> Q:
    return Q(organization=None, active=True) | Q(organization=principal.organization)


def _audit(principal: Principal) -> Q:
    return Q(organization_ref=principal.owner_ref)


def _webhooks(principal: Principal) -> Q:
    return Q(organization=principal.organization, deleted_at=None)


def _deliveries(principal: Principal) -> Q:
    return Q(endpoint__organization=principal.organization, endpoint__deleted_at=None)


# Staff see through the staff operations, never through these. Offers are the owner's here: what a
# renter may see of them is the catalogue's business and needs no account.
_VISIBLE: dict[type[Model], Callable[[Principal], Q]] = {
    AbuseReport: _by("provider__organization"),
    ApiKey: _keys,
    AuditEntry: _audit,
    Budget: _by("organization"),
    CardCost: _by("provider__organization"),
    SavedSearch: _by("organization"),
    DataCenter: _by("provider__organization"),
    Invitation: _by("organization"),
    Maintenance: _by("provider__organization"),
    Membership: _by("organization"),
    Offer: _by("provider__organization"),
    ProblemReport: _by("organization"),
    Project: _by("organization"),
    Provider: _by("organization"),
    Quote: _by("organization"),
    RegistryCredential: _by("organization"),
    Rental: _by("organization"),
    RentalEvent: _by("rental__organization"),
    Secret: _by("organization"),
    SshKey: _by("organization"),
    Template: _templates,
    Volume: _by("organization"),
    WebhookDelivery: _deliveries,
    WebhookEndpoint: _webhooks,
}


def visible(source: type[M] | QuerySet[M], principal: Principal) -> QuerySet[M]:
    """The rows of a model, or of a queryset over it, that exist for this principal."""
    queryset = source if isinstance(source, QuerySet) else source._default_manager.all()
    rule = _VISIBLE[queryset.model]
    if principal.organization is None and queryset.model not in (ApiKey, AuditEntry, Template):
        return queryset.none()  # comparing a foreign key with None would mean "belongs to nobody"
    return queryset.filter(rule(principal))


def get_visible(source: type[M] | QuerySet[M], principal: Principal, public_id: object) -> M:
    """The one row with this public id; NotFound for a foreign, unknown or malformed id."""
    queryset = visible(source, principal)
    return find(queryset, public_id)


def find(queryset: QuerySet[M], public_id: object) -> M:
    """The row of ``queryset`` with this public id, or NotFound. For staff's own querysets."""
    kind: str = queryset.model.kind  # type: ignore[attr-defined]  # public objects only
    what = kind.replace("_", " ")
    try:
        identifier = parse(kind, public_id)
    except BadId as error:
        raise NotFound(what) from error
    found: Any = queryset.filter(pk=identifier).first()
    if found is None:
        raise NotFound(what)
    return found  # type: ignore[no-any-return]
