"""Many renters at once for what only one can have, through the HTTP layer, on real PostgreSQL.

ROUNDS in the environment raises the number of rounds (`ROUNDS=50` is the release's campaign).
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections

from kernel.ids import new_id
from marketplace.models import IdempotencyKey, Organization, Rental, RentalEvent
from provisioner.models import Hold, Instance, Slot
from tests.market import USD, Renter, make_renter, make_supply, order

pytestmark = pytest.mark.django_db(transaction=True)

ROUNDS = int(os.environ.get("ROUNDS", "3"))
CONTENDERS = 64


def at_once(calls: list[Callable[[], Any]]) -> list[Any]:
    """Run all calls from threads that start together; their results in order."""
    results: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(number: int) -> None:
        try:
            gate.wait(timeout=60)
            results[number] = calls[number]()
        except Exception as error:  # noqa: BLE001  a broken thread's result is its error
            results[number] = error
        finally:
            connections.close_all()

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=180)
    return results


def rent_call(renter: Renter, body: dict[str, Any], key: str | None = None) -> Callable[[], Any]:
    return lambda: renter.call("POST", "/rentals", body, key=key)


def test_sixty_four_renters_want_the_last_card():
    renters = [make_renter(f"Org {number}") for number in range(8)]
    for number in range(ROUNDS):
        supply = make_supply(1, region=f"round-{number}")
        quoted = number % 5 == 4  # making 64 quotes one by one takes longer than the race
        calls = []
        for contender in range(CONTENDERS):
            renter, body = renters[contender % 8], order(supply.offer)
            if quoted:
                wanted = {"offer": supply.offer.public_id, "gpus": 1}
                quote = renter.call("POST", "/quotes", wanted)[1]
                body = order(supply.offer, requirement=..., quote=quote["id"])
            calls.append(rent_call(renter, body))
        answers = at_once(calls)
        kinds = Counter((status, body.get("type", "rental")) for status, body in answers)
        refusal = "/problems/offer_taken" if quoted else "/problems/no_capacity"
        assert kinds == {(202, "rental"): 1, (409, refusal): CONTENDERS - 1}, kinds
        for status, body in answers:
            if status == 409:
                assert {"alternatives", "relaxations"} <= set(body)
        assert Rental.objects.filter(offer=supply.offer).count() == 1
        held = Hold.objects.filter(slot__share__group=supply.group, to_ts=None)
        assert held.count() == 1
        assert Slot.objects.filter(share__group=supply.group, state="held").count() == 1
    assert Rental.objects.count() == Instance.objects.count() == ROUNDS
    assert IdempotencyKey.objects.filter(status=202).count() == ROUNDS


def test_no_card_stays_free_while_somebody_is_refused():
    """Mixed sizes over two nodes: what is refused would not have fitted at the end either."""
    renters = [make_renter(f"Org {number}") for number in range(8)]
    supply = make_supply(8, 8)
    sizes = [1, 2, 4] * 8
    answers = at_once(
        [
            rent_call(renters[number % 8], order(supply.offer, gpus))
            for number, gpus in enumerate(sizes)
        ]
    )
    statuses = Counter(status for status, _ in answers)
    assert set(statuses) == {202, 409}, statuses
    free = Slot.objects.filter(share__group=supply.group, state="free")
    refused = [gpus for gpus, (status, _) in zip(sizes, answers, strict=True) if status == 409]
    largest = max(
        (free.filter(share=share).count() for share in supply.group.shares.all()), default=0
    )
    assert largest < min(refused), (largest, refused)
    given = sum(gpus for gpus, (status, _) in zip(sizes, answers, strict=True) if status == 202)
    assert given + free.count() == 16
    assert Hold.objects.filter(to_ts=None).count() == given


def test_the_same_key_sixty_four_times_is_one_rental_and_the_same_bytes():
    renter, supply = make_renter(), make_supply(64)
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    for body in (order(supply.offer), order(supply.offer, requirement=..., quote=quote["id"])):
        key, before = str(new_id()), Rental.objects.count()

        def call(body: dict[str, Any] = body, key: str = key) -> Any:
            return renter.raw("POST", "/rentals", body, key=key)

        def until_told(call: Any = call) -> Any:
            # A duplicate waits five seconds for the first; a busy machine takes longer for 64.
            answer = call()
            while b"/problems/in_progress" in answer[1]:
                answer = call()
            return answer

        answers = at_once([until_told] * CONTENDERS)
        assert set(answers) == {answers[0]}
        assert answers[0][0] == 202
        assert Rental.objects.count() == before + 1


def test_one_quote_makes_one_rental_whoever_asks():
    renter, supply = make_renter(), make_supply(64)
    quote = renter.call("POST", "/quotes", {"offer": supply.offer.public_id, "gpus": 1})[1]
    body = order(supply.offer, requirement=..., quote=quote["id"])
    answers = at_once([rent_call(renter, body)] * 16)
    kinds = Counter((status, answer.get("type", "rental")) for status, answer in answers)
    assert kinds == {(202, "rental"): 1, (409, "/problems/quote_used"): 15}


def test_a_team_cannot_pass_its_limits_or_its_money_together():
    supply = make_supply(*[1] * 64)  # a node each: nothing but the account makes them queue
    limited, poor = make_renter("Limited"), make_renter("Poor", credit=10 * USD)
    organization = limited.principal.org
    organization.quota_gpus = 6
    organization.save()
    # The first rental of a tenant queues for its namespace; the race is among later ones.
    assert limited.call("POST", "/rentals", order(supply.offer))[0] == 202
    answers = at_once([rent_call(limited, order(supply.offer))] * 16)
    kinds = Counter((status, answer.get("type", "rental")) for status, answer in answers)
    assert kinds == {(202, "rental"): 5, (403, "/problems/quota_exceeded"): 11}
    answers = at_once([rent_call(poor, order(supply.offer))] * 16)
    kinds = Counter((status, answer.get("type", "rental")) for status, answer in answers)
    assert kinds == {(202, "rental"): 5, (402, "/problems/insufficient_funds"): 11}


def test_terminated_from_everywhere_at_once_ends_once():
    renter, supply = make_renter(), make_supply(1)
    rental = renter.call("POST", "/rentals", order(supply.offer))[1]
    path = f"/rentals/{rental['id']}"
    calls = [
        (lambda: renter.call("DELETE", path))
        if number % 2
        else (lambda: renter.call("POST", f"{path}/actions", {"action": "terminate"}))
        for number in range(16)
    ]
    answers = at_once(calls)
    assert {status for status, _ in answers} == {202}
    assert {answer["version"] for _, answer in answers} == {answers[0][1]["version"]}
    assert RentalEvent.objects.filter(reason="terminated_by_user").count() == 1


def test_eight_at_once_cannot_pass_the_spend_limit_together():
    renter, supply = make_renter(), make_supply(8, price=2 * USD, region="limit")
    Organization.objects.filter(pk=renter.org).update(spend_limit_micro_h=7 * USD)
    outcomes = Counter(
        status if status == 202 else problem["type"]
        for status, problem in at_once([rent_call(renter, order(supply.offer))] * 8)
    )
    assert outcomes == {202: 3, "/problems/spend_rate_limit": 5}
    assert Rental.objects.filter(organization=renter.org).count() == 3
