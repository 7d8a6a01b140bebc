"""Free loopback ports for servers that start a moment later.

Asking the kernel for port 0 and closing the socket gives a port that the next outgoing connection
may take. Here a port comes from below the kernel's own range and stays reserved for the life of
this process, so that stacks started at the same time, of whichever user, do not meet.
"""

from __future__ import annotations

import itertools
import random
import socket

# Below: well-known services. Above: Kubernetes' NodePorts from 30000, then the kernel's ephemeral
# range, usually from 32768.
LOWEST, HIGHEST = 15_000, 29_999

_reservations: dict[int, socket.socket] = {}


def free_port() -> int:
    """A TCP port on 127.0.0.1 that nobody listens on and no other caller was given."""
    for _ in range(1000):
        port = random.SystemRandom().randint(LOWEST, HIGHEST)
        if _reserve(port):
            return port
    raise OSError(f"no free port between {LOWEST} and {HIGHEST} on 127.0.0.1")


def free_block(count: int) -> int:
    """The first of ``count`` such ports in a row."""
    for _ in range(1000):
        first = random.SystemRandom().randint(LOWEST, HIGHEST - count)
        taken = list(itertools.takewhile(_reserve, range(first, first + count)))
        if len(taken) == count:
            return first
        for port in taken:
            release(port)
    raise OSError(f"no {count} free ports in a row between {LOWEST} and {HIGHEST} on 127.0.0.1")


def release(port: int) -> None:
    """Give a port back before this process ends, once its server has stopped."""
    _reservations.pop(port).close()


def _reserve(port: int) -> bool:
    # A name in the abstract socket namespace is a lock that the kernel frees with its holder and
    # that covers exactly what shares the ports: one network namespace.
    claim = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        claim.bind(f"\0gpuyard-port-{port}")
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
            probe.bind(("127.0.0.1", port))
    except OSError:
        claim.close()
        return False
    _reservations[port] = claim
    return True
