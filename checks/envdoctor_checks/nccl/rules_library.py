"""Which NCCL is loaded, its variables, and what it says when it fails without telling why."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    DropPathEntry,
    Evidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Severity,
    UnsetVariable,
    Variables,
    imports,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.libraries.facts import UndefinedSymbol
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    CollectiveTimedOut,
    CollectiveWrong,
    DuplicateGpu,
    NcclLibrary,
    NcclSettings,
    Setting,
    SettingSaid,
    ValueRefused,
    VersionSaid,
    VersionsDiffer,
)
from envdoctor_checks.nccl.reasoning import COLLECTIVE, RENDEZVOUS, quoted, several_processes, use
from envdoctor_checks.nccl.tables import NcclVariables
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchImport

LIBRARY = "library:libnccl.so.2"
OLDER_DETAIL = (
    "torch's wheels need the NCCL that they were built with, which pip installs as nvidia-nccl-cu12 (or cu11, cu13). A libnccl of "
    "the system or of an environment module that comes first, by LD_PRELOAD or LD_LIBRARY_PATH, is taken instead; if it is older, "
    "functions are missing."
)


def _wheel(packages: Distributions | None) -> tuple[str, str] | None:
    """The name and version of the NCCL that pip installed."""
    found = packages.distributions if packages else ()
    return next(((each.name, each.version) for each in found if each.name.startswith("nvidia-nccl-cu")), None)


def _several_wheels(packages: Distributions | None) -> bool:
    """Whether wheels for several CUDA releases overwrote each other's file, which the python check tells."""
    found = packages.distributions if packages else ()
    return len({each.name for each in found if each.name.startswith("nvidia-nccl-cu")}) > 1


def _culprits(variables: Variables | None, path: str | None) -> Iterator[Remedy]:
    """The variables that bring another libnccl."""
    preload = (variables.get("LD_PRELOAD") or "") if variables else ""
    entries = ((variables.get("LD_LIBRARY_PATH") or "") if variables else "").split(":")
    verify = "python -c 'import torch; print(torch.cuda.nccl.version())'"
    if "nccl" in preload:
        yield UnsetVariable(name="LD_PRELOAD", why=f"it forces {preload} on every program", verify=verify)
    for entry in entries:
        if "nccl" in entry.lower() or (path and entry and path.rpartition("/")[0] == entry.rstrip("/")):
            yield DropPathEntry(
                name="LD_LIBRARY_PATH", entry=entry, why="another libnccl lies there", verify=verify
            )


def _own_nccl(variables: Variables | None, path: str | None = None) -> tuple[Remedy, ...]:
    fixes = list(_culprits(variables, path))
    if not fixes:
        fixes.append(
            Run(
                title="without the variables that bring another libnccl",
                commands=("env -u LD_PRELOAD -u LD_LIBRARY_PATH python -c 'import torch'",),
                reach=Reach.SHELL,
                caveat="What else LD_LIBRARY_PATH brings is missing then; keep its other entries.",
                verify="env | grep -E 'LD_PRELOAD|LD_LIBRARY_PATH'",
            )
        )
    fixes.append(
        Change(
            title="where an environment module brought it",
            reach=Reach.SHELL,
            example=("module unload nccl",),
            verify="module list",
        )
    )
    return tuple(fixes)


@check.rule
def older_library(
    library: NcclLibrary, packages: Distributions, variables: Variables | None, torch: TorchImport | None
) -> Findings:
    """An older libnccl than torch's own is loaded."""
    wheel = _wheel(packages)
    if library.version is None or wheel is None or library.found_via not in ("library", "torch"):
        return
    if _several_wheels(packages) or compare_releases(library.version, wheel[1]) >= 0:
        return
    failed = torch is not None and not torch.ok and "nccl" in (torch.message or "")
    yield Finding(
        subject=LIBRARY,
        title=f"torch gets NCCL {library.version}"
        + (f" ({library.path})" if library.path else "")
        + f" and not its own {wheel[1]}",
        severity=Severity.ERROR if failed else Severity.WARNING,
        confidence=Confidence.CERTAIN if failed else Confidence.LIKELY,
        detail=OLDER_DETAIL,
        evidence=(library.shows("NCCL", library.version), packages.shows(wheel[0], wheel[1])),
        remedies=_own_nccl(variables, library.path),
        breaks=(imports("torch"),) if failed else (COLLECTIVE,),
        shows=(imports("torch"),) if failed else (),
    )


