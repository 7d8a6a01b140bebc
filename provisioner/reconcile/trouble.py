"""What keeps a pod from starting, and how long that may last before we give up. PURE.

Every kind of trouble can pass by itself (an owner's pod leaves, a registry comes back), so none
ends an instance at first sight; the reasons' texts tell the renter what to do.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from kernel.text import clean
from provisioner.contracts import Fault
from provisioner.kube.pods import ContainerFacts, PodFacts

# The scheduler retries within seconds; thirty of them mean that the owner uses the card.
UNSCHEDULABLE = timedelta(seconds=30)
# Storage systems take a minute to make or move a volume, more when many are asked for at once.
UNBOUND = timedelta(seconds=100)
# The kubelet tries again after 10 s: two refusals of the registry are an answer.
REFUSED = timedelta(seconds=15)
# A registry or a line that fails may recover.
PULL_ERRORS = timedelta(minutes=10)
# Two attempts of the kubelet, whose back-off begins at 10 s.
NOT_STARTED = timedelta(seconds=20)
# A program that ends is started again; a slow dependency may need some tries.
CRASHING = timedelta(seconds=60)

_PULL = {
    "ErrImagePull",
    "ImagePullBackOff",
    "ImageInspectError",
    "RegistryUnavailable",
    "ErrImageNeverPull",
    "InvalidImageName",
}
_NOT_CREATED = {"RunContainerError", "CreateContainerError", "CreateContainerConfigError"}
_VOLUME = re.compile(r"persistentvolumeclaim|volume node affinity|persistent ?volume", re.I)
_NOT_FOUND = re.compile(r"not.?found|manifest unknown|no such (image|manifest)|name unknown", re.I)
_AUTH = re.compile(r"unauthorized|denied|forbidden|authenticat|authoriz", re.I)
_COMMAND = re.compile(r"executable|exec[: ]|no such file|permission denied|not a directory", re.I)


@dataclass(frozen=True)
class Trouble:
    reason: str
    patience: timedelta
    fault: Fault | None = None
    evidence: dict[str, Any] = field(default_factory=dict)


def of(pod: PodFacts, before: str = "") -> Trouble | None:
    """The trouble a pod that is not ready is in, or None while it simply comes up.

    ``before``: the trouble it was in when last seen. Between two attempts an older kubelet no
    longer says why a pull failed, so the reason seen before still holds.
    """
    if pod.unschedulable and _VOLUME.search(pod.unschedulable):
        return Trouble("volume_error", UNBOUND, evidence={"scheduler": pod.unschedulable[:300]})
    if pod.unschedulable:
        return Trouble(
            "host_rejected", UNSCHEDULABLE, evidence={"scheduler": pod.unschedulable[:300]}
        )
    for container, checking in ((pod.check, True), (pod.main, False)):
        found = _of_container(container, checking=checking)
        if found is None:
            continue
        if container.waiting == "ImagePullBackOff" and before in ("image_not_found", "image_auth"):
            return Trouble(before, REFUSED, evidence=found.evidence)
        return found
    return None


def _of_container(container: ContainerFacts, *, checking: bool) -> Trouble | None:
    waiting = container.waiting
    evidence = {"waiting": waiting, "message": clean(container.message, limit=300)}
    if waiting in _PULL:
        return _pulling(container.message, waiting, evidence)
    if waiting in _NOT_CREATED:
        bad = bool(_COMMAND.search(container.message)) and not checking
        reason = "bad_command" if bad else "config_error"
        return Trouble(reason, NOT_STARTED, evidence=evidence)
    failed = container.exit_code not in (None, 0) and not container.running
    if not failed and waiting != "CrashLoopBackOff":
        return None
    evidence["exit_code"] = str(container.exit_code)
    if checking:
        # No shell in the image or no driver on the host: we cannot tell whose it is.
        return Trouble("config_error", NOT_STARTED, Fault.UNKNOWN, evidence)
    return Trouble("container_exited", CRASHING, evidence=evidence)


def _pulling(message: str, waiting: str, evidence: dict[str, Any]) -> Trouble:
    if waiting == "InvalidImageName":
        return Trouble("image_not_found", timedelta(0), evidence=evidence)
    if waiting == "ErrImageNeverPull" or _NOT_FOUND.search(message):
        return Trouble("image_not_found", REFUSED, evidence=evidence)
    if _AUTH.search(message):
        return Trouble("image_auth", REFUSED, evidence=evidence)
    return Trouble("image_pull_timeout", PULL_ERRORS, evidence=evidence)
