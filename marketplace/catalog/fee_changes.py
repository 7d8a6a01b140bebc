"""Staff change the fee: looked at first on last month's use, then told to whom it concerns.

A change is for what is rented after it; prices that were agreed keep their fee. A higher fee has
its notice, so that nobody learns of it from a statement. Joins the caller's transaction throughout.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.conf import settings
from django.db.models import F, Q, QuerySet

from billing.contracts.meters import MeterKind
from billing.contracts.usage import UsedMeter
from billing.facade import usage
from kernel.clock import AppNow, now
from kernel.errors import InvalidRequest, Refusal
from marketplace.accounts import audit, letters, money_mail
from marketplace.accounts.access import STAFF, Principal, find
from marketplace.accounts.phrases import Said, phrase
from marketplace.catalog.fees import ALL, FeeTable, standing
from marketplace.catalog.price import order_price
from marketplace.catalog.registry import by_slug
from marketplace.models import FeeChange, Offer, Provider
from marketplace.models.fee import MAX_FEE_BPS

# Further ahead is a slip of the finger: nobody plans a fee for then.
_HORIZON: Final = timedelta(days=730)
_SHOWN: Final = 200


@dataclass(frozen=True)
class FeeOrder:
    """What staff ask for. provider: a public id, None for everybody; accelerator: a slug, a vendor,
    or empty for all cards and volumes; valid_from: None for now."""

    provider: str | None
    accelerator: str
    fee_bps: int
    valid_from: datetime | None
    reason: str


@dataclass(frozen=True)
class Step:
    """What an owner pays just before a change and with it. accelerator: the change's own, or a
    narrower one for which something else held."""

    provider: Provider | None  # None: whoever agreed nothing, and those who join later
    accelerator: str
    from_bps: int
    to_bps: int


@dataclass(frozen=True)
class Held:
    """A fee that holds now. provider: None for everybody; since: None where it is the setting."""

    provider: Provider | None
    accelerator: str
    fee_bps: int
    since: datetime | None
    reason: str


@dataclass(frozen=True)
class PreviewRow:
    """Last month's use of one owner, as it was and as it had been. provider: None for the sum."""

    provider: Provider | None
    amount_micro: int
    share_micro: int
    share_if_micro: int

    @property
    def fee_micro(self) -> int:
        return self.amount_micro - self.share_micro

    @property
    def fee_if_micro(self) -> int:
        return self.amount_micro - self.share_if_micro

    @property
    def difference_micro(self) -> int:
        """What the platform had kept more; negative: less."""
        return self.share_micro - self.share_if_micro


@dataclass(frozen=True)
class Preview:
    """steps: whose fee becomes another one; rows: whose use of the month it touches."""

    change: FeeChange
    from_at: datetime
    to_at: datetime
    steps: tuple[Step, ...]
    rows: tuple[PreviewRow, ...]
    total: PreviewRow


def changes(acting: Principal) -> QuerySet[FeeChange]:
    """All of them with their owners, newest first."""
    acting.require(STAFF)
    return FeeChange.objects.select_related("provider__organization").order_by("-valid_from", "-id")


def latest(acting: Principal) -> list[FeeChange]:
    """As many as a page shows."""
    return list(changes(acting)[:_SHOWN])


def state_of(change: FeeChange, present: datetime) -> str:
    """coming, began (and holds unless another followed) or withdrawn."""
    if change.withdrawn_at is not None:
        return "withdrawn"
    return "coming" if change.valid_from > present else "began"


def held(acting: Principal) -> list[Held]:
    """What holds now, everybody's first: the setting, changes that began, agreements."""
    acting.require(STAFF)
    newest: dict[tuple[UUID | None, str], Held] = {}
    owners = Provider.objects.filter(fee_bps__isnull=False).select_related("organization")
    newest[None, ALL] = Held(None, ALL, settings.GPUYARD_FEE_BPS, None, "GPUYARD_FEE_BPS")
    for owner in owners.exclude(ownership=Provider.Ownership.OWNED):
        newest[owner.pk, ALL] = Held(owner, ALL, owner.fee_bps or 0, owner.approved_at, "")
    began = standing().filter(valid_from__lte=AppNow()).select_related("provider__organization")
    for row in began.order_by("valid_from", "id"):
        newest[row.provider_id, row.accelerator] = Held(
            row.provider, row.accelerator, row.fee_bps, row.valid_from, row.reason
        )
    return sorted(newest.values(), key=_order)


def _order(row: Held) -> tuple[bool, str, str]:
    name = row.provider.organization.name if row.provider else ""
    return row.provider is not None, name, row.accelerator


