"""The life of one pod on a simulated node, from its binding to its end.

A generator for `timeline`: it pushes statuses in the order and shape of a kubelet with containerd,
and rests between them. What is not simulated: commands. A main container runs until its pod is
deleted or an order for a fault ends it. The init container called `gpuyard-check` reports the
cards it sees; a main container says at its start which it has, and what an order makes it print.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from devstack.kube import podstatus, probes
from devstack.kube.api import STRATEGIC_MERGE, ApiError, Json
from devstack.kube.devices import NoDevicesError
from devstack.kube.faults import Order
from devstack.kube.fleet import Card
from devstack.kube.podlogs import PodLogs
from devstack.kube.timeline import Life, Steps

if TYPE_CHECKING:
    from devstack.kube.simnode import SimNode

# Back-offs double up to this, as the kubelet's do.
_LONGEST_BACK_OFF_S = 300.0
# ErrImagePull is shown this long before it turns into ImagePullBackOff.
_PULL_ERROR_SHOWN_S = 1.0
_RETRY_S = 0.5
# How long a container takes to end after SIGTERM.
_STOP_S = 0.02


class Pod:
    """A pod bound to `node`. `body` is its last observed object."""

    def __init__(self, node: SimNode, body: Json) -> None:
        self.node = node
        self.body = body
        self.uid: str = body["metadata"]["uid"]
        self.spec: Json = body["spec"]
        self.life: Life  # set by whoever puts the pod on a timeline
        self.ending = False
        self._stale = False
        self._pushed_version = 0
        self.ip = ""
        self.phase = "Pending"
        self.start_time = podstatus.timestamp()
        self.failure: Json = {}
        self.conditions: list[Json] = body.get("status", {}).get("conditions", [])
        self.init = [
            podstatus.container_status(c, "PodInitializing")
            for c in self.spec.get("initContainers", [])
        ]
        reason = "PodInitializing" if self.init else "ContainerCreating"
        self.main = [podstatus.container_status(c, reason) for c in self.spec["containers"]]
        self.logs = PodLogs()

    @property
    def card(self) -> Card:
        """The kind of the node's cards that it asks for."""
        return self.node.machine.card_of(self.spec)

    @property
    def metadata(self) -> Json:
        metadata: Json = self.body["metadata"]
        return metadata

    @property
    def path(self) -> str:
        return f"/api/v1/namespaces/{self.metadata['namespace']}/pods/{self.metadata['name']}"

    def adopt(self) -> None:
        """Take over a pod that ran before the simulator was restarted."""
        status = self.body["status"]
        self.phase = status["phase"]
        self.start_time = status.get("startTime", self.start_time)
        self.ip = status.get("podIP", "")
        self.init = status.get("initContainerStatuses", [])
        self.main = status.get("containerStatuses", [])
        self._stale = True
        if self.phase == "Running":
            resource = self.card.resource
            count = podstatus.cards_requested(self.spec, resource)
            self.node.give(self, resource, count, podstatus.proven_uids(status))
            self.node.take_ip(self)
            for container in self.main:  # what it wrote before went with the simulator
                self.logs.begin(container["name"], self.node.devices_of(self))

    def contradicted(self) -> bool:
        """Whether somebody wrote another readiness after our last status, as the node controller
        does for the pods of a node that it gives up."""
        newer = int(self.metadata["resourceVersion"]) > self._pushed_version > 0
        written = self.body["status"].get("conditions", [])
        return newer and _readiness(written) != _readiness(self.conditions)

    def write_again(self) -> None:
        """The server holds something else than this node sees: write the status once more."""
        self._stale = True
        self.life.wake()

    # -- lives ---------------------------------------------------------------------------------

    def begin(self) -> Steps:
        """From binding to running, then on."""
        try:
            resource = self.card.resource
            self.node.give(self, resource, podstatus.cards_requested(self.spec, resource), ())
        except NoDevicesError as error:
            yield from self._refuse(f"Allocate failed due to {error}, which is unexpected")
            return
        yield from self._push()
        for container, status in zip(self.spec.get("initContainers", []), self.init, strict=True):
            if not (yield from self._run_init(container, status)):
                return
        for container, status in zip(self.spec["containers"], self.main, strict=True):
            yield from self._pull(container, status)
        yield from self._start_main()
        if probes.is_probe(self.spec):
            yield from self._measure()
        else:
            yield from self.go_on()

    def go_on(self) -> Steps:
        """A running pod: rests until an order makes it crash."""
        while self.phase == "Running":
            if self._order("crash"):
                yield from self._crash()
            elif (order := self._order("log")) and order.id > self.logs.printed:
                yield from self._print(order)
            elif self._stale:
                self._stale = False
                yield from self._push()
            else:
                yield None

    def nothing(self) -> Steps:
        """The object is gone, so there is nothing left to do."""
        yield from ()

    def end(self) -> Steps:
        """Deletion was asked for: stop the containers, then remove the object."""
        began = time.monotonic()
        while (rest := began + self._stop_time() - time.monotonic()) > 0:
            yield rest
        for status in self.init + self.main:
            if "running" in status["state"]:
                self.node.event(self, "Normal", "Killing", f"Stopping container {status['name']}")
                podstatus.end_container(status, 143)
        self.logs.end("received SIGTERM, ending")
        yield from self._push()
        yield from self._tried(self._delete)
        self.node.forget(self)

    # -- pieces --------------------------------------------------------------------------------

    def _refuse(self, message: str) -> Iterator[float | None]:
        self.phase = "Failed"
        self.failure = {"reason": "UnexpectedAdmissionError", "message": message}
        self.init, self.main = [], []
        self.node.event(self, "Warning", "UnexpectedAdmissionError", message)
        yield from self._push()

    def _run_init(self, container: Mapping[str, Any], status: Json) -> Iterator[float | None] | Any:
        """Run one init container to success; False when the pod failed for good."""
        yield from self._pull(container, status)
        back_off = 0.0
        while True:
            podstatus.start_container(status)
            self._announce_start(status)
            yield from self._push()
            order = self._order("init_failure")
            if order is None:
                podstatus.end_container(status, 0, self._report(container))
                status["ready"] = True
                return True
            podstatus.end_container(status, order.params["exit_code"], order.params["message"])
            if self.spec.get("restartPolicy", "Always") == "Never":
                yield from self._finish("Failed")
                return False
            back_off = yield from self._back_off([status], order, back_off)
            status["restartCount"] += 1

    def _start_main(self) -> Iterator[float | None]:
        for status in self.main:
            podstatus.start_container(status)
            self._announce_start(status)
            self.logs.begin(status["name"], self.node.devices_of(self))
        self.phase = "Running"
        delay = max(map(_readiness_delay, self.spec["containers"]))
        if delay:
            yield from self._push()
            yield delay
        for status in self.main:
            status["ready"] = True
        yield from self._push()

    def _measure(self) -> Iterator[float | None]:
        """A probe of the platform's tools: it ends at once, with the figures of this machine."""
        given, card = self.node.devices_of(self), self.node.machine.card
        message = probes.message(self.spec, card, given, self.node.address)
        for status in self.main:
            podstatus.end_container(status, 0, message)
        yield from self._finish("Succeeded")

    def _crash(self) -> Iterator[float | None]:
        """Crash as long as it is ordered: restart at once, later after a growing back-off."""
        back_off = -1.0
        while order := self._order("crash"):
            yield from self._rest(order.params["after_s"])
            for status in self.main:
                podstatus.end_container(status, order.params["exit_code"])
            self.logs.end(f"fatal: exit code {order.params['exit_code']}")
            yield from self._push()
            policy = self.spec.get("restartPolicy", "Always")
            if policy == "Never" or (policy == "OnFailure" and order.params["exit_code"] == 0):
                yield from self._finish("Failed" if order.params["exit_code"] else "Succeeded")
                return
            if back_off < 0:
                back_off = 0.0
            else:
                back_off = yield from self._back_off(self.main, order, back_off)
            for status in self.main:
                status["restartCount"] += 1
            yield from self._start_main()

    def _print(self, order: Order) -> Iterator[float | None]:
        """What the order says, at its pace or all at once; ends early when it is withdrawn."""
        for pause in self.logs.printing(order):
            yield from self._rest(pause)
            if self._order("log") is not order:
                return

    def _finish(self, phase: str) -> Iterator[float | None]:
        """A pod that will not run again gives its cards back and stays as a record."""
        self.phase = phase
        self.node.release_devices(self)
        yield from self._push()

    def _back_off(
        self, ended: Sequence[Json], order: Order, last_s: float
    ) -> Generator[float | None, None, float]:
        """Wait before a restart; shorter when the order is withdrawn. Returns the full seconds."""
        delay = min(last_s * 2 or order.params["backoff_s"], _LONGEST_BACK_OFF_S)
        for status in ended:
            podstatus.back_off(status, delay, self.metadata["name"])
        self.node.event(self, "Warning", "BackOff", "Back-off restarting failed container")
        yield from self._push()
        yield from self._rest(delay, lambda: self._order(order.kind) is not None)
        return delay

    def _pull(self, container: Mapping[str, Any], status: Json) -> Iterator[float | None]:
        image = container["image"]
        if image in self.node.images and container.get("imagePullPolicy") != "Always":
            message = f'Container image "{image}" already present on machine'
            self.node.event(self, "Normal", "Pulled", message)
            return
        self.node.event(self, "Normal", "Pulling", f'Pulling image "{image}"')
        began = time.monotonic()
        slow = self._order("slow_pull")
        if slow:
            yield from self._push()
            seconds = slow.params["seconds"]
            yield from self._rest(seconds, lambda: self._order("slow_pull") is not None)
        back_off = 0.0
        while order := self._order("pull_error"):
            back_off = yield from self._fail_pull(image, status, order, back_off)
        self.node.images.add(image)
        took = time.monotonic() - began
        message = f'Successfully pulled image "{image}" in {took:.6f}s'
        self.node.event(self, "Normal", "Pulled", message)

    def _fail_pull(
        self, image: str, status: Json, order: Order, last_s: float
    ) -> Generator[float | None, None, float]:
        """One failed attempt and the back-off after it, whose full seconds it returns."""

        def still() -> bool:
            return self._order("pull_error") is not None

        text = order.params["message"]
        status["state"] = podstatus.waiting("ErrImagePull", text)
        self.node.event(self, "Warning", "Failed", f'Failed to pull image "{image}": {text}')
        self.node.event(self, "Warning", "Failed", "Error: ErrImagePull")
        yield from self._push()
        yield from self._rest(_PULL_ERROR_SHOWN_S, still)
        delay = min(last_s * 2 or order.params["backoff_s"], _LONGEST_BACK_OFF_S)
        message = f'Back-off pulling image "{image}"'
        status["state"] = podstatus.waiting("ImagePullBackOff", message)
        self.node.event(self, "Normal", "BackOff", message)
        yield from self._push()
        yield from self._rest(delay, still)
        return delay

    def _report(self, container: Mapping[str, Any]) -> str:
        """Termination message of an init container, with the lies that were ordered."""
        if container["name"] != podstatus.CHECK_CONTAINER:
            return ""
        card = self.card
        visible = self.node.devices_of(self)[: podstatus.limit_of(container, card.resource)]
        text = self._order("bad_proof")
        if text:
            return str(text.params["text"])
        fewer = self._order("wrong_count")
        if fewer:
            visible = visible[: max(0, len(visible) - fewer.params["missing"])]
        other = self._order("wrong_model")
        model = other.params["model"] if other else card.model
        memory_mib = other.params["memory_mib"] if other else card.memory_mib
        return podstatus.proof(card, visible, model=model, memory_mib=memory_mib)

    def _announce_start(self, status: Json) -> None:
        for verb in ("Created", "Started"):
            self.node.event(self, "Normal", verb, f"{verb} container {status['name']}")

    def _order(self, kind: str) -> Order | None:
        return self.node.orders.for_pod(kind, self.node.machine.name, self.metadata)

    def _stop_time(self) -> float:
        """Seconds its containers take to end: the whole grace when they ignore SIGTERM."""
        grace = float(self.metadata.get("deletionGracePeriodSeconds") or 0)
        return grace if self._order("slow_stop") else min(grace, _STOP_S)

    def _rest(
        self, seconds: float, still: Callable[[], bool] = lambda: True
    ) -> Iterator[float | None]:
        """Rest so long, through wake-ups, or until `still()` is false at one of them."""
        until = time.monotonic() + seconds
        while still() and (left := until - time.monotonic()) > 0:
            yield left

    # -- the server ----------------------------------------------------------------------------

    def status(self) -> Json:
        """The whole status as the kubelet of this node sees it now."""
        self.conditions = podstatus.conditions(self.init, self.main, self.conditions)
        status: Json = {
            "phase": self.phase,
            "hostIP": self.node.address,
            "startTime": self.start_time,
            "conditions": self.conditions,
            "containerStatuses": self.main,
            **self.failure,
        }
        if self.init:
            status["initContainerStatuses"] = self.init
        if any("containerID" in c for c in self.init + self.main):  # the sandbox is up
            self.ip = self.ip or self.node.take_ip(self)
            status |= {"podIP": self.ip, "podIPs": [{"ip": self.ip}]}
        return status

    def _push(self) -> Iterator[float | None]:
        yield from self._tried(self._patch_status)

    def _patch_status(self) -> None:
        body = {"metadata": {"uid": self.uid}, "status": self.status()}
        answer = self.node.api.patch(f"{self.path}/status", body, STRATEGIC_MERGE)
        self._pushed_version = int(answer["metadata"]["resourceVersion"])

    def _delete(self) -> None:
        options = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        self.node.api.delete(self.path, options)

    def _tried(self, call: Callable[[], None]) -> Iterator[float | None]:
        """Call until the server has answered. A pod that is gone (404, or another one under its
        name) needs nothing more. A silent node waits here until it may speak again."""
        while True:
            while self.node.silent():
                yield None
            try:
                call()
            except ApiError as error:
                if error.status == 404 or "uid" in error.message.lower():
                    return
                self.node.say(f"{self.path}: {error}")
            except OSError as error:
                self.node.say(f"{self.path}: {error!r}")
            else:
                return
            yield _RETRY_S


def _readiness(conditions: Sequence[Mapping[str, Any]]) -> str | None:
    return {condition["type"]: condition["status"] for condition in conditions}.get("Ready")


def _readiness_delay(container: Mapping[str, Any]) -> float:
    probe = container.get("readinessProbe") or {}
    return float(probe.get("initialDelaySeconds", 0))
