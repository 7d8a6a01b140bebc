"""Sends the mails that rows order. A loop: losing a wake-up or crashing costs a minute.

A row is taken by moving its ``send_after``, the mail is sent outside any transaction, and only
then is the row marked sent. A crash in between sends the mail twice; it is never lost.
"""

from __future__ import annotations

import smtplib
from datetime import datetime, timedelta
from uuid import UUID

import structlog
from django.conf import settings
from django.core.mail import send_mail
from django.db import transaction
from django.db.models import Count, Min
from django.template.loader import render_to_string
from django.utils.translation import gettext_lazy as _

from kernel.clock import AppNow, now
from kernel.text import wrapped
from kernel.turns import each
from marketplace.accounts import invitations, receipts
from marketplace.accounts.phrases import speaking
from marketplace.accounts.tokens import proof
from marketplace.models import EmailToken

log = structlog.get_logger(__name__)

_RETRY = timedelta(minutes=1)
_RETRY_CAP = timedelta(hours=1)
_BATCH = 50
SUBJECTS = {
    EmailToken.Purpose.VERIFY: _("Confirm your e-mail address"),
    EmailToken.Purpose.RESET: _("Set a new password"),
    EmailToken.Purpose.KNOWN: _("You already have an account"),
    EmailToken.Purpose.WEBHOOK: _("We stopped sending to a webhook"),
    EmailToken.Purpose.RECEIPT: _("Your receipt"),
    EmailToken.Purpose.PAYOUT: _("Your payout account was opened"),
    EmailToken.Purpose.INVITE: _("You are invited to an organization at gpuyard"),
}
# Their order says the subject and the text.
_SAID = (
    EmailToken.Purpose.MONEY,
    EmailToken.Purpose.SECURITY,
    EmailToken.Purpose.REPORT,
    EmailToken.Purpose.SEARCH,
    EmailToken.Purpose.NOTICE,
)
_PAGES = {
    EmailToken.Purpose.VERIFY: "/verify-email",
    EmailToken.Purpose.RESET: "/reset-password",
    EmailToken.Purpose.INVITE: "/invitation",
}


def deliver() -> int:
    """Send every mail that is due; how many went out."""
    return sum(each("mail", _take(), _deliver))


def _deliver(token: EmailToken) -> bool:
    try:
        _send(token)
    except (smtplib.SMTPException, OSError) as error:
        # The row stays due at its next send_after; the address does not belong in a log.
        log.warning("mail_not_sent", token=str(token.id), error=type(error).__name__)
        return False
    EmailToken.objects.filter(pk=token.pk).update(sent_at=now())
    return True


def unsent() -> tuple[int, datetime | None]:
    """Mails that are ordered, still of use, and not sent: how many, and the oldest order's time."""
    waiting = EmailToken.objects.filter(sent_at=None, used_at=None, expires_at__gt=AppNow())
    found = waiting.aggregate(count=Count("id"), oldest=Min("created_at"))
    return found["count"], found["oldest"]


def _take() -> list[EmailToken]:
    with transaction.atomic(durable=True):
        present = now()
        due = EmailToken.objects.select_for_update(skip_locked=True, of=("self",)).filter(
            sent_at=None, used_at=None, send_after__lte=present, expires_at__gt=present
        )
        taken = list(due.select_related("user").order_by("send_after")[:_BATCH])
        for token in taken:
            token.send_after = present + min(_RETRY_CAP, _RETRY * 2 ** min(token.attempts, 6))
            token.attempts += 1
            token.save(update_fields=["send_after", "attempts"])
        return taken


def _send(token: EmailToken) -> None:
    with speaking(token.user):
        _send_spoken(token)


def _send_spoken(token: EmailToken) -> None:
    purpose = EmailToken.Purpose(token.purpose)
    base = settings.GPUYARD_BASE_URL
    page = _PAGES.get(purpose)
    context = {
        "link": f"{base}{page}?token={proof(token)}" if page else "",
        "base_url": base,
        "about": token.about,
        "expires_at": token.expires_at,
    }
    subject, to = str(SUBJECTS.get(purpose, "")), [token.address or token.user.email]
    if purpose in _SAID:
        subject, _line, context["about"] = token.about.partition("\n")
    if purpose == EmailToken.Purpose.RECEIPT:
        found, to = receipts.contents(UUID(token.about))
        context |= found
    if purpose == EmailToken.Purpose.INVITE:
        context |= invitations.mailed(UUID(token.about))
    send_mail(subject, wrapped(render_to_string(f"email/{purpose}.txt", context)), None, to)
