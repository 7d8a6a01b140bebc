"""Mails about what happened: one table of events, and one mail for what comes together.

To add a mail, add a row to :data:`EVENTS` and a template of its name, and call :func:`tell` where
the fact is stored. A fact waits some seconds for others of its event, so an outage that ends twenty
rentals of an organization is one mail to each reader. People switch off the kinds that are not
required (:data:`KINDS`); what is about money and security always comes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, Min, Q, QuerySet
from django.template.loader import render_to_string
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest
from kernel.text import clean
from kernel.turns import each
from marketplace.accounts.phrases import Said, phrase, speaking, spoken
from marketplace.accounts.tokens import order_notice
from marketplace.models import EmailToken, Letter, Membership, Organization, User

Text = str | Promise
Facts = dict[str, Said]

# How long a fact waits for others. Shorter, and one outage is several mails; longer, and a mail
# that says what runs for two more minutes comes too late.
WAIT: Final = timedelta(seconds=20)
# Of one mail; whoever has more reads them on the page.
_SHOWN: Final = 25
_GROUPS: Final = 200
# As long as a cause could come again.
_REMEMBERED: Final = timedelta(days=30)

_ROLE = Membership.Role
OWNERS: Final = frozenset({_ROLE.OWNER})
MONEY_READERS: Final = frozenset({_ROLE.OWNER, _ROLE.BILLING})
OPERATORS: Final = frozenset({_ROLE.OWNER, _ROLE.MEMBER})
# As mails say them.
ROLE_NAMES: Final[dict[str, Said]] = {
    _ROLE.OWNER.value: phrase("owner"),
    _ROLE.MEMBER.value: phrase("member"),
    _ROLE.BILLING.value: phrase("billing"),
    _ROLE.VIEWER.value: phrase("viewer"),
}


@dataclass(frozen=True)
class Kind:
    """What people switch on and off together. required: it comes whatever they say."""

    label: Text
    text: Text
    required: bool = False


KINDS: Final[dict[str, Kind]] = {
    "security": Kind(
        _("Security and people"), _("Keys, roles, second factor, passwords."), required=True
    ),
    "money": Kind(_("Money"), _("Balance, budgets, invoices, receipts, payouts."), required=True),
    "trouble": Kind(
        _("Trouble with rentals"), _("One failed, its host is lost, or it cannot be reached.")
    ),
    "stops": Kind(
        _("Stops"), _("A rental was stopped or ended, and nobody pressed a button for it.")
    ),
    "notices": Kind(
        _("Notices before a stop"),
        _("End date, idle cards, maintenance, an order at the full price."),
    ),
    "supply": Kind(
        _("Clusters and offers"),
        _("For owners of cards: clusters that fall silent, failed checks, hosts taken off sale."),
    ),
}


@dataclass(frozen=True)
class Event:
    """What one mail tells. subject: of one fact, by its fields; many: of several, by ``count``.

    readers: the roles that are told, besides the members a fact names. said: subject and text are
    the caller's, because only it knows the figures; there is no template then.
    """

    name: str
    kind: str
    readers: frozenset[str]
    subject: Text
    many: Text = ""
    page: str = "/"
    said: bool = False

    @property
    def template(self) -> str:
        return f"email/events/{self.name.replace('.', '_')}.txt"


def _said(name: str, kind: str, subject: str) -> Event:
    return Event(name, kind, MONEY_READERS, subject, page="/billing", said=True)


_ROWS: Final = (
    Event(
        "rental.failed", "trouble", OWNERS,
        _("Rental {name} failed"), _("{count} rentals failed"), "/rentals",
    ),
    Event(
        "rental.elsewhere", "trouble", OWNERS,
        _("Rental {name} lost its host and gets another"),
        _("{count} rentals lost their host and get another"), "/rentals",
    ),
    Event(
        "rental.unreachable", "trouble", OWNERS,
        _("Rental {name} cannot be reached"), _("{count} rentals cannot be reached"), "/rentals",
    ),
    Event(
        "rental.stopped", "stops", OWNERS,
        _("Rental {name} was stopped"), _("{count} rentals were stopped"), "/rentals",
    ),
    Event(
        "rental.ended", "stops", OWNERS,
        _("Rental {name} was ended"), _("{count} rentals were ended"), "/rentals",
    ),
    Event(
        "rental.notice", "notices", OWNERS,
        _("Rental {name} will be stopped"), _("{count} rentals will be stopped"), "/rentals",
    ),
    Event(
        "api_key.created", "security", OWNERS,
        _("A new API key: {name}"), _("{count} new API keys"), "/api-keys",
    ),
    Event(
        "member.joined", "security", OWNERS,
        _("{email} joined {organization}"), _("{count} people joined your organization"), "/team",
    ),
    Event(
        "member.changed", "security", OWNERS,
        _("{email} is {role} now"), _("The roles of {count} people changed"), "/team",
    ),
    Event(
        "member.removed", "security", OWNERS,
        _("{email} belongs to {organization} no more"),
        _("{count} people belong to your organization no more"), "/team",
    ),
    Event(
        "cluster.offline", "supply", OPERATORS,
        _("Cluster {name} cannot be used"), _("{count} clusters cannot be used"), "/provider",
    ),
    Event(
        "cluster.preflight", "supply", OPERATORS,
        _("Cluster {name} does not pass its check"), _("{count} clusters do not pass their checks"),
        "/provider",
    ),
    Event(
        "host.quarantined", "supply", OPERATORS,
        _("Host {name} was taken off sale"), _("{count} hosts were taken off sale"), "/provider",
    ),
    Event(
        "offer.drifted", "supply", OPERATORS,
        _("Cards of yours changed and need a price"), _("{count} groups of cards changed"),
        "/provider",
    ),
    Event(
        "provider.approved", "supply", OPERATORS,
        _("You may offer cards now"), _("You may offer cards now"), "/provider/join",
    ),
    Event(
        "payout.paid", "money", MONEY_READERS,
        _("{name} was paid out"), _("{count} payouts were made"), "/provider/payouts",
    ),
    Event(
        "payout.failed", "money", MONEY_READERS,
        _("A payout of {name} failed"), _("{count} payouts failed"), "/provider/payouts",
    ),
    Event(
        "statement.ready", "money", MONEY_READERS,
        _("Your statement of {name}"), _("{count} statements"), "/provider/payouts",
    ),
    Event(
        "invoice.open", "money", MONEY_READERS,
        _("Invoice {name} waits for payment"), _("{count} invoices wait for payment"),
        "/billing/invoices",
    ),
    _said("balance.low", "money", "Your balance lasts about N hours"),
    _said("balance.empty", "money", "Your balance is used up: rentals were stopped, data is kept"),
    _said("balance.last_day", "money", "Last day: stopped rentals will be deleted"),
    _said("balance.deleted", "money", "Stopped rentals and their volumes were deleted"),
    _said("budget.reached", "money", "N % of a budget is spent"),
    _said("auto_topup.off", "money", "Automatic top-up is switched off, or needs you"),
    _said("invoice.overdue", "money", "An invoice is overdue"),
    _said("incident.credited", "money", "Credit for an incident"),
    _said("fee.changes", "money", "The platform's fee changes"),
    _said("host.maintenance", "notices", "A host of your rentals is taken down for maintenance"),
)  # fmt: skip

EVENTS: Final[dict[str, Event]] = {row.name: row for row in _ROWS}


def tell(
    organization_id: UUID,
    event: str,
    *,
    cause: str,
    facts: Facts,
    also: Collection[UUID] = (),
) -> None:
    """Have the organization's people mailed of a fact; joins the caller's transaction.

    event: a name in EVENTS. cause: what makes the fact one and the same; told once. facts: texts
    or phrases for the template: ``name``, ``text``, ``at``, ``path`` and whatever else it shows,
    never a secret. also: members told whatever their role is.
    """
    if EVENTS[event].said:
        raise ValueError(f"{event} is told by money_mail.tell")
    Letter.objects.bulk_create(
        [
            Letter(
                organization_id=organization_id,
                event=event,
                cause=cause,
                facts=facts,
                also=list(also),
            )
        ],
        ignore_conflicts=True,
    )


def told(event: str, cause: str) -> list[UUID]:
    """The organizations that were told of it, for sweeps that would have to look anew."""
    rows = Letter.objects.filter(event=event, cause=cause)
    return list(rows.values_list("organization_id", flat=True))


def tell_person(user: User, event: str, *, facts: Facts) -> None:
    """Mail one person at once, member or not; joins the caller's transaction. The facts name the
    ``organization``."""
    _order(user, EVENTS[event], [facts], organization=facts["organization"])


def post() -> int:
    """Order the mails for facts that waited long enough; how many mails."""
    groups = _due().order_by("organization_id", "event").values_list("organization_id", "event")
    return sum(each("letter", list(groups.distinct()[:_GROUPS]), lambda group: _post(*group)))


def unposted() -> tuple[int, datetime | None]:
    """Facts that waited long enough and that no mail was ordered about: how many, and since when
    the oldest is there."""
    found = _due().aggregate(count=Count("id"), oldest=Min("created_at"))
    return found["count"], found["oldest"]


def _due() -> QuerySet[Letter]:
    return Letter.objects.filter(posted_at=None, created_at__lte=AppNow() - WAIT)


def _post(organization_id: UUID, name: str) -> int:
    with transaction.atomic(durable=True):
        waiting = Letter.objects.select_for_update(skip_locked=True).filter(
            organization_id=organization_id, event=name, posted_at=None
        )
        letters = list(waiting.order_by("id"))
        organization, ordered = Organization.objects.get(pk=organization_id), 0
        for user, mine in _readers(organization_id, EVENTS[name], letters):
            facts = [letter.facts for letter in mine]
            _order(user, EVENTS[name], facts, organization=organization.name)
            ordered += 1
        Letter.objects.filter(id__in=[letter.id for letter in letters]).update(posted_at=now())
        return ordered


def _readers(
    organization_id: UUID, event: Event, letters: Sequence[Letter]
) -> list[tuple[User, Sequence[Letter]]]:
    """Who is told of which of these."""
    named = {user for letter in letters for user in letter.also}
    members = Membership.objects.select_related("user").filter(
        Q(role__in=event.readers) | Q(user__in=named),
        organization_id=organization_id,
        user__is_active=True,
    )
    found: list[tuple[User, Sequence[Letter]]] = []
    for member in members.order_by("id"):
        by_role = member.role in event.readers
        mine = [letter for letter in letters if by_role or member.user_id in letter.also]
        if mine and wants(member.user, event.kind):
            found.append((member.user, mine))
    return found


def _order(user: User, event: Event, facts: Sequence[Facts], *, organization: str) -> None:
    with speaking(user):
        subject, text = render(event, facts, organization=organization)
    order_notice(user, EmailToken.Purpose.NOTICE, about=f"{subject}\n{text}")


def render(event: Event, facts: Sequence[Facts], *, organization: str) -> tuple[str, str]:
    """Subject and text of one mail about these facts, in the language that is active. It names the
    organization, because its reader may belong to several."""
    count = len(facts)
    rows = [{name: _value(one) for name, one in each.items()} for each in facts]
    pattern = str(event.subject if count == 1 else event.many)
    subject = pattern.format(**{**rows[0], "count": count})
    context = {
        "rows": rows[:_SHOWN],
        "first": rows[0],
        "count": count,
        "organization": organization,
        "more": max(count - _SHOWN, 0),
        "base_url": settings.GPUYARD_BASE_URL,
        "page": rows[0]["path"] if count == 1 and "path" in rows[0] else event.page,
        "required": KINDS[event.kind].required,
    }
    return clean(subject, limit=150), render_to_string(event.template, context).strip()


def _value(said: Said) -> Said:
    """What a template is given: whether somebody left of their own is no text."""
    return said if isinstance(said, bool) else spoken(said)


def wants(user: User, kind: str) -> bool:
    """Whether the person gets mails of this kind."""
    return KINDS[kind].required or kind not in user.mail_off


def choose(*, user: User, off: Collection[str], language: str | None = None) -> None:
    """Switch these kinds off and all others on; joins the caller's transaction. language: of the
    person's mails from now on, None: as it was.

    InvalidRequest for a kind that is required, or none of ours, and for a language that we do not
    write.
    """
    fixed = sorted(name for name in off if name not in KINDS or KINDS[name].required)
    if fixed:
        raise InvalidRequest({"off": [f"{name} cannot be switched off" for name in fixed]})
    if language is not None and language not in dict(settings.LANGUAGES):
        known = ", ".join(dict(settings.LANGUAGES))
        raise InvalidRequest({"language": [f"is one of: {known}"]})
    user.mail_off = sorted(set(off))
    user.language = language or user.language
    user.save(update_fields=["mail_off", "language"])


def forget() -> int:
    """Delete facts that were told a month ago; how many."""
    deleted, _rows = Letter.objects.filter(posted_at__lt=now() - _REMEMBERED).delete()
    return deleted


def moment(at: datetime) -> str:
    """A time as mails write it."""
    return f"{at:%Y-%m-%d %H:%M} UTC"
