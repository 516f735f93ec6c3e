"""Is it a build for the GPUs of this machine."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Confidence,
    Finding,
    Findings,
    Install,
    NoFix,
    Outcome,
    Platform,
    Reach,
    Remedy,
    Run,
    Severity,
    Uninstall,
    Variables,
    imports,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.facts import DeviceNodes, DriverCuda, DriverRelease, PciDevices
from envdoctor_checks.gpu.facts import GpuDevices
from envdoctor_checks.libraries.facts import LibraryNotFound
from envdoctor_checks.python.facts import CondaPackages, Distributions
from envdoctor_checks.torch.advice import Advice
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda
from envdoctor_checks.torch.known import nvidia_gpu, present, torch_version, version_evidence
from envdoctor_checks.torch.symptoms import (
    CudaRefused,
    ExtensionBuiltFor,
    ModuleBroke,
    NoHipGpu,
    NotCompiledWithCuda,
    WheelTaken,
)

CUDA = Outcome("cuda-available")
TORCH = imports("torch")
IMPORT_TORCH = 'python -X faulthandler -c "import torch; print(torch.__version__, torch.__file__)"'
ROCM_LIBRARIES = (
    "libtorch_hip",
    "libc10_hip",
    "libamdhip64",
    "librocblas",
    "libMIOpen",
    "libroctx64",
    "libhip",
    "libhsa-runtime64",
    "librocm_smi64",
)
XPU_LIBRARIES = ("libtorch_xpu", "libc10_xpu", "libsycl", "libze_loader", "libintel-ocloc")


@check.rule
def cpu_only_build(
    build: TorchBuild,
    gpus: GpuDevices | None,
    pci: PciDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    release: DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    conda: CondaPackages | None,
    advice: Advice,
) -> Findings:
    """A CPU-only torch on a machine with an NVIDIA GPU."""
    seen = nvidia_gpu(gpus, pci)
    if build.version is None or build.accelerator != "cpu" or seen is None:
        return
    needs = advice.needs(
        gpus, packages, driver or release, platform, around.python_version if around else None
    )
    yield Finding(
        title=f"torch {build.version} is built for the CPU only, and this machine has an NVIDIA GPU",
        detail="Its version.py names no CUDA, so no driver and no setting can make it see the GPU.",
        evidence=(build.shows("torch", build.version), build.shows("built with CUDA", "none"), seen),
        remedies=_builds(advice.install(build.version, needs), conda),
        breaks=(CUDA,),
    )


def _builds(install: Install | None, conda: CondaPackages | None) -> tuple[Remedy, ...]:
    """The wheel that fits; where conda installed torch, conda's own build first."""
    if conda is None or conda.package("pytorch") is None:
        return tuple(present(install)) or (_no_build(),)
    by_conda = Run(
        title="let conda take the build for CUDA",
        commands=("conda install -c conda-forge 'pytorch=*=cuda*'",),
        reach=Reach.ENVIRONMENT,
        caveat="conda looks at the driver: on a machine without one, set CONDA_OVERRIDE_CUDA=12.6 before.",
    )
    return (by_conda, *present(install))


def _no_build() -> NoFix:
    return NoFix(reason="no published build of torch is known to run on this GPU with this driver and Python")


