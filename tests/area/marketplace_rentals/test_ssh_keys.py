"""Whose keys open a machine: changed while it runs, taken away everywhere, ended at its end."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kernel.ids import parse
from marketplace.accounts.ssh_keys import MAX_GIVEN
from marketplace.models import AuditEntry
from provisioner.models import Entry
from tests.flows.stage import show
from tests.market import SSH_KEY, Renter, Supply, make_renter, make_supply, order
from tests.sshkeys import new_line, prints_of

pytestmark = pytest.mark.django_db
GIVEN = " ".join(SSH_KEY.split()[:2])


@pytest.fixture
def supply(db: None) -> Supply:
    return make_supply(8)


@pytest.fixture
def renter(supply: Supply) -> Renter:
    return make_renter()


def made(renter: Renter, supply: Supply, **changes: Any) -> str:
    status, rental = renter.call("POST", "/rentals", order(supply.offer, **changes))
    assert status == 202, rental
    return str(rental["id"])


def stored(renter: Renter, line: str) -> str:
    status, key = renter.call("POST", "/ssh-keys", {"name": "laptop", "public_key": line})
    assert status == 201, key
    return str(key["id"])


def change(renter: Renter, rental: str, keys: Any, **more: Any) -> tuple[int, Any]:
    return renter.call("PATCH", f"/rentals/{rental}", {"ssh_keys": keys, **more})


def entry_of(rental: str) -> list[str] | None:
    """Who may come in; None: the name leads nowhere."""
    row = Entry.objects.filter(pk=parse("rental", rental)).first()
    return None if row is None else sorted(row.authorized)


def audited() -> list[AuditEntry]:
    return list(AuditEntry.objects.filter(action="rental.change").order_by("ts", "id"))


# --- while it runs --------------------------------------------------------------------------------


def test_ids_and_lines_replace_the_keys_of_the_order(renter, supply) -> None:
    rental = made(renter, supply)
    assert entry_of(rental) == prints_of(GIVEN)
    before = show(renter, rental)
    first, second = new_line(), new_line()
    key = stored(renter, first)
    status, after = change(renter, rental, [key, f"{second} ada@laptop", first])
    assert status == 200
    assert after["ssh_keys"] == show(renter, rental)["ssh_keys"] == [first, second]
    assert (after["version"], after["ssh"]) == (before["version"] + 1, True)
    assert entry_of(rental) == prints_of(first, second)
    (row,) = audited()
    assert (row.object, row.details) == (rental, {"ssh_keys": 2})
    text = json.dumps(row.details) + row.object
    assert not any(line.split()[1] in text for line in (first, second))


def test_the_same_keys_again_change_nothing(renter, supply) -> None:
    rental = made(renter, supply)
    before, at = show(renter, rental), Entry.objects.get().changed_at
    assert change(renter, rental, [SSH_KEY]) == (200, before)
    assert (Entry.objects.get().changed_at, audited()) == (at, [])


def test_all_keys_can_be_taken_away_and_given_again(renter, supply) -> None:
    rental = made(renter, supply)
    status, closed = change(renter, rental, [])
    assert (status, closed["ssh"], closed["ssh_keys"], entry_of(rental)) == (200, False, [], [])
    line = new_line()
    status, opened = change(renter, rental, [line])
    assert (status, opened["ssh"], entry_of(rental)) == (200, True, prints_of(line))


def test_a_rental_without_keys_can_be_given_some(renter, supply) -> None:
    rental = made(renter, supply, ssh_keys=..., ssh=False)
    assert entry_of(rental) == []
    line = new_line()
    status, shown = change(renter, rental, [line])
    assert (status, shown["ssh"], shown["ssh_keys"]) == (200, True, [line])
    assert entry_of(rental) == prints_of(line)


@pytest.mark.parametrize(
    ("bad", "status", "problem"),
    [
        ("ssh-ed25519 nonsense", 422, "ssh_key_invalid"),
        (f'command="x" {SSH_KEY}', 422, "ssh_key_invalid"),
        ("foreign", 404, "not_found"),
        ("ssh_unknown", 404, "not_found"),
        ("too many", 422, "invalid_request"),
        (7, 422, "invalid_request"),
    ],
)
def test_a_refused_change_changes_nothing(renter, supply, bad, status, problem) -> None:
    rental = made(renter, supply)
    before, entry = show(renter, rental), Entry.objects.get()
    keys: list[Any] = [new_line(), bad]
    if bad == "foreign":
        keys = [new_line(), stored(make_renter("Others"), new_line())]
    if bad == "too many":
        keys = [new_line() for _ in range(MAX_GIVEN + 1)]
    found, answer = change(renter, rental, keys, name="another name")
    assert (found, answer["type"]) == (status, f"/problems/{problem}")
    assert show(renter, rental) == before
    after = Entry.objects.get()
    assert (after.authorized, after.changed_at) == (entry.authorized, entry.changed_at)
    assert audited() == []


def test_as_many_keys_as_are_allowed(renter, supply) -> None:
    rental = made(renter, supply)
    lines = [new_line() for _ in range(MAX_GIVEN)]
    assert change(renter, rental, lines)[0] == 200
    assert entry_of(rental) == prints_of(*lines)


def test_a_stale_version_changes_no_key(renter, supply) -> None:
    rental = made(renter, supply)
    body = {"ssh_keys": [new_line()]}
    status, answer = renter.call("PATCH", f"/rentals/{rental}", body, If_Match='"99"')
    assert (status, answer["type"]) == (412, "/problems/version_conflict")
    assert entry_of(rental) == prints_of(GIVEN)


def test_nobody_else_changes_the_keys(renter, supply) -> None:
    rental = made(renter, supply)
    status, answer = change(make_renter("Others"), rental, [new_line()])
    assert (status, answer["type"]) == (404, "/problems/not_found")
    assert entry_of(rental) == prints_of(GIVEN)


def test_a_rental_that_waits_for_cards_comes_up_with_the_changed_keys(renter, supply) -> None:
    """What the queue places is what was ordered, but for the keys that were changed since."""
    first = made(renter, supply, requirement={"region": supply.offer.region, "gpus": 8})
    rental = made(renter, supply, queue={"deadline_seconds": 3600})
    assert show(renter, rental)["state"] == "queued"
    line = new_line()
    assert change(renter, rental, [line])[0] == 200
    assert entry_of(rental) == prints_of(line)
    renter.call("DELETE", f"/rentals/{rental}")
    assert entry_of(rental) is None, "ended without ever having had a machine"
    assert entry_of(first) == prints_of(GIVEN)


# --- a key that is deleted ------------------------------------------------------------------------


def test_a_deleted_key_opens_none_of_the_organizations_rentals(renter, supply) -> None:
    lost, kept = new_line(), new_line()
    key = stored(renter, lost)
    both = made(renter, supply, ssh_keys=[key, kept])
    pasted = made(renter, supply, ssh_keys=[f"{lost} pasted@laptop"])
    without = made(renter, supply, ssh_keys=[kept])
    others = make_renter("Others")
    theirs = made(others, supply, ssh_keys=[stored(others, lost)])
    versions = {name: show(renter, name)["version"] for name in (both, pasted, without)}
    assert renter.call("DELETE", f"/ssh-keys/{key}") == (204, None)
    assert entry_of(both) == prints_of(kept)
    assert (entry_of(pasted), entry_of(without)) == ([], prints_of(kept))
    assert entry_of(theirs) == prints_of(lost)
    assert (show(renter, both)["ssh_keys"], show(renter, pasted)["ssh_keys"]) == ([kept], [])
    assert (show(renter, both)["ssh"], show(renter, pasted)["ssh"]) == (True, False)
    raised = {name: show(renter, name)["version"] - versions[name] for name in versions}
    assert raised == {both: 1, pasted: 1, without: 0}
    assert {row.object: row.details for row in audited()} == {
        both: {"ssh_keys": 1},
        pasted: {"ssh_keys": 0},
    }
    assert show(others, theirs)["ssh_keys"] == [lost]


def test_somebody_elses_key_cannot_be_deleted_and_stays_everywhere(renter, supply) -> None:
    line = new_line()
    key = stored(renter, line)
    rental = made(renter, supply, ssh_keys=[key])
    assert make_renter("Others").call("DELETE", f"/ssh-keys/{key}")[0] == 404
    assert entry_of(rental) == prints_of(line)


def test_an_ended_rental_keeps_what_it_was_given(renter, supply) -> None:
    line = new_line()
    key = stored(renter, line)
    rental = made(renter, supply, ssh_keys=[key])
    renter.call("DELETE", f"/rentals/{rental}")
    before = show(renter, rental)
    assert renter.call("DELETE", f"/ssh-keys/{key}")[0] == 204
    assert show(renter, rental) == before
    assert entry_of(rental) is None


# --- the end --------------------------------------------------------------------------------------


def test_a_terminated_rental_lets_nobody_in_and_takes_no_keys(renter, supply) -> None:
    rental = made(renter, supply)
    other = made(renter, supply)
    assert renter.call("DELETE", f"/rentals/{rental}")[0] == 202
    assert (entry_of(rental), entry_of(other)) == (None, prints_of(GIVEN))
    status, answer = change(renter, rental, [new_line()])
    assert (status, answer["type"]) == (409, "/problems/invalid_transition")
    assert answer["state"] == "terminating"
    assert "nobody can come in" in answer["detail"]
    assert (entry_of(rental), show(renter, rental)["ssh_keys"]) == (None, [GIVEN])
