"""Finding programs, certificates, the provider bundle and the simulator's timeline."""

from __future__ import annotations

import datetime
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import pytest
import yaml
from cryptography import x509
from cryptography.exceptions import InvalidSignature

from devstack.kube import binaries
from devstack.kube.certs import Authority, token_key
from devstack.kube.provision import BUNDLE, bundle_objects, path_of, pool_names
from devstack.kube.timeline import Timeline

# -- programs ---------------------------------------------------------------------------------


@pytest.fixture
def never_built(monkeypatch, tmp_path):
    """A build would take minutes: here it only tells that it was reached."""
    built = _programs(tmp_path / "built", binaries.NEEDED, "v1.20.2")
    monkeypatch.setattr(binaries, "build_control_plane", lambda: built)
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    return built


def _programs(folder: Path, names, version: str) -> Path:
    folder.mkdir()
    for name in names:
        (folder / name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (folder / name).chmod(0o755)
    return folder


def test_complete_assets_are_used_with_their_version(never_built, monkeypatch, tmp_path):
    assets = _programs(tmp_path / "assets", binaries.NEEDED, "v1.31.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert binaries.find_binaries() == binaries.Binaries(assets, (1, 31))


def test_incomplete_assets_are_passed_over_aloud(never_built, monkeypatch, tmp_path, capsys):
    assets = _programs(tmp_path / "assets", ["etcd", "kube-apiserver"], "v1.31.0")
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(assets))
    assert binaries.find_binaries().folder == never_built
    told = capsys.readouterr().err
    assert "lacks kube-controller-manager, kube-scheduler" in told


def test_path_counts_only_with_the_whole_set(never_built, monkeypatch, tmp_path):
    half = _programs(tmp_path / "half", ["kube-apiserver"], "v1.30.0")
    monkeypatch.setenv("PATH", str(half))
    assert binaries.find_binaries().folder == never_built
    whole = _programs(tmp_path / "whole", binaries.NEEDED, "v1.30.0")
    monkeypatch.setenv("PATH", str(whole))
    assert binaries.find_binaries().folder == whole


def test_running_programs_are_real_copies(never_built, tmp_path):
    found = binaries.find_binaries()
    copied = found.copy_to(tmp_path / "copy")
    for name in binaries.NEEDED:
        assert copied.path(name).read_bytes() == found.path(name).read_bytes()
        assert copied.path(name).stat().st_ino != found.path(name).stat().st_ino


# -- certificates -----------------------------------------------------------------------------


def test_server_and_client_certificates_work_with_strict_checks(tmp_path):
    authority = Authority(tmp_path, "dc")
    server = authority.server("kube-apiserver", ["127.0.0.1", "localhost"])
    client = authority.client("someone", ["system:masters"])
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(server.cert, server.key)
    server_side.load_verify_locations(cadata=authority.pem)
    server_side.verify_mode = ssl.CERT_REQUIRED
    client_side = ssl.create_default_context(cadata=authority.pem)
    client_side.verify_flags |= ssl.VERIFY_X509_STRICT
    client_side.load_cert_chain(client.cert, client.key)

    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with server_side.wrap_socket(connection, server_side=True) as wrapped:
            peer = wrapped.getpeercert()
            wrapped.sendall(json.dumps(peer["subject"] if peer else None).encode())

    threading.Thread(target=serve, daemon=True).start()
    with (
        socket.create_connection(listener.getsockname(), timeout=5) as raw,
        client_side.wrap_socket(raw, server_hostname="127.0.0.1") as wrapped,
    ):
        told = wrapped.recv(1000).decode()
    listener.close()
    assert "someone" in told
    assert "system:masters" in told


def test_another_cluster_is_not_trusted(tmp_path):
    one, other = Authority(tmp_path / "one", "dc"), Authority(tmp_path / "other", "dc")
    cert = x509.load_pem_x509_certificate(one.server("s", ["127.0.0.1"]).cert.read_bytes())
    with pytest.raises(InvalidSignature):
        cert.verify_directly_issued_by(x509.load_pem_x509_certificate(other.pem.encode()))
    cert.verify_directly_issued_by(x509.load_pem_x509_certificate(one.pem.encode()))


def test_keys_are_private_and_certificates_valid_now(tmp_path):
    authority = Authority(tmp_path, "dc")
    pair = authority.server("s", ["127.0.0.1"])
    for key in (pair.key, authority.pair.key, token_key(tmp_path)):
        assert key.stat().st_mode & 0o077 == 0
    cert = x509.load_pem_x509_certificate(pair.cert.read_bytes())
    now = datetime.datetime.now(datetime.UTC)
    assert cert.not_valid_before_utc < now < cert.not_valid_after_utc


# -- the provider bundle ----------------------------------------------------------------------

OLD, MIDDLE, NEW = (1, 20), (1, 24), (1, 31)


def _rules(version, name):
    (role,) = [o for o in bundle_objects(version) if o["metadata"]["name"] == name and "rules" in o]
    return {
        (group, resource): sorted(rule["verbs"])
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_rental_role_is_the_minimal_one():
    core = {
        "pods": ["create", "delete", "get", "list", "watch"],
        "pods/log": ["get"],
        "secrets": ["create", "delete"],
        "services": ["create", "delete", "get", "list"],
        "events": ["list", "watch"],
        "persistentvolumeclaims": ["create", "delete", "get", "list", "patch"],
        "resourcequotas": ["get", "list"],
        "limitranges": ["get", "list"],
    }
    expected = {("", resource): verbs for resource, verbs in core.items()}
    expected["coordination.k8s.io", "leases"] = ["create", "delete", "get", "list", "update"]
    expected["networking.k8s.io", "networkpolicies"] = ["get", "list"]
    assert _rules(NEW, "gpuyard-rental") == expected


def test_cluster_wide_it_reads_nodes_runtime_and_storage_classes_only():
    assert _rules(NEW, "gpuyard-inventory") == {
        ("", "nodes"): ["get", "list", "watch"],
        ("node.k8s.io", "runtimeclasses"): ["get", "list"],
        ("storage.k8s.io", "storageclasses"): ["get", "list"],
    }
    bound = {o["roleRef"]["name"] for o in bundle_objects(NEW) if o["kind"] == "ClusterRoleBinding"}
    assert bound == {"gpuyard-inventory"}


def test_own_token_only():
    (rule,) = _bound_to("gpuyard", "Role", "gpuyard-token")["rules"]
    assert rule["resources"] == ["serviceaccounts/token"]
    assert rule["resourceNames"] == ["gpuyard"]


def _bound_to(account, kind, name):
    """The role of that name, which is bound to that account and to no other."""
    objects = bundle_objects(NEW)
    bindings = [
        o
        for o in objects
        if o["kind"].endswith("RoleBinding")
        and (o["roleRef"]["kind"], o["roleRef"]["name"]) == (kind, name)
    ]
    assert bindings
    for binding in bindings:
        assert [subject["name"] for subject in binding["subjects"]] == [account]
    (role,) = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return role


def test_the_reaper_ends_pods_and_nothing_else():
    assert _rules(NEW, "gpuyard-reaper-heartbeat") == {("coordination.k8s.io", "leases"): ["get"]}
    rental = _bound_to("gpuyard-reaper", "ClusterRole", "gpuyard-reaper")["rules"]
    assert [(rule["resources"], rule["verbs"]) for rule in rental] == [
        (["pods"], ["list", "delete"]),
        (["leases"], ["list"]),
    ]
    for account, name, verbs in (
        ("gpuyard-reaper", "gpuyard-reaper", ["get", "update"]),
        ("gpuyard", "gpuyard-reaper-heartbeat", ["get"]),
    ):
        (rule,) = _bound_to(account, "Role", name)["rules"]
        assert rule["resourceNames"] == ["gpuyard-reaper"]
        assert (rule["resources"], rule["verbs"]) == (["leases"], verbs)


def test_the_relay_looks_at_single_pods_and_nothing_else():
    (rule,) = _bound_to("gpuyard-relay", "ClusterRole", "gpuyard-relay")["rules"]
    assert rule == {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    bound = [
        (o["kind"], o["metadata"].get("namespace"), o["roleRef"]["name"])
        for o in bundle_objects(NEW)
        if any(subject["name"] == "gpuyard-relay" for subject in o.get("subjects", ()))
    ]
    assert bound == [("RoleBinding", space, "gpuyard-relay") for space in pool_names(16)]


def test_rentals_are_entered_by_the_relay_and_the_relay_by_nobody():
    objects = bundle_objects(NEW)
    policies = [o for o in objects if o["kind"] == "NetworkPolicy"]
    letting = [o for o in policies if "ingress" in o["spec"]]
    assert [o["metadata"]["namespace"] for o in letting] == pool_names(16)
    (source,) = letting[0]["spec"]["ingress"]
    (source,) = source["from"]
    (system,) = [o for o in objects if o["metadata"]["name"] == "gpuyard-system"]
    (relay,) = _deployments("gpuyard-relay")
    assert source["namespaceSelector"]["matchLabels"] == system["metadata"]["labels"]
    labels = relay["spec"]["template"]["metadata"]["labels"]
    assert source["podSelector"]["matchLabels"] == labels
    assert relay["metadata"]["namespace"] == "gpuyard-system"
    assert letting[0]["spec"]["podSelector"]["matchLabels"] == {
        "app.kubernetes.io/managed-by": "gpuyard"
    }
    (own,) = [o for o in policies if o["metadata"]["namespace"] == "gpuyard-system"]
    assert own["spec"] == {"podSelector": {"matchLabels": labels}, "policyTypes": ["Ingress"]}


def test_the_relays_own_pod_is_confined():
    (relay,) = _deployments("gpuyard-relay")
    pod = relay["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not any("hostPath" in volume for volume in pod["volumes"])
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(pod)
    assert container["resources"]["limits"] == {"cpu": "2", "memory": "512Mi"}
    (secret,) = [volume["secret"] for volume in pod["volumes"]]
    assert secret["defaultMode"] & 0o007 == 0, "its seed is nobody else's"


def _deployments(name):
    kind = "Deployment"
    objects = bundle_objects(NEW)
    return [o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name)]


def test_namespaces_of_the_pool_are_alike():
    """The file writes each of them out; a change must reach all sixteen."""
    for file in ("bundle.yaml", "reaper.yaml", "relay.yaml", "egress-1.22-and-newer.yaml"):
        items = yaml.safe_load((BUNDLE / file).read_text())["items"]
        by_space: dict[str, list[str]] = {}
        for item in items:
            text = json.dumps(item, sort_keys=True)
            for name in pool_names(16):
                if f'"{name}"' in text:
                    by_space.setdefault(name, []).append(text.replace(name, "NAME"))
        assert list(by_space) == pool_names(16)
        assert all(found == by_space["gpuyard-r-01"] for found in by_space.values()), file


@pytest.mark.parametrize("count", [1, 3, 16, 40])
def test_pool_of_any_size(count):
    objects = bundle_objects(OLD, count)
    spaces = [o["metadata"]["name"] for o in objects if o["kind"] == "Namespace"]
    assert spaces == ["gpuyard-system", *pool_names(count)]
    paths = [path_of(o) for o in objects]
    assert len(set(paths)) == len(paths)


def test_parts_by_server_version():
    def kinds(version) -> set[str]:
        return {o["kind"] for o in bundle_objects(version)}

    assert "PodSecurityPolicy" in kinds(OLD) & kinds(MIDDLE)
    assert "PodSecurityPolicy" not in kinds(NEW)
    assert "ValidatingAdmissionPolicy" in kinds(NEW) - kinds(MIDDLE)
    assert "endPort" not in json.dumps(bundle_objects(OLD))


def test_mail_ports_are_closed_where_ranges_exist():
    policies = [
        o
        for o in bundle_objects(MIDDLE)
        if o["kind"] == "NetworkPolicy" and o["metadata"]["name"] == "egress"
    ]
    last = policies[-1]["spec"]["egress"][1]["ports"]
    tcp = [range(p["port"], p["endPort"] + 1) for p in last if p["protocol"] == "TCP"]
    open_ports = {port for ports in tcp for port in ports}
    assert set(range(1, 65536)) - open_ports == {25, 465, 587}
    old, new = policies[0]["spec"], policies[-1]["spec"]
    assert old["egress"][1]["to"] == new["egress"][1]["to"], "the same networks stay closed"


# -- timeline ---------------------------------------------------------------------------------


@pytest.fixture
def bugs():
    return []


@pytest.fixture
def timeline(bugs):
    return Timeline(3, bugs.append)


def test_lives_rest_and_go_on(timeline):
    done = threading.Event()

    def steps():
        yield 0.01
        yield 0.0
        done.set()

    timeline.begin(steps())
    assert done.wait(5)


def test_wake_up_during_a_step_is_not_lost(timeline):
    inside, go, woken = threading.Event(), threading.Event(), threading.Event()

    def steps():
        inside.set()
        go.wait(5)
        yield None
        woken.set()

    life = timeline.begin(steps())
    assert inside.wait(5)
    life.wake()
    go.set()
    assert woken.wait(5)


def test_replacing_drops_the_rest_even_of_a_finished_life(timeline):
    begun, ended, wrong = threading.Event(), threading.Event(), threading.Event()

    def first():
        begun.set()
        yield 0.05
        wrong.set()

    def second():
        ended.set()
        yield from ()

    life = timeline.begin(first())
    assert begun.wait(5)
    life.replace(second)
    assert ended.wait(5)
    assert not wrong.wait(0.2)
    ended.clear()
    life.replace(second)
    assert ended.wait(5)


def test_one_life_never_runs_on_two_threads(timeline):
    running = 0
    most = 0
    turns = 0
    done = threading.Event()

    def steps():
        nonlocal running, most, turns
        while turns < 300:
            running += 1
            most = max(most, running)
            time.sleep(0.0005)  # hold the step open for a second thread to enter
            running -= 1
            turns += 1
            yield 0.0
        done.set()

    life = timeline.begin(steps())
    while not done.is_set():
        life.wake()
    assert most == 1


def test_a_bug_in_one_life_is_told_and_others_go_on(timeline, bugs):
    done = threading.Event()

    def broken():
        yield 0.0
        raise KeyError("lost")

    def fine():
        yield 0.05
        done.set()

    timeline.begin(broken())
    timeline.begin(fine())
    assert done.wait(5)
    assert "KeyError" in bugs[0]
