"""Rules about libcuda itself: missing, not where the loader looks, without its second name, or a stub."""

from __future__ import annotations

import posixpath

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    DropPathEntry,
    Evidence,
    Finding,
    Findings,
    InstallSystem,
    Platform,
    Reach,
    Remedy,
    Run,
    SetVariable,
    Variables,
)
from envdoctor.surroundings import Surroundings
from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.facts import (
    CudaFailed,
    CudaInit,
    DriverPackages,
    DriverRelease,
    KernelModule,
    LibcudaNamed,
    LibcudaNotOpened,
    LinkFailed,
    LoadedModules,
    NoDriverFound,
    SmiFailed,
    SmiWithoutCuda,
    UserLibraries,
)
from envdoctor_checks.driver.reasoning import (
    CUDA,
    LIBCUDA,
    NVML,
    TOOLCHAIN,
    contained,
    elsewhere,
    is_loaded,
    loaders_choice,
    quoted,
    severity,
    wanted,
)
from envdoctor_checks.driver.symptoms import ContainerSeen
from envdoctor_checks.libraries.facts import LibraryNotFound
from envdoctor_checks.libraries.facts_loader import LoaderPredictions
from envdoctor_checks.libraries.what_if import leading_elsewhere
from envdoctor_checks.torch.facts import TorchBuild

SONAME = "libcuda.so.1"


def _not_found(said: tuple[LibraryNotFound, ...], name: str = SONAME) -> list[LibraryNotFound]:
    return [each for each in said if each.library == name]


@check.rule
def libcuda_missing(
    module: KernelModule,
    libraries: UserLibraries,
    init: CudaInit | None,
    packages: DriverPackages | None,
    around: Surroundings | None,
    torch: TorchBuild | None,
) -> Findings:
    """The kernel driver is there, and its libcuda is not installed."""
    if module.release is None or contained(around) or SONAME not in libraries.absent:
        return
    if init is not None and init.load_error is None:
        return
    yield Finding(
        subject=f"library:{SONAME}",
        title=f"the nvidia kernel module {module.release} is loaded, and no {SONAME} is installed",
        severity=severity(wanted(torch)),
        detail="Without the driver's compute libraries, CUDA cannot reach the GPU. Distributions package them apart from the "
        "kernel module and from nvidia-smi, so they can be left out.",
        evidence=(
            module.shows("loaded module", module.release),
            libraries.shows(SONAME, "not on this machine"),
            *((init.shows("the loader", init.load_error),) if init else ()),
        ),
        remedies=_compute_packages(module.release, packages, around),
        breaks=(LIBCUDA,),
    )


def _compute_packages(
    release: str | None, packages: DriverPackages | None, around: Surroundings | None
) -> tuple[Remedy, ...]:
    """The package with libcuda, by the family of packages that is there: Debian's names differ from Ubuntu's."""
    names = {package.name for package in packages.packages} if packages else set()
    branch = release.partition(".")[0] if release else "<branch>"
    why = "the driver's compute libraries, of the release of the kernel module"
    lines: dict[str, str] = {
        "debian": "apt-get install -y libcuda1 nvidia-driver-libs",
        "ubuntu": f"apt-get install -y libnvidia-compute-{branch}",
        "rpm": "dnf install -y nvidia-driver-cuda nvidia-driver-cuda-libs",
        "rpmfusion": "dnf install -y xorg-x11-drv-nvidia-cuda xorg-x11-drv-nvidia-cuda-libs",
    }
    if names & {"libnvidia-ml1", "nvidia-kernel-dkms", "nvidia-alternative"}:
        chosen = [lines["debian"]]
    elif any(
        name.startswith(("libnvidia-", "nvidia-dkms-", "nvidia-driver-")) and name[-1:].isdigit()
        for name in names
    ):
        chosen = [lines["ubuntu"]]
    elif any(name.startswith("akmod-nvidia") for name in names):
        chosen = [lines["rpmfusion"]]
    elif around is not None and around.system_manager in ("dnf", "zypper", "pacman"):
        return (InstallSystem("nvidia-compute", why=why),)
    else:
        chosen = [
            f"{lines['ubuntu']}  # Ubuntu",
            f"{lines['debian']}  # Debian",
            f"{lines['rpm']}  # RHEL, Fedora",
        ]
    return (
        Run(
            title=f"install {why}",
            commands=tuple(chosen),
            reach=Reach.HOST,
            needs_root=True,
            verify="ldconfig -p | grep libcuda.so.1",
        ),
    )


