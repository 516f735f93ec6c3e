"""What NVML, nvidia-smi, the container toolkit and the fabric manager print."""

from __future__ import annotations

import re

from envdoctor_checks.driver.check import check
from envdoctor_checks.driver.messages_kernel import RELEASE
from envdoctor_checks.driver.symptoms import (
    ContainerSeen,
    FabricManagerDown,
    FabricManagerRestarted,
    FabricVersionDiffers,
    NvmlFailed,
    NvmlLibrary,
    SmiFailed,
    SmiWithoutCuda,
)

WORDS = {
    "driver/library version mismatch": "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    "rm has detected an nvml/rm version mismatch": "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    "librmversionmismatch": "NVML_ERROR_LIB_RM_VERSION_MISMATCH",
    "driver not loaded": "NVML_ERROR_DRIVER_NOT_LOADED",
    "drivernotloaded": "NVML_ERROR_DRIVER_NOT_LOADED",
    "insufficient permissions": "NVML_ERROR_NO_PERMISSION",
    "nopermission": "NVML_ERROR_NO_PERMISSION",
    "unknown error": "NVML_ERROR_UNKNOWN",
    "unknown": "NVML_ERROR_UNKNOWN",
    "gpu is lost": "NVML_ERROR_GPU_IS_LOST",
    "nvml shared library not found": "NVML_ERROR_LIBRARY_NOT_FOUND",
    "librarynotfound": "NVML_ERROR_LIBRARY_NOT_FOUND",
    "gpu access blocked by the operating system": "NVML_ERROR_OPERATING_SYSTEM",
    "operatingsystem": "NVML_ERROR_OPERATING_SYSTEM",
}
"""nvmlErrorString's texts and pynvml's class names, in lower case."""


@check.message(
    r"(?:(?:Failed|Unable) to initialize NVML|[Nn][Vv][Mm][Ll] (?:error|initialization (?:error|failed))|Can't initialize NVML"
    r"|nvmlInit(?:_v2)?\b[^:\n]*|could not (?:start|init\w*) NVML library|initialize NVML)(?: due to)?: ?\W?(?P<words>[A-Za-z][A-Za-z/ ]+?)(?=[.:\n\"']|$)",
    needles="nvml",
    sample="Failed to initialize NVML: Driver/library version mismatch",
)
def nvml_says(match: re.Match[str]) -> NvmlFailed | None:
    """nvidia-smi, the container toolkit, DCGM, k8s plugins: "<who> NVML ...: <text of the error>"."""
    name = WORDS.get(match["words"].strip().lower())
    return NvmlFailed(name=name) if name else None


@check.message(
    r"NVMLError_(?P<name>[A-Z]\w+)|\b(?P<code>NVML_ERROR_[A-Z_]+)\b|(?P<words>Driver/library version mismatch)",
    needles=("nvmlerror_", "nvml_error_", "driver/library version mismatch"),
    sample="pynvml.NVMLError_LibRmVersionMismatch: RM has detected an NVML/RM version mismatch.",
)
def nvml_error(match: re.Match[str]) -> NvmlFailed | None:
    """pynvml's exception, or the constant's name."""
    if match["code"]:
        return NvmlFailed(name=match["code"])
    name = WORDS.get((match["name"] or match["words"]).lower())
    return NvmlFailed(name=name) if name else None


@check.message(
    r"^NVML library version: (?P<release>\d{3}\.\d+(?:\.\d+)?)",
    needles="nvml library version:",
    sample="NVML library version: 550.144",
)
def nvml_library(match: re.Match[str]) -> NvmlLibrary:
    """The second line of nvidia-smi's mismatch."""
    return NvmlLibrary(release=match["release"])


@check.message(
    r"NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver",
    needles="couldn't communicate with the nvidia driver",
    sample="NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make sure that the latest",
)
def smi_without_driver(_match: re.Match[str]) -> SmiFailed:
    """nvidia-smi is there, the kernel module does not answer."""
    return SmiFailed(problem="no-driver")


@check.message(
    r"NVIDIA-SMI couldn't find libnvidia-ml\.so library",
    needles="couldn't find libnvidia-ml",
    sample="NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.",
)
def smi_without_library(_match: re.Match[str]) -> SmiFailed:
    """nvidia-smi is there, its library is not where the loader looks."""
    return SmiFailed(problem="no-library")


