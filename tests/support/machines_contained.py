"""Healthy machines that are containers: NVIDIA's images with and without a GPU, a plain one, a pod with a MIG instance."""

from __future__ import annotations

import msgspec

from tests.support import machine_container as container, machine_driver as gpu, machine_parts as parts
from tests.support.machine_torch import (
    TORCH_2_8,
    TORCH_CPU,
    Environment,
    imports,
    install_torch,
    system_python,
    venv,
)
from tests.support.machine_tree import GIB, Tree
from tests.support.machines_healthy import A100, HEALTHY, healthy


def cuda_container(tree: Tree, flavour: str, *, python: str = "3.10.12") -> Environment:
    """A container of nvidia/cuda:12.8.1-FLAVOUR-ubuntu22.04 with a virtual environment, run by docker as root."""
    parts.linux(tree, parts.UBUNTU_22, memory=512, cores=64, cgroup="/")
    container.docker(tree, "5f0e71b8c2d4")
    container.cuda_image(tree, flavour)
    made = venv(tree, "/opt/venv", python, owner=0)
    tree.environ |= {"VIRTUAL_ENV": made.prefix, "HOME": "/root"}
    tree.environ["PATH"] = "/opt/venv/bin:" + tree.environ["PATH"]
    if flavour == "devel":
        parts.toolchain(tree, "11.4.0", "3.10")
    install_torch(tree, made, TORCH_2_8)
    return made


def with_gpu(tree: Tree, made: Environment) -> Environment:
    """``--gpus all`` on a host with one A100: the toolkit mounts the driver's files and devices."""
    gpu.mounted_driver(tree, "570.133.20", gpu.A100)
    gpu.scenario(tree, "a100", "driver_release = 570.133.20\ndriver_branch = r570_00\ndriver_cuda = 12080\n")
    imports(tree, made, TORCH_2_8, (A100,))
    return made


def in_ci(tree: Tree, made: Environment) -> Environment:
    """No GPU was asked for: a job of a CI system runs unit tests on the CPU."""
    tree.environ |= {"CI": "true", "GITHUB_ACTIONS": "true"}
    imports(tree, made, TORCH_2_8, cudnn=None)
    return made


@healthy()
def cuda_base_gpu(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-base with a GPU."""
    return with_gpu(tree, cuda_container(tree, "base"))


@healthy()
def cuda_runtime_gpu(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-runtime with a GPU, and without a compiler."""
    return with_gpu(tree, cuda_container(tree, "runtime"))


@healthy()
def cuda_devel_gpu(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-devel with a GPU, nvcc and stubs."""
    return with_gpu(tree, cuda_container(tree, "devel"))


@healthy()
def cuda_base_ci(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-base in CI, no GPU requested."""
    return in_ci(tree, cuda_container(tree, "base"))


@healthy()
def cuda_runtime_ci(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-runtime in CI, no GPU requested."""
    return in_ci(tree, cuda_container(tree, "runtime"))


@healthy()
def cuda_devel_ci(tree: Tree) -> Environment:
    """nvidia/cuda:12.8.1-devel in CI, no GPU requested: its only libcuda is a stub."""
    return in_ci(tree, cuda_container(tree, "devel"))


@healthy()
def cuda_runtime_ci_on_gpu_host(tree: Tree) -> Environment:
    """The same on a runner that has GPUs: /sys and /proc show the host's, and none was given to this container."""
    made = in_ci(tree, cuda_container(tree, "runtime"))
    gpu.module(tree, "570.133.20", "open")
    gpu.gpus(tree, gpu.A100, told=False)
    return made


@healthy()
def python_slim_ci(tree: Tree) -> Environment:
    """python:3.12-slim as root in CI, with a torch for the CPU."""
    parts.linux(tree, msgspec.structs.replace(parts.DEBIAN_12, python=""), memory=16, cores=4, cgroup="/")
    container.docker(tree, "0c1d2e3f4a5b")
    tree.environ |= {"CI": "true", "HOME": "/root", "PYTHON_VERSION": "3.12.11"}
    made = system_python(tree, "/usr/local", "3.12.11")
    tree.file("/usr/local/include/python3.12/Python.h")
    install_torch(tree, made, TORCH_CPU)
    imports(tree, made, TORCH_CPU)
    return made


@healthy()
def mig_pod(tree: Tree) -> Environment:
    """A pod with one MIG instance of an HGX H100: /sys shows the whole node, /dev and the driver one GPU."""
    parts.linux(tree, parts.UBUNTU_22, memory=2048, cores=112, cgroup="/")
    container.kubernetes(tree, "trainer-0", memory=120 * GIB, cores=16)
    container.cuda_image(tree, "runtime")
    made = venv(tree, "/opt/venv", "3.10.12", owner=0)
    tree.environ |= {
        "VIRTUAL_ENV": made.prefix, "HOME": "/root",
        "NVIDIA_VISIBLE_DEVICES": "MIG-3d5b0c18-47ae-5f62-9e01-8bd27c64f9a0",
    }  # fmt: skip
    install_torch(tree, made, TORCH_2_8)
    gpu.mounted_driver(tree, "580.65.06", gpu.H100_SXM, mine=1)
    for address in gpu.NVSWITCHES:
        gpu.pci(tree, address, "0x22a3", "0x068000", "nvidia-nvswitch")
    for minor in (30, 31):
        tree.node(f"/dev/nvidia-caps/nvidia-cap{minor}", 237, minor, "0444")
    gpu.scenario(tree, "h100-mig", "mig.count = 1\n")
    imports(tree, made, TORCH_2_8, (("NVIDIA H100 80GB HBM3 MIG 3g.40gb", "9.0"),))
    return made


__all__ = ["HEALTHY", "cuda_container", "in_ci", "with_gpu"]