@libcuda_missing.sign
def _programs_found_none(
    found_none: tuple[NoDriverFound, ...],
    not_found: tuple[LibraryNotFound, ...],
    not_opened: tuple[LibcudaNotOpened, ...],
    smi: tuple[SmiWithoutCuda, ...],
    failed: tuple[SmiFailed, ...],
    seen: tuple[ContainerSeen, ...],
    module: KernelModule | None,
    loaded: LoadedModules | None,
    release: DriverRelease | None,
    libraries: UserLibraries | None,
    packages: DriverPackages | None,
    around: Surroundings | None,
) -> Findings:
    """A program finds no libcuda though the kernel's side answers."""
    missing = _not_found(not_found)
    opened = [each for each in not_opened if each.library in (SONAME, "libcuda")]
    said = quoted(*found_none[:1], *missing[:1], *smi[:1], *opened[:1])
    if not said:
        return
    if libraries is not None and libraries.of(SONAME):
        return  # it is there: driver/libcuda-not-on-path, or the loader took it
    kernel_side = bool((module and module.release) or is_loaded(loaded, "nvidia") or release)
    listed = libraries is not None and SONAME in libraries.absent
    if not kernel_side and not (missing or smi or opened):
        return
    if any(each.problem in ("not-installed", "no-driver") for each in failed) and not kernel_side:
        return
    confidence = Confidence.POSSIBLE
    if kernel_side and not seen:
        confidence = Confidence.CERTAIN if listed else Confidence.LIKELY
    known = module.release if module and module.release else release.release if release else None
    yield Finding(
        subject=f"library:{SONAME}",
        title=f"no {SONAME} can be found"
        + (f", though the driver {known or ''} is loaded".replace("  ", " ") if kernel_side else ""),
        confidence=confidence,
        detail="libcuda is the driver's part in user space. It is missing where the driver's compute packages were left out; in "
        "a container, where the engine was not asked for GPUs or for their compute capability.",
        evidence=said
        + ((libraries.shows(SONAME, "not among the files listed"),) if listed and libraries else ()),
        remedies=_compute_packages(known, packages, around),
        breaks=(LIBCUDA,),
        shows=(CUDA,),
        asks=(
            Ask(
                "ldconfig -p | grep libcuda; nvidia-smi",
                "whether the library is anywhere and the driver loaded",
            ),
            Ask("ls /.dockerenv /dev/nvidia*", "whether this is a container that was given no GPU"),
        ),
    )


@check.rule
def libcuda_not_on_path(
    libraries: UserLibraries, init: CudaInit | None, torch: TorchBuild | None, platform: Platform | None
) -> Findings:
    """libcuda.so.1 is on the machine, but not where the loader looks."""
    there = elsewhere(libraries)
    if not there or init is None or init.load_error is None:
        return
    yield Finding(
        subject=f"library:{SONAME}",
        title=f"{SONAME} is in {posixpath.dirname(there[0].path)}, where the loader does not look",
        severity=severity(wanted(torch)),
        detail="Neither LD_LIBRARY_PATH nor the loader's cache or default directories lead to it, so a program that asks for it "
        "by name does not find it.",
        evidence=(
            *(libraries.shows(SONAME, each.path) for each in there),
            *((init.shows("the loader", init.load_error),) if init else ()),
        ),
        remedies=_show_the_way(posixpath.dirname(there[0].path)),
        breaks=(LIBCUDA,),
    )


