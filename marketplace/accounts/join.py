"""How people come in: sign-up, proof of the e-mail address, a forgotten password.

Answers to strangers never tell whether an address has an account: the same answer is given, and
the difference goes to the address itself by mail.
"""

from __future__ import annotations

from uuid import UUID

from django.conf import settings
from django.contrib.auth.hashers import make_password
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction

from billing import facade as billing
from billing.facade import payouts
from kernel.clock import now
from kernel.errors import InvalidRequest
from kernel.ids import public
from kernel.text import clean
from marketplace.accounts import audit, staffing, tokens
from marketplace.models import ApiKey, EmailToken, Membership, Organization, User

Purpose = EmailToken.Purpose


def sign_up(
    *,
    email: str,
    password: str,
    organization: str,
    terms_version: str,
    name: str = "",
    language: str = "en",
) -> None:
    """Make a person, their organization and its account, and order the proof by mail.

    Joins the caller's transaction. InvalidRequest: other terms than those in force, a weak
    password, an empty name. An address that has an account gets a mail instead, and no trace else.
    language: of the mails to a new person.
    """
    check_terms(terms_version)
    title = clean(organization, limit=120)
    if not title:
        raise InvalidRequest({"organization": ["must not be empty"]})
    address = email.lower()
    person = clean(name, limit=120)
    check_password(password, User(email=address, name=person))
    # Hashed in any case: else the time of the answer would tell known addresses from new ones.
    hashed = make_password(password)
    user = User.objects.filter(email=address).first()
    if user is None:
        user = _create(address, hashed, person, title, language)
    if user is None:  # somebody else signed up with it at this very moment
        user = User.objects.get(email=address)
    purpose = Purpose.KNOWN if user.email_verified_at else Purpose.VERIFY
    tokens.order_mail(user, purpose)


def _create(email: str, hashed: str, name: str, title: str, language: str) -> User | None:
    user = User(
        email=email,
        password=hashed,
        name=name,
        language=language,
        terms_version=settings.TERMS_VERSION,
        terms_accepted_at=now(),
    )
    try:
        with transaction.atomic():
            user.save(force_insert=True)
    except IntegrityError:
        return None
    found_organization(owner=user, name=title)
    return user


def found_organization(*, owner: User, name: str) -> Organization:
    """An organization with its owner and its account in the ledger; joins the transaction."""
    organization = Organization.objects.create(name=name)
    Membership.objects.create(organization=organization, user=owner, role=Membership.Role.OWNER)
    billing.open_tenant(org_ref=organization.id, email=owner.email, name=name)
    audit.record(
        acting=f"user:{public('user', owner.id)}",
        action="organization.create",
        object=organization.public_id,
        organization_ref=organization.id,
        details={"name": name, "terms_version": owner.terms_version},
    )
    return organization


def resend_proof(*, email: str) -> None:
    """Order the proof again for an unverified person; silent about everyone else."""
    user = User.objects.filter(email=email.lower(), is_active=True, email_verified_at=None).first()
    if user is not None:
        tokens.order_mail(user, Purpose.VERIFY)


def verify_email(*, token: str, password: str) -> User:
    """Accept the proof of an address, from the person who chose the account's password.

    Without the password, somebody could sign up with a stranger's address and have the stranger
    confirm it. Joins the caller's transaction. InvalidRequest: a useless link, a wrong password.
    """
    row = tokens.redeem(token, Purpose.VERIFY)
    user = row.user
    if not user.is_active or not user.check_password(password):
        raise InvalidRequest(
            {"password": ["is not the one of this account"]},
            "This is not the password chosen at sign-up. If somebody else signed up with your "
            "address, set a new password: that makes the account yours.",
        )
    tokens.use(row)
    _mark_verified(user)
    return user


def ask_reset(*, email: str) -> None:
    """Order a mail to set a new password; silent about unknown addresses."""
    user = User.objects.filter(email=email.lower(), is_active=True).first()
    if user is not None:
        tokens.order_mail(user, Purpose.RESET)


def reset_password(*, token: str, password: str) -> User:
    """Set a new password with the proof from the mail; ends every session of the person.

    Joins the caller's transaction. InvalidRequest: a useless link, a weak password.
    """
    row = tokens.redeem(token, Purpose.RESET)
    user = row.user
    check_password(password, user)
    user.set_password(password)  # sessions carry a hash of the password: they end with it
    user.save(update_fields=["password"])
    tokens.use(row)
    if user.email_verified_at is None:
        # Whoever signed up had not proven the address: their keys must not survive its owner.
        ApiKey.objects.filter(created_by=user, revoked_at=None).update(revoked_at=now())
        _mark_verified(user)
    _record(user, "user.reset_password")
    return user


def person(user_id: UUID) -> User | None:
    """An active person; None when there is none of that id."""
    return User.objects.filter(pk=user_id, is_active=True).first()


def check_terms(version: str) -> None:
    """InvalidRequest unless these are the terms in force."""
    if version != settings.TERMS_VERSION:
        raise InvalidRequest(
            {"accepted_terms_version": [f"the terms in force are {settings.TERMS_VERSION}"]},
            "Other terms are in force than those you accepted. Read them and accept "
            f"{settings.TERMS_VERSION}.",
        )


def check_password(password: str, user: User) -> None:
    """InvalidRequest when the password is too weak for this person."""
    try:
        validate_password(password, user)
    except ValidationError as error:
        raise InvalidRequest({"password": list(error.messages)}) from error


def _mark_verified(user: User) -> None:
    user.email_verified_at = now()
    user.save(update_fields=["email_verified_at"])
    _record(user, "user.verify_email")


def _record(user: User, action: str) -> None:
    membership = Membership.objects.filter(user=user).order_by("id").first()
    audit.record(
        acting=f"user:{public('user', user.id)}",
        action=action,
        object=public("user", user.id),
        organization_ref=membership.organization_id if membership else None,
    )


def make_staff(*, email: str, password: str, name: str = "", superuser: bool = False) -> bool:
    """A verified member of staff without an organization; False when the person existed and was
    made staff. Opens its own transaction. InvalidRequest for a weak password."""
    address = email.lower()
    with transaction.atomic(durable=True):
        user = User.objects.select_for_update().filter(email=address).first()
        made = user is None
        if user is None:
            user = User(email=address, name=clean(name, limit=120))
        check_password(password, user)
        user.set_password(password)
        user.is_staff = True
        user.is_superuser = user.is_superuser or superuser
        user.email_verified_at = user.email_verified_at or now()
        user.save()
        audit.record(
            acting="platform",
            action="staff.make",
            object=public("user", user.id),
            organization_ref=None,
            details={"superuser": user.is_superuser},
        )
        if not staffing.alone():
            payouts.wait_for_second()
        return made
