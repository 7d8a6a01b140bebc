"""Proofs sent by e-mail: ordered as rows, derived when sent, redeemed once.

A proof is the row's id and an HMAC of it under the platform's secret key: nothing in the database
opens an account, and a sweep can send (or send again) what a crash left unsent. Changing the
secret key makes the links under way useless; people ask for new ones.
"""

from __future__ import annotations

import hmac
from datetime import timedelta

from django.contrib.sessions.backends.db import SessionStore
from django.utils.crypto import salted_hmac

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.ids import BadId, parse, public
from kernel.wake import wake_on_commit
from marketplace.models import EmailToken, User

VALID_FOR = {
    EmailToken.Purpose.VERIFY: timedelta(days=3),
    EmailToken.Purpose.RESET: timedelta(hours=1),
    EmailToken.Purpose.KNOWN: timedelta(days=1),
    EmailToken.Purpose.WEBHOOK: timedelta(days=3),
    EmailToken.Purpose.RECEIPT: timedelta(days=30),
    EmailToken.Purpose.PAYOUT: timedelta(days=3),
    EmailToken.Purpose.MONEY: timedelta(days=3),
    EmailToken.Purpose.SECURITY: timedelta(days=3),
    EmailToken.Purpose.REPORT: timedelta(days=3),
    EmailToken.Purpose.INVITE: timedelta(days=7),
    EmailToken.Purpose.NOTICE: timedelta(days=3),
    EmailToken.Purpose.SEARCH: timedelta(hours=6),  # cards that were free yesterday are no news
}
# One mail of a kind per address and minute: a form must not become a way to flood a mailbox.
_SPACING = timedelta(minutes=1)
# Long enough to answer "did you send me that mail?".
_REMEMBERED = timedelta(days=30)


def order_mail(user: User, purpose: EmailToken.Purpose) -> None:
    """Order one mail in the caller's transaction, unless the same was ordered a minute ago."""
    present = now()
    # Two requests at once must not both see that none was ordered.
    User.objects.select_for_update(no_key=True).get(pk=user.pk)
    recent = EmailToken.objects.filter(
        user=user, purpose=purpose, used_at=None, created_at__gt=present - _SPACING
    )
    if not recent.exists():
        EmailToken.objects.create(
            user=user, purpose=purpose, expires_at=present + VALID_FOR[purpose]
        )
        wake_on_commit("marketplace.mail")


def order_notice(user: User, purpose: EmailToken.Purpose, *, about: str, address: str = "") -> None:
    """Order one mail that names something, to the person or to another address; in the caller's
    transaction."""
    EmailToken.objects.create(
        user=user,
        purpose=purpose,
        about=about,
        address=address,
        expires_at=now() + VALID_FOR[purpose],
    )
    wake_on_commit("marketplace.mail")


def proof(token: EmailToken) -> str:
    """The text that goes into the link."""
    return f"{public('user', token.id)[4:]}.{_mac(token)}"


def redeem(text: str, purpose: EmailToken.Purpose) -> EmailToken:
    """The row behind a proof, locked in the caller's transaction; InvalidRequest when it is used,
    expired or no proof of ours. The caller marks it used."""
    identifier, _, mac = text.partition(".")
    try:
        token_id = parse("user", f"usr_{identifier}")
    except BadId as error:
        raise useless() from error
    token = (
        EmailToken.objects.select_for_update()
        .filter(pk=token_id, purpose=purpose, used_at=None, expires_at__gt=AppNow())
        .first()
    )
    if token is None or not mac.isascii() or not hmac.compare_digest(mac, _mac(token)):
        raise useless()
    return token


def use(token: EmailToken) -> None:
    """Mark it and the person's other proofs of that purpose used."""
    EmailToken.objects.filter(user=token.user_id, purpose=token.purpose, used_at=None).update(
        used_at=now(), sent_at=now()
    )


def end_about(purpose: EmailToken.Purpose, about: str) -> None:
    """Make every proof and every unsent mail of this purpose about this one thing worthless."""
    EmailToken.objects.filter(purpose=purpose, about=about, used_at=None).update(used_at=now())


def ordered_lately(purpose: EmailToken.Purpose, about: str) -> bool:
    """Whether a mail about it was ordered within the last minute."""
    recent = EmailToken.objects.filter(
        purpose=purpose, about=about, used_at=None, created_at__gt=now() - _SPACING
    )
    return recent.exists()


def forget() -> int:
    """Delete proofs and sessions that ended a month ago or expired; how many proofs."""
    SessionStore.clear_expired()
    deleted, _ = EmailToken.objects.filter(expires_at__lt=now() - _REMEMBERED).delete()
    return deleted


def _mac(token: EmailToken) -> str:
    return salted_hmac(
        "gpuyard.email", f"{token.purpose}:{token.id}", algorithm="sha256"
    ).hexdigest()


def useless() -> InvalidRequest:
    """For a link that proves nothing, whatever is wrong with it."""
    return InvalidRequest(
        {"token": ["this link was used, has expired or is incomplete"]},
        "This link was used, has expired or is incomplete. Ask for a new one.",
    )
