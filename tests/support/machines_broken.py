"""Machines on which one thing is wrong, each a healthy one with that thing done to it."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from envdoctor.probing.child import ChildEnd
from tests.support import (
    machine_driver as gpu,
    machine_parts as parts,
    machines_contained as contained,
    machines_healthy as healthy,
)
from tests.support.machine_torch import (
    NO_DRIVER,
    TORCH_2_8,
    TORCH_CPU,
    Environment,
    Torch,
    fails_to_import,
    imports,
    install_torch,
    raised,
    venv,
    wheel,
)
from tests.support.machine_tree import Tree
from tests.support.machines_healthy import Build


class Broken(msgspec.Struct, frozen=True):
    """One machine: how it is built, the finding that must come first, and what its fixes must hold."""

    build: Callable[[Tree], object]
    processor: str
    about: str
    rule: str
    fix: str
    severity: str = "error"


BROKEN: dict[str, Broken] = {}
TORCH_2_5 = Torch(
    release="2.5.1", cuda="12.4", label="cu124", cudnn="9.1.0", nccl="2.21.5",
    archs=("sm_50", "sm_60", "sm_70", "sm_75", "sm_80", "sm_86", "sm_90"),
)  # fmt: skip
COUNT_FAILED = (
    "Unexpected error from cudaGetDeviceCount(). Did you run some cuda functions before calling NumCudaDevices() that "
    "might have already set an error? Error {code}: {words}"
)


def broken(rule: str, fix: str, severity: str = "error") -> Callable[[Build], Build]:
    """Register a machine under its function's name, with the finding and the fix that a reader must see first."""

    def register(build: Build) -> Build:
        about = (build.__doc__ or "").strip()
        BROKEN[build.__name__.replace("_", "-")] = Broken(build, "x86_64", about, rule, fix, severity)
        return build

    return register


def no_cuda(
    tree: Tree,
    made: Environment,
    message: str,
    torch: Torch = TORCH_2_8,
    exception: str = "RuntimeError",
) -> None:
    """torch is imported and has no CUDA, for the reason that it gives."""
    reason = raised(exception, message, f"{made.site}/torch/cuda/__init__.py")
    imports(tree, made, torch, reason=reason, cudnn=None)


@broken("driver/too-old-for-torch", "cu118|driver")
def driver_too_old(tree: Tree) -> None:
    """A T4 under driver 470 (CUDA 11.4) and a wheel built with CUDA 12.8."""
    made = healthy.training_server(tree, "inference-2")
    gpu.driver(tree, "470.256.02", gpu.T4, parts.UBUNTU_22, flavour="proprietary")
    gpu.scenario(tree, "old-driver-470")
    no_cuda(
        tree, made,
        "The NVIDIA driver on your system is too old (found version 11040). Please update your GPU driver by downloading "
        "and installing a new version from the URL: http://www.nvidia.com/Download/index.aspx Alternatively, go to: "
        "https://pytorch.org to install a PyTorch version that has been compiled with your version of the CUDA driver.",
    )  # fmt: skip


@broken("driver/library-mismatch", "reboot|modprobe")
def library_mismatch(tree: Tree) -> None:
    """The libraries were updated overnight under a kernel module that is still loaded."""
    made = healthy.desktop(tree)
    gpu.driver(tree, "535.183.01", gpu.RTX_4090, parts.UBUNTU_24, flavour="proprietary")
    tree.remove(f"/usr/lib/{tree.triple}/libcuda.so.535.183.01")
    tree.remove(f"/usr/lib/{tree.triple}/libnvidia-ml.so.535.183.01")
    tree.remove("/var/lib/dpkg/status")
    names = ("nvidia-driver-535", "nvidia-dkms-535", "libnvidia-compute-535")
    gpu.packages(tree, *((name, "535.216.01-0ubuntu0.24.04.1") for name in names))
    gpu.libraries(tree, "535.216.01")
    tree.file(f"/var/lib/dkms/nvidia/535.216.01/{parts.UBUNTU_24.kernel}/x86_64/log/make.log")
    tree.remove("/var/lib/dkms/nvidia/535.183.01")
    parts.kernel_log(
        tree,
        "NVRM: API mismatch: the client has the version 535.216.01, but",
        "NVRM: this kernel module has the version 535.183.01.  Please",
        "NVRM: make sure that this kernel module and all NVIDIA driver",
        "NVRM: components have the same version.",
    )
    gpu.scenario(
        tree, "mismatch", "driver_release = 535.216.01\ndriver_branch = r535_00\ndriver_cuda = 12020\n"
    )
    words = "system has unsupported display driver / cuda driver combination"
    no_cuda(tree, made, COUNT_FAILED.format(code=803, words=words))


