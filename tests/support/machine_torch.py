"""A Python environment with its wheels, and what importing its torch tells."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from envdoctor_checks.libraries.tables import wheel_libraries
from envdoctor_checks.torch.tables import companions, wheel_pins
from tests.support.machine_tree import Tree

PURE = (
    ("filelock", "3.19.1"), ("fsspec", "2025.7.0"), ("jinja2", "3.1.6"), ("markupsafe", "3.0.2"), ("mpmath", "1.3.0"),
    ("networkx", "3.5"), ("numpy", "2.3.2"), ("sympy", "1.14.0"), ("typing-extensions", "4.15.0"), ("pip", "25.2"),
)  # fmt: skip
ON_LINUX = 'platform_system == "Linux"'
TORCH_LIBRARIES = (
    "libc10",
    "libc10_cuda",
    "libtorch",
    "libtorch_cpu",
    "libtorch_cuda",
    "libtorch_global_deps",
    "libtorch_python",
)
MAPPED = (
    "libcublas", "libcublasLt", "libcudart", "libcudnn", "libcufft", "libcupti", "libcurand", "libcusparse",
    "libcusparseLt", "libcusolver", "libnccl", "libnvJitLink", "libnvrtc", "libnvshmem_host", "libcufile",
)  # fmt: skip
"""What importing torch maps, of what the wheels bring."""


class Environment(msgspec.Struct, frozen=True, kw_only=True):
    """A Python environment: where it is, and whose."""

    prefix: str
    python: str
    """``3.12.3``."""
    owner: int = 1000

    @property
    def minor(self) -> str:
        """``3.12``."""
        return self.python.rpartition(".")[0]

    @property
    def site(self) -> str:
        """Its folder of packages."""
        return f"{self.prefix}/lib/python{self.minor}/site-packages"


def venv(tree: Tree, prefix: str, python: str, *, owner: int = 1000, made_by: str = "") -> Environment:
    """A virtual environment over ``/usr/bin/python3``, as the target answers for it."""
    made = Environment(prefix=prefix, python=python, owner=owner)
    config = f"home = /usr/bin\n{made_by}include-system-site-packages = false\nversion = {python}\n"
    tree.file(f"{prefix}/pyvenv.cfg", config)
    tree.link(f"{prefix}/bin/python", f"/usr/bin/python{made.minor}")
    tree.folder(made.site)
    library = f"/usr/lib/python{made.minor}"
    tree.folder(library)
    _answers(tree, made, f"{prefix}/bin/python", [library, f"{library}/lib-dynload", made.site], base="/usr")
    return made


def system_python(tree: Tree, prefix: str, python: str, *, managed: bool = False) -> Environment:
    """An interpreter without a virtual environment: an image's own in /usr/local, or the distribution's in /usr."""
    made = Environment(prefix=prefix, python=python, owner=0)
    tree.interpreter(f"{prefix}/bin/python{made.minor}")
    tree.link(f"{prefix}/bin/python3", f"python{made.minor}")
    library = f"{prefix}/lib/python{made.minor}"
    tree.folder(made.site)
    _answers(
        tree, made, f"{prefix}/bin/python3", [library, f"{library}/lib-dynload", made.site], managed=managed
    )
    return made


def _answers(
    tree: Tree, made: Environment, executable: str, path: list[str], *, base: str = "", managed: bool = False
) -> None:
    digits = made.minor.replace(".", "")
    tree.answers.paths = {
        "version": made.python,
        "implementation": "CPython",
        "prefix": made.prefix,
        "base_prefix": base or made.prefix,
        "executable": executable,
        "sys_path": path,
        "site_packages": [made.site],
        "user_site": None,
        "include": f"{base or made.prefix}/include/python{made.minor}",
        "soabi": f"cpython-{digits}-{tree.triple}",
        "machine": tree.machine,
        "conda": False,
        "externally_managed": managed,
    }


def wheel(
    tree: Tree,
    site: str,
    name: str,
    version: str,
    requires: tuple[str, ...] = (),
    files: Mapping[str, int] | None = None,
) -> None:
    """What an installer leaves of a wheel: METADATA, RECORD, and the files, by path below `site` and size."""
    folder = f"{site}/{name.replace('-', '_')}-{version}.dist-info"
    asked = "".join(f"Requires-Dist: {each}\n" for each in requires)
    tree.file(f"{folder}/METADATA", f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{asked}\n")
    tree.file(f"{folder}/INSTALLER", "pip\n")
    record = "".join(f"{path},sha256=R2hhc2g,{size}\n" for path, size in (files or {}).items())
    tree.file(f"{folder}/RECORD", record)


class Torch(msgspec.Struct, frozen=True, kw_only=True):
    """One build of torch, and what it says of itself where it is imported."""

    release: str
    cuda: str | None
    """``12.8``; None for a build for the CPU."""
    label: str
    """``cu128`` or ``cpu``."""
    cudnn: str | None = None
    nccl: str | None = None
    archs: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        """As ``torch.__version__`` has it."""
        return f"{self.release}+{self.label}" if self.label else self.release


TORCH_2_8 = Torch(
    release="2.8.0", cuda="12.8", label="cu128", cudnn="9.10.2", nccl="2.27.3",
    archs=("sm_70", "sm_75", "sm_80", "sm_86", "sm_90", "sm_100", "sm_120"),
)  # fmt: skip
TORCH_2_12_ARM = Torch(
    release="2.12.1", cuda="13.0", label="cu130", cudnn="9.20.0", nccl="2.29.7",
    archs=("sm_80", "sm_90", "sm_100", "sm_110", "sm_120", "compute_120"),
)  # fmt: skip
TORCH_CPU = Torch(release="2.8.0", cuda=None, label="cpu")


def pins(torch: Torch) -> dict[str, str]:
    """The NVIDIA wheels that a torch from PyPI pins, and at which version: the lowest that the pin allows."""
    if torch.cuda is None:
        return {}
    wanted = wheel_pins().requirements(torch.release) or {}
    return {name: _lowest(specifier) for name, specifier in wanted.items()}


def _lowest(specifier: str) -> str:
    part = next(each for each in specifier.split(",") if each.startswith(("==", ">=")))
    return part[2:].removesuffix(".*")


def install_torch(tree: Tree, made: Environment, torch: Torch) -> None:
    """torch, what it pins, its companions and the pure wheels."""
    for name, version in PURE:
        wheel(tree, made.site, name, version)
    _torch_wheel(tree, made, torch)
    major = int(torch.cuda.partition(".")[0]) if torch.cuda else 0
    for name, version in pins(torch).items():
        nvidia_wheel(tree, made.site, name, version, torch)
    row = next(each for each in wheel_pins().torch if each.torch == torch.release)
    if major and row.toolkit:
        _toolkit_wheel(tree, made.site, row.toolkit)
    vision = companions().made_for("torchvision", torch.release)
    if vision is not None:
        number = f"{vision.version}+{torch.label}" if torch.label else vision.version
        wheel(tree, made.site, "torchvision", number, ("numpy", f"torch{vision.torch or ''}"))
        tree.file(f"{made.site}/torchvision/__init__.py")
    triton = companions().triton_for(torch.release)
    if major and triton is not None:
        wheel(tree, made.site, "triton", _lowest(triton.triton))
        ptxas = f"{made.site}/triton/backends/nvidia/bin/ptxas"
        tree.program(
            ptxas,
            f"ptxas: NVIDIA (R) Ptx optimizing assembler\nCuda compilation tools, release {torch.cuda}, V{torch.cuda}.93\n",
        )


def _torch_wheel(tree: Tree, made: Environment, torch: Torch) -> None:
    site = made.site
    row = next(each for each in wheel_pins().torch if each.torch == torch.release)
    wanted = [f"{name}{specifier}; {ON_LINUX}" for name, specifier in row.pins.items()]
    if row.toolkit:
        wanted.append(f"cuda-toolkit[{','.join(row.extras)}]=={row.toolkit}; {ON_LINUX}")
    triton = companions().triton_for(torch.release)
    wanted += [f"triton{triton.triton}; {ON_LINUX}"] if triton else []
    pure = ["filelock", "typing-extensions>=4.10.0", "sympy>=1.13.3", "networkx", "jinja2", "fsspec"]
    wheel(tree, site, "torch", torch.version, (*pure, *(wanted if torch.cuda else ())))
    cuda = repr(torch.cuda)
    tree.file(
        f"{site}/torch/version.py",
        f"__version__ = '{torch.version}'\ndebug = False\ncuda: Optional[str] = {cuda}\nhip: Optional[str] = None\n",
    )
    tree.file(f"{site}/torch/__init__.py")
    for name in TORCH_LIBRARIES:
        if torch.cuda or "cuda" not in name:
            needed = (*_sonames(torch), "libgomp.so.1") if name == "libtorch_global_deps" else ()
            tree.library(f"{site}/torch/lib/{name}.so", of_torch=True, needed=needed)
    tree.library(f"{site}/torch/lib/libgomp.so.1")
    extension = f"{site}/torch/_C.{tree.answers.paths['soabi']}.so"
    tree.library(extension, of_torch=True, needed=("libc.so.6",))


def _sonames(torch: Torch) -> tuple[str, ...]:
    """What torch's libraries need of the wheels that it pins."""
    minor = (torch.cuda or "").partition(".")[2]
    found = []
    for name, version in pins(torch).items():
        for row in wheel_libraries().of_distribution(name):
            soname = row.soname.replace("{}", minor)
            if row.library in MAPPED and not _of_another_cudnn(row.family, soname, version):
                found.append(soname)
    return tuple(found)


