"""Staff's command line."""

from __future__ import annotations

import pytest
from django.core.management import CommandError, call_command

from tests.area.billing.conftest import USD, corrupt, credit, open_org

pytestmark = pytest.mark.django_db


def test_books_fails_when_the_ledger_does_not_hold(capsys):
    credit(open_org(), 5 * USD)
    call_command("books")
    assert "unbalanced: 0" in capsys.readouterr().out
    corrupt("billing_account", "UPDATE billing_account SET balance_micro = 1 WHERE kind = 'tenant'")
    with pytest.raises(CommandError, match="do not hold"):
        call_command("books")
    assert "drifted: 1" in capsys.readouterr().out
