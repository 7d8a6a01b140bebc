"""The node simulator: registers nodes and plays their kubelets against a real control plane.

    python -m devstack.kube.nodesim --kubeconfig FILE --cluster NAME --fleet PRESET_OR_FILE
                                    --control-port PORT --kubelet-port PORT --kubelet-pki DIR

It binds nothing, the real scheduler does. Pods bound to its nodes get their cards, start, pass or
fail their check, run, and go when deleted, with the statuses and events of a real kubelet. Orders
for faults come over a loopback HTTP port (simcontrol.py). Truth is the full list; the watch only
shortens the delay.
"""

from __future__ import annotations

import argparse
import queue
import signal
import sys
import threading
import time
from pathlib import Path

from devstack.kube.api import Api, ApiError, Json
from devstack.kube.faults import Orders
from devstack.kube.fleet import Machine, load_fleet
from devstack.kube.kubelet import serve_kubelet
from devstack.kube.podlife import Pod
from devstack.kube.simcontrol import serve_control
from devstack.kube.simnode import SimNode
from devstack.kube.storagesim import StorageSim, load_storage
from devstack.kube.timeline import Timeline

# Enough to overlap the server's few milliseconds per request; more only compete for the cores.
WORKERS = 4
# Real kubelets report their status at least this often and renew their lease every ten seconds.
REPORT_EVERY_S = 300.0
# The server ends a watch after this, so that a relist repairs whatever was missed.
WATCH_SECONDS = 120
_RETRY_S = 0.5


