"""The objects that reach clusters, pinned, and held against a policy that shares no code with
their builder.

Set GPUYARD_WRITE_GOLDEN=1 to write the files anew after a change that is meant.
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from provisioner.inventory.accelerators import by_slug, families
from provisioner.kube import claims, manifests
from provisioner.kube.compose import CORE, compose
from provisioner.kube.probe_pod import probe_pod
from provisioner.kube.spec import ClaimMount, PodSpec, ProbeSpec, ToolKeys, ToolsSpec
from provisioner.reconcile.steps import parts_of

FILES = Path(__file__).with_name("provisioner")
DIGEST = "sha256:" + "ab" * 32


def spec(slug: str = "nvidia-h100-80gb-sxm", **more: Any) -> PodSpec:
    family, model = by_slug()[slug]
    plain = PodSpec(
        pod_name="gy-01h455vb4pex5vsknk084sn02q",
        instance="ins_01h455vb4pex5vsknk084sn02q",
        rental="ren_01h455vb4pex5vsknk084sn02r",
        tenant="org_01h455vb4pex5vsknk084sn02s",
        generation=1,
        node="node-1",
        resource=family.resource,
        runtime_class=family.runtime_class,
        check=family.check,
        runtime_tool=family.tool == "runtime",
        parts=parts_of(family, model),
        tools=ToolsSpec(
            image=f"registry.example.com/gpuyard/podtools@{DIGEST}",
            report_url="https://gpuyard.example.com/api/v1/instance-reports",
            usage=family.usage.strip(),
        ),
        gpus=2,
        vcpus_milli=47000,
        ram_mib=522240,
        disk_mib=102400,
        image=f"registry.example.com/tools/pytorch@{DIGEST}",
        command=("sleep", "infinity"),
        ports=(8080,),
        env_names=("HF_TOKEN",),
        has_pull_secret=True,
        termination_grace=10,
        grace_seconds=600,
        server_version="v1.20.2",
    )
    return replace(plain, **more)


CASES: dict[str, PodSpec] = {
    "nvidia-1.20": spec(),
    "nvidia-1.33": spec(server_version="v1.33.1+build"),
    "ascend": spec("ascend-910b", gpus=8),
    "amd-plain": spec(
        "amd-mi300x", gpus=1, command=(), ports=(), env_names=(), has_pull_secret=False
    ),
    "interruptible": spec(notice=True, termination_grace=30),
    "runtime-class": spec(runtime_class="kata"),
    "web-capped": spec(egress="web", bandwidth_mbps=500),
    "volumes": spec(
        volumes=(
            ClaimMount("gv-01h455vb4pex5vsknk084sn02t", "/data"),
            ClaimMount("gv-01h455vb4pex5vsknk084sn02u", "/models", read_only=True),
        )
    ),
}
# One for each table of the registry, and parts of cards under both names that plugins give them.
CASES |= {
    f"family-{name.replace('/', '-').lower()}": spec(family.models[0].slug, resource=name)
    for name, family in families().items()
    if not family.profile
}
PART = "nvidia-h100-80gb-sxm-mig-1g.10gb"
CASES |= {"part-mixed": spec(PART), "part-single": spec(PART, resource="nvidia.com/gpu")}


def test_no_family_is_without_its_pod() -> None:
    vendors = {family.vendor for family in families().values()}
    pinned = [case.resource for name, case in CASES.items() if name.startswith("family-")]
    assert len(pinned) == len(set(pinned)) == sum(not f.profile for f in families().values())
    assert vendors == {families()[name].vendor for name in pinned}
    stale = {file.stem for file in FILES.glob("pod-*.json")} - {f"pod-{name}" for name in CASES}
    assert not stale


@pytest.mark.parametrize("name", sorted(CASES))
def test_pods_are_as_pinned(name: str) -> None:
    text = json.dumps(manifests.pod(CASES[name]), indent=1, sort_keys=True) + "\n"
    file = FILES / f"pod-{name}.json"
    if os.environ.get("GPUYARD_WRITE_GOLDEN"):
        FILES.mkdir(exist_ok=True)
        file.write_text(text)
    assert file.read_text() == text


_TOOLS_VOLUME = {"name": "tools", "emptyDir": {"sizeLimit": "32Mi"}}


def _capabilities(container: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = container["securityContext"]["capabilities"]
    return found


def mib(amount: str) -> int:
    """ "3Gi" or "3072Mi": servers write amounts in the largest unit that fits."""
    return int(amount[:-2]) * {"Mi": 1, "Gi": 1024, "Ti": 1024**2}[amount[-2:]]


def violations(pod: dict[str, Any], ordered: PodSpec) -> list[str]:
    """Every rule for a tenant's pod, written from the rules and not from the builder."""
    found = []
    body, meta = pod["spec"], pod["metadata"]
    containers = body["containers"] + body["initContainers"]
    alone = ordered.runtime_tool  # the check needs nothing of the tenant's image

    def rule(text: str, kept: bool) -> None:
        if not kept:
            found.append(text)

    rule(
        "labels name instance, rental, tenant, generation",
        all(
            meta["labels"].get(f"gpuyard.io/{key}")
            for key in ("instance", "rental", "tenant", "generation")
        ),
    )
    capped = f"{ordered.bandwidth_mbps}M"
    caps = {
        "kubernetes.io/ingress-bandwidth": capped,
        "kubernetes.io/egress-bandwidth": capped,
    }
    rule(
        "no annotations but its owner's cap",
        meta.get("annotations", {}) == ({} if ordered.bandwidth_mbps is None else caps),
    )
    less = {} if ordered.egress == "internet" else {"gpuyard.io/egress": ordered.egress}
    shown = {key: value for key, value in meta["labels"].items() if key == "gpuyard.io/egress"}
    rule("as much of the network as its offer gives", shown == less)
    rule("no service-account token", body["automountServiceAccountToken"] is False)
    rule("no service links", body["enableServiceLinks"] is False)
    rule("no host namespaces", not {"hostPID", "hostIPC", "hostNetwork"} & set(body))
    rule("bound by affinity, never by nodeName", "nodeName" not in body)
    terms = body["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    fields = [f for term in terms for f in term["matchFields"]]
    rule(
        "exactly the reserved node",
        fields == [{"key": "metadata.name", "operator": "In", "values": [ordered.node]}],
    )
    rule("restarts counted by us", body["restartPolicy"] == "Always")
    rule("seccomp", body["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"})
    in_memory = [v for v in body["volumes"] if "emptyDir" in v and v["name"] != "tools"]
    tools = [v for v in body["volumes"] if v["name"] == "tools"]
    notices = [v for v in body["volumes"] if "secret" in v and v["name"] != "keys"]
    keys = [v for v in body["volumes"] if v["name"] == "keys"]
    claims = [v for v in body["volumes"] if not {"emptyDir", "secret"} & set(v)]
    rule("the tools lie in a small folder", tools == [_TOOLS_VOLUME])
    rule(
        "of the instance's own secret the keys of the tools, and nothing of the tenant's",
        [set(v) for v in keys] == [{"name", "secret"}]
        and keys[0]["secret"]["secretName"] == f"{meta['name']}-env"
        and {i["key"] for i in keys[0]["secret"]["items"]}
        == {"report-token", "host-key", "gateway.pub"},
    )
    rule(
        "the notice's file where it was ordered, and no other secret as a volume",
        notices
        == [
            {
                "name": "notice",
                "secret": {
                    "secretName": f"{meta['name']}-notice",
                    "optional": True,
                    "defaultMode": 0o444,
                },
            }
        ][: int(ordered.notice)],
    )
    rule(
        "volumes are one in memory, and claims",
        len(in_memory) == 1
        and set(in_memory[0]) == {"name", "emptyDir"}
        and in_memory[0]["emptyDir"]["medium"] == "Memory"
        and all(set(v) == {"name", "persistentVolumeClaim"} for v in claims),
    )
    rule(
        "shm is half the memory",
        [mib(v["emptyDir"]["sizeLimit"]) for v in in_memory] == [ordered.ram_mib // 2],
    )
    rule(
        "exactly the ordered claims, each once",
        [(v["name"], v.get("persistentVolumeClaim", {}).get("claimName")) for v in claims]
        == [(wanted.claim, wanted.claim) for wanted in ordered.volumes]
        and len({v["name"] for v in body["volumes"]}) == len(body["volumes"]),
    )
    mounts = {m["name"]: m for m in body["containers"][0]["volumeMounts"]}
    shm = mounts.pop("shm", None)
    told = mounts.pop("notice", None)
    reading = [mounts.pop(name, {}).get("readOnly") for name in ("tools", "keys")]
    rule("tools and keys are mounted for reading only", reading == [True, True])
    rule(
        "the notice is mounted for reading only",
        told
        == (
            {"name": "notice", "mountPath": "/run/gpuyard/notice", "readOnly": True}
            if ordered.notice
            else None
        ),
    )
    rule("shm is mounted", shm == {"name": "shm", "mountPath": "/dev/shm"})
    rule(
        "volumes are mounted as ordered, whole, and nowhere else",
        [
            (m["name"], m["mountPath"], m.get("readOnly", False), "subPath" in m)
            for m in mounts.values()
        ]
        == [(v.claim, v.path, v.read_only, False) for v in ordered.volumes],
    )
    writes = [
        [(m["name"], m.get("readOnly", False)) for m in c.get("volumeMounts", [])]
        for c in body["initContainers"]
    ]
    rule(
        "the tools are written by their own image alone, and the check sees no data",
        writes == ([[("tools", False)]] if alone else [[("tools", False)], [("tools", True)]])
        and all(
            (c["image"] == ordered.tools.image) is (w == [("tools", False)])
            for c, w in zip(body["initContainers"], writes, strict=True)
        ),
    )
    tolerated = {(t.get("key"), t.get("effect")) for t in body["tolerations"]}
    rule(
        "tolerates the pool and silent nodes only",
        tolerated
        == {
            ("gpuyard.io/pool", "NoSchedule"),
            ("node.kubernetes.io/not-ready", "NoExecute"),
            ("node.kubernetes.io/unreachable", "NoExecute"),
        },
    )
    rule(
        "silence is bounded",
        all("tolerationSeconds" in t for t in body["tolerations"] if t["effect"] == "NoExecute"),
    )
    rule(
        "one container, the tools and one check",
        [c["name"] for c in body["containers"]] == ["main"]
        and [c["name"] for c in body["initContainers"]]
        == (["gpuyard-check"] if alone else ["gpuyard-tools", "gpuyard-check"]),
    )
    rule(
        "the tenant's image and command are the tenant's, and a hook leaves the tools beside them",
        body["containers"][0]["image"] == ordered.image
        and body["containers"][0].get("command", []) == list(ordered.command)
        and body["containers"][0]["lifecycle"]["postStart"]["exec"]["command"][:2]
        == ["/run/gpuyard/bin/podtools", "start"]
        and all("lifecycle" not in c for c in body["initContainers"]),
    )
    for c in containers:
        limits, requests = c["resources"]["limits"], c["resources"]["requests"]
        ours = c["image"] == ordered.tools.image
        cardless = c["name"] == "gpuyard-tools"
        rule("requests equal limits", limits == requests)
        rule(
            "all resources are limited",
            set(limits) - {ordered.resource} == {"cpu", "memory", "ephemeral-storage"},
        )
        rule(
            "the ordered cards, and none for the tools alone",
            limits.get(ordered.resource) == (None if cardless else str(ordered.gpus)),
        )
        rule(
            "the tools' image has no power",
            not ours
            or (
                "add" not in _capabilities(c)
                and not c["securityContext"]["allowPrivilegeEscalation"]
            ),
        )
        rule("image by digest", c["image"].count("@sha256:") == 1)
        rule("not privileged", c["securityContext"]["privileged"] is False)
        rule("capabilities dropped", c["securityContext"]["capabilities"]["drop"] == ["ALL"])
        rule(
            "only harmless capabilities",
            not {"SYS_ADMIN", "NET_ADMIN", "NET_RAW", "SYS_PTRACE", "MKNOD", "SYS_MODULE"}
            & set(_capabilities(c).get("add", [])),
        )
        rule(
            "environment from the secret only",
            all(
                set(e) == {"name", "valueFrom"} and set(e["valueFrom"]) == {"secretKeyRef"}
                for e in c.get("env", [])
            ),
        )
        rule("no secret as a whole", "envFrom" not in c)
        rule("no host ports", all("hostPort" not in p for p in c.get("ports", [])))
        rule("no host paths", all("hostPath" not in v for v in body["volumes"]))
    return found  # fmt: skip


@pytest.mark.parametrize("name", sorted(CASES))
def test_pods_keep_the_policy(name: str) -> None:
    assert violations(manifests.pod(CASES[name]), CASES[name]) == []


@given(
    st.builds(
        spec,
        st.sampled_from(sorted(by_slug())),
        gpus=st.integers(1, 16),
        vcpus_milli=st.integers(500, 10**6),
        ram_mib=st.integers(1024, 10**7),
        disk_mib=st.integers(0, 10**8),
        command=st.lists(st.text(), max_size=3).map(tuple),
        ports=st.lists(st.integers(1, 65535), max_size=3, unique=True).map(tuple),
        env_names=st.lists(st.from_regex(r"[A-Z_]{1,8}", fullmatch=True), max_size=3).map(tuple),
        has_pull_secret=st.booleans(),
        volumes=st.lists(
            st.builds(
                ClaimMount,
                st.from_regex(r"gv-[0-9a-z]{26}", fullmatch=True),
                st.from_regex(r"/data/[a-z]{1,8}", fullmatch=True),
                st.booleans(),
            ),
            max_size=3,
            unique_by=lambda mount: mount.claim,
        ).map(tuple),
        termination_grace=st.integers(0, 600),
        notice=st.booleans(),
        server_version=st.sampled_from([None, "", "v1.20.2", "v1.33.0", "1.40", "nonsense"]),
    )
)
def test_every_order_keeps_the_policy(ordered: PodSpec) -> None:
    pod = manifests.pod(ordered)
    assert violations(pod, ordered) == []
    json.dumps(pod)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.hostPID", True),
        ("spec.nodeName", "node-2"),
        ("spec.automountServiceAccountToken", True),
        ("spec.containers.0.image", "ubuntu:latest"),
        ("spec.containers.0.securityContext.privileged", True),
        ("spec.containers.0.env.0.value", "clear"),
        ("spec.containers.0.resources.limits.cpu", "1"),
        ("spec.tolerations.0.key", "anything"),
        ("metadata.annotations", {"a": "b"}),
        ("spec.initContainers.0.image", "podtools:latest"),
        ("spec.initContainers.0.securityContext.capabilities.add", ["CHOWN"]),
        ("spec.initContainers.0.resources.limits.cpu", "100"),
        ("spec.containers.0.command", ["/run/gpuyard/bin/podtools"]),
        ("spec.containers.0.lifecycle.postStart.exec.command", ["/bin/sh"]),
        ("spec.volumes.1.emptyDir", {}),
        ("spec.volumes.2.secret.secretName", "gy-of-somebody-else-env"),
        ("spec.volumes.2.secret.items.0.key", "HF_TOKEN"),
        ("spec.containers.0.volumeMounts.1.readOnly", False),
        ("spec.containers.0.volumeMounts.2.readOnly", False),
    ],
)
def test_the_policy_itself_sees_each_breach(path: str, value: Any) -> None:
    breached(path, value, CASES["nvidia-1.20"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.volumes.3.persistentVolumeClaim.claimName", "gv-of-somebody-else"),
        ("spec.volumes.3", {"name": "x", "hostPath": {"path": "/"}}),
        ("spec.containers.0.volumeMounts.3.mountPath", "/etc"),
        ("spec.containers.0.volumeMounts.4.readOnly", False),
        ("spec.containers.0.volumeMounts.3.subPath", "../.."),
        ("spec.initContainers.0.volumeMounts", [{"name": "shm", "mountPath": "/x"}]),
    ],
)
def test_the_policy_sees_each_breach_of_volumes(path: str, value: Any) -> None:
    breached(path, value, CASES["volumes"])


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.volumes.3.secret.secretName", "gy-of-somebody-else-env"),
        ("spec.volumes.3.secret.optional", False),
        ("spec.containers.0.volumeMounts.3.readOnly", False),
        ("spec.containers.0.volumeMounts.3.mountPath", "/run"),
    ],
)
def test_the_policy_sees_each_breach_of_the_notice(path: str, value: Any) -> None:
    breached(path, value, CASES["interruptible"])


