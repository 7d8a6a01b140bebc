"""Keys that were changed while a machine ran stay changed: through stops, starts and restarts."""

from __future__ import annotations

from datetime import timedelta

import pytest

from kernel.ids import parse
from marketplace.models import Rental
from provisioner.models import Entry, Instance
from tests.flows.stage import Platform, act, rent, show
from tests.market import SSH_KEY, Renter
from tests.sshkeys import new_line, print_of

pytestmark = pytest.mark.django_db
MINUTE = timedelta(minutes=1)


def up(platform: Platform, renter: Renter, rental: str) -> None:
    platform.turn()
    platform.cluster.run(platform.moment, cards=2)
    platform.until(platform.moment + MINUTE)
    assert show(renter, rental)["state"] == "running"


def machines(rental: str) -> int:
    return Instance.objects.filter(rental_ref=parse("rental", rental)).count()


def change(renter: Renter, rental: str, *lines: str) -> None:
    assert renter.call("PATCH", f"/rentals/{rental}", {"ssh_keys": lines})[0] == 200


def authorized(rental: str) -> list[str] | None:
    """Who may come in; None: the name leads nowhere."""
    row = Entry.objects.filter(pk=parse("rental", rental)).first()
    return None if row is None else row.authorized


def test_a_stop_keeps_the_keys_and_a_start_does_not_bring_back_the_old(
    platform, renter, supply
) -> None:
    rental = rent(renter, supply, max_hours=100)
    up(platform, renter, rental)
    first, second = new_line(), new_line()
    change(renter, rental, first)
    assert act(renter, rental, "stop")[0] == 202
    assert authorized(rental) == [print_of(first)]
    platform.until(platform.moment + 2 * MINUTE)
    assert show(renter, rental)["state"] == "stopped"
    assert authorized(rental) == [print_of(first)]
    change(renter, rental, second)
    assert act(renter, rental, "start")[0] == 202
    up(platform, renter, rental)
    assert machines(rental) == 2
    assert authorized(rental) == [print_of(second)]
    assert show(renter, rental)["ssh_keys"] == [second]


def test_a_restart_keeps_the_changed_keys(platform, renter, supply) -> None:
    rental = rent(renter, supply)
    up(platform, renter, rental)
    line = new_line()
    change(renter, rental, line)
    assert act(renter, rental, "restart")[0] == 202
    platform.until(platform.moment + MINUTE)
    up(platform, renter, rental)
    assert machines(rental) == 2
    assert authorized(rental) == [print_of(line)]


def test_an_end_by_the_clock_lets_nobody_in(platform, renter, supply) -> None:
    rental = rent(renter, supply)
    up(platform, renter, rental)
    assert authorized(rental) == [print_of(SSH_KEY)]
    assert Rental.objects.update(expires_at=platform.moment) == 1
    platform.until(platform.moment + 2 * MINUTE)
    assert show(renter, rental)["state"] == "terminated"
    assert authorized(rental) is None
