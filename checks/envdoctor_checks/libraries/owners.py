"""Which wheel owns a library, in which release torch wants it, and how to get it back."""

from __future__ import annotations

import re

import msgspec

from envdoctor.api import Install, Outcome, imports, library
from envdoctor.tables import major_minor
from envdoctor_checks.libraries.knowledge import Knowledge
from envdoctor_checks.libraries.names import soname_major, stem_of
from envdoctor_checks.libraries.tables import WheelLibrary
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.torch.facts import TorchBuild, TorchRequirements


class Around(msgspec.Struct, frozen=True):
    """What is known of the torch that the libraries are for."""

    know: Knowledge
    build: TorchBuild | None = None
    wanted: TorchRequirements | None = None
    installed: Distributions | None = None

    @property
    def version(self) -> str | None:
        """torch's version, from its own folder or from a list of packages."""
        own = self.build.version if self.build else None
        return own or (self.installed.version("torch") if self.installed else None)

    @property
    def cuda(self) -> str | None:
        """The CUDA of torch: as it says, as its version's label says, or that of PyPI's wheel where it has no label."""
        if self.build is not None and self.build.version is not None:
            return self.build.torch_cuda
        version = self.version
        if version is None:
            return None
        label = re.search(r"\+cu(\d+)(\d)$", version)
        if label:
            return f"{label[1]}.{label[2]}"
        return _runtime(self.know.pins.requirements(version) or {}) if "+" not in version else None

    @property
    def cuda_major(self) -> int | None:
        """The major of torch's CUDA."""
        cuda = self.cuda
        return int(cuda.partition(".")[0]) if cuda else None

    def owner(self, soname: str) -> WheelLibrary | None:
        """The wheel that brings a library: torch's own CUDA major first where the SONAME fits several."""
        rows = self.know.wheels.owners(soname)
        if not rows and soname_major(soname) is None:
            rows = tuple(
                row for row in self.know.wheels.libraries if row.library == (stem_of(soname) or soname)
            )
        ours = [row for row in rows if row.cuda_major == self.cuda_major]
        here = [row for row in rows if self.installed and self.installed.version(row.distribution)]
        return (ours or here or list(rows))[-1] if rows else None

    def specifier(self, distribution: str) -> str:
        """What torch asks of a wheel, ``==12.8.90``; empty where nobody says."""
        if self.wanted is not None:
            asked = self.wanted.of(distribution)
            return asked.specifier if asked else ""
        version, cuda = self.version, self.cuda
        pins = (self.know.pins.requirements(version) if version else None) or {}
        default = _runtime(pins)
        same = cuda is None or default is None or major_minor(cuda) == major_minor(default)
        return pins.get(distribution, "") if same else ""

    def requirement(self, distribution: str) -> str:
        """What to hand to pip: with torch's pin, else the installed release, else that of torch's CUDA."""
        asked = self.specifier(distribution)
        if asked:
            return distribution + asked
        have = self.installed.version(distribution) if self.installed else None
        if have:
            return f"{distribution}=={have}"
        cuda = self.cuda
        if cuda and re.match(r"nvidia-cuda-(?:runtime|nvrtc|cupti)", distribution):
            return f"{distribution}=={'.'.join(map(str, major_minor(cuda)))}.*"
        return distribution

    def reinstall(self, distribution: str, why: str = "") -> Install:
        """Put a wheel's files back."""
        return Install((self.requirement(distribution),), reinstall=True, why=why)

    @property
    def brings_its_own(self) -> bool | None:
        """Whether this torch gets its CUDA libraries from NVIDIA's wheels; None where that is not known."""
        if self.wanted is not None:
            return any(each.name.startswith("nvidia-") for each in self.wanted.requirements)
        if self.installed is not None and self.installed.complete:
            return any(each.name.startswith("nvidia-cu") for each in self.installed.distributions)
        return None


def _runtime(pins: dict[str, str]) -> str | None:
    """The CUDA that a wheel's pins are for, ``12.8``, by the one of the runtime."""
    pin = next((each for name, each in pins.items() if name.startswith("nvidia-cuda-runtime")), "")
    release = re.search(r"\d+\.\d+", pin)
    return release.group() if release else None


def broken_by(quote: str, soname: str) -> tuple[Outcome, ...]:
    """What cannot be had because a library is missing or wrong, by the program's exception."""
    return (library(soname), *failed(quote, soname))


def failed(quote: str, soname: str) -> tuple[Outcome, ...]:
    """What was seen to fail: an import by its exception; cuDNN's and NVRTC's parts are loaded when a kernel is run."""
    if "libtorch" in quote or "/torch/" in quote or "import torch" in quote:
        return (imports("torch"),)
    if re.search(r"\b(?:ImportError|OSError|ValueError)\b", quote):
        return (Outcome("import"),)
    stem = stem_of(soname) or soname
    if stem.startswith(("libcudnn", "libnvrtc", "libcublas")):
        return (Outcome("kernel-on-gpu"),)
    return ()
