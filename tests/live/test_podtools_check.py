"""The check of the cards: the pod's own command line, run against the vendors' tools' output."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from provisioner.inventory.accelerators import by_slug
from provisioner.kube import manifests
from provisioner.kube.pods import proof
from tests.golden.test_provisioner_pods import spec

pytestmark = [pytest.mark.live, pytest.mark.slow]

H100 = "nvidia-h100-80gb-sxm"
NVIDIA_SMI = """\
GPU-5c1f0a1e-1111-2222-3333-444455556666, NVIDIA H100 80GB HBM3, 81559
GPU-6d2f0a1e-1111-2222-3333-444455556666, NVIDIA H100 80GB HBM3, 81559
"""
NPU_SMI = """\
case "$*" in
"info -m")
    printf '\tNPU ID\tChip ID\tChip Logic ID\tChip Name\n'
    printf '\t0\t0\t0\tAscend 910B3\n\t0\t1\t-\tMcu\n'
;;
"info -t board -i 0 -c 0") printf '\\tSerial Number : 1023ABC\\n\\tChip Name : 910B3\\n' ;;
"info -t board -i 0") printf '\\tSerial Number                  : 1023ABC\\n' ;;
"info -t memory -i 0 -c 0") printf '\\tHBM Capacity(MB)               : 65536\\n' ;;
*) exit 1 ;;
esac
"""
NVIDIA_SPLIT = """\
case "$1" in
-L) cat <<END
GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5c1f0a1e-1111-2222-3333-444455556666)
  MIG 1g.10gb     Device  0: (UUID: MIG-b4b2228d-6933-5839-bc0e-41ab9edb61c6)
GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-6d2f0a1e-1111-2222-3333-444455556666)
  MIG 1g.10gb     Device  0: (UUID: MIG-c71dc464-b9f9-5611-9d29-d601a47cffd6)
END
;;
*) printf 'GPU-5c1f0a1e-1111-2222-3333-444455556666, NVIDIA H100 80GB HBM3, %s\\n' "MEMORY" ;;
esac
"""
XPU_SMI = """\
cat <<END
Device Name, UUID, Memory Physical Size
"Intel(R) Data Center GPU Max 1550", "00000000-0000-0029-0000-002f0bd58086", "131072.00 MiB"
END
"""


def run(binary: Path, folder: Path, slug: str, tool: str, body: str) -> tuple[int, str]:
    """The check's exit code and termination message with ``tool`` replaced by ``body``."""
    fake = folder / tool
    fake.write_text("#!/bin/sh\n" + body)
    fake.chmod(0o755)
    log = folder / "termination-log"
    words = manifests.pod(spec(slug))["spec"]["initContainers"][-1]["command"]
    assert words[1:3] == ["check", "/dev/termination-log"]
    also = [str(folder / "bin") if word == manifests.BIN_PATH else word for word in words[5:]]
    (folder / "bin").mkdir(exist_ok=True)
    done = subprocess.run(
        [str(binary), "check", str(log), *words[3:5], *also],
        env={"PATH": f"{folder}:{os.environ['PATH']}"},
        capture_output=True,
        check=False,
        timeout=20,
    )
    return done.returncode, log.read_text()


@pytest.mark.parametrize(
    ("slug", "tool", "body", "count"),
    [
        ("nvidia-h100-80gb-sxm", "nvidia-smi", f"cat <<END\n{NVIDIA_SMI}END\n", 2),
        ("ascend-910b", "npu-smi", NPU_SMI, 1),
        ("intel-max-1550", "xpu-smi", XPU_SMI, 1),
    ],
)
def test_the_report_proves_the_cards(binary, slug, tool, body, count, tmp_path) -> None:
    code, message = run(binary, tmp_path, slug, tool, body)
    assert code == 0, message
    devices = proof(message)
    assert devices is not None, message
    assert len(devices) == count
    model = by_slug()[slug][1]
    assert all(model.is_named(device.model) for device in devices), devices
    assert all(model.has_memory(device.memory_mib or 0) for device in devices)


