"""The second factor: codes of the person's own app (TOTP, RFC 6238), and recovery codes.

Switching it on takes the password, then one code, which shows that the app has the secret; until
then nothing counts. A code is taken once: of the time steps around the present (one to either side,
for clocks that are off) only one newer than the last that was taken. Recovery codes stand in for a
lost app, each once. All calls join the caller's transaction, so a code that an action was refused
with is not used up. Wrong codes raise WrongCode, which the caller counts (http/reauth.py).
"""

from __future__ import annotations

import base64
import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID

import pyotp
from django.conf import settings

from kernel import sealed
from kernel.clock import now
from kernel.errors import InvalidRequest, NotFound, Refusal
from kernel.ids import public
from marketplace.accounts import audit
from marketplace.accounts.access import Principal
from marketplace.accounts.money_mail import order_said
from marketplace.accounts.phrases import Said, phrase
from marketplace.models import EmailToken, Membership, RecoveryCode, SecondFactor, User

# What authenticator apps assume where nothing else is said: many ignore other values.
_PERIOD_S: Final = 30
_DRIFT: Final = 1
# Ten last for years of lost telephones; more would only be printed and left lying about.
_RECOVERY_CODES: Final = 10
# 80 random bits: too many to be found from a stolen hash, few enough to type.
_RECOVERY_BYTES: Final = 10
_OFFERED_FOR: Final = timedelta(hours=1)
_FIELD: Final = "second_factor.secret"


class WrongCode(InvalidRequest):
    """The code is not the person's, or was used before."""

    def __init__(self) -> None:
        super().__init__(
            {"code": ["is wrong, or was used already: wait for the next one"]},
            "The code is wrong or was used already. Nothing was changed. Wait until your app shows "
            "the next one, or use a recovery code.",
        )


@dataclass(frozen=True)
class Offer:
    """A secret to put into an app. uri: the same as apps read it from a QR code."""

    secret: str
    uri: str


@dataclass(frozen=True)
class Standing:
    """since: when it was switched on; None while it is off. offered: a secret waits for its first
    code. recovery_codes: how many are unused."""

    since: datetime | None
    offered: bool
    recovery_codes: int

    @property
    def state(self) -> str:
        """``on``, ``offered`` or ``off``."""
        return "on" if self.since else "offered" if self.offered else "off"


def standing(user: User) -> Standing:
    """How a person stands with their second factor."""
    unused = RecoveryCode.objects.filter(user=user, used_at=None).count()
    waiting = user.second_factor_at is None and _offered(user) is not None
    return Standing(user.second_factor_at, waiting, unused)


def require(acting: Principal) -> None:
    """Refusal second_factor_required unless the person has it on."""
    if acting.user.second_factor_at is None:
        raise Refusal(
            "second_factor_required",
            "This needs a second factor, and yours is not on. Nothing was changed. Switch it on "
            "under Settings, Second factor, or with POST /api/v1/second-factor; then do this "
            "again.",
        )


def begin(*, acting: Principal) -> Offer:
    """Offer a new secret; the person has just given their password. An older offer ends.

    Refusal: invalid_transition while it is on, email_unverified.
    """
    acting.require_verified()
    user = _lock(acting.user)
    if user.second_factor_at is not None:
        raise _illegal("Your second factor is on already. Switch it off first.", "on", "remove")
    secret = pyotp.random_base32()
    SecondFactor.objects.update_or_create(
        user=user, defaults={"secret_sealed": _seal(secret, user.id), "offered_at": now()}
    )
    return _offer(secret, user)


def offer(user: User) -> Offer | None:
    """The secret that waits for its first code, for the page that shows it."""
    row = None if user.second_factor_at else _offered(user)
    return _offer(_unseal(row), user) if row else None


def confirm(*, acting: Principal, code: str) -> list[str]:
    """Switch it on with the app's first code; the recovery codes, which are shown this once.

    Every other session of the person ends. WrongCode; Refusal invalid_transition without an offer.
    """
    user = _lock(acting.user)
    row = _offered(user) if user.second_factor_at is None else None
    if row is None:
        raise _illegal(
            "No secret waits for its first code: they are good for an hour. Begin again.",
            "on" if user.second_factor_at else "off",
            "begin",
        )
    _take(row, code)
    _switch(acting.user, now())
    made = _new_codes(user)
    _record(acting, "second_factor.enable")
    _tell(
        user,
        phrase("Your second factor is on"),
        phrase("Your second factor is on: signing in asks for a code of your app from now."),
    )
    return made


