"""One real node in a running cluster: kubelet, containerd, runc and fake cards.

    with RealNode(plane, folder, supervisor, cards=[Group("h100-sxm", 4)]) as node:
        image = node.base_image()  # or node.pack_image("example.com/mine:1", {...}, cmd=[...])
        ...create pods through the API server: they really run...
        node.kill_card(node.cards.cards[0].id)

Pods have addresses of `node.place.pods`, which this machine reaches; they reach it at
`node.address`, and nothing else. Ask able.why_not() first: a real node needs root and more.
"""

from __future__ import annotations

import datetime
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType

from devstack.kube.api import APPLY, Api, ApiError, Json
from devstack.kube.controlplane import NODE_GROUP, ControlPlane
from devstack.kube.fleet import POOL_KEY, POOL_VALUE
from devstack.kube.node import config
from devstack.kube.node.able import snapshotter
from devstack.kube.node.build import Programs, build_programs
from devstack.kube.node.cards import FakeCard, FakeCards, Group
from devstack.kube.node.images import Content, Start, base_files, pack, take_in
from devstack.kube.node.inside import ENTERED
from devstack.kube.node.machine import Place
from devstack.process import Child, Supervisor, wait_until

REGISTRY = "registry.example.com/gpuyard"
DEFAULT_CARDS = (Group("h100-sxm", 4),)
# Another run's node may have the place first; the shepherd tells when its patience ends.
_PLACE_WITHIN_S = 330.0
_READY_WITHIN_S = 120.0
# Killing containers, and waiting until the kernel has let go of their control groups.
_STOP_GRACE_S = 25
_SOCKET_PATH_MAX = 107  # bytes, of the kernel
_REPOSITORY = Path(__file__).resolve().parents[3]


