"""CUDA_VISIBLE_DEVICES resolved; nvidia-smi in its forms; the kernel's and programs' lines."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from envdoctor.facts import Facts, Source
from envdoctor.session import Doctor
from envdoctor.tree import host_tree
from envdoctor.variables import Variables
from envdoctor_checks.gpu.facts import (
    GpuDevice,
    GpuDevices,
    GpuEcc,
    GpuMemory,
    GpuModes,
    GpuProcesses,
    GpuRetiredPages,
    MigInstance,
    MigInstances,
    MpsPipe,
)
from envdoctor_checks.gpu.figures import GpuClockReasons, GpuLoad, GpuTemperatures
from envdoctor_checks.gpu.probe import mps
from envdoctor_checks.gpu.symptoms import FallenOff, Xid
from envdoctor_checks.gpu.visible import resolve

HERE = Source("call")
UUIDS = ("GPU-11aa0000-0000-4000-8000-000000000000", "GPU-11bb0000-0000-4000-8000-000000000000")
TWO = GpuDevices(devices=tuple(GpuDevice(index, "A", uuid) for index, uuid in enumerate(UUIDS)), source=HERE)
MIG = "MIG-3d5b0c18-47ae-5f62-9e01-8bd27c64f9a0"
INSTANCES = MigInstances(instances=(MigInstance("0", "3g.40gb", MIG),), source=HERE)

RESOLVED: dict[str, tuple[tuple[str, ...], str]] = {
    "0": (("0",), ""),
    "1,0": (("1", "0"), ""),
    " 0 , 1 ": (("0", "1"), ""),
    "": ((), "empty"),
    "-1": ((), "negative"),
    "NoDevFiles": ((), "empty"),
    "2": ((), "no-such-index"),
    "0,2,1": (("0",), "no-such-index"),
    "0,-1,1": (("0",), "negative"),
    "0,,1": (("0",), "empty"),
    "0,0": ((), "twice"),
    "GPU-11aa": (("0",), ""),
    "gpu-11BB0000": (("1",), ""),
    "GPU-11": ((), "ambiguous"),
    "GPU-99": ((), "no-such-uuid"),
    UUIDS[1]: (("1",), ""),
    f"0,{UUIDS[0]}": ((), "twice"),
    MIG: ((MIG,), ""),
    "MIG-3d5b": ((MIG,), ""),
    "MIG-ffff": ((), "no-such-uuid"),
    "all": ((), "no-such-uuid"),
    "cuda:0": ((), "no-such-uuid"),
}


@pytest.mark.parametrize("value", RESOLVED)
def test_a_value_is_resolved_as_libcuda_does(value: str) -> None:
    found = resolve(value, TWO, INSTANCES)
    assert (found.visible, found.why) == RESOLVED[value]


def test_devices_that_are_not_known_contradict_nothing() -> None:
    assert resolve("3,GPU-99", None).visible == ("3", "GPU-99")
    assert resolve(MIG, None).visible == (MIG,)
    without = GpuDevices(devices=(GpuDevice(0, "A"),), source=HERE)
    assert resolve("GPU-99", without).why == ""


@given(st.text(alphabet="0123-,GPUMIgabc :\n", max_size=40))
def test_no_value_breaks_it(value: str) -> None:
    found = resolve(value, TWO, INSTANCES)
    assert len(found.visible) <= len(found.entries)


def read(text: str) -> Facts:
    return Doctor().read(text, "-").facts


def known(text: str, kind: type[Any]) -> Any:
    fact = read(text).get(kind)
    assert isinstance(fact, kind), fact
    return fact


TABLE = """\
+---------------------------------------------------------------------------------------+
| NVIDIA-SMI 535.161.08             Driver Version: 535.161.08   CUDA Version: 12.2     |
|-----------------------------------------+----------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id        Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |         Memory-Usage | GPU-Util  Compute M. |
|                                         |                      |               MIG M. |
|=========================================+======================+======================|
|   0  NVIDIA A100-SXM4-80GB          On  | 00000000:07:00.0 Off |                    2 |
| N/A   41C    P0             112W / 400W |  31022MiB / 81920MiB |     87%   E. Process |
|                                         |                      |             Disabled |
+-----------------------------------------+----------------------+----------------------+
|   1  NVIDIA A100-SXM4-80GB          On  | 00000000:0F:00.0 Off |                  Off |
| 30%   33C    P8              52W / 400W |      4MiB / 81920MiB |      0%      Default |
|                                         |                      |              Enabled |
+-----------------------------------------+----------------------+----------------------+