def _show_the_way(folder: str) -> tuple[Remedy, ...]:
    return (
        SetVariable(
            "LD_LIBRARY_PATH",
            folder,
            why="so that the loader finds the driver's libraries",
            caveat="Where the variable is already set, put this folder in front of its value.",
        ),
        Run(
            title="or tell the loader for good",
            commands=(f"sh -c 'echo {folder} > /etc/ld.so.conf.d/nvidia-driver.conf'", "ldconfig"),
            reach=Reach.CONTAINER,
            needs_root=True,
            verify="ldconfig -p | grep libcuda.so.1",
        ),
    )


@libcuda_not_on_path.sign
def _programs_missed_it(
    found_none: tuple[NoDriverFound, ...],
    not_found: tuple[LibraryNotFound, ...],
    not_opened: tuple[LibcudaNotOpened, ...],
    smi: tuple[SmiFailed, ...],
    libraries: UserLibraries,
) -> Findings:
    """A program finds none, and a listing shows it in a place of its own."""
    there = elsewhere(libraries)
    no_library = [each for each in smi if each.problem == "no-library"]
    said = quoted(*found_none[:1], *_not_found(not_found)[:1], *not_opened[:1], *no_library[:1])
    if not there or not said:
        return
    folder = posixpath.dirname(there[0].path)
    yield Finding(
        subject=f"library:{SONAME}",
        title=f"{SONAME} is in {folder}, where the loader does not look",
        detail="The driver's libraries are mounted or installed there; neither LD_LIBRARY_PATH nor the loader's cache leads to "
        "them. (Images that are made for it set LD_LIBRARY_PATH=/usr/local/nvidia/lib64 themselves.)",
        evidence=(*said, libraries.shows(SONAME, there[0].path)),
        remedies=_show_the_way(folder),
        breaks=(LIBCUDA, NVML),
        shows=(CUDA,),
    )


@check.rule
def libcuda_link_missing(
    linked: tuple[LinkFailed, ...],
    not_opened: tuple[LibcudaNotOpened, ...],
    not_found: tuple[LibraryNotFound, ...],
    libraries: UserLibraries | None,
) -> Findings:
    """libcuda.so.1 is there, its second name libcuda.so, which linkers and some programs ask for, is not."""
    opened = [each for each in not_opened if each.library == "libcuda.so"]
    said = quoted(*linked[:1], *opened[:1], *_not_found(not_found, "libcuda.so")[:1])
    if not said or (libraries is not None and loaders_choice(libraries, "libcuda.so") and not linked):
        return
    known = [each for each in (libraries.of(SONAME) if libraries else ()) if each.kind in ("driver", "wsl")]
    confidence = Confidence.CERTAIN if known else Confidence.LIKELY
    path = known[0].path if known else "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
    yield Finding(
        subject="library:libcuda.so",
        title="libcuda.so, the name without a number, cannot be found" + (f" beside {path}" if known else ""),
        confidence=confidence,
        detail="Programs run with libcuda.so.1. The linker's -lcuda (Triton's launcher, extensions) and a bare dlopen ask for "
        "libcuda.so, a link that driver packages leave to their development package and container engines often do not make.",
        evidence=said + tuple(libraries.shows(each.soname, each.path) for each in known if libraries),
        remedies=_link_remedies(path),
        breaks=(TOOLCHAIN,) if linked else (LIBCUDA,),
        shows=(TOOLCHAIN,) if linked else (LIBCUDA,),
        asks=() if known else (Ask("ldconfig -p | grep libcuda", "where the driver's library is"),),
    )


