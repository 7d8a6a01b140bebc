"""Who rented before there was a list of keys gets in with those of their order."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from provisioner.contracts import InstanceView, PodOrder
from provisioner.models import Entry, Instance
from tests.area.provisioner.yard import IMAGE, make_yard, rent
from tests.sshkeys import new_line, prints_of

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE, AFTER = ("provisioner", "0014_instance_reports"), ("provisioner", "0015_entry")


def migrate(*targets: tuple[str, str]) -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(list(targets))


@pytest.fixture
def again() -> Iterator[Callable[[], None]]:
    """Back to before it and forward; the newest state at the end in any case."""

    def going() -> None:
        Entry.objects.all().delete()
        migrate(BEFORE)
        assert "provisioner_entry" not in connection.introspection.table_names()
        migrate(AFTER)
        newest()

    yield going
    newest()


def newest() -> None:
    migrate(*MigrationExecutor(connection).loader.graph.leaf_nodes())


def order(*lines: str) -> PodOrder:
    return PodOrder(image=IMAGE, command=("sleep", "infinity"), ssh_public_keys=lines)


def put(view: InstanceView, state: str) -> None:
    Instance.objects.filter(pk=view.id).update(state=state)


def test_rentals_with_a_machine_keep_their_keys(again: Callable[[], None]) -> None:
    first, second, third = (new_line() for _ in range(3))
    yard = make_yard(cards=8, namespaces=8)
    running = rent(yard, order=order(f"{first} ada@laptop", second, first))
    coming = rent(yard, order=order(third))
    ending = rent(yard, order=order(third))
    gone = rent(yard, order=order(third))
    keyless = rent(yard, order=order())
    older = rent(yard, order=order())
    Instance.objects.filter(pk=older.id).update(order={"image": IMAGE})
    put(running, "ready")
    put(ending, "stopping")
    put(gone, "gone")
    put(keyless, "ready")
    again()
    found = {row.rental_ref: row for row in Entry.objects.all()}
    assert {ref: sorted(row.authorized) for ref, row in found.items()} == {
        running.rental_ref: prints_of(first, second),
        coming.rental_ref: prints_of(third),
        ending.rental_ref: prints_of(third),
    }
    assert found[running.rental_ref].changed_at == running.created_at


def test_of_two_machines_of_a_rental_the_newer_one_counts(again: Callable[[], None]) -> None:
    """One whose lease ran out while its cluster is dark is not gone, and another has its place."""
    first, second = new_line(), new_line()
    yard = make_yard(cards=4)
    lapsed = rent(yard, order=order(first))
    Instance.objects.filter(pk=lapsed.id).update(state="stopping", lapsed_at=lapsed.created_at)
    present = rent(yard, order=order(second), rental=lapsed.rental_ref, tenant=lapsed.tenant_ref)
    assert present.created_at > lapsed.created_at
    again()
    assert Entry.objects.get().authorized == prints_of(second)


def test_an_empty_platform_migrates(again: Callable[[], None]) -> None:
    again()
    assert not Entry.objects.exists()