@older_library.sign
def _symbol_missing(
    said: UndefinedSymbol, variables: Variables | None, packages: Distributions | None
) -> Findings:
    """A function of NCCL is not in the one that is loaded."""
    if not said.symbol.startswith(("nccl", "pnccl")):
        return
    culprits = tuple(_culprits(variables, None))
    if _several_wheels(packages) and not culprits:
        return
    wheel = _wheel(packages)
    torch = said.wanted_by is None or "torch" in said.wanted_by
    yield Finding(
        subject=LIBRARY,
        title=f"the libnccl that is loaded is too old: it has no {said.symbol}"
        + (f" ({wheel[0]} {wheel[1]} is installed and not taken)" if wheel and culprits else ""),
        detail=OLDER_DETAIL,
        evidence=(*quoted(said), *((packages.shows(wheel[0], wheel[1]),) if packages and wheel else ())),
        remedies=_own_nccl(variables),
        breaks=(imports("torch"), Outcome("library", "libnccl.so.2"))
        if torch
        else (Outcome("library", "libnccl.so.2"),),
        shows=(imports("torch"),) if torch else (Outcome("library", "libnccl.so.2"),),
        asks=(
            Ask(
                'ldd $(python -c \'import torch.version as v; print(v.__file__.replace("version.py","lib/libtorch_cuda.so"))\') | grep nccl; echo $LD_PRELOAD $LD_LIBRARY_PATH',
                "which libnccl is taken, and by what",
            ),
        ),
    )


VERSIONS_DETAIL = (
    "All ranks of a job must run the same release of NCCL. Nodes with different images, environments or environment modules get "
    "different ones, and then fail or hang while they connect."
)
SAME_VERSION: tuple[Remedy, ...] = (
    Change(
        title="the same environment on every node: the same image, or the same pinned torch",
        reach=Reach.ENVIRONMENT,
        example=(
            "pip install torch==X.Y.Z   # the same X.Y.Z on all nodes, with the nvidia-nccl wheel that it pins",
        ),
        verify="on each node: python -c 'import torch; print(torch.__version__, torch.cuda.nccl.version())'",
    ),
)


@check.rule
def version_differs_across_nodes(
    told: tuple[VersionsDiffer, ...],
    said: tuple[VersionSaid, ...],
    failed: tuple[CollectiveFailed, ...],
    stuck: tuple[CollectiveTimedOut, ...],
) -> Findings:
    """The nodes of a job run different releases of NCCL."""
    by_host = {each.host: each for each in said if each.host}
    versions = {each.version.partition("+")[0] for each in by_host.values()}
    if not told and (len(by_host) < 2 or len(versions) < 2):
        return
    named = told[0].versions if told else tuple(sorted(versions))
    wrong = bool(told or failed or stuck)
    yield Finding(
        title="ranks run different releases of NCCL" + (f": {', '.join(named)}" if named else ""),
        severity=Severity.ERROR if wrong else Severity.WARNING,
        confidence=Confidence.CERTAIN if told else Confidence.LIKELY,
        detail=VERSIONS_DETAIL,
        evidence=quoted(*told[:1], *by_host.values()),
        remedies=SAME_VERSION,
        breaks=(RENDEZVOUS,),
        shows=(COLLECTIVE,) if wrong else (),
    )


UNKNOWN_DETAIL = (
    "NCCL reads a fixed set of NCCL_ variables and passes over every other one without a word, so a misspelt one has no effect. "
    "Of a value that it does not understand it takes the default, or, since 2.24 for NCCL_ALGO and NCCL_PROTO, it gives up."
)