class RealNode:
    """A node called `name` of `plane`, with all its files in the new `folder`; a context manager.

    `cards`: its kinds of cards, at most one of each resource. `number`: its place on the machine,
    where one node at a time can be (None: the lowest that is free). `cpus`: how many processors it
    says to have, so that several cards can be sold with some each (None: those of the machine).
    `lease_s` (s): its lease is renewed four times in that. ValueError for unknown cards or a folder
    whose path is too long, machine.MachineError without a free place.
    """

    def __init__(
        self,
        plane: ControlPlane,
        folder: Path,
        supervisor: Supervisor,
        *,
        name: str = "real-1",
        cards: Sequence[Group] = DEFAULT_CARDS,
        number: int | None = None,
        cpus: int | None = None,
        lease_s: int = 8,
    ) -> None:
        self.name = name
        self.folder = folder
        self._socket = folder / "containerd.sock"
        if len(os.fsencode(self._socket)) > _SOCKET_PATH_MAX:
            raise ValueError(f"the path of {folder} is too long for a socket in it")
        self.place = Place.claim() if number is None else Place(number)
        folder.mkdir(parents=True)
        self.cards = FakeCards(folder / "cards", plane.name, name, cards)
        self._plane = plane
        self._files = plane.kubelet_files(name, self.address)
        self._supervisor = supervisor
        self._cpus = cpus
        self._lease_s = lease_s
        self._child: Child | None = None
        self._images: dict[str, str] = {}
        self._programs: Programs | None = None
        self._snapshotter = ""

    @property
    def address(self) -> str:
        """Where pods reach this machine, and the API server the kubelet."""
        return self.place.address

    @property
    def process(self) -> Child | None:
        """Its shepherd, None while it is stopped."""
        return self._child

    @property
    def runtime(self) -> Path:
        """The tree of containerd's packages, with busybox in it. Once started."""
        assert self._programs
        return self._programs.runtime

    def start(self) -> None:
        """Start it and return when it is Ready with all its cards; after `stop`, as a reboot does.

        Raises build.BuildError, debian.DebianError, process.ProcessError, api.ApiError; then
        nothing of it is left.
        """
        self._programs = self._programs or build_programs()
        self._snapshotter = self._snapshotter or snapshotter(self.folder)
        plan = self._write_plan(self._programs)
        self._grant()
        entered = self.folder / ENTERED
        entered.unlink(missing_ok=True)
        began = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        command = [sys.executable, "-m", "devstack.kube.node.shepherd"]
        self._child = child = self._supervisor.start(
            f"{self._plane.name}-{self.name}",
            [*command, str(self.place.number), str(plan)],
            cwd=_REPOSITORY,
            grace_s=_STOP_GRACE_S,
        )
        try:
            wait_until(entered.exists, "its place", child=child, deadline_s=_PLACE_WITHIN_S)
            wait_until(
                lambda: self.ready() and self._reported() > began,
                f"{self.name} is ready",
                child=child,
                deadline_s=_READY_WITHIN_S,
            )
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """End it as a power cut does; nothing but the files in its folder remains. Its objects in
        the cluster stay, see `forget`."""
        if self._child:
            self._supervisor.discard(self._child)
            self._child = None

    def forget(self) -> None:
        """Delete the stopped node and its pods from the cluster, and give its place back."""
        admin = self._plane.admin()
        for pod in admin.get("/api/v1/pods", fieldSelector=f"spec.nodeName={self.name}")["items"]:
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            _delete(admin, path, {"gracePeriodSeconds": 0})
        _delete(admin, f"/api/v1/nodes/{self.name}")
        self.place.release()

    def __enter__(self) -> RealNode:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        self.forget()

    def seen(self) -> Json:
        """The node as the API server has it. ApiError 404 before it registers."""
        return self._plane.admin().get(f"/api/v1/nodes/{self.name}")

    def ready(self) -> bool:
        """Whether pods can be scheduled to it, with all cards that live."""
        try:
            node = self.seen()
        except ApiError as error:
            if error.status != 404:
                raise
            return False
        states = {each["type"]: each["status"] for each in node["status"].get("conditions", [])}
        tainted = any(
            each["key"].startswith("node.kubernetes.io/") for each in node["spec"].get("taints", [])
        )
        offered = node["status"].get("allocatable", {})
        cards = self.cards.allocatable().items() <= offered.items()
        return states.get("Ready") == "True" and not tainted and cards

    def _reported(self) -> datetime.datetime:
        """When its kubelet last reported: what was said before a restart must not count."""
        (ready,) = [each for each in self.seen()["status"]["conditions"] if each["type"] == "Ready"]
        return datetime.datetime.fromisoformat(ready["lastHeartbeatTime"].replace("Z", "+00:00"))

    # -- images --------------------------------------------------------------------------------

    def pack_image(
        self,
        ref: str,
        files: Mapping[str, Content],
        *,
        entrypoint: Sequence[str] = (),
        cmd: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        user: str = "",
        workdir: str = "/",
    ) -> str:
        """Make an image of `files` and give it to the running node; `host/name:tag@sha256:...`.

        A pod with that reference and imagePullPolicy IfNotPresent finds it without any registry.
        `files` maps absolute paths to contents, see images.Content. Raises images.ImageError.
        """
        start = Start(entrypoint, cmd, env or {}, user, workdir)
        archive = self._archive(len(self._images))
        packed = pack(archive, ref, files, start)
        if packed not in self._images.values():
            ctr = self.runtime / "usr/bin/ctr"
            take_in(ctr, self._socket, archive, self._snapshotter)
        self._images[ref] = packed
        return packed

    def base_image(self) -> str:
        """A shell with the usual commands, run by root, that sleeps when told nothing else."""
        files = base_files(self.runtime / "bin/busybox")
        path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        return self.pack_image(
            f"{REGISTRY}/base:1", files, cmd=["sleep", "infinity"], env={"PATH": path}
        )

    def binary_image(self, binary: Path, *, name: str = "bare", path: str | None = None) -> str:
        """Nothing but one static program, at `path` (by default /<its name>), and started by
        default."""
        where = path or f"/{binary.name}"
        return self.pack_image(f"{REGISTRY}/{name}:1", {where: binary}, cmd=[where])

    def tools_image(self, podtools: Path) -> str:
        """The image of the tools' init container, for podtools.build_podtools()."""
        return self.binary_image(podtools, name="tools", path="/podtools")

    # -- cards ---------------------------------------------------------------------------------

    def card(self, uid: str) -> FakeCard:
        """KeyError for a card that is not here."""
        for each in self.cards.cards:
            if each.id == uid:
                return each
        raise KeyError(uid)

    def kill_card(self, uid: str) -> None:
        """The card answers no more; the node offers one less within two or three seconds."""
        self.card(uid).dead = True
        self.cards.write()

    def revive_card(self, uid: str) -> None:
        self.card(uid).dead = False
        self.cards.write()

    def use_card(self, uid: str, *, utilization: int, used_mib: int, celsius: int) -> None:
        """What the card's tool says from now on, in percent, MiB and degrees."""
        card = self.card(uid)
        card.utilization, card.used_mib, card.celsius = utilization, used_mib, celsius
        self.cards.write()

    # -- files ---------------------------------------------------------------------------------

    def _archive(self, number: int) -> Path:
        return self.folder / f"image-{number}.tar"

    def _write_plan(self, programs: Programs) -> Path:
        """All files that the inside needs, and what it is to start."""
        tool = programs.tools / "cardtools"
        archive = self.folder / "pause.tar"
        pause = pack(archive, f"{REGISTRY}/pause:1", {"/pause": tool}, Start(entrypoint=["/pause"]))
        # The name without the tag: containerd looks its own image up as it is written.
        pause = pause.replace(":1@", "@")
        labels = {**self.cards.labels, POOL_KEY: POOL_VALUE}
        taint = f"{POOL_KEY}={POOL_VALUE}:NoSchedule"
        cni = self.folder / "cni"
        cni.mkdir(exist_ok=True)
        texts = {
            "containerd.toml": config.containerd(
                self.folder, programs.runtime, pause, self._snapshotter
            ),
            "kubelet.json": config.kubelet(self.folder, self.place, self._files, self._lease_s),
            "cni/pods.conflist": config.network(self.place),
            "resolv.conf": "",
            "cards.json": json.dumps(self.cards.plugin_spec(config.SOCKETS, tool)),
        }
        for name, text in texts.items():
            (self.folder / name).write_text(text)
        plan = {
            "containerd": [
                str(programs.runtime / "usr/bin/containerd"),
                f"--config={self.folder / 'containerd.toml'}",
            ],
            "deviceplugin": [
                str(programs.kubelet / "deviceplugin"),
                str(self.folder / "cards.json"),
            ],
            "kubelet": config.kubelet_command(
                programs.kubelet / "kubelet",
                self.folder,
                self.place,
                self._files,
                self.name,
                labels,
                taint,
            ),
            "ctr": str(programs.runtime / "usr/bin/ctr"),
            "snapshotter": self._snapshotter,
            "archives": [str(archive)],
            "cpus": self._cpus,
            "environment": {
                "PATH": f"{programs.path}:{os.environ['PATH']}",
                "LD_LIBRARY_PATH": programs.libraries,
            },
        }
        path = self.folder / "plan.json"
        path.write_text(json.dumps(plan, indent=1))
        return path

    def _grant(self) -> None:
        """Kubelets' rights. Clusters that authorize nodes one by one have no such binding."""
        group = "rbac.authorization.k8s.io"
        binding = {
            "apiVersion": f"{group}/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "real-nodes"},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": "system:node"},
            "subjects": [{"apiGroup": group, "kind": "Group", "name": NODE_GROUP}],
        }
        path = f"/apis/{group}/v1/clusterrolebindings/real-nodes"
        self._plane.admin().patch(path, binding, APPLY, fieldManager="real-node", force="true")


def _delete(admin: Api, path: str, body: Json | None = None) -> None:
    try:
        admin.delete(path, body)
    except ApiError as error:
        if error.status != 404:
            raise