def _link_remedies(path: str) -> tuple[Remedy, ...]:
    folder = posixpath.dirname(path)
    if "/wsl/" in path:
        first: Remedy = SetVariable("LD_LIBRARY_PATH", folder, why="WSL has both names there")
    else:
        first = SetVariable("TRITON_LIBCUDA_PATH", folder, why="enough for Triton")
    link = "/usr/lib/x86_64-linux-gnu" if "/wsl/" in path else folder
    return (
        first,
        Run(
            title="make the link that is missing",
            commands=(f"ln -s {path} {link}/libcuda.so", "ldconfig"),
            reach=Reach.HOST,
            needs_root=True,
            caveat="In a container, put the line into the image or the start script: the library is mounted at every start.",
            verify="gcc -shared -o /dev/null -x c /dev/null -lcuda",
        ),
        Run(
            title="without root: a link of your own, and where the linker finds it",
            commands=(
                f'mkdir -p "$HOME/lib" && ln -s {path} "$HOME/lib/libcuda.so"',
                'export LIBRARY_PATH="$HOME/lib${LIBRARY_PATH:+:$LIBRARY_PATH}" LD_LIBRARY_PATH="$HOME/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"',
            ),
            reach=Reach.SHELL,
            needs_restart="process",
        ),
        Change(
            title="to build on a machine without a driver (an image build), link against the toolkit's stub",
            reach=Reach.SHELL,
            example=("export LIBRARY_PATH=/usr/local/cuda/lib64/stubs:$LIBRARY_PATH",),
            caveat="For linking only: never put the stubs folder into LD_LIBRARY_PATH.",
        ),
    )


@check.rule
def libcuda_stub_loaded(
    init: CudaInit, variables: Variables | None, predicted: LoaderPredictions | None
) -> Findings:
    """The toolkit's stub of libcuda is found before the driver's own."""
    loaded = init.library or ""
    if "/stubs/" not in loaded and init.code != 34:
        return
    yield _stub(
        loaded or None,
        (
            init.shows("libcuda.so.1 loaded from", loaded or "not told"),
            init.shows("cuInit", f"{init.code} {init.name}"),
        ),
        variables,
        leading_elsewhere(predicted, SONAME, loaded),
    )


def _stub_entries(
    path: str | None, variables: Variables | None, proven: tuple[str, ...] | None
) -> tuple[str, ...]:
    """The elements of LD_LIBRARY_PATH that lead to the stub: proven, else by their names, else by its folder's."""
    if proven is not None:
        return proven
    value = (variables.get("LD_LIBRARY_PATH") if variables else None) or ""
    entries = tuple(each for each in value.split(":") if "stubs" in each)
    if entries or (variables is not None and variables.complete):
        return entries
    return (posixpath.dirname(path) if path else "/usr/local/cuda/lib64/stubs",)


def _stub(
    path: str | None,
    evidence: tuple[Evidence, ...],
    variables: Variables | None,
    proven: tuple[str, ...] | None = None,
) -> Finding:
    remedies: tuple[Remedy, ...] = (
        *(
            DropPathEntry(
                "LD_LIBRARY_PATH",
                each,
                why="the stubs folder is for linking only",
                caveat="Also take it out of where it is set: a module file, a Dockerfile's ENV, /etc/ld.so.conf.d.",
            )
            for each in _stub_entries(path, variables, proven)
        ),
        Run(
            title="or, where ldconfig has the stub, take its folder from the loader's configuration",
            commands=("grep -rl stubs /etc/ld.so.conf /etc/ld.so.conf.d", "ldconfig"),
            reach=Reach.CONTAINER,
            needs_root=True,
        ),
    )
    return Finding(
        subject=f"library:{SONAME}",
        title=f"a stub of libcuda is loaded in place of the driver's{f': {path}' if path else ''}",
        detail="The toolkit's stubs folder holds a libcuda without content, to link against where there is no driver. When the "
        "loader finds it first, every call answers error 34 (a stub library).",
        evidence=evidence,
        remedies=remedies,
        breaks=(LIBCUDA, CUDA),
        shows=(CUDA,),
    )


@libcuda_stub_loaded.sign
def _error_34(
    cuda: tuple[CudaFailed, ...],
    found_none: tuple[NoDriverFound, ...],
    named: tuple[LibcudaNamed, ...],
    variables: Variables | None,
) -> Findings:
    """CUDA's error 34; or another failure beside the stub's path in what was loaded."""
    said = [each for each in cuda if each.code == 34]
    stubs = [each for each in named if each.role == "stub"]
    if not said and not (stubs and (found_none or cuda)):
        return
    yield _stub(stubs[0].path if stubs else None, quoted(*said[:1], *found_none[:1], *stubs[:1]), variables)