def _wrong(setting: Setting, table: NcclVariables) -> tuple[str, str | None] | None:
    """What is wrong with a setting, and the name that was probably meant."""
    row = table.variable(setting.name)
    if row is None:
        nearest = None if table.knows(setting.name) else table.nearest(setting.name)
        return (f"NCCL knows no {setting.name}; {nearest} is probably meant", nearest) if nearest else None
    if not row.accepts(setting.value):
        allowed = f" (it may be {', '.join(row.allowed[:8])})" if row.allowed else ""
        return f"NCCL does not understand {setting.name}={setting.value}{allowed}", None
    return None


def _correct(setting: Setting, meant: str | None) -> tuple[Remedy, ...]:
    if setting.file:
        line = f"{meant}={setting.value}" if meant else f"# {setting.name}={setting.value}"
        return (
            Change(
                title=f"correct {setting.file}" + (f", line {setting.line}" if setting.line else ""),
                reach=Reach.HOST if setting.file.startswith("/etc") else Reach.ENVIRONMENT,
                example=(line,),
            ),
        )
    unset = UnsetVariable(name=setting.name, why="it has no effect as it is")
    return (
        (SetVariable(name=meant, value=setting.value, why="the name that NCCL reads"), unset)
        if meant
        else (unset,)
    )


@check.rule
def env_unknown(settings: NcclSettings, table: NcclVariables, variables: Variables | None) -> Findings:
    """An NCCL variable is misspelt, or has a value that NCCL does not understand."""
    used = several_processes(variables)
    for setting in settings.settings:
        wrong = _wrong(setting, table)
        if wrong is not None:
            yield Finding(
                subject=f"variable:{setting.name}",
                title=wrong[0],
                severity=Severity.WARNING if used else Severity.NOTE,
                confidence=Confidence.LIKELY,
                detail=UNKNOWN_DETAIL,
                evidence=(settings.shows(setting.file or setting.name, setting.value), *use(variables)),
                remedies=_correct(setting, wrong[1]),
            )


@env_unknown.sign
def _refused(said: ValueRefused, told: tuple[SettingSaid, ...]) -> Findings:
    """NCCL said that it does not understand a value."""
    name = said.name or next((each.name for each in told if each.value == said.value), None)
    yield Finding(
        subject=f"variable:{name}" if name else "",
        title=f"NCCL does not understand {name or 'the value'}{'=' if name else ' '}{said.value}",
        severity=Severity.ERROR if said.fatal else Severity.WARNING,
        detail=UNKNOWN_DETAIL,
        evidence=quoted(said),
        remedies=_correct(Setting(name, said.value), None)
        if name
        else (
            Run(
                title="find the variable with that value, and correct or unset it",
                commands=("env | grep NCCL_; cat /etc/nccl.conf ~/.nccl.conf",),
                reach=Reach.SHELL,
            ),
        ),
        breaks=(COLLECTIVE,) if said.fatal else (),
        shows=(COLLECTIVE,) if said.fatal else (),
    )


@check.rule
def duplicate_gpu(said: DuplicateGpu, variables: Variables | None) -> Findings:
    """Two ranks use the same GPU."""
    yield Finding(
        title=f"two ranks use one GPU (PCI bus {said.device})",
        detail=(
            "NCCL wants one GPU per rank. Every process begins with GPU 0 until it chooses another one, so a program that never "
            "calls torch.cuda.set_device, or calls it with a constant, puts all ranks there; so does starting more processes "
            "than there are GPUs."
        ),
        evidence=(*quoted(said), *_ranks(variables)),
        remedies=(
            Change(
                title="choose the GPU by the local rank, before anything uses CUDA",
                reach=Reach.SHELL,
                example=('torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))',),
                needs_restart="process",
                verify="nvidia-smi --query-compute-apps=pid,gpu_uuid --format=csv   # one process per GPU",
            ),
            Change(
                title="start no more processes than the node has visible GPUs",
                reach=Reach.SHELL,
                example=("torchrun --nproc_per_node=gpu train.py",),
                verify="nvidia-smi -L; echo $CUDA_VISIBLE_DEVICES",
            ),
        ),
        breaks=(COLLECTIVE,),
        shows=(COLLECTIVE,),
    )