def breached(path: str, value: Any, ordered: PodSpec) -> None:
    pod = manifests.pod(ordered)
    *parents, last = path.split(".")
    target: Any = pod
    for part in parents:
        target = target[int(part)] if part.isdigit() else target[part]
    target[int(last) if last.isdigit() else last] = value
    assert violations(pod, ordered)


def test_newer_fields_appear_only_where_the_server_knows_them() -> None:
    assert manifests.pod(CASES["nvidia-1.33"])["spec"]["hostUsers"] is False
    assert "hostUsers" not in manifests.pod(CASES["nvidia-1.20"])["spec"]
    assert "hostUsers" not in manifests.pod(spec(server_version=None))["spec"]


def test_secrets_hold_the_values_and_the_pod_does_not() -> None:
    secret = manifests.env_secret(
        spec(), {"HF_TOKEN": "hunter2"}, ToolKeys("gy_rep_x_y", "pr", "pu")
    )
    assert secret["data"] == {
        "HF_TOKEN": "aHVudGVyMg==",
        "report-token": "Z3lfcmVwX3hfeQ==",
        "host-key": "cHI=",
        "gateway.pub": "cHU=",
    }
    pull = manifests.pull_secret(spec(), registry="r.example.com", username="u", password="p")
    assert pull["type"] == "kubernetes.io/dockerconfigjson"
    whole = json.dumps(manifests.pod(spec()))
    assert "hunter2" not in whole
    assert "gy_rep_" not in whole
    assert secret["metadata"]["name"] == "gy-01h455vb4pex5vsknk084sn02q-env"
    assert pull["metadata"]["name"] == "gy-01h455vb4pex5vsknk084sn02q-pull"


