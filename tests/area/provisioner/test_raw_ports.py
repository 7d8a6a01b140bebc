"""Numbers for raw TCP ports: given once, kept for life, the longest free first, taken back."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import connection, transaction

from kernel.clock import now
from kernel.errors import Refusal
from provisioner.facade import access
from provisioner.instances import raw_ports
from provisioner.models import RawPort

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def _range(settings: Any) -> None:
    settings.GPUYARD_TCP_PORTS = ("tcp.example.net", 20000, 20003)
    raw_ports.prepare()


def give(rental: UUID, *ports: int) -> dict[int, int]:
    with transaction.atomic():
        access.give_raw(rental_ref=rental, ports=ports)
    return numbers(rental)


def numbers(rental: UUID) -> dict[int, int]:
    return {port: number for number, ref, port in raw_ports.given() if ref == rental}


def end(rental: UUID) -> None:
    with transaction.atomic():
        access.shut(rental_ref=rental)


def test_ports_keep_their_numbers_and_others_come_beside() -> None:
    one, other = uuid4(), uuid4()
    assert give(one, 5432) == {5432: 20000}
    assert give(other, 5432) == {5432: 20001}
    assert give(one, 5432, 80) == {5432: 20000, 80: 20002}
    assert give(one, 80) == {80: 20002}
    assert give(one, 80) == {80: 20002}
    assert give(one) == {}
    assert numbers(other) == {5432: 20001}


def test_what_lay_unused_for_longest_is_given_first() -> None:
    first, second = uuid4(), uuid4()
    give(first, 1, 2)
    give(second, 1, 2)
    end(second)
    RawPort.objects.filter(public_port__gte=20002).update(freed_at=now() - timedelta(hours=1))
    end(first)
    assert sorted(give(uuid4(), 9, 10).values()) == [20002, 20003]


def test_when_none_is_left_nothing_is_given() -> None:
    give(uuid4(), 1, 2, 3)
    late = uuid4()
    with pytest.raises(Refusal) as refused:
        give(late, 1, 2)
    assert refused.value.slug == "no_free_port"
    assert numbers(late) == {}
    assert give(late, 1) == {1: 20003}


def test_another_range_takes_the_place_of_the_first(settings: Any) -> None:
    kept = uuid4()
    give(kept, 1)
    settings.GPUYARD_TCP_PORTS = ("tcp.example.net", 20001, 20001)
    raw_ports.prepare()
    assert numbers(kept) == {1: 20000}, "people have it in their programs"
    assert give(uuid4(), 1) == {1: 20001}
    assert RawPort.objects.count() == 2
    end(kept)
    with pytest.raises(Refusal):
        give(uuid4(), 1)
    settings.GPUYARD_TCP_PORTS = None
    raw_ports.prepare()
    with pytest.raises(Refusal):
        give(uuid4(), 1)


def test_many_at_once_never_get_one_number_and_nobody_waits() -> None:
    rentals = [uuid4() for _ in range(6)]
    both, refused = threading.Barrier(len(rentals)), []

    def take(rental: UUID) -> None:
        try:
            with transaction.atomic():
                access.give_raw(rental_ref=rental, ports=[1])
                both.wait(timeout=30)  # all at once hold what they were given
        except Refusal:
            refused.append(rental)
            both.wait(timeout=30)
        finally:
            connection.close()

    threads = [threading.Thread(target=take, args=(rental,)) for rental in rentals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    given = [number for number, _, _ in raw_ports.given()]
    assert sorted(given) == [20000, 20001, 20002, 20003]
    assert len(refused) == 2