+---------------------------------------------------------------------------------------+
| Processes:                                                                            |
|  GPU   GI   CI        PID   Type   Process name                            GPU Memory |
|        ID   ID                                                             Usage      |
|=======================================================================================|
|    0   N/A  N/A    881231      C   /opt/conda/bin/python3                    31010MiB |
|    1   N/A  N/A      2201      G   /usr/lib/xorg/Xorg                            4MiB |
+---------------------------------------------------------------------------------------+
"""


def test_the_table_gives_memory_modes_load_and_processes() -> None:
    facts = read(TABLE)
    assert [(row.gpu, row.used, row.total) for row in known(TABLE, GpuMemory).gpus] == [
        ("0", 31022, 81920),
        ("1", 4, 81920),
    ]
    assert [(row.compute, row.mig) for row in known(TABLE, GpuModes).gpus] == [
        ("exclusive-process", False),
        ("default", True),
    ]
    assert [row.percent for row in known(TABLE, GpuLoad).gpus] == [87, 0]
    assert [row.celsius for row in known(TABLE, GpuTemperatures).gpus] == [41, 33]
    assert [(row.enabled, row.uncorrectable) for row in known(TABLE, GpuEcc).gpus] == [(True, 2), (False, 0)]
    processes = facts.get(GpuProcesses)
    assert isinstance(processes, GpuProcesses)
    assert [(each.gpu, each.pid, each.memory, each.graphics) for each in processes.processes] == [
        ("0", 881231, 31010, False),
        ("1", 2201, 4, True),
    ]


OLD_TABLE = """\
| NVIDIA-SMI 418.87.01    Driver Version: 418.87.01    CUDA Version: 10.1     |
|   0  Tesla V100-SXM2...  On   | 00000000:06:00.0 Off |                    0 |
| N/A   66C    P0   253W / 300W |   9000MiB / 16130MiB |     98%   E. Process |
|    0     40213      C   python                                      8990MiB |
"""


def test_an_older_table_is_read_as_well() -> None:
    assert known(OLD_TABLE, GpuModes).gpus[0].compute == "exclusive-process"
    assert known(OLD_TABLE, GpuProcesses).processes[0].pid == 40213


def test_a_table_without_processes_proves_that_there_are_none() -> None:
    text = TABLE.partition("| Processes:")[0] + "|  No running processes found |\n"
    assert known(text, GpuProcesses).processes == ()


COLUMNS = """\
$ nvidia-smi --query-gpu=memory.total,memory.used,temperature.gpu,compute_mode,clocks_throttle_reasons.active --format=csv
memory.total [MiB], memory.used [MiB], temperature.gpu, compute_mode, clocks_throttle_reasons.active
24564 MiB, 120 MiB, 38, Default, 0x0000000000000001
24564 MiB, 23010 MiB, 88, Prohibited, 0x0000000000000060
"""


def test_columns_are_counted_where_no_index_is_asked_for() -> None:
    assert [(row.gpu, row.used) for row in known(COLUMNS, GpuMemory).gpus] == [("0", 120), ("1", 23010)]
    assert [row.compute for row in known(COLUMNS, GpuModes).gpus] == ["default", "prohibited"]
    assert known(COLUMNS, GpuClockReasons).gpus[1].reasons == ("sw-thermal", "hw-thermal")


def test_processes_that_were_asked_for() -> None:
    text = "$ nvidia-smi --query-compute-apps=pid,used_memory,process_name --format=csv,noheader\n4242, 40296 MiB, /opt/bin/python\n"
    process = known(text, GpuProcesses).processes[0]
    assert (process.pid, process.memory, process.name) == (4242, 40296, "/opt/bin/python")


REPORT = """\
GPU 00000000:3B:00.0
    Compute Mode                          : Exclusive_Process
    Retired Pages
        Single Bit ECC                    : 1
        Double Bit ECC                    : 4
        Pending Page Blacklist            : Yes
"""


def test_a_report_without_its_command_names_gpus_by_address() -> None:
    row = known(REPORT, GpuRetiredPages).gpus[0]
    assert (row.gpu, row.double_bit, row.pending) == ("0000:3b:00.0", 4, True)


XIDS = {
    "NVRM: Xid (PCI:0000:c1:00): 31, pid=1, name=python, Ch 00000010": (31, "0000:c1:00.0", None),
    "[12.3] NVRM: Xid (0000:03:00): 13, 0001 00000000": (13, "0000:03:00.0", None),
    "kernel: NVRM: Xid (PCI:0000:01:00 GPU-I:05): 43, pid=1": (43, "0000:01:00.0", None),
    "NVRM: Xid (PCI:0009:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x1 (GPU Reset Required)": (154, "0009:01:00.0", "gpu-reset"),
    "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x1 (GPU Reset Required) to 0x2 (Node Reboot Required)": (154, "0000:01:00.0", "node-reboot"),
    "NVRM: Xid (PCI:0000:01:00): 154, GPU recovery action changed from 0x0 (None) to 0x3 (Drain P2P)": (154, "0000:01:00.0", "drain-p2p"),
}  # fmt: skip


@pytest.mark.parametrize("line", XIDS)
def test_an_xid_in_all_its_forms(line: str) -> None:
    found = read(line).symptoms(Xid)
    assert [(each.number, each.address, each.recovery) for each in found] == [XIDS[line]]


def test_one_line_is_one_symptom() -> None:
    facts = read(
        "NVRM: Xid (PCI:0000:3b:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    )
    assert len(facts.symptoms(Xid)) == 1
    assert facts.symptoms(FallenOff) == ()


# MPS.


def mps_of(root: Any, files: dict[str, str], environ: dict[str, str]) -> MpsPipe | None:
    for path, text in files.items():
        place = root / path.lstrip("/")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    found = list(mps(host_tree(root), Variables(values=environ, source=Source("env"))))
    return found[0] if found else None


def test_without_mps_there_is_nothing_to_tell(tmp_path: Any) -> None:
    assert mps_of(tmp_path, {"/proc/1/comm": "init\n"}, {}) is None


def test_a_pipe_whose_daemon_is_gone(tmp_path: Any) -> None:
    files = {
        "/tmp/nvidia-mps/control": "",
        "/tmp/nvidia-mps/nvidia-cuda-mps-control.pid": "77\n",
        "/proc/1/comm": "init\n",
    }
    pipe = mps_of(tmp_path, files, {})
    assert pipe is not None
    assert (pipe.named, pipe.control, pipe.daemon) == (False, True, False)


def test_a_daemon_that_runs(tmp_path: Any) -> None:
    files = {
        "/run/mps/control": "",
        "/run/mps/nvidia-cuda-mps-control.pid": "77",
        "/proc/77/comm": "nvidia-cuda-mps\n",
    }
    pipe = mps_of(tmp_path, files, {"CUDA_MPS_PIPE_DIRECTORY": "/run/mps"})
    assert pipe is not None
    assert (pipe.named, pipe.usable, pipe.daemon) == (True, True, True)