@broken("container/gpu-not-requested", "--gpus")
def container_without_nodes(tree: Tree) -> None:
    """A container with the driver's libraries bound in by hand, and none of its device files."""
    made = contained.with_gpu(tree, contained.cuda_container(tree, "runtime"))
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"):
        tree.remove(f"/dev/{name}")
    gpu.scenario(tree, "a100", "driver_cuda = 12080\nfail.nvmlInit* = 9\nfail.cuInit = 100\n")
    no_cuda(tree, made, "No CUDA GPUs are available")


@broken("driver/fabric-manager-not-running", "systemctl .*fabricmanager")
def fabric_manager_stopped(tree: Tree) -> None:
    """HGX H100 whose fabric manager is installed and does not run."""
    made = healthy.training_server(tree, "hgx-11")
    gpu.driver(tree, "580.65.06", gpu.H100_SXM, parts.UBUNTU_22)
    gpu.nvswitches(tree, "580.65.06", running=False)
    gpu.scenario(tree, "fabric-not-started")
    no_cuda(tree, made, COUNT_FAILED.format(code=802, words="system not yet initialized"))


@broken("gpu/fallen-off-bus", "reboot|restart|reset|drain")
def gpu_lost(tree: Tree) -> None:
    """HGX H100 of which GPU 3 has fallen off the bus; the kernel log says Xid 79."""
    made = healthy.training_server(tree, "hgx-12")
    gpu.driver(tree, "580.65.06", gpu.H100_SXM, parts.UBUNTU_22)
    gpu.nvswitches(tree, "580.65.06")
    tree.runs_as(1001, 1001, (4, 44, 110), "/home/alice")
    parts.kernel_log(
        tree, "NVRM: Xid (PCI:0000:61:00): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus."
    )
    gpu.scenario(tree, "gpu-lost")
    imports(tree, made, TORCH_2_8, (healthy.H100,) * 7)


@broken("torch/cpu-only-build", "whl/cu12|torch==2.8.0")
def torch_for_cpu(tree: Tree) -> None:
    """A desktop with an RTX 4090 and a torch that was built for the CPU."""
    made = healthy.desktop(tree, torch=TORCH_CPU)
    gpu.driver(tree, "570.133.20", gpu.RTX_4090, parts.UBUNTU_24)
    gpu.scenario(tree, "rtx4090")
    imports(tree, made, TORCH_CPU)


@broken("libraries/cudart-missing", "nvidia-cuda-runtime-cu12==12.8.90")
def cudart_deleted(tree: Tree) -> None:
    """Somebody deleted the wheel's libcudart to save space."""
    made = healthy.training_server(tree, "gpu-vm-2")
    gpu.driver(tree, "570.133.20", gpu.A100, parts.UBUNTU_22)
    gpu.scenario(tree, "a100", "driver_release = 570.133.20\ndriver_branch = r570_00\ndriver_cuda = 12080\n")
    tree.remove(f"{made.site}/nvidia/cuda_runtime/lib/libcudart.so.12")
    init = f"{made.site}/torch/__init__.py"
    inner = "libcudart.so.12: cannot open shared object file: No such file or directory"
    before = (
        f'Traceback (most recent call last):\n  File "{init}", line 339, in _load_global_deps\n    ctypes.CDLL(global_deps_lib_path)\n'
        f"OSError: {inner}\n\nDuring handling of the above exception, another exception occurred:\n\n"
    )
    fails_to_import(
        tree, "ValueError", f"libcudart.so.*[0-9] not found in the system path ['{made.site}']", init, before
    )


