"""Torch's rows of the machine's summary."""

from __future__ import annotations

from collections.abc import Iterator

from envdoctor.api import Headline
from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.facts import TorchBuild, TorchCuda, TorchImport


@check.headline
def torch_row(build: TorchBuild, cuda: TorchCuda | None, imported: TorchImport | None) -> Iterator[Headline]:
    """``torch  2.8.0+cu128 (CUDA 12.8, cuDNN 9.10.2), sees 8 GPUs``."""
    if build.version is None:
        yield Headline("torch", "not installed", 40)
        return
    built = (
        f"CUDA {build.torch_cuda}"
        if build.torch_cuda
        else f"ROCm {build.hip}"
        if build.hip
        else "built for the CPU"
        if build.accelerator == "cpu"
        else build.label
    )
    parts = [built, *([f"cuDNN {cuda.cudnn}"] if cuda is not None and cuda.cudnn else [])]
    yield Headline("torch", f"{build.version} ({', '.join(parts)}){_sees(cuda, imported)}", 40)


def _sees(cuda: TorchCuda | None, imported: TorchImport | None) -> str:
    if imported is not None and not imported.ok:
        return ", cannot be imported"
    if cuda is None:
        return ""
    if not cuda.available:
        return ", sees no GPU"
    count = cuda.device_count
    return "" if count is None else f", sees {count} GPU{'' if count == 1 else 's'}"
