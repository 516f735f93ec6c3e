"""What is known of PyTorch in the target environment."""

from __future__ import annotations

from typing import ClassVar

from envdoctor.api import Fact


class TorchBuild(Fact, frozen=True):
    """The installed torch, from ``torch/version.py`` and its metadata, without importing it; or as a text prints it."""

    fact_name: ClassVar[str] = "torch.build"
    version: str | None
    """``2.8.0+cu128``; None when torch is not installed."""
    torch_cuda: str | None = None
    """The CUDA that it was built with, ``12.8``; None for a build without CUDA."""
    hip: str | None = None
    """The ROCm that it was built with."""
    path: str | None = None
    """The package's folder; None when only a text speaks of it."""

    @property
    def release(self) -> str | None:
        """``2.8.0``: the version without its local label."""
        return self.version.partition("+")[0] if self.version else None


class TorchImport(Fact, frozen=True):
    """How ``import torch`` went in a child of the target interpreter."""

    fact_name: ClassVar[str] = "torch.import"
    ok: bool
    exception: str | None = None
    """The exception's type, ``ImportError``."""
    message: str | None = None
    signal: str | None = None
    """The signal that killed the child, ``SIGSEGV``."""
    timed_out: bool = False
    seconds: float | None = None


class TorchCuda(Fact, frozen=True):
    """What an imported torch says of CUDA."""

    fact_name: ClassVar[str] = "torch.cuda"
    available: bool
    device_count: int | None = None
    """Devices that torch sees, after CUDA_VISIBLE_DEVICES."""
    reason: str | None = None
    """Why it is not available, in the words of the exception that initialising raised."""
    arch_list: tuple[str, ...] | None = None
    """Architectures it was compiled for: ``sm_90``, ``compute_120``."""
    cudnn: str | None = None
    """``9.10.2``."""
    nccl: str | None = None
    """``2.27.3``."""
