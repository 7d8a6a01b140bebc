"""People and organizations: who may act, for whom, with which key."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, ClassVar

from django.contrib.auth.models import AbstractBaseUser, BaseUserManager, PermissionsMixin
from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models.functions import Lower

from kernel.clock import AppNow
from kernel.ids import new_id
from marketplace.models.base import PublicObject


class UserManager(BaseUserManager["User"]):
    """Creates users by e-mail address; addresses are compared without case."""

    def create_user(self, email: str, password: str | None = None, **fields: Any) -> User:
        user = self.model(email=self.normalize_email(email).lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> User:
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, username: str | None) -> User:
        return self.get(email=(username or "").lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person. Staff are people of the platform; everyone else acts for an organization."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    email = models.EmailField(max_length=254)
    name = models.CharField(max_length=120, blank=True)
    email_verified_at = models.DateTimeField(null=True, blank=True)
    terms_version = models.CharField(max_length=20, blank=True)
    terms_accepted_at = models.DateTimeField(null=True, blank=True)
    is_active = models.BooleanField(default=True)
    is_staff = models.BooleanField(default=False)
    # Since when the second factor is asked for; empty: not at all (accounts/second_factor.py).
    second_factor_at = models.DateTimeField(null=True, blank=True)
    # Kinds of mail the person does not want (accounts/letters.py); required ones come all the same.
    mail_off = ArrayField(models.CharField(max_length=20), default=list, blank=True, db_default=[])
    # In which mails are written; one of settings.LANGUAGES. Pages go by the browser's cookie.
    language = models.CharField(max_length=10, default="en", db_default="en")
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)

    objects: ClassVar[UserManager] = UserManager()

    USERNAME_FIELD = "email"
    EMAIL_FIELD = "email"

    class Meta:
        constraints = [
            models.UniqueConstraint(Lower("email"), name="user_email_once"),
            models.UniqueConstraint(fields=["email"], name="user_email_exact_once"),
        ]

    def __str__(self) -> str:
        return self.email

    def get_session_auth_hash(self) -> str:
        """Sessions end when the second factor is switched on or off, as with a new password: each
        session that goes on was opened, or confirmed, with a code."""
        return self._with_factor(super().get_session_auth_hash())

    def get_session_auth_fallback_hash(self) -> Iterator[str]:
        return map(self._with_factor, super().get_session_auth_fallback_hash())

    def _with_factor(self, of_password: str) -> str:
        if self.second_factor_at is None:
            return of_password
        return sha256(f"{of_password}{self.second_factor_at.isoformat()}".encode()).hexdigest()


class EmailToken(models.Model):
    """A single-use proof sent by e-mail, and at the same time the order to send it.

    The proof is derived from the row's id and the platform's secret key (accounts/tokens.py), so
    nothing in this table opens an account and an unsent row can be sent by any later sweep.
    """

    class Purpose(models.TextChoices):
        VERIFY = "verify"
        RESET = "reset"
        KNOWN = "known"  # somebody signed up with an address that has an account: a mail, no proof
        WEBHOOK = "webhook"  # an endpoint was disabled: a mail about it, no proof
        RECEIPT = "receipt"  # money came: about names the payment
        PAYOUT = "payout"  # a payout account was opened for a change: a mail about it, no proof
        MONEY = "money"  # about the organization's money: ``about`` is subject and text, no proof
        SECURITY = "security"  # about how the person signs in: the same
        REPORT = "report"  # a problem they reported was answered: the same
        INVITE = "invite"  # about names the invitation; the person is who invites
        NOTICE = "notice"  # what happened: ``about`` is subject and text, no proof
        SEARCH = "search"  # a saved search found cards: the same

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="email_tokens")
    purpose = models.CharField(max_length=10, choices=Purpose.choices)
    about = models.TextField(blank=True, db_default="")  # what a notice names or says
    # Where a notice goes instead of to the person, such as an address that was just replaced.
    address = models.EmailField(max_length=254, blank=True, db_default="")
    expires_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True, blank=True)
    send_after = models.DateTimeField(db_default=AppNow())
    attempts = models.PositiveSmallIntegerField(default=0)
    sent_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        indexes = [
            models.Index(
                fields=["send_after"],
                name="email_unsent",
                condition=models.Q(sent_at__isnull=True),
            )
        ]


class Organization(PublicObject):
    """Who rents, owns and pays. Balances live in billing under this id."""

    kind = "organization"

    class State(models.TextChoices):
        ACTIVE = "active"
        FROZEN = "frozen"

    name = models.CharField(max_length=120)
    state = models.CharField(max_length=10, choices=State.choices, default=State.ACTIVE)
    reason = models.CharField(max_length=200, blank=True)
    # What froze it, where that lets it go again: "dispute"; empty when staff did.
    frozen_for = models.CharField(max_length=20, blank=True, default="", db_default="")
    frozen_at = models.DateTimeField(null=True, blank=True)
    # A new organization may burn this much per hour: a stolen card empties no data centre.
    # What staff fixed; otherwise the limit grows by itself (accounts/spend_limit.py).
    spend_limit_micro_h = models.BigIntegerField(default=200_000_000)
    spend_limit_fixed = models.BooleanField(default=False, db_default=False)
    quota_gpus = models.PositiveIntegerField(default=64)
    # What a team's projects need. Without a bound one account could fill a data centre's disks, or
    # the 128 claims that a provider's quota allows in a namespace, with volumes nobody uses.
    quota_volumes = models.PositiveIntegerField(default=20, db_default=20)
    quota_volume_gib = models.PositiveIntegerField(default=10_240, db_default=10_240)

    def __str__(self) -> str:
        return self.name


class Membership(models.Model):
    """A person in an organization."""

    class Role(models.TextChoices):
        OWNER = "owner"
        MEMBER = "member"
        BILLING = "billing"
        VIEWER = "viewer"

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once")
        ]


class Invitation(PublicObject):
    """A place in an organization, offered to an e-mail address until it is taken or withdrawn.

    The proof in its link is a mail's (EmailToken): sent again, it is another one, and the old one
    is worth nothing.
    """

    kind = "invitation"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="invitations"
    )
    email = models.EmailField(max_length=254)  # in small letters
    role = models.CharField(max_length=10, choices=Membership.Role.choices)
    invited_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)
    withdrawn_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "email"],
                name="invitation_once",
                condition=models.Q(accepted_at__isnull=True, withdrawn_at__isnull=True),
            )
        ]


class Project(PublicObject):
    """A cost centre of an organization; rentals may be booked on it."""

    kind = "project"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="projects"
    )
    name = models.CharField(max_length=80)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="project_name_once")
        ]


class ApiKey(PublicObject):
    """A scoped, expiring key. The secret is shown once; its SHA-256 is all that is stored.

    ``organization`` is empty for keys of staff, who act for the platform.
    """

    kind = "api_key"

    organization = models.ForeignKey(
        Organization, null=True, blank=True, on_delete=models.CASCADE, related_name="api_keys"
    )
    created_by = models.ForeignKey(User, on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    secret_hash = models.BinaryField(max_length=32)
    scopes = ArrayField(models.CharField(max_length=30))
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)


class SshKey(PublicObject):
    """A public key in one canonical line: type, base64; the comment is kept apart as the name."""

    kind = "ssh_key"

    organization = models.ForeignKey(
        Organization, on_delete=models.CASCADE, related_name="ssh_keys"
    )
    name = models.CharField(max_length=80)
    public_key = models.TextField(max_length=8192)
    fingerprint = models.CharField(max_length=64)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "fingerprint"], name="ssh_key_once_per_organization"
            )
        ]


class IdempotencyKey(models.Model):
    """The row that makes an action happen once: inserted first in the action's own transaction,
    with the rendered answer stored before it commits. A refusal leaves none."""

    id = models.UUIDField(primary_key=True, default=new_id, editable=False)
    organization_ref = models.UUIDField()  # an organization, or a user who has none
    key = models.CharField(max_length=255)
    request_hash = models.BinaryField(max_length=32)  # method, path and canonical body
    status = models.PositiveSmallIntegerField(default=0)
    answer = models.BinaryField(default=b"")
    created_at = models.DateTimeField(db_default=AppNow(), editable=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization_ref", "key"], name="idempotency_key_once")
        ]
        indexes = [models.Index(fields=["created_at"], name="idempotency_age")]
