"""Which NCCL is loaded, whether all nodes have the same one, and its variables."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    DropPathEntry,
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
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.what_if import proven
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import (
    CollectiveFailed,
    CollectiveTimedOut,
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


def _culprits(
    variables: Variables | None, path: str | None, left_out: tuple[str, ...] | None = None
) -> Iterator[Remedy]:
    """The variables that bring another libnccl; `left_out`: the elements that do, where the loader's model has said."""
    preload = (variables.get("LD_PRELOAD") or "") if variables else ""
    entries = ((variables.get("LD_LIBRARY_PATH") or "") if variables else "").split(":")
    verify = "python -c 'import torch; print(torch.cuda.nccl.version())'"
    if "nccl" in preload:
        yield UnsetVariable(name="LD_PRELOAD", why=f"it forces {preload} on every program", verify=verify)
    for entry in entries:
        named = "nccl" in entry.lower() or (path and entry and path.rpartition("/")[0] == entry.rstrip("/"))
        if named if left_out is None else entry in left_out:
            yield DropPathEntry(
                name="LD_LIBRARY_PATH", entry=entry, why="another libnccl lies there", verify=verify
            )


def _own_nccl(
    variables: Variables | None, path: str | None = None, left_out: tuple[str, ...] | None = None
) -> tuple[Remedy, ...]:
    fixes = list(_culprits(variables, path, left_out))
    if not fixes and left_out != ():
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
    library: NcclLibrary,
    packages: Distributions,
    variables: Variables | None,
    torch: TorchImport | None,
    predicted: LoaderPredictions | None,
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
        remedies=_own_nccl(
            variables,
            library.path,
            proven(predicted, "libnccl.so.2", took=library.path) if library.path else None,
        ),
        breaks=(imports("torch"),) if failed else (COLLECTIVE,),
        shows=(imports("torch"),) if failed else (),
    )


@older_library.sign
def _symbol_missing(
    said: UndefinedSymbol,
    variables: Variables | None,
    packages: Distributions | None,
    predicted: LoaderPredictions | None,
) -> Findings:
    """A function of NCCL is not in the one that is loaded."""
    if not said.symbol.startswith(("nccl", "pnccl")):
        return
    left_out = proven(predicted, "libnccl.so.2", said)
    culprits = tuple(_culprits(variables, None, left_out))
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
        remedies=_own_nccl(variables, None, left_out),
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


MOST_NAMED = 20
"""Settings that are told one by one; a thousand findings would bury all others."""


def _wrong(setting: Setting, table: NcclVariables, nccl: str | None) -> tuple[str, str | None] | None:
    """What is wrong with a setting, and the name that was probably meant."""
    row = table.variable(setting.name)
    if row is None:
        nearest = None if table.knows(setting.name) else table.nearest(setting.name)
        return (f"NCCL knows no {setting.name}; {nearest} is probably meant", nearest) if nearest else None
    if nccl and row.removed_in and compare_releases(nccl, row.removed_in) >= 0:
        instead = f"; {row.replaced_by} took its place" if row.replaced_by else ""
        return f"NCCL {nccl} no longer reads {setting.name} (removed in {row.removed_in}){instead}", None
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
def env_unknown(
    settings: NcclSettings, table: NcclVariables, variables: Variables | None, library: NcclLibrary | None
) -> Findings:
    """An NCCL variable is misspelt or no longer read, or has a value that NCCL does not understand."""
    used = several_processes(variables)
    nccl = library.version if library else None
    wrong = ((each, found) for each in settings.settings if (found := _wrong(each, table, nccl)))
    for setting, (title, meant) in islice(wrong, MOST_NAMED):
        yield Finding(
            subject=f"variable:{setting.name}",
            title=title,
            severity=Severity.WARNING if used else Severity.NOTE,
            confidence=Confidence.LIKELY,
            detail=UNKNOWN_DETAIL,
            evidence=(settings.shows(setting.file or setting.name, setting.value), *use(variables)),
            remedies=_correct(setting, meant),
        )


@env_unknown.sign
def _refused(said: ValueRefused, told: tuple[SettingSaid, ...], settings: NcclSettings | None) -> Findings:
    """NCCL said that it does not understand a value."""
    known = [(each.name, each.value) for each in told]
    known += [(each.name, each.value) for each in (settings.settings if settings else ())]
    name = said.name or next((name for name, value in known if value == said.value), None)
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