def preview(*, acting: Principal, asked: FeeOrder) -> Preview:
    """The last calendar month as if the fee had held for all that was used in it; stores nothing.

    Refused like the change itself: InvalidRequest, NotFound.
    """
    acting.require(STAFF)
    change = _checked(acting, asked)
    table = FeeTable([*standing(), change])
    owners = {owner.pk: owner for owner in Provider.objects.select_related("organization")}

    def rate(meter: UsedMeter) -> int | None:
        owner = owners.get(meter.provider_ref)
        card = meter.accelerator if meter.kind == MeterKind.GPU else ALL
        if owner is None or owner.ownership == Provider.Ownership.OWNED:
            return None
        if table.rule(owner, card, change.valid_from) is not change:
            return None
        # A meter's price is for all that it counts, so one of it is the whole.
        whole = order_price(
            per_gpu_micro_h=meter.price_micro_h, gpus=1, fee_bps=change.fee_bps, owned=False
        )
        return whole.provider_micro_h

    begins, ends = _last_month(now())
    rows = tuple(
        PreviewRow(
            owners[one.provider_ref], one.amount_micro, one.provider_micro, one.provider_if_micro
        )
        for one in usage.shares_if(from_at=begins, to_at=ends, rate=rate)
    )
    total = PreviewRow(
        None,
        sum(row.amount_micro for row in rows),
        sum(row.share_micro for row in rows),
        sum(row.share_if_micro for row in rows),
    )
    return Preview(change, begins, ends, tuple(_steps(change)), rows, total)


def schedule(*, acting: Principal, asked: FeeOrder) -> FeeChange:
    """Store a change and mail those who pay another fee by it.

    InvalidRequest: above half of the price, in the past, a higher fee without its notice, no such
    card, cards of the platform itself. NotFound: no such provider.
    """
    acting.require(STAFF)
    change = _checked(acting, asked)
    steps = _steps(change)
    change.save(force_insert=True)
    _tell_owners(change, steps, withdrawn=False)
    _record(acting, change, "fee.change")
    return change


def withdraw(*, acting: Principal, change_id: str) -> FeeChange:
    """Call off a change before it holds, and mail whoever was told of it.

    NotFound; Refusal invalid_transition for one that holds already or was withdrawn.
    """
    acting.require(STAFF)
    change = find(
        FeeChange.objects.select_for_update(of=["self"]).select_related("provider"), change_id
    )
    if change.withdrawn_at is not None or change.valid_from <= now():
        raise Refusal(
            "invalid_transition",
            "Only a change that does not hold yet can be withdrawn. Nothing was changed. Make "
            "another one that follows it.",
            state="withdrawn" if change.withdrawn_at else "holds",
            actions=[],
        )
    steps = _steps(change)
    FeeChange.objects.filter(pk=change.pk).update(
        withdrawn_at=AppNow(), withdrawn_by=acting.staff_actor[:100], version=F("version") + 1
    )
    change.refresh_from_db(fields=["withdrawn_at", "withdrawn_by", "version"])
    _tell_owners(change, steps, withdrawn=True)
    _record(acting, change, "fee.withdraw")
    return change


def earliest(*, present: datetime) -> datetime:
    """From when on a higher fee may hold if it is made now."""
    return present + timedelta(days=settings.GPUYARD_FEE_NOTICE_DAYS)


def _checked(acting: Principal, asked: FeeOrder) -> FeeChange:
    """The change as a row that is not stored; raises what is wrong with it."""
    present = now()
    provider = (
        find(Provider.objects.select_related("organization"), asked.provider)
        if asked.provider
        else None
    )
    change = FeeChange(
        provider=provider,
        accelerator=asked.accelerator,
        fee_bps=asked.fee_bps,
        valid_from=asked.valid_from or present,
        reason=asked.reason.strip(),
        made_by=acting.staff_actor[:100],
    )
    errors: dict[str, list[str]] = {}
    if provider is not None and provider.ownership == Provider.Ownership.OWNED:
        errors["provider"] = ["its cards are the platform's own: they pay no fee"]
    cards = by_slug()
    if change.accelerator not in {ALL, *cards, *(card.vendor for card in cards.values())}:
        errors["accelerator"] = ["no such card and no such vendor"]
    if not 0 <= change.fee_bps <= MAX_FEE_BPS:
        errors["fee_bps"] = [f"from 0 to {MAX_FEE_BPS}"]
    if not 3 <= len(change.reason) <= 500:
        errors["reason"] = ["say why, in 3 to 500 letters: owners read it"]
    if not present <= change.valid_from <= present + _HORIZON:
        errors["valid_from"] = ["not in the past, and within two years"]
    soon = earliest(present=present)
    if not errors and change.valid_from < soon and _raises(change):
        errors["valid_from"] = [
            f"a higher fee needs {settings.GPUYARD_FEE_NOTICE_DAYS} days of notice: from "
            f"{soon:%Y-%m-%d %H:%M} UTC on"
        ]
    if errors:
        raise InvalidRequest(errors)
    return change


