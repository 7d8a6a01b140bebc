"""What owners do in a schedule: stop who is on their cards, take them off sale, let by time."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from kernel.errors import Refusal
from kernel.ids import public
from marketplace.accounts.idempotency import once
from marketplace.catalog import publish
from marketplace.models import Maintenance, Offer
from marketplace.providers import onboard
from marketplace.rentals import host
from provisioner.models import Node
from tests.simulation.table import action

if TYPE_CHECKING:
    from tests.simulation.schedule import Schedule


@action(2, meanwhile=True)
def stop_now(sim: Schedule) -> str:
    """An owner stops a rental at once."""
    if not sim.rentals:
        return ""
    rental = sim.rng.choice(sorted(sim.rentals))
    acting = sim.world.owner.principal
    done = sim.request(
        "stop now",
        lambda: once(
            None,
            lambda: host.stop_rental(
                acting=acting, rental_id=rental, reason="maintenance", text=""
            ),
            lambda row: (202, {"state": row.state}),
        ),
    )
    return f"stop now {sim.name('rental', rental)}: {_said(done)}"


@action(1, meanwhile=True)
def stop_cluster(sim: Schedule) -> str:
    """An owner stops a whole cluster at once, or lets it again."""
    acting, number = sim.world.owner.principal, sim.some_cluster()
    cluster = sim.world.clusters[number]
    shut = Maintenance.objects.filter(cluster_ref=cluster.pk, withdrawn_at=None).first()
    if shut is not None:
        opened = shut.public_id
        done = sim.request(
            "withdraw",
            lambda: once(
                None,
                lambda: host.withdraw(acting=acting, maintenance_id=opened),
                lambda row: (200, {}),
            ),
        )
        return f"let cluster {number} again: {_said(done)}"
    key = public("cluster", cluster.pk)
    done = sim.request(
        "stop cluster",
        lambda: once(
            None,
            lambda: host.stop_cluster(acting=acting, cluster_id=key, reason="maintenance", text=""),
            lambda row: (202, {}),
        ),
    )
    return f"stop cluster {number}: {_said(done)}"


@action(2, meanwhile=True)
def cordon(sim: Schedule) -> str:
    """An owner takes a node off sale, or puts it back."""
    node = sim.rng.choice(list(Node.objects.order_by("name")))
    off = node.cordoned_at is None
    done = sim.request(
        "cordon",
        lambda: once(
            None,
            lambda: onboard.cordon_node(
                acting=sim.world.owner.principal,
                cluster_id=public("cluster", node.cluster_id),
                node_id=public("node", node.pk),
                off=off,
            ),
            lambda row: (200, {}),
        ),
    )
    return f"{'cordon' if off else 'uncordon'} {node.name}: {_said(done)}"


@action(2, meanwhile=True)
def let_until(sim: Schedule) -> str:
    """An owner gives an offer an end that comes soon, or takes it away."""
    offer = sim.rng.choice(list(Offer.objects.order_by("region")))
    minutes = sim.rng.choice([None, None, 30, 45])
    until = None if minutes is None else sim.clock.now + timedelta(minutes=minutes)
    done = sim.request(
        "let until",
        lambda: once(
            None,
            lambda: publish.set_offer(
                acting=sim.world.owner.principal,
                offer_id=offer.public_id,
                times={"ends_at": until},
            ),
            lambda row: (200, {}),
        ),
    )
    return f"let {offer.region} for {minutes} min: {_said(done)}"


def _said(done: object) -> str:
    if isinstance(done, Refusal):
        return done.slug
    return "no answer" if done is None else "done"
