"""The provisioner's loops as tasks: no arguments, no logic. Beat and wake-ups run the same code."""

from __future__ import annotations

from celery import shared_task

from kernel.wake import wake
from provisioner.instances import entry, logs, release, samples
from provisioner.inventory import record, summary
from provisioner.reconcile import (
    instance_loop,
    leases,
    node_loop,
    observe,
    orphans,
    preflight_loop,
    probe_loop,
    tokens,
    volume_loop,
)


@shared_task(name="provisioner.instances")
def instances() -> None:
    """Bring instances to what their rows want."""
    instance_loop.run()


@shared_task(name="provisioner.volumes")
def volumes() -> None:
    """Bring volumes to what their rows want."""
    volume_loop.run()


@shared_task(name="provisioner.observe")
def observe_clusters() -> None:
    """Full lists of every cluster that is due."""
    observe.run()


@shared_task(name="provisioner.inventory")
def inventory() -> None:
    """What each cluster has."""
    node_loop.run()


@shared_task(name="provisioner.summaries")
def summaries() -> None:
    """Rested slots are free again; summaries follow."""
    returned = release.recycle()
    summary.refresh()
    if returned:
        wake("marketplace.place")  # somebody may wait for these cards


@shared_task(name="provisioner.reliability")
def keep_record() -> None:
    """How placements on each group of cards ended."""
    record.refresh()


@shared_task(name="provisioner.leases")
def renew_leases() -> None:
    """What keeps pods alive while we are away."""
    leases.run()


@shared_task(name="provisioner.orphans")
def sweep_orphans() -> None:
    """Pods whose instance is over."""
    orphans.run()


@shared_task(name="provisioner.tokens")
def renew_tokens() -> None:
    """Tokens at a third of their life."""
    tokens.run()


@shared_task(name="provisioner.preflight")
def check_clusters() -> None:
    """Each cluster against the published rules."""
    preflight_loop.run()


@shared_task(name="provisioner.probes")
def run_probes() -> None:
    """What only a pod of ours in a cluster can tell."""
    probe_loop.run()


@shared_task(name="provisioner.samples")
def fold_samples() -> None:
    """What machines reported, into averages as it ages; who came is forgotten after its time."""
    samples.sweep()
    entry.forget()


@shared_task(name="provisioner.old_logs")
def prune_logs() -> None:
    """Kept logs past their month."""
    logs.prune()
