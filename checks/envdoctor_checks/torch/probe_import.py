"""One child that imports torch under the loader's debug output; it feeds the torch, libraries and nccl checks.

LD_DEBUG writes to stderr, where the child's own words are told apart by the process number before each line: a
process that crashes leaves its trace behind, and nothing is written to a disk.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from msgspec import structs

from envdoctor.api import Asked, Host, Printed, Source, Target, TargetPaths, Tier, Unavailable
from envdoctor.probing.child import Captured, ChildEnd, ChildResult, python_request
from envdoctor.target import failure
from envdoctor_checks.driver.facts import DeviceNodes, PciDevices
from envdoctor_checks.kernel.facts_smoke import AddressSpace, SmokeEager
from envdoctor_checks.kernel.smoke_results import eager_facts
from envdoctor_checks.libraries.facts import LoadedFile, LoadedLibraries, LoaderTrace, Lookup
from envdoctor_checks.libraries.tables import WheelLibraries, wheel_libraries
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.child_script import SCRIPT
from envdoctor_checks.torch.facts import (
    ImportStuck,
    TorchBuild,
    TorchCuda,
    TorchDevice,
    TorchDevices,
    TorchImport,
)

DEADLINE = 25.0
"""Seconds for the import and all questions; with files in the page cache it takes two, off a slow disk ten."""
PATIENCE = 8.0
"""Seconds below which an import that is not done proves nothing: some disks are slow."""
MARGIN, FEWEST = 3.0, 3.0
"""Seconds of a small budget that are kept for seeing the child to its end, and that it has at the least."""
OUTPUT = 8 << 20
"""Bytes of stderr that are kept: the loader's trace of an import is a fifth of a megabyte."""
TRACED = r" *\d+:\t"
WATCHED = r"(lib(?:cu[a-z]\w*|nv[a-zJ]\w*(?:-builtins)?|nccl|cupti|nvidia-ml|stdc\+\+|gomp|iomp5|mkl_\w+))(?:-[0-9a-f]{8})?\.so"
TRIED_KEPT = 40


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def import_torch(
    host: Host,
    nodes: DeviceNodes | Unavailable | None,
    pci: PciDevices | Unavailable | None,
    target: Target,
    paths: TargetPaths,
    build: TorchBuild | Unavailable,
    asked: Asked | None,
    space: AddressSpace | Unavailable | None,
) -> Iterator[
    TorchImport
    | ImportStuck
    | TorchCuda
    | TorchDevices
    | LoadedLibraries
    | LoaderTrace
    | SmokeEager
    | Printed
    | Unavailable
]:
    """Import torch, ask it for CUDA, read the loader's trace and the process's maps, and compute a little.

    Nothing is given where torch is not installed. Device files are read before, since NVIDIA's libraries may
    make them.
    """
    del paths  # asked for so that an interpreter that does not answer is not started a second time
    if isinstance(build, TorchBuild) and build.version is None and build.path is None:
        return
    environ = {**host.environ, "LD_DEBUG": "libs,files"}
    environ.pop("LD_DEBUG_OUTPUT", None)
    seconds = min(DEADLINE, max(host.remaining() - MARGIN, FEWEST))
    device = ("cpu",) if asked is not None and asked.device == "cpu" else ()
    request = python_request(
        target.python, SCRIPT, args=device, deadline=seconds, env=environ, temporary_directory=True
    )
    result = host.run_child(structs.replace(request, max_output=OUTPUT))
    traced, said = split_trace(result.stderr.text)
    result = structs.replace(result, stderr=Captured(text=said))  # the trace is none of its own words
    stages = {stage["stage"]: stage for stage in result.stages}
    yield from _import_facts(result, stages, said, cut_short=seconds < PATIENCE)
    yield from _cuda_facts(result, stages)
    yield from _library_facts(stages, traced)
    yield from eager_facts(result, space)
    if text := _words(stages, said, asked_for_gpu=_has_gpu(nodes, pci)):
        yield Printed(text, Source("child", "import torch"))


def _has_gpu(nodes: DeviceNodes | Unavailable | None, pci: PciDevices | Unavailable | None) -> bool:
    """Whether a GPU is there, so that torch's complaint about having none is worth reading."""
    if isinstance(nodes, DeviceNodes) and (nodes.gpus or nodes.node("/dev/dxg")):
        return True
    return isinstance(pci, PciDevices) and bool(pci.gpus)


def split_trace(stderr: str) -> tuple[list[str], str]:
    """The loader's lines, and what the program itself said."""
    traced: list[str] = []
    said: list[str] = []
    for line in stderr.split("\n"):
        (traced if re.match(TRACED, line) else said).append(line)
    return traced, "\n".join(said).strip()


def _import_facts(
    result: ChildResult, stages: dict[str, Any], said: str, *, cut_short: bool
) -> Iterator[TorchImport | ImportStuck | Unavailable]:
    source = Source("child", "import torch")
    if result.stuck is not None:
        held = result.stuck
        yield ImportStuck(
            pid=held.pid, state=held.state, wchan=held.wchan, seconds=held.seconds, source=source
        )
    told = stages.get("import")
    if told is not None:
        yield TorchImport(
            ok=told["ok"],
            exception=told.get("exception"),
            message=told.get("message"),
            seconds=told.get("at"),
            source=source,
        )
    elif "importing" in stages and result.end is ChildEnd.TIMED_OUT and cut_short:
        why = f"import torch was not done after {result.seconds:.0f} s, when the budget came to its end"
        yield Unavailable(TorchImport.fact_name, why, "--budget gives more")
    elif "importing" in stages and result.end is ChildEnd.TIMED_OUT:
        yield TorchImport(
            ok=False, timed_out=True, message=where_it_hung(said), seconds=result.seconds, source=source
        )
    elif "importing" in stages and result.end is ChildEnd.KILLED:
        yield TorchImport(ok=False, signal=result.signal, message=where_it_hung(said), source=source)
    elif "importing" in stages and result.end is ChildEnd.EXITED:
        message = f"the interpreter left with status {result.exit_code}"
        yield TorchImport(ok=False, exception="SystemExit", message=message, source=source)
    else:
        yield Unavailable(TorchImport.fact_name, f"the child that imports torch {failure(result)}")