@broken("libraries/shadowed-by-ld-library-path", "unset LD_LIBRARY_PATH|LD_LIBRARY_PATH=")
def cudnn_shadowed(tree: Tree) -> None:
    """LD_LIBRARY_PATH leads to an older cuDNN, whose parts are taken for the wheel's libcudnn."""
    made = healthy.desktop(tree)
    gpu.driver(tree, "570.133.20", gpu.RTX_4090, parts.UBUNTU_24)
    gpu.scenario(tree, "rtx4090")
    folder = "/opt/cudnn-9.1/lib"
    for part in (
        "",
        "_adv",
        "_cnn",
        "_engines_precompiled",
        "_engines_runtime_compiled",
        "_graph",
        "_heuristic",
        "_ops",
    ):
        tree.library(f"{folder}/libcudnn{part}.so.9.1.0")
        tree.link(f"{folder}/libcudnn{part}.so.9", f"libcudnn{part}.so.9.1.0")
    tree.environ["LD_LIBRARY_PATH"] = folder
    message = (
        "cuDNN version incompatibility: PyTorch was compiled  against (9, 10, 2) but found runtime version (9, 1, 0). PyTorch "
        "already comes bundled with cuDNN. One option to resolving this error is to ensure PyTorch can find the bundled "
        "cuDNN. Looks like your LD_LIBRARY_PATH contains incompatible version of cudnn. Please either remove it from the "
        "path or install cudnn (9, 10, 2)"
    )
    error = raised("RuntimeError", message, f"{made.site}/torch/backends/cudnn/__init__.py")
    imports(
        tree,
        made,
        TORCH_2_8,
        (healthy.RTX_4090,),
        cudnn=None,
        errors={"cudnn": error},
        also_mapped=(f"{folder}/libcudnn_graph.so.9.1.0",),
    )


@broken("host/shm-too-small", "--shm-size|--ipc=host", "warning")
def shm_too_small(tree: Tree) -> None:
    """A job of eight processes in a container with docker's 64 MiB of /dev/shm."""
    made = contained.cuda_container(tree, "runtime")
    gpu.mounted_driver(tree, "580.65.06", gpu.H100_SXM)
    gpu.scenario(tree, "h100x8")
    tree.environ |= {"WORLD_SIZE": "8", "LOCAL_WORLD_SIZE": "8", "LOCAL_RANK": "0", "RANK": "0"}
    tree.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
    tree.answers.names["127.0.0.1"] = ("127.0.0.1",)
    imports(tree, made, TORCH_2_8, (healthy.H100,) * 8)


@broken("kernel/cache-dir-owned-by-other-user", "TORCHINDUCTOR_CACHE_DIR", "warning")
def cache_of_another_user(tree: Tree) -> None:
    """A shared server with vLLM, whose Inductor cache, named for all users alike, belongs to the one who came first."""
    made = healthy.h100_pcie(tree)
    wheel(tree, made.site, "vllm", "0.10.1", ("torch==2.8.0",))
    tree.environ["TORCHINDUCTOR_CACHE_DIR"] = "/scratch/inductor"
    tree.folder("/scratch/inductor", 1017, 1017, "0755")


@broken("driver/module-missing-for-kernel", "dkms|headers|linux-modules")
def kernel_updated(tree: Tree) -> None:
    """The machine was started with a new kernel, for which no nvidia module was built."""
    made = healthy.training_server(tree, "gpu-vm-3")
    gpu.driver(tree, "570.133.20", gpu.A100, parts.UBUNTU_22)
    for path in ("/sys/module", "/proc/driver/nvidia", "/usr/lib/modules"):
        tree.remove(path)
    for name in ("nvidia", "nvidia_uvm", "nvidia_drm", "nvidia_modeset"):
        tree.remove(f"/sys/module/{name}")
    tree.folder("/sys/module/kernel")
    tree.file("/proc/modules", "ext4 1 1 - Live 0x0\n")
    for name in ("nvidia0", "nvidiactl", "nvidia-uvm", "nvidia-uvm-tools"):
        tree.remove(f"/dev/{name}")
    tree.file("/proc/sys/kernel/osrelease", "5.15.0-153-generic\n")
    tree.remove(f"/usr/lib/modules/{parts.UBUNTU_22.kernel}/build")
    tree.file(f"/usr/lib/modules/{parts.UBUNTU_22.kernel}/modules.dep", "updates/dkms/nvidia.ko: \n")
    tree.file("/usr/lib/modules/5.15.0-153-generic/modules.dep", "kernel/fs/ext4/ext4.ko: \n")
    gpu.gpus(tree, gpu.A100, bound="", told=False)
    tree.remove("/sys/bus/pci/devices/0000:17:00.0/driver")
    gpu.scenario(tree, "not-loaded")
    no_cuda(tree, made, NO_DRIVER)


@broken("driver/not-installed", "nvidia-driver|ubuntu-drivers")
def torch_on_nouveau(tree: Tree) -> None:
    """The Ubuntu desktop again, with torch for CUDA installed and no driver."""
    healthy.ubuntu_desktop(tree)
    made = venv(tree, "/home/frank/sd/.venv", "3.12.3")
    tree.environ["VIRTUAL_ENV"] = made.prefix
    install_torch(tree, made, TORCH_2_8)
    no_cuda(tree, made, NO_DRIVER)


