"""The provisioner's door: the rules that clusters are checked against, and how each came out."""

from __future__ import annotations

from uuid import UUID

from provisioner.contracts.preflight import PreflightView, RuleTable
from provisioner.preflight import store, views


def rules() -> RuleTable:
    """The published table. Data only."""
    return views.rules()


def preflight(*, cluster_id: UUID) -> PreflightView:
    """Raises NotFound."""
    return views.preflight(cluster_id)


def ask_again(*, cluster_id: UUID) -> None:
    """In a transaction. The cluster is looked at after commit, whatever its schedule."""
    store.ask_again(cluster_id)
