"""The database server and the broker of one test run, started when first asked for.

DATABASE_URL and BROKER_URL from the environment win: `make test` starts both once for all suites,
and the workers of a parallel run share those of their controller. So does GPUYARD_TEST_TEMPLATE, a
database of that server that `make test` has migrated for all suites.
"""

from __future__ import annotations

import os
from contextlib import ExitStack

from devstack.broker import Broker
from devstack.postgres import Postgres
from devstack.state import State

TEMPLATE = "GPUYARD_TEST_TEMPLATE"


class Servers:
    """Starts each server at most once; `close` stops what was started and removes its data."""

    def __init__(self) -> None:
        self._exits = ExitStack()
        self._state: State | None = None
        self._database_url = ""
        self._broker_url = ""

    @property
    def database_url(self) -> str:
        """URL of a role that may create databases."""
        if not self._database_url:
            # Nobody misses this data after a crash, so nothing waits for the disk.
            server = self._exits.enter_context(Postgres(self._own_state(), fsync=False))
            self._database_url = server.url
        return self._database_url

    @property
    def template(self) -> str | None:
        """Name of a migrated database on that server that nobody uses, where there is one."""
        return os.environ.get(TEMPLATE)

    @property
    def broker_url(self) -> str:
        """URL of an empty broker."""
        if not self._broker_url:
            self._broker_url = self._exits.enter_context(Broker(self._own_state())).url
        return self._broker_url

    def export(self) -> None:
        """Start both and name them in the environment of the processes started from now on."""
        os.environ["DATABASE_URL"] = self.database_url
        os.environ["BROKER_URL"] = self.broker_url

    def close(self) -> None:
        """Stop the servers; returns when they are gone."""
        self._exits.close()

    def _own_state(self) -> State:
        if self._state is None:
            self._state = self._exits.enter_context(State.temporary("test"))
        return self._state
