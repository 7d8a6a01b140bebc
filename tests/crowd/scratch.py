"""A database beside the migrated one: for benchmarks whose processes see each other's commits."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

import psycopg
from django.conf import settings
from django.db import connection
from psycopg import sql

from devstack.postgres import drop_database


@contextmanager
def scratch_database(name: str) -> Iterator[str]:
    """The URL of a copy of DATABASE_URL's, called ``name``, which Django uses inside."""
    url = urlsplit(os.environ["DATABASE_URL"])
    copy, server = (urlunsplit(url._replace(path=f"/{each}")) for each in (name, "postgres"))
    source, made = sql.Identifier(url.path.strip("/")), sql.Identifier(name)
    original = settings.DATABASES["default"]["NAME"]
    connection.close()  # a template must have no session
    with psycopg.connect(server, autocommit=True) as admin:
        drop_database(admin, name)
        admin.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(made, source))
    _use(name)
    try:
        yield copy
    finally:
        connection.close()
        _use(original)
        with psycopg.connect(server, autocommit=True) as admin:
            drop_database(admin, name)


def _use(name: str) -> None:
    settings.DATABASES["default"]["NAME"] = name
    connection.settings_dict["NAME"] = name