def _of_another_cudnn(family: str, soname: str, version: str) -> bool:
    return family == "cudnn" and not soname.endswith(f".so.{version.partition('.')[0]}")


def nvidia_wheel(tree: Tree, site: str, name: str, version: str, torch: Torch) -> None:
    """One of NVIDIA's wheels with its libraries; cuDNN 8's parts are left out of a wheel of cuDNN 9."""
    minor = (torch.cuda or "").partition(".")[2]
    files: dict[str, int] = {}
    for row in wheel_libraries().of_distribution(name):
        soname = row.soname.replace("{}", minor)
        if _of_another_cudnn(row.family, soname, version):
            continue
        path = f"{row.folder}/{soname}"
        if row.library == "libnccl":
            words = f"NCCL version {torch.nccl}+cuda{torch.cuda}".encode()
            files[path] = tree.library(f"{site}/{path}", more=words)
        else:
            files[path] = tree.library(f"{site}/{path}")
    wheel(tree, site, name, version, (), files)


def _toolkit_wheel(tree: Tree, site: str, release: str) -> None:
    """The meta-package through whose extras newer torch wheels pin."""
    rows = [each for each in wheel_pins().toolkits if each.toolkit == release]
    asked = tuple(
        f'{name}{specifier}; {ON_LINUX} and extra == "{row.extra}"'
        for row in rows
        for name, specifier in row.requires.items()
    )
    wheel(tree, site, "cuda-toolkit", release, asked)


