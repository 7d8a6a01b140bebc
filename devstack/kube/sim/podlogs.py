"""What containers printed: lines that tests write, or a line about the start. Nothing runs here."""

from __future__ import annotations

import dataclasses
import datetime
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from devstack.kube.sim.clock import parsed
from devstack.kube.sim.errors import bad_request, not_simulated
from devstack.kube.sim.rules.security import containers
from devstack.kube.sim.store import Stored

Json = dict[str, Any]

# Lines kept of one container; a kubelet keeps 10 MiB.
LONGEST = 10_000


@dataclasses.dataclass(frozen=True)
class Line:
    at: datetime.datetime
    text: str


@dataclasses.dataclass(frozen=True)
class LogRequest:
    """An accepted GET of pods/log: what the container has printed so far."""

    text: str


class PodLogs:
    """Lines by pod UID and container. Callers hold the store's lock."""

    def __init__(self) -> None:
        self._lines: defaultdict[tuple[str, str], list[Line]] = defaultdict(list)

    def write(self, uid: str, container: str, line: Line) -> None:
        """A container prints a line."""
        kept = self._lines[uid, container]
        kept.append(line)
        del kept[:-LONGEST]

    def forget(self, uid: str) -> None:
        for key in [key for key in self._lines if key[0] == uid]:
            del self._lines[key]

    def asked(self, pod: Stored, query: Mapping[str, str]) -> LogRequest:
        """Raises StatusError for a container that is not there or has not started."""
        if query.get("follow") == "true":
            raise not_simulated("following a log")
        container = _container(pod, query.get("container", ""))
        started = _started(pod, container, previous=query.get("previous") == "true")
        key = (pod.metadata["uid"], container)
        lines = self._lines.get(key) or [Line(started, f"container {container} started")]
        if since := query.get("sinceTime"):
            lines = [line for line in lines if line.at >= parsed(since)]
        if tail := query.get("tailLines"):
            lines = lines[-int(tail) :] if int(tail) else []
        stamped = query.get("timestamps") == "true"
        text = "".join(shown(line, stamped=stamped) for line in lines)
        if limit := query.get("limitBytes"):
            text = text.encode()[: int(limit)].decode(errors="ignore")
        return LogRequest(text)


def shown(line: Line, *, stamped: bool) -> str:
    head = f"{line.at.strftime('%Y-%m-%dT%H:%M:%S.%f')}000Z " if stamped else ""
    return f"{head}{line.text}\n"


def _container(pod: Stored, wanted: str) -> str:
    main = [each["name"] for each in pod.body["spec"]["containers"]]
    names = [each["name"] for _, each in containers(pod.body["spec"])]
    if not wanted and len(main) == 1:
        return str(main[0])
    if not wanted:
        shown_names = ", ".join(main)
        raise bad_request(
            f"a container name must be specified for pod {pod.name}, choose one of: [{shown_names}]"
        )
    if wanted not in names:
        raise bad_request(f"container {wanted} is not valid for pod {pod.name}")
    return wanted


def _started(pod: Stored, container: str, *, previous: bool) -> datetime.datetime:
    """When the container, or the one before it, started."""
    status = pod.body.get("status", {})
    for each in [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]:
        if each["name"] != container:
            continue
        state = each.get("lastState" if previous else "state") or {}
        for phase in ("running", "terminated"):
            if phase in state:
                return parsed(state[phase]["startedAt"])
        if not previous and "terminated" in (each.get("lastState") or {}):
            return parsed(each["lastState"]["terminated"]["startedAt"])
        if previous:
            raise bad_request(
                f'previous terminated container "{container}" in pod "{pod.name}" not found'
            )
        reason = state.get("waiting", {}).get("reason", "ContainerCreating")
        raise bad_request(
            f'container "{container}" in pod "{pod.name}" is waiting to start: {reason}'
        )
    raise bad_request(f'container "{container}" in pod "{pod.name}" is not available')
