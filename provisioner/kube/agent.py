"""The way to an API server through the agent of its cluster, which has dialled out to the gateway.

A connection is asked of the gateway's door for commands (streams/agents.py), by a grant that is
signed for this cluster, and then is a stream to the agent, with which TLS is spoken as with any API
server: the gateway carries it and reads nothing. So everything above, from deadlines to errors, is
the same for both kinds of clusters.
"""

from __future__ import annotations

import socket
import time
from uuid import UUID

from django.conf import settings
from urllib3.connection import HTTPConnection
from urllib3.exceptions import NewConnectionError

from kernel.grants import Grant, sign
from kernel.ids import public
from kernel.transport import Deadline, dial
from provisioner.contracts.access import AGENT_HOST, COMMAND_VERB

# Of the door's own answer, which is one line and an empty one.
_LONGEST_ANSWER = 1024


class AgentOffline(NewConnectionError):
    """No agent of the cluster is connected to the gateway, or the gateway is not there."""


class AgentWay:
    """Connections to the agent of one cluster."""

    host, port = AGENT_HOST, 443

    def __init__(self, cluster_id: UUID) -> None:
        self._cluster_id = cluster_id

    def open(self, connection: HTTPConnection, deadline: Deadline) -> socket.socket:
        """Connect; AgentOffline."""
        if settings.GPUYARD_AGENT_DOOR is None:
            raise AgentOffline(connection, "this platform has no door for agents")
        try:
            sock = dial(settings.GPUYARD_AGENT_DOOR, deadline)
        except OSError as error:
            raise AgentOffline(connection, f"the gateway is not there: {error}") from error
        try:
            answer = self._ask(sock, deadline)
        except OSError as error:
            sock.close()
            raise AgentOffline(connection, f"the gateway does not answer: {error}") from error
        if not answer.startswith(b"HTTP/1.1 200 "):
            sock.close()
            said = answer.partition(b"\r\n")[0].decode("latin-1")
            raise AgentOffline(connection, f"no way to the agent: {said}")
        return sock

    def _ask(self, sock: socket.socket, deadline: Deadline) -> bytes:
        cluster = self._cluster_id
        grant = Grant(COMMAND_VERB, subject=cluster, owner=cluster)
        signed = sign(grant, key=settings.GPUYARD_GRANT_KEY, now=time.time())
        sock.settimeout(deadline.left())
        sock.sendall(
            f"CONNECT {public('cluster', cluster)}:443 HTTP/1.1\r\n"
            f"Proxy-Authorization: Bearer {signed}\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n") and len(answer) < _LONGEST_ANSWER:
            # Byte by byte: what follows belongs to TLS.
            got = sock.recv(1)
            if not got:
                raise ConnectionError("it hung up")
            answer += got
        return answer