def imports(
    tree: Tree,
    made: Environment,
    torch: Torch,
    devices: tuple[tuple[str, str], ...] = (),
    also_mapped: tuple[str, ...] = (),
    **told: Any,
) -> None:
    """A torch that can be imported; `devices` are (name, compute capability). `told` replaces answers of torch.cuda."""
    mapped = (*_mapped(tree, made, with_driver=bool(devices)), *also_mapped)
    path = f"{made.site}/torch/__init__.py"
    record: dict[str, Any] = {
        "arch_list": list(torch.archs) or None,
        "available": bool(devices),
        "device_count": len(devices),
    }
    if devices:
        record["devices"] = [
            {"index": index, "name": name, "compute_capability": capability}
            for index, (name, capability) in enumerate(devices)
        ]
    elif torch.cuda is None:
        record["reason"] = raised("AssertionError", "Torch not compiled with CUDA enabled", path)
    else:
        record["reason"] = raised("RuntimeError", NO_DRIVER, path)
    if torch.cuda:
        record |= {"cudnn": torch.cudnn, "nccl": torch.nccl}
    tree.answers.torch = (
        {"stage": "importing"},
        {
            "stage": "import",
            "at": 1.62,
            "ok": True,
            "path": path,
            "torch": torch.version,
            "torch_cuda": torch.cuda,
            "hip": None,
        },
        {"stage": "cuda", "at": 2.01, **record, **told},
        {"stage": "maps", "text": "".join(map(_map_line, mapped))},
    )
    tree.answers.trace = "".join(_searches(tree, made))


