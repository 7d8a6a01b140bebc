"""Names of ports: ``https://8888-01m8g2e9….pods.example.net/``, one per rental and port. PURE.

The name says all that the gateway has to know before it asks: which rental, which port. Each port
has an origin of its own, so a browser keeps what pages of two machines store apart.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from kernel.ids import BadId, parse, public

_USUAL = {"https": 443, "http": 80}
_KIND = "ren_"


@dataclass(frozen=True)
class PortNames:
    """Where the names are: ``scheme``, ``domain`` and ``port`` of GPUYARD_PORTS_URL."""

    scheme: str
    domain: str
    port: int

    @property
    def secure(self) -> bool:
        return self.scheme == "https"

    def host(self, rental_ref: UUID, port: int) -> str:
        """As in a Host header: with the port where it is not the usual one."""
        usual = self.port == _USUAL[self.scheme]
        name = f"{port}-{public('rental', rental_ref).removeprefix(_KIND)}.{self.domain}"
        return name if usual else f"{name}:{self.port}"

    def url(self, rental_ref: UUID, port: int) -> str:
        return f"{self.scheme}://{self.host(rental_ref, port)}/"

    def named(self, host: str) -> tuple[UUID, int] | None:
        """The rental and port that a Host header means; None for anything that is no such name.

        The port behind the colon is not looked at: proxies in front rewrite it.
        """
        name = host.lower().partition(":")[0]
        label, dot, domain = name.partition(".")
        number, dash, identifier = label.partition("-")
        if not (dot and dash and domain == self.domain) or not is_port(number):
            return None
        try:
            return parse("rental", f"{_KIND}{identifier}"), int(number)
        except BadId:
            return None


def is_port(text: str) -> bool:
    """Whether it is a port in its one spelling: 08888 would be a second name of 8888."""
    digits = text.isascii() and text.isdigit() and text == text.lstrip("0") and len(text) < 6
    return digits and 0 < int(text) < 65536
