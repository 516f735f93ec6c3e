"""What stands between the container's programs and CUDA: preloaded vGPU libraries, libraries of the host."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Finding,
    Findings,
    Outcome,
    Reach,
    Run,
    Severity,
)
from envdoctor_checks.container.advice import AVAILABLE
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import Preload
from envdoctor_checks.container.symptoms import (
    PreloadSpoke,
)
from envdoctor_checks.driver.facts import (
    CudaFailed,
)
from envdoctor_checks.libraries.facts import VersionNotFound

INTERCEPTORS = {
    "libvgpu": "HAMi",
    "libcuda-control": "Tencent's gpu-manager",
    "libgemhook": "KubeShare",
    "libnvshare": "nvshare",
    "libsoftmig": "softmig",
}
"""Preloaded libraries that share GPUs by standing between programs and CUDA."""


@check.rule
def ld_preload_interceptor(preload: Preload, failed: tuple[CudaFailed, ...]) -> Findings:
    """An LD_PRELOADed vGPU library intercepts CUDA."""
    for library in preload.libraries:
        name = library.rpartition("/")[2]
        maker = next((maker for stem, maker in INTERCEPTORS.items() if name.startswith(stem)), None)
        if maker is None:
            continue
        yield Finding(
            title=f"{library} ({maker}) stands between every program and CUDA",
            subject=f"library:{name}",
            severity=Severity.WARNING if failed else Severity.NOTE,
            confidence=Confidence.POSSIBLE,
            detail="It answers CUDA and NVML calls itself, to limit memory and time; what it does not know of a newer driver fails.",
            evidence=(preload.shows("preloaded", library),),
            remedies=(_without(),),
        )


@ld_preload_interceptor.sign
def _interceptor_failed(
    said: PreloadSpoke, failed: tuple[CudaFailed, ...], others: tuple[PreloadSpoke, ...]
) -> Findings:
    """The library, or the loader about it, tells of a failure."""
    if not said.failed:
        if failed and not any(each.failed for each in others):
            yield Finding(
                title=f"{said.library} intercepts CUDA here, and CUDA failed",
                subject=f"library:{said.library.rpartition('/')[2]}",
                severity=Severity.WARNING,
                confidence=Confidence.POSSIBLE,
                evidence=(said.evidence(),),
                remedies=(_without(),),
                breaks=(AVAILABLE,),
                asks=(
                    Ask(
                        "CUDA_DISABLE_CONTROL=true python -c 'import torch; torch.cuda.init()'",
                        "whether CUDA works without it",
                    ),
                ),
            )
        return
    yield Finding(
        title=f"the preloaded vGPU library {said.library} failed",
        subject=f"library:{said.library.rpartition('/')[2]}",
        confidence=Confidence.LIKELY,
        detail="The cluster preloads it into every program to share GPUs. It stands between the program and CUDA, and so may "
        "refuse what CUDA would give, or break with a driver that it does not know.",
        evidence=(said.evidence(),),
        remedies=(_without(),),
        breaks=(AVAILABLE,),
        shows=(AVAILABLE,),
    )


def _without() -> Change:
    return Change(
        title="run once without the interceptor, then update it or ask the cluster's owner for more vGPU memory",
        reach=Reach.CONTAINER,
        example=(
            "CUDA_DISABLE_CONTROL=true python ...   # HAMi; in the pod's env",
            "env -u LD_PRELOAD python ...           # where LD_PRELOAD names it, not /etc/ld.so.preload",
        ),
        needs_restart="process",
        caveat="It is there to keep programs within their share: do not leave it out on a GPU that others use.",
    )


@check.rule
def apptainer_host_libs_newer(said: VersionNotFound) -> Findings:
    """Apptainer --nv brings host libraries that need a newer glibc than the container's."""
    if said.wanted_by is None or "/.singularity.d/libs/" not in said.wanted_by:
        return
    library = said.wanted_by.rpartition("/")[2]
    yield Finding(
        title=f"the host's {library}, which --nv brought in, needs {said.version.replace('_', ' ')}; the container's glibc is older",
        subject=f"library:{library}",
        detail="--nv mounts the libraries of nvliblist.conf from the host into /.singularity.d/libs. The driver's own are built for "
        "very old systems; the distribution's in that list (libGL, libEGL, libGLX, libGLdispatch) are built for the host's.",
        evidence=(said.evidence(),),
        remedies=(
            Change(
                title="rebuild the image on a newer base image, whose glibc is at least the host's",
                reach=Reach.CONTAINER,
                example=("Bootstrap: docker", "From: ubuntu:24.04"),
                needs_restart="container",
            ),
            Change(
                title="or take the distribution's own libraries out of nvliblist.conf",
                reach=Reach.HOST,
                example=(
                    f"# in /etc/apptainer/nvliblist.conf: comment the line of {library}, libGL.so, libEGL.so, libGLX.so, libGLdispatch.so",
                ),
            ),
            Run(
                title="or let nvidia-container-cli choose the files",
                commands=("apptainer exec --nvccli image.sif ...",),
                reach=Reach.CONTAINER,
                caveat="It needs libnvidia-container on the host, and --writable-tmpfs or an overlay.",
            ),
        ),
        breaks=(Outcome("library", library), Outcome("import")),
        shows=(Outcome("library", library),),
    )