def _ranks(variables: Variables | None) -> tuple[Evidence, ...]:
    names = ("LOCAL_RANK", "CUDA_VISIBLE_DEVICES")
    return tuple(variables.evidence(name) for name in names if variables.get(name)) if variables else ()


TELL = Run(
    title="let NCCL tell what failed",
    commands=("export NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV",),
    reach=Reach.SHELL,
    needs_restart="process",
    caveat="The line that matters is the first NCCL WARN, of whichever rank failed first.",
    verify="grep -m1 'NCCL WARN' the output",
)
WORDS = {
    "system": "a call into the system failed",
    "internal": "an internal error",
    "cuda": "a CUDA call failed",
    "usage": "it was used wrongly",
    "argument": "an argument is invalid",
    "remote": "another rank ended, or the network failed",
}


@check.rule
def collective_failed(said: tuple[CollectiveFailed, ...]) -> Findings:
    """NCCL failed, and its message does not tell why."""
    if said:
        yield Finding(
            title=f"NCCL failed: {WORDS[said[0].error_class]}",
            confidence=Confidence.POSSIBLE,
            detail="NCCL's error codes only name a class of failures. The reason is in its warnings, or in another rank's output.",
            evidence=quoted(*said[:2]),
            remedies=(TELL,),
            shows=(COLLECTIVE,),
            asks=(Ask("NCCL_DEBUG=INFO before the same command", "the call that failed, and on which rank"),),
        )


@check.rule
def collective_wrong_result(said: tuple[CollectiveWrong, ...]) -> Findings:
    """A test of collectives got wrong results."""
    if said:
        yield Finding(
            title="collectives give wrong results",
            confidence=Confidence.POSSIBLE,
            detail=(
                "What came out differs from what should have. Mostly it is the direct access between GPUs (IOMMU, PCIe ACS), "
                "seldom a defective GPU or cable."
            ),
            evidence=quoted(*said[:2]),
            remedies=(
                SetVariable(
                    name="NCCL_P2P_DISABLE", value="1", why="whether it is the direct access between GPUs"
                ),
            ),
            shows=(COLLECTIVE,),
            asks=(
                Ask(
                    "cat /proc/cmdline; sudo lspci -vvv | grep ACSCtl; nvidia-smi -q -d ECC",
                    "IOMMU, ACS, memory errors",
                ),
            ),
        )


@check.rule
def collective_timed_out(said: tuple[CollectiveTimedOut, ...]) -> Findings:
    """A collective operation did not end in time."""
    if said:
        operation = next((each.operation for each in said if each.operation), None)
        yield Finding(
            title=f"{operation or 'a collective operation'} did not end in time",
            confidence=Confidence.POSSIBLE,
            detail=(
                "Ranks wait for each other. One that failed, is slow (reading data, writing a checkpoint), or took another "
                "branch of the program keeps all others waiting; a network that swallows packets looks the same."
            ),
            evidence=quoted(*said[:2]),
            remedies=(
                Run(
                    title="record what each rank last did",
                    commands=(
                        "export TORCH_NCCL_TRACE_BUFFER_SIZE=2000 TORCH_NCCL_DUMP_ON_TIMEOUT=1 NCCL_DEBUG=INFO",
                    ),
                    reach=Reach.SHELL,
                    needs_restart="process",
                    caveat="Look first at the rank that failed or is missing; if one is rightly slow, give init_process_group a longer timeout.",
                    verify="torchfrtrace --prefix nccl_trace_rank_ /tmp",
                ),
            ),
            shows=(COLLECTIVE,),
            asks=(Ask("py-spy dump --pid PID, on each rank", "where each rank waits"),),
        )