def test_what_is_sent_is_what_is_pinned() -> None:
    """The official client composes the request: nothing is lost, added or renamed on the way, and
    a misspelt field, which an API server would drop in silence, is refused."""
    for case in CASES.values():
        body = manifests.pod(case)
        asked = compose(CORE.create_namespaced_pod, "gpuyard-r-01", body)
        assert (asked.method, asked.path) == ("POST", "/api/v1/namespaces/gpuyard-r-01/pods")
        assert asked.body == body
    secret = manifests.env_secret(spec(), {"A": "b"}, ToolKeys("gy_rep_x_y"))
    assert compose(CORE.create_namespaced_secret, "gpuyard-r-01", secret).body == secret
    with pytest.raises(ValidationError):
        compose(CORE.create_namespaced_pod, "gpuyard-r-01", {**body, "spek": {}})


def test_claims_are_as_pinned_and_sent_as_they_are() -> None:
    wanted = claims.ClaimSpec(
        name="gv-01h455vb4pex5vsknk084sn02t",
        volume="vol_01h455vb4pex5vsknk084sn02t",
        tenant="org_01h455vb4pex5vsknk084sn02s",
        size_gib=100,
        storage_class="local-nvme",
    )
    body = claims.claim(wanted)
    text = json.dumps(body, indent=1, sort_keys=True) + "\n"
    file = FILES / "claim.json"
    if os.environ.get("GPUYARD_WRITE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text
    place = "/api/v1/namespaces/gpuyard-r-01/persistentvolumeclaims"
    asked = compose(CORE.create_namespaced_persistent_volume_claim, "gpuyard-r-01", body)
    assert (asked.method, asked.path, asked.body) == ("POST", place, body)
    patch = claims.grown(200)
    name = wanted.name
    asked = compose(CORE.patch_namespaced_persistent_volume_claim, name, "gpuyard-r-01", patch)
    assert (asked.method, asked.path, asked.body) == ("PATCH", f"{place}/{name}", patch)
    assert patch == {"spec": {"resources": {"requests": {"storage": "200Gi"}}}}


def test_what_others_wrote_cannot_leave_its_place_in_the_path() -> None:
    asked = compose(CORE.read_namespaced_pod, "../../secrets/x", "gpuyard-r-01")
    assert asked.path == "/api/v1/namespaces/gpuyard-r-01/pods/..%2F..%2Fsecrets%2Fx"


PROBES: dict[str, ProbeSpec] = {
    "network": ProbeSpec(
        name="gy-probe-01h455vb4pex5vsknk084sn02q-1",
        node="node-1",
        image=f"registry.example.com/gpuyard/podtools@{DIGEST}",
        command=("probe", "-outside", "gpuyard.example.com:443"),
        vcpus_milli=100,
        ram_mib=64,
        disk_mib=64,
        seconds=120,
    ),
    "benchmark": ProbeSpec(
        name="gy-probe-01h455vb4pex5vsknk084sn02q-2",
        node="node-1",
        image=f"registry.example.com/gpuyard/podtools@{DIGEST}",
        command=("bench", "-work", "/run/gpuyard/work", "-disk-mib", "1024", "-cpus", "8"),
        vcpus_milli=8000,
        ram_mib=65536,
        disk_mib=2048,
        seconds=120,
        resource="nvidia.com/gpu",
        server_version="v1.33.1",
    ),
}
_HOST_IP = {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.hostIP"}}


@pytest.mark.parametrize("name", sorted(PROBES))
def test_probes_are_as_pinned(name: str) -> None:
    text = json.dumps(probe_pod(PROBES[name]), indent=1, sort_keys=True) + "\n"
    file = FILES / f"probe-{name}.json"
    if os.environ.get("GPUYARD_WRITE_GOLDEN"):
        file.write_text(text)
    assert file.read_text() == text


def probe_violations(pod: dict[str, Any], ordered: ProbeSpec) -> list[str]:
    """As for tenants' pods, and less: nothing of anybody's is in it, and it ends."""
    body, meta = pod["spec"], pod["metadata"]
    (container,) = body["containers"]
    limits = container["resources"]["limits"]
    security = container["securityContext"]
    term = body["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    rules = {
        "no annotations": "annotations" not in meta,
        "nobody's instance": set(meta["labels"])
        == {"app.kubernetes.io/managed-by", "gpuyard.io/probe"},
        "no service-account token": body["automountServiceAccountToken"] is False,
        "no service links": body["enableServiceLinks"] is False,
        "no host namespaces": not {"hostPID", "hostIPC", "hostNetwork", "nodeName"} & set(body),
        "its node alone": term["nodeSelectorTerms"][0]["matchFields"][0]["values"]
        == [ordered.node],
        "never started again": body["restartPolicy"] == "Never",
        "ends": 0 < body["activeDeadlineSeconds"] <= 180,
        "seccomp": body["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"},
        "nothing but a folder": [set(v) for v in body["volumes"]] == [{"name", "emptyDir"}],
        "no init container": "initContainers" not in body,
        "requests equal limits": limits == container["resources"]["requests"],
        "all is limited": set(limits) - {ordered.resource}
        == {"cpu", "memory", "ephemeral-storage"},
        "one card or none": limits.get(ordered.resource) == ("1" if ordered.resource else None),
        "image by digest": container["image"].count("@sha256:") == 1,
        "no power": security
        == {
            "privileged": False,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        },
        "no variable but its node's address": container["env"]
        == [{"name": "GPUYARD_HOST_IP", "valueFrom": _HOST_IP}],
        "our tools": container["command"][0] == "/podtools",
        "silence is bounded": all(
            "tolerationSeconds" in t for t in body["tolerations"] if t["effect"] == "NoExecute"
        ),
    }
    return [text for text, kept in rules.items() if not kept]


@pytest.mark.parametrize("name", sorted(PROBES))
def test_probes_keep_the_policy(name: str) -> None:
    assert probe_violations(probe_pod(PROBES[name]), PROBES[name]) == []


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("spec.hostNetwork", True),
        ("spec.restartPolicy", "Always"),
        ("spec.activeDeadlineSeconds", 3600),
        ("spec.containers.0.securityContext.privileged", True),
        ("spec.containers.0.env.0.valueFrom", {"secretKeyRef": {"name": "x", "key": "y"}}),
        ("spec.volumes.0", {"name": "work", "hostPath": {"path": "/"}}),
        ("metadata.labels", {"gpuyard.io/instance": "ins_1"}),
    ],
)
def test_the_policy_of_probes_sees_each_breach(path: str, value: Any) -> None:
    pod = probe_pod(PROBES["benchmark"])
    *parents, last = path.split(".")
    target: Any = pod
    for part in parents:
        target = target[int(part)] if part.isdigit() else target[part]
    target[int(last) if last.isdigit() else last] = value
    assert probe_violations(pod, PROBES["benchmark"])
