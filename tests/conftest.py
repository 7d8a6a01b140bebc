"""Servers and state directories for all suites. Nothing starts before a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from devstack.state import State
from tests.servers import Servers

_servers = pytest.StashKey[Servers]()


def pytest_configure(config: pytest.Config) -> None:
    """Remember this run's servers; a parallel run starts them before its workers."""
    servers = config.stash[_servers] = Servers()
    if config.getoption("numprocesses", None) and not hasattr(config, "workerinput"):
        servers.export()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop what was started, after the last fixture."""
    if _servers in config.stash:
        config.stash[_servers].close()


@pytest.fixture(scope="session")
def servers(pytestconfig: pytest.Config) -> Servers:
    """The run's database server and broker."""
    return pytestconfig.stash[_servers]


@pytest.fixture(scope="session")
def broker_url(servers: Servers, request: pytest.FixtureRequest) -> str:
    """URL of a broker database that no other worker of a parallel run uses, and Celery uses it."""
    from config.celery import app

    worker = getattr(request.config, "workerinput", {}).get("workerid", "gw0")
    # 16 databases is the broker's default, and more workers than that are never worth their memory.
    url = urlsplit(servers.broker_url)._replace(path=f"/{int(worker.removeprefix('gw')) % 16}")
    app.conf.update(broker_url=urlunsplit(url))
    return urlunsplit(url)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(
    servers: Servers,
    broker_url: str,
    request: pytest.FixtureRequest,
) -> None:
    """Point Django at this run's servers just before the test database is made."""
    from django.conf import settings

    from config.settings.base import database

    # In place: connections made by Django's own start-up hold this very dictionary.
    settings.DATABASES["default"].update(database(servers.database_url))
    settings.CELERY_BROKER_URL = broker_url
    # Asked for now and not as an argument: it derives the test database's name from the settings.
    request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")


@pytest.fixture(scope="session")
def database_url(servers: Servers, django_db_setup: None) -> str:
    """URL of the migrated test database, for processes that a test starts."""
    from django.conf import settings

    name = settings.DATABASES["default"]["NAME"]
    return urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))


# For every trigger on TRUNCATE (bit 32): switched off or on by the table's owner.
_GUARDS = """
DO $$ DECLARE guard record; BEGIN
  FOR guard IN SELECT tgrelid::regclass AS table, tgname AS name FROM pg_trigger
               WHERE tgtype & 32 <> 0 AND NOT tgisinternal
  LOOP EXECUTE format('ALTER TABLE %s {switch} TRIGGER %I', guard.table, guard.name); END LOOP;
END $$;
"""


@pytest.fixture(scope="session", autouse=True)
def flush_past_guards() -> None:
    """Let the flush between tests truncate what the ledger's triggers keep from everybody else."""
    from django.db.backends.postgresql.operations import DatabaseOperations

    plain = DatabaseOperations.sql_flush

    def sql_flush(self, style, tables, **options):
        statements = plain(self, style, tables, **options)
        if not statements:
            return []
        off, on = (_GUARDS.replace("{switch}", switch) for switch in ("DISABLE", "ENABLE"))
        return [off, *statements, on]

    DatabaseOperations.sql_flush = sql_flush  # type: ignore[method-assign]


@pytest.fixture
def state() -> Iterator[State]:
    """A state directory of the test's own, removed after it."""
    with State.temporary("test") as own:
        yield own
