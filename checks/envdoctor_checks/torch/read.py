"""Reads torch's build, the GPUs and the driver out of environment reports and of what one-liners print."""

from __future__ import annotations

import re
from collections.abc import Iterator

from envdoctor.api import FoundBlock, Source, Variables
from envdoctor_checks.driver.facts import DriverRelease
from envdoctor_checks.gpu.facts import GpuDevice, GpuDevices
from envdoctor_checks.gpu.tables import compute_capabilities
from envdoctor_checks.python.facts import Distribution, Distributions
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchDevice, TorchDevices
from envdoctor_checks.torch.symptoms import BinaryArchs, ImportInterrupted
from envdoctor_checks.torch.versions import cuda_of_label

HERE = Source("text")
ABSENT = ("", "N/A", "None", "Could not collect", "No CUDA")
GPU = r"(?:.*: *)?GPU (\d+): (.+?)(?: \(UUID: .*)?$"
Read = TorchBuild | TorchCuda | GpuDevices | DriverRelease | Distributions | Variables


@check.reader(
    starts=r"^PyTorch version *: ", ends=r"^\s*Versions of relevant libraries|^\s*CPU Info$", max_lines=70
)
def collect_env(block: FoundBlock) -> Iterator[Read]:
    """``python -m torch.utils.collect_env``, and vLLM's variant with aligned colons.

    A version of ``N/A`` means that the report could not import torch: that says nothing of whether it is installed.
    """
    lines = [line.text for line in block.block.lines]
    fields: dict[str, str] = {}
    for line in lines:
        key, colon, value = line.partition(":")
        if colon:
            fields.setdefault(key.strip(), value.strip())
    version = fields["PyTorch version"]
    if version not in ABSENT:
        yield from _build(version, fields)
    available = fields.get("Is CUDA available")
    if available in ("True", "False") and version not in ABSENT:
        yield TorchCuda(available=available == "True", source=HERE)
    gpus = [(int(match[1]), match[2].strip()) for line in lines if (match := re.match(GPU, line))]
    if gpus:
        yield gpu_devices(gpus)
    driver = re.match(r"\d{3}\.\d+(?:\.\d+)?", fields.get("Nvidia driver version", ""))
    if driver:
        yield DriverRelease(release=driver.group(), source=HERE)
    settings = fields.get("Caching allocator config", "N/A")
    if settings not in ABSENT and "=" in settings:
        name, _, value = settings.partition("=")
        yield Variables(values={name.strip(): value.strip()}, complete=False, source=HERE)


def _build(version: str, fields: dict[str, str]) -> Iterator[TorchBuild | Distributions]:
    cuda, rocm = fields.get("CUDA used to build PyTorch"), fields.get("ROCM used to build PyTorch")
    if cuda is not None:
        yield TorchBuild(
            version=version,
            torch_cuda=None if cuda in ABSENT else cuda,
            hip=None if rocm is None or rocm in ABSENT else rocm,
            source=HERE,
        )
    yield _torch(version)


def _torch(version: str) -> Distributions:
    return Distributions(
        distributions=(Distribution(name="torch", version=version),), complete=False, source=HERE
    )


def gpu_devices(named: list[tuple[int, str]]) -> GpuDevices:
    """GPUs by index and name, their compute capability from the table of names."""
    table = compute_capabilities()
    devices = []
    for index, name in dict(named).items():
        row = table.of(name)
        capability = row.compute_capability if row else None
        devices.append(GpuDevice(index=index, name=name, compute_capability=capability))
    return GpuDevices(devices=tuple(devices), source=HERE)


@check.reader(starts=r"^\W*(?:[Pp]y)?[Tt]orch version(?: \(GPU\?\))? *: *\d", max_lines=1)
def version_line(block: FoundBlock) -> Iterator[TorchBuild | TorchCuda | Distributions]:
    """``- PyTorch version (GPU?): 2.3.0+cu121 (True)`` of transformers; ``pytorch version: 2.5.1`` of ComfyUI."""
    match = re.search(r": *(\d+\.\d+[\w.+-]*)(?: \((True|False)\b)?", block.block.lines[0].text)
    if match is None:
        return
    yield from by_version(match[1])
    if match[2]:
        yield TorchCuda(available=match[2] == "True", source=HERE)


def by_version(version: str) -> Iterator[TorchBuild | Distributions]:
    """What a version alone tells: the build too, where its local label does."""
    label = version.partition("+")[2]
    cuda = cuda_of_label(label)
    rocm = re.match(r"rocm([\d.]+)", label)
    if cuda or rocm or label.startswith(("cpu", "xpu")):
        yield TorchBuild(version=version, torch_cuda=cuda, hip=rocm[1] if rocm else None, source=HERE)
    yield _torch(version)


@check.reader(starts=r"^(?:\[conda\] )?pytorch +\d\S* +\S*(?:cuda\d|cpu)", max_lines=1)
def conda_build(block: FoundBlock) -> TorchBuild | None:
    """conda's build string: ``py3.11_cuda12.1_cudnn8.9.2_0``, ``cuda118_py310...``, ``cpu_py311...``."""
    match = re.match(r"(?:\[conda\] )?pytorch +(\d\S*) +(\S+)", block.block.lines[0].text)
    if match is None:
        return None
    cuda = re.search(r"cuda_?(?:(\d+)\.(\d+)|(\d\d)(\d))", match[2])
    version = ".".join(each for each in cuda.groups() if each) if cuda else None
    return TorchBuild(version=match[1], torch_cuda=version, source=HERE)


