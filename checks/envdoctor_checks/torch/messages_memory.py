"""What programs print about torch's caching allocator."""

from __future__ import annotations

import re

from envdoctor_checks.torch.check import check
from envdoctor_checks.torch.symptoms import (
    AllocOptionUnknown,
    AllocSettingInactive,
    AllocUnsupported,
    MallocAsyncInUse,
    NotSupported,
    OutOfMemory,
)

SIZE = r"(\d+(?:\.\d+)?) ?([KMGT]i?B|bytes)"
UNITS = {"bytes": 2.0**-20, "K": 2.0**-10, "M": 1.0, "G": 2.0**10, "T": 2.0**20}


def mebibytes(number: str, unit: str) -> float:
    """``5.93 GiB`` -> 6072.3."""
    return float(number) * UNITS[unit if unit == "bytes" else unit[0]]


def _size(pattern: str, text: str) -> float | None:
    match = re.search(pattern, text)
    return mebibytes(match[1], match[2]) if match else None


@check.message(
    r"(?i:CUDA out of memory)\. Tried to allocate [\s\S]*",
    needles="cuda out of memory. tried to allocate",
    sample="torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity of 8.00 GiB of which 4.00 MiB is free. "
    "Of the allocated memory 5.00 GiB is allocated by PyTorch, and 2.00 GiB is reserved by PyTorch but unallocated.",
)
def out_of_memory(match: re.Match[str]) -> OutOfMemory:
    """torch's message: since 2.1 with what is reserved but unallocated, before with what is reserved in total."""
    text = match.group()
    gpu = re.search(r"\bGPU (\d+)\b", text)
    allocated = _size(SIZE + r" (?:already allocated|is allocated by PyTorch)", text)
    unallocated = _size(SIZE + r" is reserved by PyTorch but unallocated", text)
    reserved = _size(SIZE + r" reserved in total by PyTorch", text)
    if unallocated is None and reserved is not None and allocated is not None:
        unallocated = max(reserved - allocated, 0.0)
    return OutOfMemory(
        gpu=int(gpu[1]) if gpu else None,
        tried=_size(r"Tried to allocate " + SIZE, text),
        total=_size(r"total capaci?ty of " + SIZE, text) or _size(SIZE + r" total capacity", text),
        free=_size(r"of which " + SIZE + r" is free", text) or _size(SIZE + r" free", text),
        in_use=_size(r"this process has " + SIZE + r" memory in use", text),
        allocated=allocated,
        unallocated=unallocated,
    )


@check.message(
    r"Unrecognized CachingAllocator option: (?P<option>\S+)|Unrecognized key '(?P<key>[^']*)' in (?:\w+ allocator config|PYTORCH\w+)",
    needles=("unrecognized cachingallocator option", "unrecognized key '"),
    sample="RuntimeError: Unrecognized CachingAllocator option: expandable_segment",
)
def unknown_option(match: re.Match[str]) -> AllocOptionUnknown:
    """Up to 2.8 the first words, from 2.9 on the second."""
    return AllocOptionUnknown(option=match["option"] or match["key"])


@check.message(
    r"Error parsing CachingAllocator settings|Error parsing CachingAllocator::AllocatorConfig settings|"
    r"CachingAllocator option (?P<option>\w+) (?:too small|must be)|Expected a single True/False argument for (?P<flag>\w+)|Unknown allocator backend, options are|"
    r"(?:garbage_collect(?:ion)?_threshold) (?:too (?:big|small)|is invalid)|Error, expecting (?P<value>\w+) value|"
    r"Expected 'True' or 'False' at index \d+ in ConfigTokenizer|in ConfigTokenizer\b",
    needles=(
        "cachingallocator",
        "expected a single true/false",
        "unknown allocator backend",
        "garbage_collect",
        "error, expecting",
        "in configtokenizer",
    ),
    sample="RuntimeError: Expected a single True/False argument for expandable_segments",
)
def bad_value(match: re.Match[str]) -> AllocOptionUnknown:
    """A value that the option does not take, or a separator that is missing."""
    return AllocOptionUnknown(option=match["option"] or match["flag"] or match["value"])


@check.message(
    r"expandable_segments not supported on this platform|Expandable segments are not compatible with memory pool|"
    r"(?i:expandable[ _]segments.{0,60}(?:not supported|incompatible|not compatible|does not support))",
    needles=("expandable_segments", "expandable segments"),
    sample="UserWarning: expandable_segments not supported on this platform",
)
def expandable_refused(match: re.Match[str]) -> AllocUnsupported:
    """torch on Windows and without the driver's API; memory pools, as vLLM's sleep mode uses them."""
    return AllocUnsupported(feature="expandable_segments")


@check.message(
    r"backend:cudaMallocAsync requires (?:CUDA runtime|PyTorch to be built)|cudaMallocAsync does not (?:yet )?support|"
    r"this card most likely does not support cuda-malloc",
    needles=("cudamallocasync requires", "cudamallocasync does not", "does not support cuda-malloc"),
    sample="RuntimeError: backend:cudaMallocAsync requires CUDA runtime 11.4 or newer, but cudaDriverGetVersion returned 11020",
)
def malloc_async_refused(match: re.Match[str]) -> AllocUnsupported | MallocAsyncInUse:
    """torch's own refusals; ComfyUI's warning, which matters only if an error follows."""
    return (
        MallocAsyncInUse() if "most likely" in match.group() else AllocUnsupported(feature="cudaMallocAsync")
    )


@check.message(
    r"Device: cuda:\d+ (?P<gpu>.+?) : cudaMallocAsync",
    needles=": cudamallocasync",
    sample="Device: cuda:0 NVIDIA Some Card : cudaMallocAsync",
)
def malloc_async_in_use(match: re.Match[str]) -> MallocAsyncInUse:
    """ComfyUI's line at start-up."""
    return MallocAsyncInUse(gpu=match["gpu"], switched_on_by="--cuda-malloc")


@check.message(
    r"CUDA (?P<driver>driver )?error: operation not supported(?! on global)",
    needles="error: operation not supported",
    sample="RuntimeError: CUDA error: operation not supported",
)
def not_supported(match: re.Match[str]) -> NotSupported:
    """CUDA error 801."""
    return NotSupported(driver_api=bool(match["driver"]))


@check.message(
    r"(?i:expandable[_ ]segments\b(?: in use| enabled| actually enabled\?)?[\"']?\]?\)?: ?False)|\ballocator_settings\W+False",
    needles=("expandable_segments", "expandable segments", "allocator_settings"),
    sample="expandable_segments: False",
)
def setting_inactive(match: re.Match[str]) -> AllocSettingInactive | None:
    """A print of torch's snapshot; the variable itself is written without a space."""
    return None if "segments:False" in match.group() else AllocSettingInactive()