@pytest.mark.parametrize("memory", ["81559", "[Insufficient Permissions]"])
def test_a_split_card_is_its_parts_whatever_else_it_says(binary, memory, tmp_path) -> None:
    """Some drivers show a container with one part the whole card's memory."""
    part = f"{H100}-mig-1g.10gb"
    for slug in (H100, part):
        body = NVIDIA_SPLIT.replace("MEMORY", memory)
        code, message = run(binary, tmp_path, slug, "nvidia-smi", body)
        assert code == 0, message
        devices = proof(message)
        assert devices is not None
        assert [each.uid[:12] for each in devices] == ["MIG-b4b2228d", "MIG-c71dc464"]
        assert all(by_slug()[part][1].is_named(each.model) for each in devices), devices
        assert not any(by_slug()[H100][1].is_named(each.model) for each in devices)
        assert [each.memory_mib for each in devices] == [None, None]


def test_whole_cards_of_a_kind_that_can_be_split_are_whole(binary, tmp_path) -> None:
    body = f"""case "$1" in
-L) echo 'GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-5c1f0a1e-1111-2222-3333-444455556666)' ;;
*) cat <<END
{NVIDIA_SMI}END
;;
esac
"""
    code, message = run(binary, tmp_path, H100, "nvidia-smi", body)
    assert code == 0, message
    assert [each.memory_mib for each in proof(message) or []] == [81559, 81559]


def test_a_tool_that_cannot_list_parts_fails_the_check(binary, tmp_path) -> None:
    body = f'[ "$1" = -L ] && exit 6\ncat <<END\n{NVIDIA_SMI}END\n'
    code, message = run(binary, tmp_path, H100, "nvidia-smi", body)
    assert code == 1
    assert proof(message) is None


def test_what_of_a_card_is_in_use_is_told(binary, tmp_path) -> None:
    used = "GPU-5a6b7c8d-0000-1111-2222-333344445555, 0, 71000, 81559, 33"
    body = f'''case "$1" in
*utilization*) printf '%s\\nGPU-other, 0, 1, 2, 3\\n' "{used}" ;;
*) printf '%s\\nGPU-two, NVIDIA H100 80GB HBM3, 81559\\n' \\
    "GPU-5a6b7c8d-0000-1111-2222-333344445555, NVIDIA H100 80GB HBM3, 81559" ;;
esac
'''
    code, message = run(binary, tmp_path, H100, "nvidia-smi", body)
    assert code == 0, message
    devices = proof(message)
    assert devices is not None
    assert [each.used_mib for each in devices] == [71000, None]


def test_cards_and_tools_in_one_go(binary, tmp_path) -> None:
    code, message = run(binary, tmp_path, H100, "nvidia-smi", f"cat <<END\n{NVIDIA_SMI}END\n")
    assert code == 0, message
    installed = tmp_path / "bin" / "podtools"
    assert installed.read_bytes() == binary.read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o755


def test_a_failed_check_leaves_no_tools(binary, tmp_path) -> None:
    run(binary, tmp_path, H100, "nvidia-smi", "exit 9\n")
    assert list((tmp_path / "bin").iterdir()) == []


def test_hostile_names_stay_inside_their_strings(binary, tmp_path) -> None:
    body = 'echo \'GPU-1, "},{"uid":"x\\\\, 81559\'\n'
    code, message = run(binary, tmp_path, H100, "nvidia-smi", body)
    assert code == 0
    assert len(json.loads(message)["devices"]) == 1


def test_a_failing_tool_fails_the_check_with_a_sentence(binary, tmp_path) -> None:
    code, message = run(binary, tmp_path, H100, "nvidia-smi", "exit 9\n")
    assert code == 1
    assert proof(message) is None
    assert "failed" in message


def test_a_tool_that_sees_nothing_reports_no_card(binary, tmp_path) -> None:
    code, message = run(binary, tmp_path, H100, "nvidia-smi", "true\n")
    assert code == 0
    assert proof(message) == []