@cpu_only_build.sign
def _says_so(
    said: NotCompiledWithCuda,
    build: TorchBuild | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    release: DriverRelease | None,
    platform: Platform | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    version = torch_version(build, packages)
    needs = advice.needs(
        gpus, packages, driver or release, platform, around.python_version if around else None
    )
    macos = platform is not None and platform.system == "darwin"
    remedy = (
        NoFix(reason="there is no CUDA on macOS: use the mps or cpu device")
        if macos
        else advice.install(version, needs)
    )
    yield Finding(
        title=f"torch{f' {version}' if version else ''} is built for the CPU only, and is asked for CUDA",
        evidence=(said.evidence(), *version_evidence(build, packages)),
        remedies=tuple(present(remedy)) or (_no_build(),),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


@cpu_only_build.sign
def _windows_wheel(
    taken: WheelTaken,
    cuda: TorchCuda | None,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    around: Surroundings | None,
    advice: Advice,
) -> Findings:
    """PyPI's wheels for Windows, and those whose label says so, are built for the CPU."""
    label = taken.version.partition("+")[2]
    for_cpu = label.startswith("cpu") or (not label and taken.platform.startswith("win"))
    if not for_cpu or (cuda is not None and cuda.available) or not (cuda or gpus or driver):
        return
    windows = (
        Platform(system="windows", machine="amd64", source=taken.source)
        if taken.platform.startswith("win")
        else None
    )
    needs = advice.needs(gpus, packages, driver, windows, around.python_version if around else None)
    shows = (CUDA,) if cuda is not None else ()
    yield Finding(
        title=f"the wheel that was installed, torch {taken.version} for {taken.platform}, is built for the CPU only",
        confidence=Confidence.CERTAIN if cuda is not None else Confidence.LIKELY,
        detail="Wheels for Windows on PyPI have no CUDA; the ones that do carry a label such as +cu128 and come from PyTorch's own index.",
        evidence=(
            taken.evidence("installed"),
            *((cuda.shows("torch.cuda.is_available()", cuda.available),) if cuda else ()),
        ),
        remedies=tuple(present(advice.install(taken.version, needs))) or (_no_build(),),
        breaks=(CUDA,),
        shows=shows,
    )


@cpu_only_build.sign
def _extension_found_cpu(
    said: ExtensionBuiltFor,
    packages: Distributions | None,
    gpus: GpuDevices | None,
    driver: DriverCuda | None,
    platform: Platform | None,
    advice: Advice,
) -> Findings:
    if not said.found.endswith("+cpu"):
        return
    needs = advice.needs(gpus, packages, driver, platform)
    yield Finding(
        title=f"torch {said.found} is built for the CPU only, and {said.package} is built for CUDA",
        evidence=(said.evidence(),),
        remedies=tuple(present(advice.install(said.built_for, needs))) or (_no_build(),),
        breaks=(CUDA, imports(said.package)),
        shows=(imports(said.package),),
    )


@check.rule
def wrong_accelerator_build(
    build: TorchBuild,
    gpus: GpuDevices | None,
    pci: PciDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    platform: Platform | None,
    advice: Advice,
) -> Findings:
    """A ROCm or XPU build of torch on a machine with an NVIDIA GPU, or builds for two of them side by side."""
    seen = nvidia_gpu(gpus, pci)
    if build.version is not None and build.accelerator in ("rocm", "xpu") and seen is not None:
        needs = advice.needs(gpus, packages, driver, platform)
        kind = "AMD GPUs (ROCm)" if build.accelerator == "rocm" else "Intel GPUs (XPU)"
        yield Finding(
            title=f"torch {build.version} is built for {kind}, and this machine has an NVIDIA GPU",
            evidence=(build.shows("torch", build.version), seen),
            remedies=tuple(present(advice.install(build.version, needs))) or (_no_build(),),
            breaks=(CUDA,),
        )
    if packages is not None and build.accelerator == "cuda":
        yield from _other_kind(build, packages, advice)


def _other_kind(build: TorchBuild, packages: Distributions, advice: Advice) -> Findings:
    for name in ("torchvision", "torchaudio"):
        version = packages.version(name)
        label = version.partition("+")[2] if version else ""
        if version is None or not label.startswith(("rocm", "xpu")):
            continue
        right = advice.companions.made_for(name, build.release or "")
        wanted = f"{name}=={right.version if right else version.partition('+')[0]}+{build.label}".rstrip("+")
        yield Finding(
            title=f"{name} {version} is built for {'ROCm' if label.startswith('rocm') else 'XPU'}, and torch {build.version} for CUDA",
            subject=f"package:{name}",
            detail="Its compiled part asks for libraries that only the other build of torch has.",
            evidence=(packages.shows(name, version), build.shows("torch", build.version)),
            remedies=(
                Install(
                    requirements=(wanted,),
                    build=build.label,
                    reinstall=True,
                    why="of the same build as torch",
                ),
                Uninstall(distributions=(name,), why="if nothing needs it"),
            ),
            breaks=(imports(name),),
        )


@wrong_accelerator_build.sign
def _library_of_other_kind(
    missing: LibraryNotFound,
    build: TorchBuild | None,
    packages: Distributions | None,
    broke: tuple[ModuleBroke, ...],
) -> Findings:
    stem = missing.library.partition(".so")[0]
    rocm, xpu = stem.startswith(ROCM_LIBRARIES), stem.startswith(XPU_LIBRARIES)
    if not (rocm or xpu) or (
        build is not None
        and build.accelerator in ("rocm", "xpu")
        and not stem.startswith(("libtorch", "libc10"))
    ):
        return
    kind = "ROCm" if rocm else "XPU"
    version = torch_version(build, packages)
    label = build.label if build else version.partition("+")[2] if version else ""
    module = next((each.module for each in broke if each.module != "torch"), None)
    shown = imports(module or "torch")
    yield Finding(
        title=f"something here is built for {kind}: it asks for {missing.library}, which no CUDA build has",
        subject=_subject_of_label(packages, "rocm" if rocm else "xpu"),
        confidence=Confidence.LIKELY,
        evidence=(missing.evidence(), *version_evidence(build, packages)),
        remedies=(
            Install(
                requirements=("torch", "torchvision", "torchaudio")
                if not label.startswith("cu")
                else _from_one_index(packages, label),
                build=label if label.startswith("cu") else "",
                reinstall=True,
                why="all of one build",
            ),
        ),
        breaks=(shown,),
        shows=(shown,),
    )


def _subject_of_label(packages: Distributions | None, kind: str) -> str:
    named = (
        (each.name for each in packages.distributions if kind in each.version.partition("+")[2])
        if packages
        else iter(())
    )
    first = next(named, None)
    return f"package:{first}" if first else ""


def _from_one_index(packages: Distributions | None, label: str) -> tuple[str, ...]:
    """The sisters whose label is another one than torch's, without it: the index has the right one."""
    wrong = [
        f"{each.name}=={each.version.partition('+')[0]}+{label}"
        for each in (packages.distributions if packages else ())
        if each.name in ("torchvision", "torchaudio") and not each.version.endswith(label)
    ]
    return tuple(wrong) or ("torchvision", "torchaudio")


@wrong_accelerator_build.sign
def _no_hip(
    said: NoHipGpu,
    build: TorchBuild | None,
    gpus: GpuDevices | None,
    pci: PciDevices | None,
    packages: Distributions | None,
    driver: DriverCuda | None,
    advice: Advice,
) -> Findings:
    seen = nvidia_gpu(gpus, pci)
    if seen is None and driver is None:
        return
    needs = advice.needs(gpus, packages, driver)
    yield Finding(
        title="a ROCm build of torch runs on a machine with an NVIDIA GPU",
        evidence=(said.evidence(), *((seen,) if seen else ())),
        remedies=tuple(present(advice.install(torch_version(build, packages), needs))) or (_no_build(),),
        breaks=(CUDA,),
        shows=(CUDA,),
    )


@check.rule
def cuda_unavailable(
    cuda: TorchCuda,
    build: TorchBuild,
    gpus: GpuDevices | None,
    pci: PciDevices | None,
    variables: Variables | None,
    nodes: DeviceNodes | None,
    around: Surroundings | None,
) -> Findings:
    """torch sees no GPU, for a cause that no other rule names."""
    seen = nvidia_gpu(gpus, pci)
    hidden = variables.get("CUDA_VISIBLE_DEVICES") if variables is not None else None
    if cuda.available or build.accelerator != "cuda" or seen is None or cuda.source.kind == "text":
        return
    if hidden is not None and hidden.strip() in ("", "-1"):
        return  # the gpu check says so, and it may be meant
    yield Finding(
        title="torch cannot use CUDA, and this machine has an NVIDIA GPU",
        severity=Severity.NOTE if _was_given_none(nodes, around) else Severity.ERROR,
        confidence=Confidence.POSSIBLE,
        detail=f"Initialising CUDA raised: {cuda.reason}"
        if cuda.reason
        else "torch.cuda.is_available() is False.",
        evidence=(
            cuda.shows("torch.cuda.is_available()", "False"),
            build.shows("torch", build.version),
            seen,
        ),
        remedies=(
            Run(
                title="see what the driver's own library answers, outside torch",
                commands=(
                    "nvidia-smi",
                    "python -c \"import ctypes; print(ctypes.CDLL('libcuda.so.1').cuInit(0))\"",
                ),
                reach=Reach.SHELL,
            ),
        ),
        shows=(CUDA,),
    )


@cuda_unavailable.sign
def _refused(said: CudaRefused) -> Findings:
    yield Finding(
        title="torch cannot use CUDA, and the text does not say why",
        confidence=Confidence.POSSIBLE,
        evidence=(said.evidence(),),
        remedies=(
            Run(
                title="ask torch itself: the exception names the cause",
                commands=(
                    'python -c "import torch; print(torch.__version__, torch.version.cuda); torch.cuda.init()"',
                ),
                reach=Reach.SHELL,
            ),
        ),
        shows=(CUDA,),
        asks=(Ask("envdoctor check", "which of the causes it is"),),
    )


def _was_given_none(nodes: DeviceNodes | None, around: Surroundings | None) -> bool:
    """Whether this is a container without a device of the driver's: it shows the host's GPUs, and none is its own."""
    contained = around is not None and around.engine not in (None, "none")
    return contained and nodes is not None and not nodes.nodes
