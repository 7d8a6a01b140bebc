"""manage.py gateway: the process that lets renters in, by SSH and by their ports."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from provisioner.instances import access_keys
from provisioner.instances import ports as entry_ports
from provisioner.streams.agents import AgentDoor
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
        parser.add_argument(
            "--agents-host",
            default="127.0.0.1",
            help="address of the door for commands to agents, in the platform's own network",
        )
        parser.add_argument(
            "--agents-port", type=int, default=0, help="of that door; 0: there is none here"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if settings.GPUYARD_SSH_GATEWAY is None:
            raise CommandError("GPUYARD_SSH_GATEWAY must say how renters reach this gateway")
        if options["http_port"] and settings.GPUYARD_PORTS_URL is None:
            raise CommandError("GPUYARD_PORTS_URL must say how ports are called")
        if options["tcp_host"] and settings.GPUYARD_TCP_PORTS is None:
            raise CommandError("GPUYARD_TCP_PORTS must say which numbers there are")
        asyncio.run(_serve(settings.GPUYARD_SSH_GATEWAY, options))


async def _serve(public: tuple[str, int], options: Mapping[str, Any]) -> None:
    """Listen for renters and relays, and for what else there is an address for."""
    directory = TableDirectory()
    published = access_keys.published_key(key=settings.GPUYARD_SEALING_KEY)
    gateway = Gateway(directory, [access_keys.private_text(published)], book=directory)
    prober = _prober(public, directory, gateway)
    inside = Inside(directory, gateway.relays)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    listeners: list[Ports | RawPorts | AgentDoor] = []
    await gateway.start(options["host"], options["port"])
    inside.start()
    if options["http_port"]:
        listeners.append(ports := _ports(inside))
        await ports.start(options["http_host"], options["http_port"])
    if options["tcp_host"]:
        await directory.prepare_raw_ports()
        listeners.append(raw := RawPorts(inside, directory, options["tcp_host"]))
        raw.start()
    if options["agents_port"]:
        listeners.append(door := AgentDoor(gateway.relays, settings.GPUYARD_GRANT_KEY))
        await door.start(options["agents_host"], options["agents_port"])
    prober.start()
    await stop.wait()
    await prober.stop()
    inside.stop()
    for listener in listeners:
        await listener.stop()
    await gateway.stop()


def _prober(public: tuple[str, int], directory: TableDirectory, gateway: Gateway) -> Prober:
    key: bytes = settings.GPUYARD_SEALING_KEY
    return Prober(
        address=public,
        published=access_keys.public_line(access_keys.published_key(key=key)),
        key_of=lambda instance: access_keys.private_text(access_keys.probe_key(instance, key=key)),
        directory=directory,
        clusters=gateway.relays.clusters,
        port=directory.port,
    )


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
