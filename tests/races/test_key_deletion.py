"""A key that is deleted while machines are ordered with it opens none of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from marketplace.accounts.ssh_keys import parse_public_key
from marketplace.models import Rental, SshKey
from provisioner.instances import access_keys
from provisioner.models import Entry
from tests.market import Renter, make_renter, make_supply, order
from tests.races.test_last_card import ROUNDS, at_once
from tests.sshkeys import new_line

pytestmark = pytest.mark.django_db(transaction=True)


def call(renter: Renter, method: str, path: str, body: Any = None) -> Callable[[], Any]:
    return lambda: renter.call(method, path, body)


def test_no_machine_keeps_a_key_that_was_deleted_meanwhile() -> None:
    renter, supply = make_renter(), make_supply(8 * ROUNDS)
    for _ in range(ROUNDS):
        line = parse_public_key(new_line()).line
        status, key = renter.call("POST", "/ssh-keys", {"name": "laptop", "public_key": line})
        assert status == 201, key
        body = order(supply.offer, ssh=True, ssh_keys=[key["id"]])
        orders = [call(renter, "POST", "/rentals", body) for _ in range(8)]
        answers = at_once([*orders, call(renter, "DELETE", f"/ssh-keys/{key['id']}")])
        assert answers[-1][0] == 204, answers[-1]
        assert {status for status, _ in answers[:-1]} <= {202, 404}, answers
        assert not SshKey.objects.filter(public_key=line).exists()
        assert not Rental.objects.filter(ssh_keys__contains=[line]).exists()
        opened = access_keys.fingerprint(line)
        assert not Entry.objects.filter(authorized__contains=[opened]).exists()
    given = sum(status == 202 for status, _ in answers[:-1])
    assert Rental.objects.count() >= given
