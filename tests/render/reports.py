"""Report documents made by hand: a sick machine, a healthy one, one that could not be looked at, and texts."""

from __future__ import annotations

from typing import Any

import msgspec

from envdoctor.facts import Evidence, Source
from envdoctor.findings import Ask
from envdoctor.prescribe import Fix
from envdoctor.report import (
    SCHEMA,
    CheckEntry,
    FindingEntry,
    MachineRow,
    Missed,
    PassedOver,
    Report,
    RuleCounts,
    Summary,
    TargetEntry,
    Tool,
)

PYTHON = "/home/ada/proj/.venv/bin/python"
LIVE = TargetEntry(
    source="live",
    python=PYTHON,
    prefix="/home/ada/proj/.venv",
    why="VIRTUAL_ENV is /home/ada/proj/.venv",
    passed_over=(PassedOver("/opt/conda/bin/python", "conda's base environment, while a venv is active"),),
)
MACHINE = (
    MachineRow("system", "Ubuntu 24.04.1 LTS (x86_64, glibc 2.39)"),
    MachineRow("python", f"3.12.3 at {PYTHON}"),
    MachineRow("torch", "2.9.0+cu130"),
    MachineRow("driver", "550.54.15 (CUDA 12.4)"),
    MachineRow("GPUs", "4 x NVIDIA A100-SXM4-80GB"),
)
HIDDEN = Missed(
    "gpu.kernel-log", "/dev/kmsg: Operation not permitted", "run as root, or as a user who may read it"
)


def check(name: str, outcome: Any = "ok", **more: Any) -> CheckEntry:
    """How a check fared, with ordinary values for what a test does not care about."""
    values: dict[str, Any] = {
        "title": name,
        "reason": "",
        "would_allow": "",
        "rules": RuleCounts(7, 2),
        "missed": (),
        "stages": (),
        "seconds": 0.25,
    }
    return CheckEntry(name=name, outcome=outcome, **(values | more))


def finding(identity: str, title: str, **more: Any) -> FindingEntry:
    """A root finding with ordinary values for what a test does not care about."""
    values: dict[str, Any] = {
        "subject": "",
        "severity": "error",
        "confidence": "certain",
        "role": "root",
        "consequence_of": (),
        "detail": "",
        "evidence": (),
        "fixes": (),
        "no_fix": None,
        "docs": f"envdoctor rule {identity}",
    }
    return FindingEntry(id=identity, title=title, **(values | more))


OLD_DRIVER = finding(
    "driver/too-old-for-torch",
    "the driver 550.54.15 is too old for torch 2.9.0+cu130",
    detail="This torch brings the CUDA 13.0 runtime, and the driver that is loaded speaks CUDA 12.4. Nothing "
    "bridges two major versions but the compatibility package, so torch sees no device at all.",
    evidence=(
        Evidence("driver release", "550.54.15", Source("file", "/proc/driver/nvidia/version", 1)),
        Evidence("driver's CUDA", "12.4", Source("call", "cuDriverGetVersion")),
        Evidence(
            "torch's CUDA",
            "13.0",
            Source("file", f"{PYTHON[:-11]}/lib/python3.12/site-packages/torch/version.py", 4),
        ),
        Evidence("LD_LIBRARY_PATH", "/usr/local/cuda/lib64:/opt/x", Source("env", "LD_LIBRARY_PATH")),
        Evidence(
            "message",
            "UserWarning: \x1b[31mCUDA initialization\x1b[0m: driver too old",
            Source("text", "-", 12),
        ),
    ),
    fixes=(
        Fix(
            "install torch built for cu126",
            "environment",
            (
                f"{PYTHON} -m pip install 'torch[opt]==2.9.0' --index-url https://download.pytorch.org/whl/cu126",
            ),
            verify=f"{PYTHON} -c 'import torch; print(torch.cuda.is_available())'",
        ),
        Fix(
            "install an NVIDIA driver of at least 580.65.06 on the host",
            "host",
            ("sudo apt-get install -y nvidia-driver-580",),
            needs_root=True,
            needs_restart="machine",
            caveat="Running GPU jobs end with the reboot.",
            verify="nvidia-smi",
        ),
    ),
)
NO_CUDA = finding(
    "torch/cuda-unavailable",
    "torch.cuda.is_available() is False",
    role="consequence",
    consequence_of=("driver/too-old-for-torch",),
)
HOT = tuple(
    finding(
        "gpu/thermal-throttling",
        f"GPU {index} is slowed down by heat",
        subject=f"gpu:{index}",
        severity="warning",
        confidence="likely",
        evidence=(Evidence("clock", f"{900 + index} of 1410 MHz", Source("child", "nvml")),),
        no_fix="see to the fans and the air in the rack",
    )
    for index in (0, 2)
)
NOTE = finding(
    "gpu/persistence-off",
    "persistence mode is off, so that the first call of every process takes seconds",
    severity="note",
    evidence=(Evidence("persistence mode", "off", Source("child", "nvml")),),
)
CHECKS = (
    check("envdoctor"),
    check("driver", "problem"),
    check("gpu", "problem", missed=(HIDDEN, msgspec.structs.replace(HIDDEN, fact="gpu.xid-history"))),
    check("libraries"),
    check(
        "torch", stages=("torch.compiled-stages: --deep tries it", "torch.process-groups: --deep tries it")
    ),
    check("container", "not-applicable", reason="this is no container"),
    check("nccl", "not-asked", reason="no facts of this check were recorded"),
)

SICK = Report(
    schema=SCHEMA,
    tool=Tool("envdoctor", "0.1.0", ()),
    target=LIVE,
    machine=MACHINE,
    verdict="environment",
    summary=Summary(errors=1, warnings=2, notes=1, could_not_check=2, exit_code=1),
    findings=(OLD_DRIVER, *HOT, NOTE, NO_CUDA),
    suppressed=(),
    asks=(Ask("nvidia-smi -q -d PERFORMANCE", "whether heat or power holds the clocks down"),),
    checks=CHECKS,
)
HEALTHY = msgspec.structs.replace(
    SICK,
    verdict="nothing-found",
    summary=Summary(0, 0, 0, 1, 0),
    findings=(),
    asks=(),
    checks=tuple(
        msgspec.structs.replace(each, outcome="ok", missed=()) if each.outcome == "problem" else each
        for each in CHECKS
    ),
)
BLIND = msgspec.structs.replace(
    HEALTHY,
    machine=(),
    verdict="could-not-judge",
    summary=Summary(0, 0, 0, 1, 3),
    checks=(
        check("envdoctor"),
        check(
            "torch",
            "could-not-check",
            reason=f"{PYTHON} was killed by SIGSEGV",
            would_allow="name another interpreter with --python",
        ),
    ),
)
PASTED = msgspec.structs.replace(
    SICK,
    target=TargetEntry("text"),
    machine=(),
    findings=(
        msgspec.structs.replace(OLD_DRIVER, evidence=OLD_DRIVER.evidence[-1:], confidence="likely", fixes=()),
    ),
    summary=Summary(1, 0, 0, 0, 1),
    asks=(),
    checks=(check("driver", "problem"), check("gpu", "not-asked")),
)
SILENT_TEXT = msgspec.structs.replace(
    PASTED, findings=(), verdict="nothing-found", summary=Summary(0, 0, 0, 0, 0)
)
REPORTS = {"sick": SICK, "healthy": HEALTHY, "blind": BLIND, "pasted": PASTED, "silent-text": SILENT_TEXT}
