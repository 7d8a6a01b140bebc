"""Clusters whose relay was seen before are open to who has to get in, at once after the update."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from kernel.clock import now
from provisioner.models import Cluster, DeviceGroup
from tests.area.provisioner.yard import make_yard

pytestmark = pytest.mark.django_db(transaction=True)
BEFORE = ("provisioner", "0019_raw_ports")


def newest() -> None:
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.fixture
def _newest_after() -> Iterator[None]:
    yield
    newest()


@pytest.mark.usefixtures("_newest_after")
def test_groups_of_clusters_with_a_relay_say_so() -> None:
    seen, never = make_yard(), make_yard(name="never")
    Cluster.objects.filter(pk=seen.cluster.pk).update(relay_seen_at=now())
    MigrationExecutor(connection).migrate([BEFORE])
    newest()
    found = dict(DeviceGroup.objects.values_list("pk", "has_relay"))
    assert found == {seen.group.pk: True, never.group.pk: False}
