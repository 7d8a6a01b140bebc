"""The files that containerd, the kubelet and the network plugins of a real node are started with.

Pure apart from the writing. Paths are those that the node's own mount namespace has (inside.py):
there /var/lib, /var/log and /run are the node's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from devstack.kube.controlplane import KubeletFiles
from devstack.kube.node.machine import Place

KUBELET_PORT = 10250
SOCKETS = Path("/var/lib/kubelet/device-plugins")  # fixed in the kubelet
_PLUGINS = "io.containerd"


def containerd(folder: Path, runtime: Path, pause: str, snapshotter: str) -> str:
    """TOML. Its socket is in `folder`, where the host reaches it too."""
    cri = f'plugins."{_PLUGINS}.grpc.v1.cri"'
    runc = f"{cri}.containerd.runtimes.runc"
    unused = ["btrfs", "devmapper", "zfs", "aufs"]
    disabled = [f"{_PLUGINS}.snapshotter.v1.{each}" for each in unused]
    sections: dict[str, dict[str, object]] = {
        "": {
            "version": 2,
            "root": "/var/lib/containerd",
            "state": "/run/containerd",
            "disabled_plugins": disabled,
        },
        "grpc": {"address": str(folder / "containerd.sock")},
        cri: {
            "sandbox_image": pause,
            # Lowering it needs a capability that root in a virtual machine's shell may lack.
            "restrict_oom_score_adj": True,
            "disable_apparmor": True,
            "disable_hugetlb_controller": True,
        },
        f"{cri}.containerd": {"snapshotter": snapshotter, "default_runtime_name": "runc"},
        runc: {"runtime_type": "io.containerd.runc.v2"},
        f"{runc}.options": {"BinaryName": str(runtime / "usr/sbin/runc"), "SystemdCgroup": False},
        f"{cri}.cni": {
            "bin_dir": str(runtime / "usr/lib/cni"),
            "conf_dir": str(folder / "cni"),
        },
    }
    lines: list[str] = []
    for head, values in sections.items():
        lines += [f"[{head}]"] if head else []
        # JSON's strings, numbers, booleans and flat lists are TOML's.
        lines += [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    return "\n".join(lines) + "\n"


def network(place: Place) -> str:
    """Pods on one bridge, which is their way to the machine. There is no way further."""
    ranges = [[{"subnet": place.pods, "gateway": place.gateway}]]
    bridge = {
        "type": "bridge",
        "bridge": place.bridge,
        "isGateway": True,
        "ipMasq": False,
        "ipam": {"type": "host-local", "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
    }
    return json.dumps({"cniVersion": "0.4.0", "name": place.bridge, "plugins": [bridge]})


def kubelet(folder: Path, place: Place, files: KubeletFiles, lease_s: int) -> str:
    """KubeletConfiguration as JSON, which is YAML. The lease is renewed four times in `lease_s`."""
    config: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": place.address,
        "port": KUBELET_PORT,
        "readOnlyPort": 0,
        "healthzPort": 0,
        "tlsCertFile": str(files.serving.cert),
        "tlsPrivateKeyFile": str(files.serving.key),
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(files.ca)},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{place.name}",
        "enforceNodeAllocatable": ["pods"],
        "failSwapOn": False,
        "makeIPTablesUtilChains": False,
        "resolvConf": str(folder / "resolv.conf"),
        "maxOpenFiles": 1024,  # more would need a capability
        "oomScoreAdj": 0,  # less likewise
        "nodeLeaseDurationSeconds": lease_s,
        "nodeStatusUpdateFrequency": "1s",  # a dead card shows within two
        "nodeStatusReportFrequency": "10s",  # without any change
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # Images are packed here and could not be fetched again; a full disk is the machine's
        # owner's to see, and must not end pods in the middle of a test.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {
            "memory.available": "50Mi",
            "nodefs.available": "100Mi",
            "imagefs.available": "100Mi",
        },
    }
    return json.dumps(config, indent=1)


def kubelet_command(
    program: Path,
    folder: Path,
    place: Place,
    files: KubeletFiles,
    name: str,
    labels: dict[str, str],
    taint: str,
) -> list[str]:
    return [
        str(program),
        f"--config={folder / 'kubelet.json'}",
        f"--kubeconfig={files.kubeconfig}",
        "--container-runtime=remote",
        f"--container-runtime-endpoint=unix://{folder / 'containerd.sock'}",
        "--root-dir=/var/lib/kubelet",
        "--cert-dir=/var/lib/kubelet/pki",
        f"--hostname-override={name}",
        f"--node-ip={place.address}",
        f"--node-labels={','.join(f'{key}={value}' for key, value in labels.items())}",
        f"--register-with-taints={taint}",
        "--v=2",
    ]
