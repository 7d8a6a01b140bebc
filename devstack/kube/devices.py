"""Which pod holds which cards of a node: what the kubelet's device manager decides.

Pure bookkeeping without locks; the simulator calls it under its own lock.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence


class NoDevicesError(Exception):
    """Fewer free healthy cards than asked for; the kubelet then fails the pod."""


@dataclasses.dataclass
class Device:
    """One card. `holder` is the UID of the pod it is given to."""

    uid: str
    healthy: bool = True
    holder: str | None = None


class DeviceBook:
    """The cards of one node."""

    def __init__(self, uids: Sequence[str]) -> None:
        self.devices = [Device(uid) for uid in uids]

    def held_by(self, pod_uid: str) -> list[str]:
        return [device.uid for device in self.devices if device.holder == pod_uid]

    def allocate(self, pod_uid: str, count: int, preferred: Sequence[str] = ()) -> list[str]:
        """Give `count` cards to a pod, or what it holds already; all or nothing.

        `preferred` ones first: after a restart of the simulator a running pod keeps its own.
        """
        held = self.held_by(pod_uid)
        if held:
            return held
        free = [device for device in self.devices if device.holder is None and device.healthy]
        if len(free) < count:
            raise NoDevicesError(f"{count} devices requested, {len(free)} available")
        free.sort(key=lambda device: device.uid not in preferred)  # stable: otherwise by position
        for device in free[:count]:
            device.holder = pod_uid
        return self.held_by(pod_uid)

    def release(self, pod_uid: str) -> None:
        """Take a pod's cards back; nothing happens when it holds none."""
        for device in self.devices:
            if device.holder == pod_uid:
                device.holder = None

    def healthy_count(self) -> int:
        return sum(device.healthy for device in self.devices)

    def set_unhealthy(self, uids: Sequence[str]) -> None:
        """Exactly `uids` are broken from now on; their holders keep them."""
        for device in self.devices:
            device.healthy = device.uid not in uids
