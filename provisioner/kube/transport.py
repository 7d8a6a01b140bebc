"""Connections to one cluster's API server: the kernel's transport under the cluster's own rules.

What makes them safe (checked addresses, one deadline, no redirect, no proxy) is kernel.transport;
here is which addresses and which certificates count for a cluster.
"""

from __future__ import annotations

import ssl
from functools import partial

import urllib3

from kernel import transport
from kernel.addresses import Resolver, resolve
from kernel.transport import CONNECT_TIMEOUT, Cut, Deadline, Gate, Way, within
from provisioner.clusters.addresses import Target, check_ip
from provisioner.contracts import AddressBinding

__all__ = ["CONNECT_TIMEOUT", "Cut", "Deadline", "Gate", "Way", "gate_of", "pool", "within"]

# Idle connections kept per cluster: the loops' own bound on parallel calls to one cluster.
POOL_SIZE = 8


def gate_of(target: Target, binding: AddressBinding, resolver: Resolver = resolve) -> Gate:
    """What a connection to one cluster may reach: its target within the provider's binding."""
    check = partial(check_ip, port=target.port, binding=binding)
    return Gate(target.host, target.port, check, resolver)


def pool(gate: Way, ca_pem: str) -> urllib3.HTTPSConnectionPool:
    """A pool for one cluster that trusts ``ca_pem`` and nothing else."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # The given certificate is the anchor even if it is an intermediate one, as in Kubernetes' own
    # clients.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=ca_pem)
    return transport.pool(gate, context, size=POOL_SIZE)
