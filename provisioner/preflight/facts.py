"""What a look at a cluster found, as plain values: between asking and judging. PURE.

Whatever could not be asked is a value too, with the reason: silence is no answer, and no failure
of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from provisioner.preflight.rights import Held


@dataclass(frozen=True)
class Unasked:
    """Nobody knows. ``code`` as in kube/errors.py, or "too_late" when the time was up."""

    code: str


@dataclass(frozen=True)
class TokenFacts:
    """What the token says of itself; its signature is for the cluster to judge."""

    subject: str = ""
    issued_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True)
class RightsFacts:
    """What our token lacks and what it has too much. ``unasked``: questions without an answer."""

    missing: tuple[Held, ...] = ()
    excess: tuple[Held, ...] = ()
    unasked: tuple[Unasked, ...] = ()


ADMITTED, REFUSED = "admitted", "refused"


@dataclass(frozen=True)
class Trial:
    """A pod that must not be let in, in a dry run: ADMITTED, REFUSED, or why nobody knows."""

    kind: str
    namespace: str
    verdict: str | Unasked


@dataclass(frozen=True)
class PodFacts:
    """``plain``: how a pod of ours fares: ADMITTED, why it was refused, or unasked."""

    plain: str | Unasked
    trials: tuple[Trial, ...] = ()


@dataclass(frozen=True)
class MachineFacts:
    """Nodes by how they are set aside, and what those of the pool say of their devices."""

    both: int = 0  # with label and taint
    only_label: tuple[str, ...] = ()
    only_taint: tuple[str, ...] | Unasked = ()
    unknown: tuple[tuple[str, int], ...] = ()  # (resource that nobody knows, nodes with it)
    doubled: tuple[str, ...] = ()  # sentences
    old_drivers: tuple[tuple[str, str, str], ...] = ()  # (node, driver, floor)
    drivers_told: int = 0  # nodes whose labels tell a driver that has a floor
    old_toolkits: tuple[tuple[str, str, str], ...] = ()  # (node, toolkit, floor)
    toolkits_told: int = 0
    classes_wanted: tuple[str, ...] = ()  # runtime classes that pods of the pool's cards name


@dataclass(frozen=True)
class PolicyFacts:
    """Namespaces with and without a policy that closes everything first."""

    closed: int = 0
    open: tuple[str, ...] = ()
    unasked: tuple[Unasked, ...] = ()
    wide: tuple[str, ...] = ()  # where no policy gives less of the network to whom it should


@dataclass(frozen=True)
class NetworkFacts:
    """What the last probe found a pod to reach. ``enforced`` None: it could not tell."""

    enforced: bool | None = None
    said: str = ""  # in words; "": not tried yet


@dataclass(frozen=True)
class PullFacts:
    """How long the last node that fetched the tools' image took; None: none had to yet."""

    seconds: float | None = None
    probed: bool = False


@dataclass(frozen=True)
class RowFacts:
    """What other loops know of the cluster already."""

    storage_domain: str
    storage_reason: str
    reaper_state: str
    relay_age: float | None  # seconds since the relay was connected; None: never
    by_agent: bool = False  # its agent asks, by an account of its own
    network: NetworkFacts = NetworkFacts()
    pull: PullFacts = PullFacts()


@dataclass(frozen=True)
class Facts:
    """Everything that is judged."""

    asked_at: datetime
    version: str | Unasked
    token: TokenFacts
    token_rejected: bool
    skew: float | Unasked  # seconds that the cluster's clock is ahead of ours
    namespaces: tuple[str, ...] | Unasked
    rights: RightsFacts | Unasked
    pods: PodFacts | Unasked
    machines: MachineFacts | Unasked
    policies: PolicyFacts | Unasked
    classes: tuple[str, ...] | Unasked


def nothing(given: TokenFacts, why: Unasked, *, at: datetime) -> Facts:
    """The facts of a cluster that answered nothing."""
    return Facts(
        asked_at=at,
        version=why,
        token=given,
        token_rejected=why.code == "unauthorized",
        skew=why,
        namespaces=why,
        rights=why,
        pods=why,
        machines=why,
        policies=why,
        classes=why,
    )