def spend(*, user: User, code: str) -> None:
    """Take one code of the app, or one recovery code. WrongCode."""
    row = SecondFactor.objects.select_for_update().filter(user=user).first()
    if row is None or user.second_factor_at is None:
        raise WrongCode
    text = "".join(code.split()).replace("-", "").upper()
    if len(text) == pyotp.TOTP(_unseal(row)).digits:
        _take(row, text)
        return
    used = RecoveryCode.objects.filter(user=user, code_hash=_hash(text), used_at=None).update(
        used_at=now()
    )
    if not used:
        raise WrongCode
    left = RecoveryCode.objects.filter(user=user, used_at=None).count()
    _record(user, "second_factor.recovery_code", left=left)
    _tell(
        user,
        phrase("A recovery code was used"),
        phrase("A recovery code was used in place of your app. You have {left} left.", left=left),
    )


def renew(*, acting: Principal, code: str) -> list[str]:
    """New recovery codes; the old ones are worth nothing any more. WrongCode."""
    require(acting)
    spend(user=acting.user, code=code)
    made = _new_codes(acting.user)
    _record(acting, "second_factor.recovery_codes")
    return made


def remove(*, acting: Principal, code: str) -> None:
    """Switch it off; the person has just given their password. Ends their other sessions."""
    require(acting)
    spend(user=acting.user, code=code)
    _forget(acting.user)
    _record(acting, "second_factor.disable")


def remove_for(*, email: str, acting: str) -> None:
    """Switch it off for somebody who lost app and codes; who they are was proven to an operator
    by other means. Ends all their sessions. NotFound when it is not on."""
    user = User.objects.filter(email=email.lower()).exclude(second_factor_at=None).first()
    if user is None:
        raise NotFound("person with a second factor")
    _forget(_lock(user))
    _record(user, "second_factor.disable", acting=acting)


def _offered(user: User) -> SecondFactor | None:
    fresh = SecondFactor.objects.filter(user=user, offered_at__gt=now() - _OFFERED_FOR)
    return fresh.first()


def _take(row: SecondFactor, code: str) -> None:
    """Use the code up; the guarded update lets one of two requests with the same code pass."""
    app = pyotp.HOTP(_unseal(row))  # TOTP is HOTP of the time step
    present = int(now().timestamp()) // _PERIOD_S
    given = code.strip().encode()
    for step in range(present - _DRIFT, present + _DRIFT + 1):
        if hmac.compare_digest(app.at(step).encode(), given):
            rows = SecondFactor.objects.filter(user=row.user_id, last_step__lt=step)
            if rows.update(last_step=step):
                return
    raise WrongCode


def _forget(user: User) -> None:
    SecondFactor.objects.filter(user=user).delete()
    RecoveryCode.objects.filter(user=user).delete()
    _switch(user, None)
    _tell(
        user,
        phrase("Your second factor is off"),
        phrase("Your second factor was switched off: the password alone signs in again."),
    )


def _switch(user: User, since: datetime | None) -> None:
    user.second_factor_at = since
    user.save(update_fields=["second_factor_at"])


def _new_codes(user: User) -> list[str]:
    RecoveryCode.objects.filter(user=user).delete()
    made = [
        base64.b32encode(secrets.token_bytes(_RECOVERY_BYTES)).decode()
        for _number in range(_RECOVERY_CODES)
    ]
    RecoveryCode.objects.bulk_create(
        RecoveryCode(user=user, code_hash=_hash(code)) for code in made
    )
    return ["-".join(code[at : at + 4] for at in range(0, len(code), 4)) for code in made]


def _lock(user: User) -> User:
    return User.objects.select_for_update(no_key=True).get(pk=user.pk)


def _offer(secret: str, user: User) -> Offer:
    uri = pyotp.TOTP(secret).provisioning_uri(name=user.email, issuer_name="gpuyard")
    return Offer(secret, uri)


def _hash(code: str) -> bytes:
    return sha256(code.encode()).digest()


def _seal(secret: str, user_id: UUID) -> bytes:
    key = settings.GPUYARD_SEALING_KEY
    return sealed.seal(secret.encode(), key=key, owner=str(user_id), field=_FIELD)


def _unseal(row: SecondFactor) -> str:
    key, owner = settings.GPUYARD_SEALING_KEY, str(row.user_id)
    return sealed.unseal(bytes(row.secret_sealed), key=key, owner=owner, field=_FIELD).decode()


def _illegal(why: str, state: str, action: str) -> Refusal:
    return Refusal("invalid_transition", why, state=state, actions=[action])


def _tell(user: User, subject: Said, text: Said) -> None:
    order_said(user, EmailToken.Purpose.SECURITY, subject=subject, text=text)


def _record(
    who: Principal | User, action: str, *, acting: str | None = None, **details: int
) -> None:
    """who: the person, acting unless somebody else is named."""
    if isinstance(who, Principal):
        actor: Principal | str = who
        user, organization = who.user, who.owner_ref
    else:
        user, name = who, public("user", who.id)
        actor = acting or f"user:{name}"
        member = Membership.objects.filter(user=user).order_by("id").first()
        organization = member.organization_id if member else user.id
    audit.record(
        acting=actor,
        action=action,
        object=public("user", user.id),
        organization_ref=organization,
        details=details,
    )