NO_DRIVER = (
    "Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU and installed a driver from "
    "http://www.nvidia.com/Download/index.aspx"
)


def raised(exception: str, message: str, path: str) -> dict[str, str]:
    """An exception as the child tells it."""
    line = f'Traceback (most recent call last):\n  File "{path}", line 417, in _lazy_init\n{exception}: {message}\n'
    return {"exception": exception, "message": message, "traceback": line}


def fails_to_import(tree: Tree, exception: str, message: str, path: str, before: str = "") -> None:
    """A torch whose import raises; `before` is the traceback of the exception that led to it."""
    told = raised(exception, message, path)
    tree.answers.torch = (
        {"stage": "importing"},
        {"stage": "import", "at": 0.31, "ok": False, **told, "traceback": before + told["traceback"]},
        {"stage": "maps", "text": ""},
    )
    missing = re.search(r"lib[\w.]+\.so\.\d+", before + message)
    by = path.replace("__init__.py", "lib/libtorch_global_deps.so")
    if missing is not None:
        tree.answers.trace = "".join(_search_in_vain(missing[0], by))


def _search_in_vain(name: str, by: str) -> Iterator[str]:
    """The loader's account of a search that came to its end."""
    tag = "      4242:\t"
    yield f"{tag}file={name} [0];  needed by {by} [0]\n"
    yield f"{tag}find library={name} [0]; searching\n"
    yield f"{tag} search cache=/etc/ld.so.cache\n"


def _wheel_files(tree: Tree, made: Environment) -> Iterator[tuple[str, str]]:
    """(SONAME, path) of every library of the wheels that importing torch maps."""
    top = tree.root / made.site.lstrip("/") / "nvidia"
    for path in sorted(top.glob("*/lib/*.so*")):
        if path.name.partition(".so")[0] in MAPPED:
            yield path.name, f"{made.site}/nvidia/{path.parent.parent.name}/lib/{path.name}"


def _mapped(tree: Tree, made: Environment, *, with_driver: bool) -> Iterator[str]:
    yield from (path for _, path in _wheel_files(tree, made))
    for folder in (f"/usr/lib/{tree.triple}", "/usr/lib64"):
        for path in sorted((tree.root / folder.lstrip("/")).glob("libstdc++.so.6.0.*")):
            yield f"{folder}/{path.name}"
    yield f"{made.site}/torch/lib/libgomp.so.1"
    if with_driver:
        yield tree.answers.libcuda


def _map_line(path: str) -> str:
    return f"7f0000000000-7f0000100000 r-xp 00000000 08:01 {len(path) * 7919}{' ' * 20}{path}\n"


def _searches(tree: Tree, made: Environment) -> Iterator[str]:
    """The loader's account, as LD_DEBUG=libs,files gives it: each library by the RPATH of torch's own."""
    by = f"{made.site}/torch/lib/libtorch_global_deps.so"
    tag = "      4242:\t"
    own = f"{made.site}/torch/lib/libgomp.so.1"
    for name, path in (*_wheel_files(tree, made), ("libgomp.so.1", own)):
        folder = path.rpartition("/")[0]
        yield f"{tag}file={name} [0];  needed by {by} [0]\n"
        yield f"{tag}find library={name} [0]; searching\n"
        yield f"{tag} search path={folder}\t\t(RPATH from file {by})\n"
        yield f"{tag}  trying file={path}\n{tag}\n"
        yield f"{tag}file={name} [0];  generating link map\n"
