"""The audit trail: append-only, chained by one sealer, and a verifier that names what changed."""

from __future__ import annotations

import io
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import DatabaseError, connection, transaction

from kernel.clock import now
from marketplace.accounts import audit
from marketplace.models import AuditEntry, AuditSeal
from tests.area.marketplace_accounts.test_idempotency import at_once


def write(count: int) -> list[AuditEntry]:
    return [
        audit.record(
            acting="platform",
            action=f"test.{number}",
            object=f"obj_{number}",
            organization_ref=None,
            details={"number": number, "text": "\u00fc"},
        )
        for number in range(count)
    ]


def past_the_guard(statement: str, *values: Any) -> None:
    """What somebody with the database's own password could do."""
    tables = ("marketplace_auditentry", "marketplace_auditseal")
    with transaction.atomic(), connection.cursor() as cursor:
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        cursor.execute(statement, values)
        for table in tables:
            cursor.execute(f"ALTER TABLE {table} ENABLE TRIGGER USER")


@pytest.mark.django_db
@pytest.mark.parametrize("model", [AuditEntry, AuditSeal])
def test_the_database_refuses_change_and_removal(model: Any) -> None:
    write(1)
    audit.seal()
    row = model.objects.get()
    with pytest.raises(DatabaseError, match="append_only"), transaction.atomic():
        model.objects.filter(pk=row.pk)._raw_delete("default")
    field = "actor" if model is AuditEntry else "hash"
    value = "somebody" if model is AuditEntry else b"x"
    with pytest.raises(DatabaseError, match="append_only"), transaction.atomic():
        model.objects.filter(pk=row.pk).update(**{field: value})


@pytest.mark.django_db
def test_sealing_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_BATCH", 3)
    write(7)
    assert audit.seal() == 7
    write(2)
    assert audit.seal() == 2
    assert audit.seal() == 0
    verdict = audit.verify()
    assert (verdict.sealed, verdict.unsealed, verdict.faults) == (9, 0, [])
    assert list(AuditSeal.objects.order_by("seq").values_list("seq", flat=True)) == [*range(1, 10)]


@pytest.mark.django_db(transaction=True)
def test_many_sealers_make_one_chain() -> None:
    write(50)
    assert sum(at_once(6, audit.seal)) == 50
    assert audit.verify().faults == []


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("statement", "why"),
    [
        ("UPDATE marketplace_auditentry SET actor = 'nobody' WHERE id = %s", "was changed"),
        ("UPDATE marketplace_auditentry SET details = '{}' WHERE id = %s", "was changed"),
        (
            "UPDATE marketplace_auditentry SET ts = ts + interval '1 us' WHERE id = %s",
            "was changed",
        ),
        ("UPDATE marketplace_auditseal SET hash = 'x' WHERE entry_id = %s", "was changed"),
        ("DELETE FROM marketplace_auditseal WHERE entry_id = %s", "is missing"),
    ],
)
def test_the_verifier_names_the_row(statement: str, why: str) -> None:
    rows = write(5)
    audit.seal()
    past_the_guard(statement, rows[2].id)
    faults = audit.verify().faults
    assert why in faults[0]
    assert "seq 3" in faults[0]
    with pytest.raises(CommandError, match="seq 3"):
        call_command("verify_audit", stdout=io.StringIO())


@pytest.mark.django_db(transaction=True)
def test_a_row_that_was_never_sealed_is_named() -> None:
    (row,) = write(1)
    assert audit.verify().faults == []
    past_the_guard("UPDATE marketplace_auditentry SET ts = %s", now() - timedelta(seconds=61))
    (fault,) = audit.verify().faults
    assert str(row.id) in fault


@pytest.mark.django_db
def test_the_command_says_that_the_chain_holds() -> None:
    write(2)
    audit.seal()
    out = io.StringIO()
    call_command("verify_audit", stdout=out)
    assert "2 rows sealed, 0 waiting" in out.getvalue()
    assert "the chain holds" in out.getvalue()