VALUES = {
    r"torch\.__version__": r"(?P<version>\d+\.\d+[\w.+-]*)",
    r"torch\.version\.cuda": r"(?P<cuda>\d+\.\d+|None)\b",
    r"torch\.version\.hip": r"(?P<hip>\d+\.\d+[\w.-]*|None)",
    r"torch\.cuda\.is_available\(\)": r"\b(?P<available>True|False)\b",
    r"torch\.cuda\.device_count\(\)": r"\b(?P<count>\d+)\b",
    r"torch\.cuda\.get_device_name\([^)]*\)": r"(?P<name>[A-Z][\w .()/-]*?)(?=['\"\n]|$| \()",
    r"torch\.cuda\.get_device_capability\([^)]*\)": r"\((?P<major>\d+), (?P<minor>\d+)\)",
    r"torch\.cuda\.get_arch_list\(\)": r"\[(?P<archs>[^\]]*)\]",
    r"torch\._C\._cuda_getArchFlags\(\)": r"(?P<flags>(?:(?:sm|compute)_\w+ ?)+)",
    r"torch\._C\._GLIBCXX_USE_CXX11_ABI": r"(?:True|False)",
}
"""Questions that people print, and what the answer looks like. Answers stand in the order of the questions."""


@check.reader(
    command=r"[\s\S]*\btorch\.(?:__version__|version\.|cuda\.|_C\.)|\S*python[\d.]*(?: -\w+)* +-(?: |$)"
)
def one_liner(block: FoundBlock) -> Iterator[TorchBuild | TorchCuda | TorchDevices | Distributions]:
    """``python -c "import torch; print(torch.__version__, ...)"``, a here-document, a prompt of Python."""
    command = block.block.command or block.command or ""
    printed = "\n".join(line.text for line in block.block.lines)
    asked = [found.group() for found in re.finditer("|".join(VALUES), command)]
    patterns = [next(value for key, value in VALUES.items() if re.fullmatch(key, each)) for each in asked]
    if not patterns or len(set(patterns)) != len(patterns):
        return
    match = re.search(r"[\s\S]{0,200}?".join(patterns), printed)
    if match:
        yield from _answers(match.groupdict())


def _answers(told: dict[str, str | None]) -> Iterator[TorchBuild | TorchCuda | TorchDevices | Distributions]:
    version, cuda = told.get("version"), told.get("cuda")
    if version and cuda:
        hip = told.get("hip")
        built = None if cuda == "None" else cuda
        yield TorchBuild(
            version=version, torch_cuda=built, hip=None if hip in (None, "None") else hip, source=HERE
        )
        yield _torch(version)
    elif version:
        yield from by_version(version)
    archs = tuple(re.findall(r"(?:sm|compute)_\w+", told.get("archs") or told.get("flags") or ""))
    seen = bool(told.get("name") or told.get("major") or (archs and told.get("archs")))
    if told.get("available") or seen:
        count = told.get("count")
        yield TorchCuda(
            available=told.get("available") == "True" or (seen and told.get("available") is None),
            device_count=int(count) if count else None,
            arch_list=archs or None,
            source=HERE,
        )
    yield from _device(told)


def _device(told: dict[str, str | None]) -> Iterator[TorchDevices]:
    """The device that was asked about: the current one, which is 0 unless someone changed it."""
    name = told.get("name")
    capability = f"{told['major']}.{told['minor']}" if told.get("major") else None
    if name and capability is None:
        row = compute_capabilities().of(name)
        capability = row.compute_capability if row else None
    if capability:
        device = TorchDevice(index=0, name=name or "GPU 0", compute_capability=capability)
        yield TorchDevices(devices=(device,), source=HERE)


@check.reader(command=r"[\s\S]*\bcuobjdump\b")
def cuobjdump(block: FoundBlock) -> BinaryArchs | None:
    """The architectures that cuobjdump finds in a file."""
    archs: dict[str, None] = {}
    for line in block.block.lines:
        archs.update(dict.fromkeys(re.findall(r"\b(?:sm|compute)_\d+[af]?\b", line.text)))
    path = re.search(r"cuobjdump\b[^|;]*?\s([^\s|;-][^\s|;]*)", block.block.command or "")
    if not archs or path is None:
        return None
    quote = f"cuobjdump: {' '.join(archs)}"
    return BinaryArchs(path=path[1].strip("'\""), archs=tuple(archs), quote=quote, source=HERE)


@check.reader(starts=r"Traceback \(most recent call last\)", max_lines=80)
def interrupted(block: FoundBlock) -> ImportInterrupted | None:
    """A traceback that ends in KeyboardInterrupt, with torch's own ``__init__`` still at work."""
    lines = [line.text for line in block.block.lines]
    end = next((index for index, text in enumerate(lines) if text.strip() == "KeyboardInterrupt"), None)
    importing = any(
        re.search(r"[/\\]torch[/\\]__init__\.py\", line \d+, in <module>", text) for text in lines[:end]
    )
    if end is None or not importing:
        return None
    return ImportInterrupted(quote="KeyboardInterrupt while torch was being imported", source=HERE)


@check.reader(command=r"timeout\s+(?:-\S+\s+)*\d+\w?\s.*\bimport torch\b")
def timed_out(block: FoundBlock) -> ImportInterrupted | None:
    """``timeout 60 python -c "import torch"; echo $?`` with 124, or ``Terminated``."""
    printed = [line.text.strip() for line in block.block.lines]
    if any(
        text in ("124", "137", "Terminated", "Killed") or re.search(r"\b(?:exit|rc|status)\W*124\b", text)
        for text in printed
    ):
        return ImportInterrupted(quote=f"{block.command}: {printed[-1]}", source=HERE)
    return None
