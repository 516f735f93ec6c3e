"""``check --for`` through the command line: recorded machines, the live one, and options that make no sense."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from envdoctor.asked import asked
from envdoctor.errors import UsageError
from envdoctor.report import Selection
from tests.support.cases import MACHINES, doctor


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = (sys.executable, "-m", "envdoctor", "check", *arguments)
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def report(machine: str | Path, architectures: str | None = None, driver: str | None = None) -> Any:
    """The report document of a recording, with what is asked now."""
    path = machine if isinstance(machine, Path) else MACHINES / f"{machine}.json"
    options = asked(deep=False, device="auto", architectures=architectures, driver=driver)
    found = doctor().report(doctor().recorded([str(path)], options), Selection())
    return msgspec.to_builtins(found)


def rows(document: Any) -> dict[str, str]:
    return {each["label"]: each["value"] for each in document["machine"] if each["label"].startswith("for ")}


def loud(document: Any) -> list[tuple[str, str, str]]:
    return [
        (each["severity"], each["id"], each["subject"])
        for each in document["findings"]
        if each["severity"] != "note"
    ]


def commands(document: Any, rule: str) -> str:
    found = next(each for each in document["findings"] if each["id"] == rule)
    return "\n".join(line for fix in found["fixes"] for line in fix["commands"])


def test_an_image_built_without_a_gpu_runs_on_hopper_and_blackwell() -> None:
    """A CI runner's recording: nothing but notes, and a row for each that says what the yes rests on."""
    found = report("cuda-runtime-ci", "sm_90,sm_120", "580.65.06")
    assert (loud(found), found["summary"]["exit_code"]) == ([], 0)
    assert rows(found)["for sm_90"].startswith(
        "runs: sm_90 code in torch 2.8.0+cu128; driver 580.65.06 will do"
    )
    assert "open kernel modules" in rows(found)["for sm_120"]
    assert "compiling with Triton 3.4.0 was not tried" in rows(found)["for sm_120"]


def test_nothing_is_said_unless_asked() -> None:
    assert rows(report("cuda-runtime-ci")) == {}


def test_an_older_driver_of_the_same_major_will_do_and_the_row_says_why() -> None:
    found = report("cuda-runtime-ci", "sm_90", "535.104.05")
    assert loud(found) == []
    assert "minor-version compatibility" in rows(found)["for sm_90"]


def test_a_wheel_without_code_for_blackwell(tmp_path: Path) -> None:
    """cu126 has code for Hopper and none for Blackwell; cu128 of the same release has both."""
    document = msgspec.json.decode((MACHINES / "cuda-runtime-ci.json").read_bytes())
    document["facts"]["torch.build"] |= {"version": "2.8.0+cu126", "torch_cuda": "12.6"}
    document["facts"]["torch.cuda"]["arch_list"] = [
        "sm_50",
        "sm_60",
        "sm_70",
        "sm_75",
        "sm_80",
        "sm_86",
        "sm_90",
    ]
    changed = tmp_path / "changed.json"
    changed.write_bytes(msgspec.json.encode(document))
    hopper = report(changed, "sm_90")
    assert ("error", "torch/arch-not-in-build", "gpu:sm_90") not in loud(hopper)
    both = report(changed, "sm_90,sm_120")
    assert loud(both)[0] == ("error", "torch/arch-not-in-build", "gpu:sm_120")
    assert "torch==2.8.0+cu128" in commands(both, "torch/arch-not-in-build")
    assert rows(both)["for sm_120"].startswith("does not run: torch 2.8.0+cu126 has code for sm_50")
    assert both["summary"]["exit_code"] == 1


@pytest.mark.parametrize(
    ("machine", "options", "finding"),
    [
        ("laptop-cpu", ("sm_90",), ("error", "torch/cpu-only-build", "")),
        ("ubuntu-desktop", ("sm_90",), ("error", "torch/not-installed", "")),
        ("cuda-runtime-ci", ("sm_80", "470.57.02"), ("error", "driver/too-old-for-torch", "driver:470.57.02")),
        ("cuda-runtime-ci", ("sm_120", "535.104.05"), ("error", "driver/gpu-not-supported", "gpu:sm_120")),
        ("gb10", ("sm_121", "575.57.08"), ("error", "driver/too-old-for-torch", "driver:575.57.08")),
        ("cuda-runtime-ci", ("sm_999",), ("warning", "kernel/absent-gpu-undecided", "gpu:sm_999")),
    ],
)  # fmt: skip
def test_what_will_not_run_leads_the_report(
    machine: str, options: tuple[str, ...], finding: tuple[str, str, str]
) -> None:
    assert finding not in loud(report(machine))
    found = report(machine, *options)
    assert loud(found)[0] == finding
    assert all("runs:" not in value for value in rows(found).values())


def test_a_jetson_is_not_judged_by_the_drivers_of_others() -> None:
    found = report("jetson-orin", "sm_87", "540.4.0")
    assert [each for each in loud(found) if each[1].startswith("driver/")] == []
    assert rows(found)["for sm_87"].startswith("runs: sm_87 code in torch 2.8.0; the driver is JetPack's")


def test_a_gpu_that_is_here_and_one_that_is_not_are_told_apart() -> None:
    found = report("rtx4090", "sm_61")
    assert loud(found)[0] == ("error", "torch/arch-not-in-build", "gpu:sm_61")
    assert all(each[2] != "gpu:0" for each in loud(found))


@pytest.mark.parametrize(
    ("architectures", "driver", "says"),
    [
        ("hopper", None, "'hopper' is no GPU architecture; write it like sm_90"),
        ("9.0", None, "'9.0' is no GPU architecture"),
        ("sm_90,compute_90", None, "'compute_90' is no GPU architecture"),
        (" , ", None, "--for names no GPU architecture"),
        (None, "535.104.05", "give --for as well"),
        ("sm_90", "535", "'535' is no driver release; write it like 535.104.05"),
        ("sm_90", "CUDA 12", "is no driver release"),
    ],
)
def test_what_makes_no_sense_is_refused(architectures: str | None, driver: str | None, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        asked(deep=False, device="auto", architectures=architectures, driver=driver)


@pytest.mark.parametrize("options", [("--for", "hopper"), ("--driver", "535.104.05")])
def test_a_usage_error_leaves_stdout_empty(options: tuple[str, ...]) -> None:
    done = run("--quick", *options)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--for" in done.stderr


def test_a_recording_is_asked_through_the_command_line() -> None:
    done = run("--facts", str(MACHINES / "laptop-cpu.json"), "--for", "sm_90", "--format", "json")
    found = json.loads(done.stdout)
    assert (done.returncode, done.stderr, loud(found)[0][1]) == (1, "", "torch/cpu-only-build")


def test_the_live_machine_answers_even_quickly() -> None:
    """The interpreter of these tests is asked; whatever torch it has, there is a row, and it begins with a verdict."""
    done = run("--quick", "--python", sys.executable, "--for", "sm_90", "--format", "json")
    told = rows(json.loads(done.stdout))["for sm_90"]
    assert told.startswith(("runs: ", "does not run: ", "cannot tell: "))