def _raises(change: FeeChange) -> bool:
    return any(step.to_bps > step.from_bps for step in _steps(change))


def _steps(change: FeeChange) -> list[Step]:
    """Whose fee becomes another one when the change begins: owners, and (None) those to come.

    An owner's own fee for all cards ends what everybody pays for one card, so each kind of card
    that any rule names is looked at.
    """
    others = [row for row in standing() if row.pk != change.pk]
    before, after = FeeTable(others), FeeTable([*others, change])
    scopes = sorted(
        {change.accelerator, *(row.accelerator for row in others if _within(row, change))}
    )
    owners: list[Provider | None]
    partners = Provider.objects.filter(ownership=Provider.Ownership.PARTNER)
    owners = [None, *partners.select_related("organization").order_by("id")]
    steps = [
        Step(
            owner,
            scope,
            before.of(owner, scope, change.valid_from),
            after.of(owner, scope, change.valid_from),
        )
        for owner in ([change.provider] if change.provider is not None else owners)
        for scope in scopes
        if after.rule(owner, scope, change.valid_from) is change
    ]
    general = {
        step.provider: step.from_bps for step in steps if step.accelerator == change.accelerator
    }
    return [
        step
        for step in steps
        if step.from_bps != step.to_bps
        # A kind of card that only follows the others is not named besides.
        and (step.accelerator == change.accelerator or step.from_bps != general.get(step.provider))
    ]


def _within(row: FeeChange, change: FeeChange) -> bool:
    """Whether the row's cards are among the change's."""
    card = by_slug().get(row.accelerator)
    return change.accelerator in (ALL, card.vendor if card else ALL)


def _tell_owners(change: FeeChange, steps: list[Step], *, withdrawn: bool) -> None:
    """One mail for each owner that has such cards, or that was meant itself."""
    by_owner: dict[Provider, list[Step]] = {}
    for step in steps:
        if step.provider is not None and _concerned(change, step):
            by_owner.setdefault(step.provider, []).append(step)
    subject = phrase("The platform's fee changes")
    for owner, own in by_owner.items():
        text = _recall(change, own) if withdrawn else _announcement(change, own)
        money_mail.tell(owner.organization_id, "fee.changes", subject=subject, text=text)


def _concerned(change: FeeChange, step: Step) -> bool:
    if change.provider_id is not None or step.accelerator == ALL:
        return True
    offers = Offer.objects.filter(provider=step.provider)
    card, vendor = Q(group__accelerator=step.accelerator), Q(group__vendor=step.accelerator)
    return offers.filter(card | vendor).exists()


def _announcement(change: FeeChange, steps: list[Step]) -> Said:
    return phrase(
        "The platform's fee from {at} on. {fees} It holds for what is rented from then on: rentals "
        "that run keep the fee that they began with. The reason: {reason}",
        at=letters.moment(change.valid_from),
        fees=[
            phrase(
                "{cards}: {fee} of the price, {before} before.",
                cards=_card(step.accelerator),
                fee=_percent(step.to_bps),
                before=_percent(step.from_bps),
            )
            for step in steps
        ],
        reason=change.reason,
    )


def _recall(change: FeeChange, steps: list[Step]) -> Said:
    return phrase(
        "The change of the platform's fee to {fee} from {at} on was withdrawn. It stays as it is. "
        "{fees}",
        fee=_percent(change.fee_bps),
        at=letters.moment(change.valid_from),
        fees=[
            phrase("{cards}: {fee}.", cards=_card(step.accelerator), fee=_percent(step.from_bps))
            for step in steps
        ],
    )


def _card(accelerator: str) -> Said:
    card = by_slug().get(accelerator)
    if card:
        return card.name
    return phrase("Cards of {maker}", maker=accelerator) if accelerator else phrase("All cards")


def _percent(bps: int) -> str:
    whole, rest = divmod(bps, 100)
    return f"{whole}.{rest:02d}".rstrip("0") + " %" if rest else f"{whole} %"


def _record(acting: Principal, change: FeeChange, action: str) -> None:
    owner: UUID | None = change.provider.organization_id if change.provider else None
    audit.record(
        acting=acting,
        action=action,
        object=change.public_id,
        organization_ref=owner,
        details={
            "provider": change.provider.public_id if change.provider else None,
            "accelerator": change.accelerator,
            "fee_bps": change.fee_bps,
            "valid_from": change.valid_from.isoformat(),
            "reason": change.reason,
        },
    )


def _last_month(present: datetime) -> tuple[datetime, datetime]:
    """[first moment of the last calendar month, first of this one), UTC."""
    ends = present.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (ends - timedelta(days=1)).replace(day=1), ends
