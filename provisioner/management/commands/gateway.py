"""manage.py gateway: the process that lets renters in, by SSH and by their ports."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from provisioner.instances import access_keys
from provisioner.instances import ports as entry_ports
from provisioner.streams.directory import TableDirectory
from provisioner.streams.gateway import Gateway
from provisioner.streams.ports.inside import Inside
from provisioner.streams.ports.judge import Keys
from provisioner.streams.ports.passes import cookie_key
from provisioner.streams.ports.raw import RawPorts
from provisioner.streams.ports.server import Ports
from provisioner.streams.prober import Prober


class Command(BaseCommand):
    help = (
        "Let renters in, and providers' relays, until SIGTERM or SIGINT. Several may run: they "
        "show the same host key, and relays connect to each."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--host", default="127.0.0.1", help="address to listen at")
        parser.add_argument("--port", type=int, default=2222)
        parser.add_argument("--http-host", default="127.0.0.1", help="address for ports by name")
        parser.add_argument(
            "--http-port", type=int, default=0, help="for ports by name; 0: there are none here"
        )
        parser.add_argument(
            "--tcp-host",
            default="",
            help="address for raw TCP ports, by the numbers of GPUYARD_TCP_PORTS; without it there "
            "are none here",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.GPUYARD_SSH_GATEWAY is None:
            raise CommandError("GPUYARD_SSH_GATEWAY must say how renters reach this gateway")
        if options["http_port"] and settings.GPUYARD_PORTS_URL is None:
            raise CommandError("GPUYARD_PORTS_URL must say how ports are called")
        if options["tcp_host"] and settings.GPUYARD_TCP_PORTS is None:
            raise CommandError("GPUYARD_TCP_PORTS must say which numbers there are")
        ssh, http = ((options[f"{of}host"], options[f"{of}port"]) for of in ("", "http_"))
        asyncio.run(_serve(settings.GPUYARD_SSH_GATEWAY, ssh, http, options["tcp_host"]))


async def _serve(
    public: tuple[str, int], ssh: tuple[str, int], http: tuple[str, int], tcp_host: str
) -> None:
    """Listen at ``ssh`` and, where it has a port, at ``http``; on raw ports where there is a
    ``tcp_host``."""
    key: bytes = settings.GPUYARD_SEALING_KEY
    published = access_keys.published_key(key=key)
    directory = TableDirectory()
    gateway = Gateway(directory, [access_keys.private_text(published)], book=directory)
    prober = Prober(
        address=public,
        published=access_keys.public_line(published),
        key_of=lambda instance: access_keys.private_text(access_keys.probe_key(instance, key=key)),
        directory=directory,
        clusters=gateway.relays.clusters,
        port=directory.port,
    )
    inside = Inside(directory, gateway.relays)
    ports = _ports(inside) if http[1] else None
    raw = RawPorts(inside, directory, tcp_host) if tcp_host else None
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    await gateway.start(*ssh)
    inside.start()
    if ports is not None:
        await ports.start(*http)
    if raw is not None:
        await directory.prepare_raw_ports()
        raw.start()
    prober.start()
    await stop.wait()
    await prober.stop()
    inside.stop()
    for listener in (ports, raw):
        if listener is not None:
            await listener.stop()
    await gateway.stop()


def _ports(inside: Inside) -> Ports:
    key: bytes = settings.GPUYARD_SEALING_KEY
    names = entry_ports.names()
    assert names is not None  # asked for before
    return Ports(
        inside=inside,
        names=names,
        portal=settings.GPUYARD_BASE_URL,
        keys=Keys(cookie=cookie_key(key), grant=settings.GPUYARD_GRANT_KEY),
        trusted=settings.GPUYARD_TRUSTED_PROXIES,
    )
