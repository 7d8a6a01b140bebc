"""A row that nobody thought of keeps nobody else's from their turn."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from django.core import mail

from kernel.clock import now
from marketplace import tasks
from marketplace.accounts import letters
from marketplace.models import FundsWatch, Letter, Organization, Rental
from marketplace.rentals import budgets, dunning, ladder, notice
from marketplace.rentals import charge as charging
from marketplace.rentals import follow as following
from marketplace.rentals import place as placing
from tests.area.marketplace_rentals.test_life import NOON, Clock, World, clock
from tests.market import USD, Renter, Supply, make_renter, make_supply, order

pytestmark = pytest.mark.django_db
__all__ = ["clock"]  # a fixture


class Broken(Exception):
    """What nobody thought of."""


Break = Callable[[ModuleType, str], list[Any]]


@pytest.fixture
def breaks(monkeypatch: pytest.MonkeyPatch) -> Break:
    """``breaks(module, name)``: its first call raises; all calls' arguments are in the list."""

    def start(module: ModuleType, name: str) -> list[Any]:
        real, asked = getattr(module, name), list[Any]()

        def work(*args: Any, **given: Any) -> Any:
            asked.append(args)
            if len(asked) == 1:
                raise Broken
            return real(*args, **given)

        monkeypatch.setattr(module, name, work)
        return asked

    return start


def rented(renter: Renter, supply: Supply, **changes: Any) -> str:
    status, answer = renter.call("POST", "/rentals", order(supply.offer, **changes))
    assert status == 202, answer
    return f"/rentals/{answer['id']}"


def states() -> list[str]:
    return sorted(Rental.objects.values_list("state", flat=True))


def test_end_dates_and_the_step_behind_them(
    clock: Clock, breaks: Break, monkeypatch: pytest.MonkeyPatch
) -> None:
    renter, supply, settled = make_renter(), make_supply(2), list[int]()
    for _ in range(2):
        rented(renter, supply, max_hours=2)
    following.follow()
    clock.set(NOON + timedelta(hours=3))
    ended = breaks(following, "_end_one")
    monkeypatch.setattr(following, "settle", lambda: settled.append(1))
    with pytest.raises(Broken):
        following.follow()
    assert len(ended) == 2
    assert states() == ["provisioning", "terminating"]
    assert settled == [1]
    following.follow()
    assert states() == ["terminating", "terminating"], "it comes again, and is well now"


def test_notices(clock: Clock, breaks: Break) -> None:
    supply = make_supply(2)
    for name in ("One", "Two"):
        renter = make_renter(name)
        World(clock, renter, supply, rented(renter, supply, max_hours=2)).run()
    following.follow()
    clock.set(NOON + timedelta(hours=1, minutes=55))
    given = breaks(notice, "give")
    with pytest.raises(Broken):
        notice.announce()
    assert len(given) == 2
    assert states() == ["interrupting", "running"]


def test_the_queue(clock: Clock, breaks: Break) -> None:
    renter, supply = make_renter(), make_supply(2)
    for _ in range(2):
        rented(renter, supply, max_hours=2)
    late = now() + timedelta(hours=1)
    Rental.objects.update(state="queued", queued_at=now(), queue_until=late)
    asked, room = breaks(placing, "_place_one"), breaks(placing, "make_room")
    with pytest.raises(Broken):
        placing.place()
    assert (len(asked), len(room)) == (2, 1)


def test_the_end_of_money(clock: Clock, breaks: Break) -> None:
    supply, worlds = make_supply(2), []
    for name in ("One", "Two"):
        renter = make_renter(name, credit=3 * USD)
        path = rented(renter, supply, max_hours=..., no_limit=True)
        worlds.append(World(clock, renter, supply, path))
        worlds[-1].run()
    following.follow()
    for minutes in (61, 90, 121):
        worlds[0].seen(NOON + timedelta(minutes=minutes))
        charging.charge()
        charging.funds()
    for world in worlds:
        world.gone(NOON + timedelta(minutes=121, seconds=2))
    following.follow()
    assert states() == ["stopped", "stopped"]
    begun = breaks(ladder, "_begin")
    with pytest.raises(Broken):
        ladder.run()
    assert len(begun) == 2
    assert FundsWatch.objects.exclude(emptied_at=None).count() == 1


def test_mails_and_the_step_behind_them(db: None, breaks: Break) -> None:
    for name in ("One", "Two"):
        make_renter(name)
    Letter.objects.all().delete()
    mail.outbox.clear()
    facts = {"name": "trainer", "at": "now", "text": "", "fault": "", "path": "/"}
    for organization in Organization.objects.filter(name__in=["One", "Two"]):
        letters.tell(organization.pk, "rental.failed", cause="x", facts=facts)
    Letter.objects.update(created_at=now() - letters.WAIT)
    rendered = breaks(letters, "render")
    with pytest.raises(Broken):
        tasks.mail()
    assert len(rendered) == 2
    assert Letter.objects.filter(posted_at=None).count() == 1
    assert [sent for sent in mail.outbox if "trainer" in sent.subject], "the other's went out"


@pytest.mark.parametrize(
    ("task", "first", "behind"),
    [
        (tasks.funds, (charging, "funds"), [(budgets, "sweep"), (notice, "announce")]),
        (tasks.charge, (charging, "charge"), [(charging, "settle")]),
        (tasks.funds_ladder, (ladder, "run"), [(dunning, "run")]),
    ],
    ids=["funds", "charge", "funds_ladder"],
)
def test_steps_of_a_task(
    task: Callable[[], None],
    first: tuple[ModuleType, str],
    behind: list[tuple[ModuleType, str]],
    breaks: Break,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done: list[str] = []
    broken = breaks(*first)
    for module, name in behind:
        monkeypatch.setattr(module, name, lambda name=name: done.append(name))
    with pytest.raises(Broken):
        task()
    assert (len(broken), done) == (1, [name for _, name in behind])
