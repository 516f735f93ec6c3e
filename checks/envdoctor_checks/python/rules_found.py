"""More signs of the python rules: what RECORDs and the pip on PATH tell, and what ONNX Runtime says."""

from __future__ import annotations

from envdoctor.api import (
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Install,
    Reach,
    Severity,
    Target,
    Uninstall,
    imports,
)
from envdoctor_checks.python.facts import Distributions, OverwrittenFiles, PipCommand, ProviderMissing
from envdoctor_checks.python.rules import (
    Clash,
    clashes,
    package_in_other_interpreter,
    remove_others,
    two_wheels_one_path,
    wanted_of,
)
from envdoctor_checks.python.shared import SharedFiles
from envdoctor_checks.torch.facts import TorchBuild, TorchImport


@two_wheels_one_path.sign
def _on_disk(
    overwritten: OverwrittenFiles,
    packages: Distributions,
    shared: SharedFiles,
    build: TorchBuild | None,
    imported: TorchImport | None,
) -> Findings:
    """A library that lies there is not the one that torch wants: the other wheel's was put over it."""
    for clash in clashes(packages, shared):
        wanted = wanted_of(clash, build)
        lost = [
            each
            for each in overwritten.files
            if wanted.name in each.owners
            and each.kept not in (None, wanted.name)
            and _same(each.owners, clash)
        ]
        if not lost or not wanted.name.startswith("nvidia-"):
            continue
        failed = imported is not None and not imported.ok
        yield Finding(
            title=f"{lost[0].path.rpartition('/')[2]} is that of {lost[0].kept}, and torch wants that of {wanted.name} {wanted.version}",
            subject=f"file:{clash.what}",
            severity=Severity.ERROR if failed else Severity.WARNING,
            detail="Both wheels own the file, and the one that was installed last put its own there.",
            evidence=(
                overwritten.shows(lost[0].path, f"of {lost[0].kept}, by its RECORD"),
                *(packages.shows(each.name, each.version) for each in clash.owners),
            ),
            remedies=remove_others(clash, wanted),
            breaks=(imports("torch"),),
            shows=(imports("torch"),) if failed else (),
        )


def _same(owners: tuple[str, ...], clash: Clash) -> bool:
    return set(owners) <= {each.name for each in clash.owners}


@two_wheels_one_path.sign
def _provider(said: ProviderMissing, packages: Distributions) -> Findings:
    """ONNX Runtime for the CPU lies over the one for the GPU."""
    installed = [each for name in ("onnxruntime", "onnxruntime-gpu") for each in packages.named(name)[:1]]
    if len(installed) < 2:
        return
    yield Finding(
        title=f"onnxruntime and onnxruntime-gpu are both installed, and the files are those without {said.provider}",
        subject="file:onnxruntime",
        evidence=(said.evidence(), *(packages.shows(each.name, each.version) for each in installed)),
        remedies=(
            Uninstall(
                distributions=("onnxruntime", "onnxruntime-gpu"),
                why="both, since each took files of the other",
            ),
            Install(
                requirements=(f"onnxruntime-gpu=={installed[-1].version}",),
                why="it can do all that the other one does",
            ),
        ),
        breaks=(imports("onnxruntime"),),
        shows=(imports("onnxruntime"),),
    )


@package_in_other_interpreter.sign
def _pip_is_anothers(pip: PipCommand, build: TorchBuild, target: Target) -> Findings:
    """torch is not in the examined environment, and it is in the one that pip on PATH installs into."""
    if pip.same is not False or "torch" not in pip.has or build.version is not None:
        return
    yield Finding(
        title=f"torch is in the Python that pip on PATH belongs to ({pip.python}), and not in {target.python}",
        subject="package:torch",
        severity=Severity.ERROR if target.named else Severity.NOTE,
        confidence=Confidence.CERTAIN,
        evidence=(
            pip.shows("pip on PATH", f"{pip.path} -> {pip.python}"),
            Evidence("examined interpreter", target.python, target.source),
        ),
        remedies=(
            Change(
                title="run the program with the interpreter that has torch, or activate its environment",
                reach=Reach.SHELL,
                example=(f"{pip.python} <your program>",),
            ),
            Install(requirements=("torch",), why="or install it here, with this interpreter's own pip"),
        ),
        breaks=(imports("torch"),),
    )
