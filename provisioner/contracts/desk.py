"""What crosses the door for the desk of staff: strangers, failed rules, and all cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True)
class StrangerView:
    """Something with our label that names nothing we know. kind: pod or volume; claims: what its
    label says it is; here: seen by one of the last sweeps."""

    kind: str
    cluster_id: UUID
    cluster: str
    namespace: str
    name: str
    claims: str
    first_seen_at: datetime
    last_seen_at: datetime
    here: bool


@dataclass(frozen=True)
class FailingView:
    """A rule that keeps a cluster from sale. provider_ref: whose it is."""

    cluster_id: UUID
    cluster: str
    provider_ref: UUID
    rule: str
    measured: str
    since: datetime


@dataclass(frozen=True)
class StockView:
    """The cards of one group now. off_sale: free, on a node or in a cluster that is not sold.

    blocks: free cards on sale, as size of a block on one node -> how many such blocks.
    largest_node: most cards of it that a node on sale has, free or not.
    there_seconds: how long its cards were there since the moment asked for, together.
    """

    group_id: UUID
    provider_ref: UUID
    datacenter_ref: UUID
    accelerator: str
    free: int
    off_sale: int
    held: int
    dirty: int
    cordoned: int
    there_seconds: int
    largest_node: int
    blocks: Mapping[int, int]

    @property
    def total(self) -> int:
        return self.free + self.off_sale + self.held + self.dirty + self.cordoned
