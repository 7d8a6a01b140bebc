"""Servers and state directories for all suites. Nothing starts before a test needs it."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit, urlunsplit

import pytest

from devstack.state import State
from tests.servers import Servers

# What asserts on behalf of tests, so that a failure says the values there too.
pytest.register_assert_rewrite("tests.browser", "tests.live", "tests.whole_stack", "tests.market")

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
    # A run of all suites migrates one database once; each suite begins with a copy.
    settings.DATABASES["default"].setdefault("TEST", {})["TEMPLATE"] = servers.template
    settings.CELERY_BROKER_URL = broker_url
    # Asked for now and not as an argument: it derives the test database's name from the settings.
    request.getfixturevalue("django_db_modify_db_settings_parallel_suffix")


@pytest.fixture(scope="session")
def database_url(servers: Servers, django_db_setup: None) -> str:
    """URL of the migrated test database, for processes that a test starts."""
    from django.conf import settings

    name = settings.DATABASES["default"]["NAME"]
    return urlunsplit(urlsplit(servers.database_url)._replace(path=f"/{name}"))


# Deleting what is there costs a twentieth of truncating every table. The ledger's guards keep
# everybody from that, so the owner of a guarded table lets them rest meanwhile.
_EMPTY = """
DO $$ DECLARE held regclass; filled boolean; all_filled regclass[]; guarded regclass[]; BEGIN
  FOREACH held IN ARRAY ARRAY[{tables}]::regclass[] LOOP
    EXECUTE format('SELECT EXISTS (SELECT FROM %s)', held) INTO filled;
    IF filled THEN all_filled := all_filled || held; END IF;
  END LOOP;
  IF all_filled IS NULL THEN RETURN; END IF;
  SELECT array_agg(DISTINCT tgrelid::regclass) INTO guarded FROM pg_trigger
    WHERE tgrelid = ANY (all_filled) AND NOT tgisinternal;
  FOREACH held IN ARRAY coalesce(guarded, '{{}}') LOOP
    EXECUTE format('ALTER TABLE %s DISABLE TRIGGER USER', held);
  END LOOP;
  SET CONSTRAINTS ALL DEFERRED;
  FOREACH held IN ARRAY all_filled LOOP
    EXECUTE format('DELETE FROM %s', held);
  END LOOP;
  SET CONSTRAINTS ALL IMMEDIATE;
  FOREACH held IN ARRAY coalesce(guarded, '{{}}') LOOP
    EXECUTE format('ALTER TABLE %s ENABLE TRIGGER USER', held);
  END LOOP;
END $$;
"""
# Kept through a flush: nothing is told that the database was made anew, but the curated templates.
_KEPT = {"django_content_type"}


@pytest.fixture(scope="session", autouse=True)
def quick_flush() -> Iterator[None]:
    """Empty only tables that have rows between tests; a few milliseconds instead of a second."""
    from django.core.management.commands import flush
    from django.db.backends.postgresql.operations import DatabaseOperations

    from marketplace.catalog.templates import load_curated

    def sql_flush(self, style, tables, **options):
        names = [f"'{self.quote_name(name)}'" for name in sorted(set(tables) - _KEPT)]
        return [_EMPTY.format(tables=",".join(names))] if names else []

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DatabaseOperations, "sql_flush", sql_flush)
        patch.setattr(flush, "emit_post_migrate_signal", lambda *given: load_curated())
        yield


@pytest.fixture
def state() -> Iterator[State]:
    """A state directory of the test's own, removed after it."""
    with State.temporary("test") as own:
        yield own
