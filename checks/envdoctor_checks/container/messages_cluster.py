"""What Kubernetes and NVIDIA's device plugin print."""

from __future__ import annotations

import re

from envdoctor_checks.container.check import check
from envdoctor_checks.container.symptoms import DevicePluginBlind, GpuLimit, GpuUnschedulable


@check.message(
    r"\d+ Insufficient nvidia\.com/\w|Insufficient nvidia\.com/gpu",
    needles="insufficient nvidia.com/",
    sample="0/4 nodes are available: 4 Insufficient nvidia.com/gpu.",
)
def unschedulable(_found: re.Match[str]) -> GpuUnschedulable:
    """The scheduler's event."""
    return GpuUnschedulable()


@check.message(
    r"Incompatible (?:strategy|platform|device discovery strategy) detected|If this is a GPU node, did you configure the NVIDIA Container Toolkit"
    r"|Detected non-NVML platform: could not load NVML library|invalid device discovery strategy",
    needles=("incompatible ", "if this is a gpu node", "non-nvml platform", "invalid device discovery"),
    sample="E0101 00:00:00.000000 1 factory.go:112] Incompatible strategy detected auto",
)
def device_plugin_blind(_found: re.Match[str]) -> DevicePluginBlind:
    """nvidia-device-plugin and gpu-feature-discovery, over their releases."""
    return DevicePluginBlind()


@check.message(
    r"(?:^|[\s{,\"'])nvidia\.com/gpu\"?:?\s+\"?(?P<count>\d+)\"?|\"nvidia\.com/gpu\":\"?(?P<json>\d+)",
    needles="nvidia.com/gpu",
    sample="    nvidia.com/gpu: 1",
)
def gpu_limit(found: re.Match[str]) -> GpuLimit:
    """A pod's resources, or a node's."""
    return GpuLimit(count=int(found["count"] or found["json"]))