@broken("gpu/visible-devices-invalid", "CUDA_VISIBLE_DEVICES")
def visible_devices_wrong(tree: Tree) -> None:
    """CUDA_VISIBLE_DEVICES names a ninth GPU of eight."""
    made = healthy.h100x8(tree)
    tree.environ["CUDA_VISIBLE_DEVICES"] = "8"
    no_cuda(tree, made, "No CUDA GPUs are available")


@broken("torch/arch-not-in-build", "cu128|torch")
def blackwell_with_old_torch(tree: Tree) -> None:
    """An RTX 5090 and torch 2.5.1, which has no code for it."""
    made = healthy.desktop(tree, torch=TORCH_2_5)
    card = msgspec.structs.replace(gpu.RTX_4090, model="NVIDIA GeForce RTX 5090", device_id="0x2b85")
    gpu.driver(tree, "570.133.20", card, parts.UBUNTU_24)
    named = "name = NVIDIA GeForce RTX 5090\ncompute_capability = 12.0\narchitecture = 10\npci.device_id = 0x2b8510de\n"
    gpu.scenario(tree, "rtx4090", named + "memory.total_mib = 32607\ncuda.total_mib = 32110\n")
    imports(tree, made, TORCH_2_5, (("NVIDIA GeForce RTX 5090", "12.0"),))


@broken("torch/torchvision-mismatch", "torchvision==0.23.0", "warning")
def torchvision_of_another_torch(tree: Tree) -> None:
    """torchvision 0.22.1, which belongs to torch 2.7.1, beside torch 2.8.0."""
    made = healthy.a100(tree)
    tree.remove(f"{made.site}/torchvision-0.23.0+cu128.dist-info")
    wheel(tree, made.site, "torchvision", "0.22.1+cu128", ("numpy", "torch==2.7.1"))


@broken("driver/device-nodes-permission", "usermod|group")
def nodes_not_ours(tree: Tree) -> None:
    """Only a group that this user is not in may open the GPU."""
    made = healthy.desktop(tree)
    gpu.driver(tree, "570.133.20", gpu.RTX_4090, parts.UBUNTU_24)
    tree.more("/etc/group", "vglusers:x:1003:\n")
    gpu.nodes(tree, 1, "0660", gid=1003)
    gpu.scenario(tree, "no-permission", "fail.cuInit = 100\n")
    no_cuda(tree, made, "No CUDA GPUs are available")


@broken("container/gpu-not-requested", "--gpus")
def job_without_gpus(tree: Tree) -> None:
    """A training job in a CUDA container that was started without --gpus on a host that has GPUs."""
    made = contained.cuda_container(tree, "runtime")
    gpu.module(tree, "570.133.20", "open")
    gpu.gpus(tree, gpu.A100, told=False)
    tree.environ |= {
        "WORLD_SIZE": "1",
        "RANK": "0",
        "LOCAL_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": "29500",
    }
    tree.answers.names["127.0.0.1"] = ("127.0.0.1",)
    imports(tree, made, TORCH_2_8, cudnn=None)


@broken("torch/import-fails", "torch==2.8.0")
def torch_crashes(tree: Tree) -> None:
    """Importing torch ends in a segmentation fault."""
    healthy.a100(tree)
    tree.answers.torch = ({"stage": "importing"},)
    tree.answers.torch_ends = {"end": ChildEnd.KILLED, "signal": "SIGSEGV"}
    tree.answers.trace += (
        "Fatal Python error: Segmentation fault\n\nCurrent thread 0x00007f2c1b3f4740 (most recent call first):\n"
        '  File "<frozen importlib._bootstrap_external>", line 1176 in create_module\n'
        '  File "/home/alice/train/.venv/lib/python3.10/site-packages/torch/__init__.py", line 417 in <module>\n'
    )


@broken("container/uid-without-passwd-entry", "passwd|USER|--user", "warning")
def uid_without_a_name(tree: Tree) -> None:
    """A container run with --user 1042 that the image knows no name for."""
    contained.with_gpu(tree, contained.cuda_container(tree, "devel"))
    tree.runs_as(1042, 1042, cwd="/workspace")
    tree.folder("/workspace", 1042, 1042)
    del tree.environ["HOME"]
