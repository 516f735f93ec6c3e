"""Rows of the summary for the GPUs of ``--for``: whether this environment runs on each, and what that rests on."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Asked, Headline, Platform, Unavailable
from envdoctor_checks.driver.tables import architectures
from envdoctor_checks.kernel.check import check
from envdoctor_checks.kernel.facts_for import CompiledFor
from envdoctor_checks.kernel.reasoning import on_windows
from envdoctor_checks.kernel.reasoning_for import (
    Outlook,
    driver_needs,
    dropped_by,
    floor_of,
    minor_compatible,
    outlooks,
    unmet,
)
from envdoctor_checks.kernel.rules_for import open_question
from envdoctor_checks.kernel.rules_triton import installed_triton
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.advice import Advice, advice
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda

check.table(architectures)  # the driver check's, which may be absent; the rules ask for it, too


@check.headline
def for_rows(
    asked: Asked,
    build: TorchBuild | Unavailable | None,
    cuda: TorchCuda | None,
    compiled: CompiledFor | Unavailable | None,
    packages: Distributions | None,
    platform: Platform | None,
) -> Iterator[Headline]:
    """``for sm_120  runs: sm_120 code in torch 2.8.0+cu128; needs driver 570.26 or later; ...``."""
    if not asked.architectures:
        return
    tables = advice(), architectures()
    known = build if isinstance(build, TorchBuild) else TorchBuild(version=None, source=asked.source)
    for each in outlooks(asked, known, cuda, platform, *tables):
        verdict = _obstacle(each, asked, build, platform, tables[0])
        if verdict is None:
            cells = (
                _code(each, known),
                _driver(each, asked, known, platform, tables[0]),
                _triton(each, compiled, packages),
            )
            verdict = f"runs: {'; '.join(cell for cell in cells if cell)}"
        yield Headline(f"for {each.architecture}", verdict, 45)


def _obstacle(
    outlook: Outlook,
    asked: Asked,
    build: TorchBuild | Unavailable | None,
    platform: Platform | None,
    known: Advice,
) -> str | None:
    """Why it does not run there, or why that cannot be told."""
    question = open_question(outlook, build)
    if question is not None or not isinstance(build, TorchBuild):
        return f"cannot tell: {question}"
    if build.version is None:
        return "does not run: torch is not installed"
    if build.torch_cuda is None:
        return f"does not run: torch {build.version} is not built for CUDA"
    if outlook.piece is None:
        return f"does not run: torch {build.version} has code for {' '.join(outlook.code or ())}"
    needs = driver_needs(outlook, build.torch_cuda, known.floors, on_windows(platform))
    floor, last = floor_of(unmet(needs, asked.driver)), dropped_by(outlook, asked.driver)
    if floor is not None:
        return f"does not run: driver {asked.driver} is too old, {floor} or later is needed"
    return (
        f"does not run: driver {asked.driver} is too new, {last} is the last branch for it" if last else None
    )


def _code(outlook: Outlook, build: TorchBuild) -> str:
    if outlook.how == "ptx":
        return f"{outlook.piece} in torch {build.version} is PTX, which the driver compiles when it is first used"
    return f"{outlook.piece} code in torch {build.version}"


def _driver(
    outlook: Outlook, asked: Asked, build: TorchBuild, platform: Platform | None, known: Advice
) -> str:
    """What driver it takes, or that the one named will do."""
    chip, cuda = outlook.chip, build.torch_cuda or ""
    if chip is None or chip.tegra:
        return "the driver is JetPack's, which is not judged"
    floor = floor_of(driver_needs(outlook, cuda, known.floors, on_windows(platform)))
    flavour = ", with the open kernel modules" if chip.kernel_modules == "open" else ""
    if asked.driver is None:
        return f"needs driver {floor} or later{flavour}" if floor else "which driver it needs is not known"
    if floor is None:
        return f"whether driver {asked.driver} will do is not known"
    spoken = known.floors.native_cuda(asked.driver)
    minor = (
        f" by minor-version compatibility (it speaks CUDA {spoken}, and compiles no PTX of CUDA {cuda})"
        if minor_compatible(cuda, spoken)
        else ""
    )
    return f"driver {asked.driver} will do{minor}{flavour}"


def _triton(
    outlook: Outlook, compiled: CompiledFor | Unavailable | None, packages: Distributions | None
) -> str:
    """What came of compiling for it; where that was not tried, that it was not."""
    tried = compiled.of(outlook.architecture) if isinstance(compiled, CompiledFor) else None
    if tried is not None and isinstance(compiled, CompiledFor):
        if not tried.ok:
            return f"Triton {compiled.triton} compiles nothing for it, so torch.compile fails"
        return f"Triton {compiled.triton} compiled a kernel (PTX {tried.ptx_version}, cubin of {tried.cubin_bytes} bytes, {tried.seconds:.1f} s)"
    release = installed_triton(packages)
    if release is None:
        complete = packages is not None and packages.complete
        return "no Triton for torch.compile" if complete else "nothing is known of Triton"
    why = f" ({compiled.reason})" if isinstance(compiled, Unavailable) else ""
    return f"compiling with Triton {release} was not tried{why}"