def where_it_hung(said: str) -> str | None:
    """The innermost Python line of faulthandler's dump of the thread that was at work, the import system's own aside."""
    every = re.findall(r'File "([^"]+)", line (\d+) in (\S+)', said)
    frames = [frame for frame in every if not frame[0].startswith("<frozen ")] or every
    return f"{frames[0][0]}, line {frames[0][1]}, in {frames[0][2]}" if frames else None


def _cuda_facts(
    result: ChildResult, stages: dict[str, Any]
) -> Iterator[TorchCuda | TorchDevices | Unavailable]:
    told = stages.get("cuda")
    source = Source("child", "torch.cuda")
    if told is None or "available" not in told:
        why = _why_not(result, stages, told)
        yield Unavailable(TorchCuda.fact_name, why)
        yield Unavailable(TorchDevices.fact_name, why)
        return
    reason = told.get("reason") or {}
    yield TorchCuda(
        available=told["available"],
        device_count=told.get("device_count"),
        reason=reason.get("message"),
        arch_list=tuple(told["arch_list"]) if told.get("arch_list") else None,
        cudnn=told.get("cudnn"),
        nccl=told.get("nccl"),
        source=source,
    )
    if "devices" in told:
        yield TorchDevices(devices=tuple(TorchDevice(**each) for each in told["devices"]), source=source)
    elif told["available"]:
        yield Unavailable(TorchDevices.fact_name, _error(told, "devices"))


def _why_not(result: ChildResult, stages: dict[str, Any], told: dict[str, Any] | None) -> str:
    if told is not None:
        return _error(told, "available")
    imported = stages.get("import")
    if imported is not None and not imported["ok"]:
        return "torch cannot be imported"
    if imported is None:
        return f"the child that imports torch {failure(result)}"
    asking = stages.get("asking", {}).get("what", "its first question")
    return f"torch was imported, and at torch.cuda.{asking} the child {failure(result)}"


def _error(told: dict[str, Any], key: str) -> str:
    error = told.get("errors", {}).get(key)
    return f"{error['exception']}: {error['message']}" if error else "torch gave no answer"


def _library_facts(
    stages: dict[str, Any], traced: list[str]
) -> Iterator[LoadedLibraries | LoaderTrace | Unavailable]:
    source = Source("child", "import torch under LD_DEBUG=libs,files")
    table = wheel_libraries()
    if "maps" in stages:
        cuda = str(stages.get("import", {}).get("torch_cuda") or "")
        files = tuple(_loaded(stages["maps"]["text"], table, cuda.partition(".")[0]))
        yield LoadedLibraries(files=files, source=Source("file", "/proc/PID/maps"))
    else:
        yield Unavailable(LoadedLibraries.fact_name, "the child did not come to read its maps")
    if traced:
        yield LoaderTrace(lookups=tuple(_lookups(traced)), source=source)
    else:
        yield Unavailable(
            LoaderTrace.fact_name, "the loader wrote no trace: not glibc, or a privileged interpreter"
        )


def _loaded(text: str, table: WheelLibraries, cuda_major: str) -> Iterator[LoadedFile]:
    from envdoctor.probing import maps  # here: a quick run imports no torch

    for mapped in maps.parse(text):
        name = mapped.path.rpartition("/")[2]
        match = re.match(WATCHED, name)
        if match and mapped.executable:
            yield LoadedFile(
                path=mapped.path, library=match[1], owner=_owner(mapped.path, name, table, cuda_major)
            )


def _owner(path: str, name: str, table: WheelLibraries, cuda_major: str) -> str | None:
    """The distribution into whose folder of site-packages the file belongs.

    cuDNN's wheels of several CUDA majors share folder and SONAME: torch's own major decides.
    """
    if "-packages/" not in path:
        return None
    rows = [row for row in table.owners(name) if f"/{row.folder}/" in path]
    rows.sort(key=lambda row: str(row.cuda_major) != cuda_major)
    return rows[0].distribution if rows else None


def _lookups(traced: list[str]) -> Iterator[Lookup]:
    from envdoctor.probing import lddebug  # as above

    for each in lddebug.parse(traced).lookups:
        if re.match(WATCHED, each.name.rpartition("/")[2]):
            yield Lookup(
                name=each.name,
                wanted_by=each.wanted_by,
                found=each.found,
                rule=each.found_via,
                tried=each.tried[:TRIED_KEPT],
            )


def _words(stages: dict[str, Any], said: str, *, asked_for_gpu: bool) -> str:
    """Everything that messages may be read from: exceptions with their tracebacks, and stderr.

    Why CUDA is not available was asked by us, not by a program of the user's: on a machine without a GPU, and of
    a build for the CPU, the answer is no fault and is left out.
    """
    cuda = stages.get("cuda", {})
    provoked = asked_for_gpu and stages.get("import", {}).get("torch_cuda") is not None
    errors = [stages.get("import", {}), *([cuda.get("reason", {})] if provoked else [])]
    errors += [error for key, error in cuda.get("errors", {}).items() if provoked or key in ("cudnn", "nccl")]
    texts = dict.fromkeys(each["traceback"] for each in errors if each.get("traceback"))
    return "\n".join([*texts, said]).strip()