class Simulator:
    """All nodes of one cluster. `run` returns after `stop`; its threads are daemons.

    `timeline`: the pods' own unless several clusters of a process share one.
    """

    def __init__(
        self,
        cluster: str,
        machines: list[Machine],
        api: Api,
        *,
        heartbeat_s: float = 10.0,
        kubelet_port: int = 10250,
        timeline: Timeline | None = None,
    ) -> None:
        self.orders = Orders()
        self.ready = threading.Event()
        self._stopping = threading.Event()
        self._api = api
        self._heartbeat_s = heartbeat_s
        self._beat = threading.Event()  # set: look at the nodes before the next heartbeat is due
        self._events: queue.SimpleQueue[tuple[str, Json] | None] = queue.SimpleQueue()
        self._timeline = timeline or Timeline(WORKERS, say)
        version = api.get("/version")["gitVersion"]
        self.nodes = {
            machine.name: SimNode(
                cluster,
                machine,
                api=api,
                orders=self.orders,
                events=self._events,
                say=say,
                kubelet_version=version,
                kubelet_port=kubelet_port,
            )
            for machine in machines
        }
        self._pods: dict[str, Pod] = {}  # touched by the watching thread alone

    def run(self) -> None:
        """Register all nodes, then follow pods until the process ends or `stop`."""
        for node in self.nodes.values():
            node.register()
        threading.Thread(target=self._heartbeats, name="heartbeats", daemon=True).start()
        threading.Thread(target=self._post_events, name="events", daemon=True).start()
        while not self._stopping.is_set():
            try:
                self._follow(self._relist())
            except ApiError as error:
                if error.status != 410:  # too old a resourceVersion: list again, at once
                    say(f"watching pods: {error}")
                    self._stopping.wait(_RETRY_S)
            except OSError as error:
                if not self._stopping.wait(_RETRY_S):
                    say(f"watching pods: {error!r}")

    def stop(self) -> None:
        """Let go of nodes and pods in this process, as a power cut does: nothing is written."""
        self._stopping.set()
        self._beat.set()
        self._events.put(None)
        for node in self.nodes.values():
            for pod in node.pods():
                pod.life.replace(pod.nothing)

    def orders_changed(self) -> None:
        """Look at the standing orders again: cards, silence, and every pod's next step."""
        for node in self.nodes.values():
            try:
                node.apply_orders()
            except (ApiError, OSError) as error:  # the next heartbeat tries again
                say(f"{node.machine.name}: {error}")
            for pod in node.pods():
                pod.life.wake()
        self._beat.set()

    # -- pods ----------------------------------------------------------------------------------

    def _relist(self) -> str:
        """Bring all pods in line with the server's list; the list's resourceVersion."""
        listed = self._api.get("/api/v1/pods", fieldSelector="spec.nodeName!=")
        present = {item["metadata"]["uid"]: item for item in listed["items"]}
        for uid in [uid for uid in self._pods if uid not in present]:
            self._gone(uid)
        for item in present.values():
            self._seen(item)
        self.ready.set()
        version: str = listed["metadata"]["resourceVersion"]
        return version

    def _follow(self, version: str) -> None:
        events = self._api.watch(
            "/api/v1/pods",
            silence_s=WATCH_SECONDS + 30,
            fieldSelector="spec.nodeName!=",
            resourceVersion=version,
            timeoutSeconds=str(WATCH_SECONDS),
        )
        for event in events:
            if event["type"] == "DELETED":
                self._gone(event["object"]["metadata"]["uid"])
            elif event["type"] in {"ADDED", "MODIFIED"}:
                self._seen(event["object"])

    def _seen(self, body: Json) -> None:
        node = self.nodes.get(body["spec"]["nodeName"])
        if node is None:  # a node of somebody else
            return
        uid = body["metadata"]["uid"]
        pod = self._pods.get(uid)
        if pod is None:
            pod = self._admit(node, body)
        pod.body = body
        if "deletionTimestamp" in body["metadata"] and not pod.ending:
            pod.ending = True
            pod.life.replace(pod.end)
        elif not pod.ending and pod.contradicted():
            pod.write_again()

    def _admit(self, node: SimNode, body: Json) -> Pod:
        pod = Pod(node, body)
        self._pods[pod.uid] = pod
        node.add(pod)
        if body.get("status", {}).get("phase") in {"Running", "Succeeded", "Failed"}:
            pod.adopt()  # from before a restart of this program
            pod.life = self._timeline.begin(pod.go_on())
        else:
            pod.life = self._timeline.begin(pod.begin())
        return pod

    def _gone(self, uid: str) -> None:
        pod = self._pods.pop(uid, None)
        if pod is not None:
            pod.life.replace(pod.nothing)
            pod.node.forget(pod)

    # -- the nodes' own traffic ------------------------------------------------------------------

    def _heartbeats(self) -> None:
        reported = dict.fromkeys(self.nodes, time.monotonic())
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                unready = self._nodes_unready_on_server()
                for name, node in self.nodes.items():
                    if node.silent():
                        continue
                    node.renew_lease()
                    if name in unready or began - reported[name] > REPORT_EVERY_S:
                        node.report()
                        reported[name] = began
            except (ApiError, OSError) as error:  # the next round tries again
                say(f"heartbeats: {error}")
            self._beat.wait(max(0.0, self._heartbeat_s - (time.monotonic() - began)))
            self._beat.clear()

    def _nodes_unready_on_server(self) -> set[str]:
        """Nodes that the node controller has given up, after silence or an outage."""
        return {
            item["metadata"]["name"]
            for item in self._api.get("/api/v1/nodes")["items"]
            for condition in item["status"]["conditions"]
            if condition["type"] == "Ready" and condition["status"] != "True"
        }

    def _post_events(self) -> None:
        """Events are a side channel: one that cannot be posted is logged and dropped."""
        while (found := self._events.get()) is not None:
            path, body = found
            try:
                self._api.post(path, body)
            except ApiError as error:
                if error.status not in {403, 404}:  # the namespace is being deleted
                    say(f"event {body['reason']}: {error}")
            except OSError as error:
                say(f"event {body['reason']}: {error!r}")


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; exit status 1 when nodes cannot be registered."""
    parser = argparse.ArgumentParser(prog="devstack.kube.nodesim")
    parser.add_argument("--kubeconfig", type=Path, required=True)
    parser.add_argument("--cluster", required=True, help="prefix of node names and device ids")
    parser.add_argument("--fleet", required=True, help="preset, .toml or .json file")
    parser.add_argument("--control-port", type=int, required=True)
    parser.add_argument("--kubelet-port", type=int, required=True)
    parser.add_argument(
        "--kubelet-pki", type=Path, required=True, help="kubelet.crt and .key, ca.crt"
    )
    parser.add_argument("--heartbeat-s", type=float, default=10.0)
    given = parser.parse_args(arguments)
    api = Api.from_kubeconfig(given.kubeconfig)
    simulator = Simulator(
        given.cluster,
        load_fleet(given.cluster, given.fleet),
        api,
        heartbeat_s=given.heartbeat_s,
        kubelet_port=given.kubelet_port,
    )
    pki: Path = given.kubelet_pki
    serve_kubelet(
        simulator,
        given.kubelet_port,
        cert=pki / "kubelet.crt",
        key=pki / "kubelet.key",
        ca=pki / "ca.crt",
    )
    serve_control(simulator, given.control_port)
    storage = load_storage(given.fleet)
    if storage is not None:
        StorageSim(storage, api=api, orders=simulator.orders, say=say).start()
    ended: queue.SimpleQueue[int] = queue.SimpleQueue()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.put(0))

    def run() -> None:
        try:
            simulator.run()
        finally:  # it only ends by an error, whose trace the thread prints
            ended.put(1)

    threading.Thread(target=run, name="pods", daemon=True).start()
    return ended.get()


def say(text: str) -> None:
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