@check.message(
    r"^No devices were found\.?$",
    needles="no devices were found",
    sample="No devices were found",
)
def smi_without_devices(_match: re.Match[str]) -> SmiFailed:
    """The module answers and has no GPU."""
    return SmiFailed(problem="no-devices")


@check.message(
    r"nvidia-smi['\"]?(?: could not be found|: command not found|: not found)|command not found: nvidia-smi"
    r"|Command 'nvidia-smi' not found|unknown command:? nvidia-smi|'nvidia-smi' is not recognized"
    r"|No such file or directory: 'nvidia-smi'",
    needles="nvidia-smi",
    sample="bash: nvidia-smi: command not found",
)
def smi_not_installed(_match: re.Match[str]) -> SmiFailed:
    """The shells, in their ways."""
    return SmiFailed(problem="not-installed")


@check.message(
    r"Driver Version: (?:" + RELEASE + r")\s+CUDA Version: (?:N/A|ERR!)|^CUDA Version *: (?:N/A|Not Found)",
    needles="cuda version",
    sample="| NVIDIA-SMI 550.90.07   Driver Version: 550.90.07   CUDA Version: N/A      |",
)
def smi_without_cuda(_match: re.Match[str]) -> SmiWithoutCuda:
    """NVML asks libcuda for its CUDA: there was none to ask."""
    return SmiWithoutCuda()


@check.message(
    r"fabric manager NVIDIA GPU driver interface version (?P<manager>"
    + RELEASE
    + r") do(?:es)?n't match with driver version"
    r" (?P<driver>" + RELEASE + r")",
    needles="driver interface version",
    sample=(
        "fabric manager NVIDIA GPU driver interface version 550.127.05 don't match with driver version 550.90.07. Please"
    ),
)
def fabric_version_differs(match: re.Match[str]) -> FabricVersionDiffers:
    """nv-fabricmanager's own line before it gives up."""
    return FabricVersionDiffers(fabric_manager=match["manager"], driver=match["driver"])


@check.message(
    r"Failed to start (?:nvidia-fabricmanager\.service|NVIDIA fabric manager service)"
    r"|Unit nvidia-fabricmanager\.service (?:could not be found|not found)"
    r"|nvidia-fabricmanager\.service: Failed with result"
    r"|fabric manager (?:is not running|not running|failed to start)"
    r"|Fabric Manager (?:is )?(?:not running|not started)",
    needles=("fabricmanager", "fabric manager"),
    sample="nvidia-fabricmanager.service: Failed with result 'exit-code'.",
)
def fabric_manager_down(_match: re.Match[str]) -> FabricManagerDown:
    """systemd's lines, and those of programs that ask for it."""
    return FabricManagerDown()


@check.message(
    r"Stopped (?:nvidia-fabricmanager\.service|NVIDIA fabric manager service)"
    r"|systemctl (?:try-)?(?:reload-or-)?restart\b.*\bnvidia-fabricmanager|service nvidia-fabricmanager restart",
    needles=("fabricmanager", "fabric manager service"),
    sample="$ sudo systemctl restart nvidia-fabricmanager",
)
def fabric_manager_restarted(_match: re.Match[str]) -> FabricManagerRestarted:
    """Somebody, or a package's upgrade, stopped it."""
    return FabricManagerRestarted()


@check.message(
    r"\b(?:docker|podman|nerdctl|docker-compose) (?:-\S+ )*(?:compose )?(?:run|exec|up|start|create)\b"
    r"|\b(?:apptainer|singularity|enroot|charliecloud|ch-run) (?:exec|run|shell|start|instance)\b|\bkubectl \b"
    r"|nvidia-container-cli|OCI runtime|root@[0-9a-f]{12}:|/\.dockerenv",
    needles=(
        "docker", "podman", "nerdctl", "apptainer", "singularity", "enroot", "ch-run", "kubectl", "nvidia-container-cli",
        "oci runtime", "root@",
    ),
    sample="$ docker run --rm --gpus all nvidia/cuda:12.4.1-base-ubuntu22.04 nvidia-smi",
)  # fmt: skip
def container_seen(_match: re.Match[str]) -> ContainerSeen:
    """An engine's command line, its error, or the prompt of a container."""
    return ContainerSeen()
