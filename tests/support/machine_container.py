"""Containers: what docker and Kubernetes put around a Linux, and what NVIDIA's images bring."""

from __future__ import annotations

from tests.support.machine_parts import limits, network, toolkit, toolkit_libraries
from tests.support.machine_tree import Tree

CONTAINER_MOUNTS = """\
512 480 0:61 / / rw,relatime - overlay overlay rw,lowerdir=/var/lib/docker/overlay2/l/ABC,upperdir=/var/lib/docker/overlay2/1/diff
513 512 0:64 / /proc rw,nosuid,nodev,noexec - proc proc rw
514 512 0:65 / /dev rw,nosuid - tmpfs tmpfs rw,size=65536k,mode=755
515 512 0:66 / /sys ro,nosuid,nodev,noexec - sysfs sysfs ro
516 515 0:30 / /sys/fs/cgroup ro,nosuid,nodev,noexec - cgroup2 cgroup rw
517 514 0:67 / /dev/shm rw,nosuid,nodev,noexec - tmpfs shm rw,size=65536k
518 512 8:1 /var/lib/docker/containers/{id}/hosts /etc/hosts rw,relatime - ext4 /dev/sda1 rw
"""
CAPABILITIES = "00000000a80425fb"
"""What docker leaves to root in a container."""


def docker(tree: Tree, identity: str, *, shm: int = 64 << 20) -> None:
    """Around `linux`: a container of docker's, as root; /dev/shm has docker's 64 MiB unless another size is given."""
    tree.file("/.dockerenv")
    tree.file("/proc/self/mountinfo", CONTAINER_MOUNTS.format(id=identity))
    tree.file("/proc/1/comm", "bash\n")
    tree.file("/proc/self/attr/current", "docker-default (enforce)\n")
    status = (tree.root / "proc/self/status").read_text()
    status = status.replace("CapEff:\t0000000000000000", f"CapEff:\t{CAPABILITIES}").replace(
        "Seccomp:\t0", "Seccomp:\t2"
    )
    tree.file("/proc/self/status", status)
    tree.remove("/dev/kmsg")
    tree.remove("/sys/firmware")
    tree.folder("/sys/firmware")
    limits(tree, "/sys/fs/cgroup")
    network(tree, identity, "172.17.0.2", "eth0")
    tree.file("/etc/hosts", f"127.0.0.1\tlocalhost\n172.17.0.2\t{identity}\n")
    tree.answers.names = {identity: ("172.17.0.2",)}
    tree.disk("/dev/shm", shm, shm)
    tree.folder("/root", mode="0700")
    tree.environ |= {"HOSTNAME": identity, "HOME": "/root"}


def kubernetes(tree: Tree, pod: str, memory: int, cores: float) -> None:
    """Around `linux`: a pod of containerd's, as root, with its limits."""
    docker(tree, pod)
    tree.remove("/.dockerenv")
    mounts = CONTAINER_MOUNTS.format(id=pod).replace(
        "/var/lib/docker/overlay2", "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs"
    )
    kubelet = "/var/lib/kubelet/pods/8c2f11aa-5d0e-4bb1-9a51-6f0f2f3c1e77/etc-hosts /etc/hosts"
    mounts = mounts.replace(f"/var/lib/docker/containers/{pod}/hosts /etc/hosts", kubelet)
    tree.file("/proc/self/mountinfo", mounts)
    tree.file("/proc/self/attr/current", "cri-containerd.apparmor.d (enforce)\n")
    tree.file("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "ml\n")
    tree.file("/etc/hosts", f"127.0.0.1\tlocalhost\n10.244.3.7\t{pod}\n")
    limits(tree, "/sys/fs/cgroup", memory, cores)
    tree.environ["KUBERNETES_SERVICE_HOST"] = "10.96.0.1"


def cuda_image(tree: Tree, flavour: str) -> None:
    """What nvidia/cuda:12.8.1-FLAVOUR-ubuntu22.04 brings: variables, some of the toolkit, forward compatibility."""
    root = "/usr/local/cuda-12.8"
    target = f"{root}/targets/x86_64-linux"
    tree.environ |= {
        "NVARCH": "x86_64", "CUDA_VERSION": "12.8.1", "NV_CUDA_CUDART_VERSION": "12.8.90-1",
        "NVIDIA_VISIBLE_DEVICES": "all", "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.8 brand=unknown,driver>=470,driver<471 brand=tesla,driver>=535,driver<536",
        "LD_LIBRARY_PATH": "/usr/local/nvidia/lib:/usr/local/nvidia/lib64",
    }  # fmt: skip
    tree.environ["PATH"] = "/usr/local/nvidia/bin:/usr/local/cuda/bin:" + tree.environ["PATH"]
    for name in ("libcuda", "libnvidia-ptxjitcompiler"):
        tree.library(f"{root}/compat/{name}.so.570.124.06")
        tree.link(f"{root}/compat/{name}.so.1", f"{name}.so.570.124.06")
    tree.link(f"{root}/compat/libcuda.so", "libcuda.so.1")
    names: tuple[str, ...] = ("libcudart",)
    if flavour != "base":
        names += ("libcublas", "libcublasLt", "libnvrtc", "libnccl")
    if flavour == "devel":
        toolkit(tree, "12.8", "12.8.93")
        for name in ("libcuda.so", "libnvidia-ml.so"):
            tree.library(f"{target}/lib/stubs/{name}")
        tree.environ["LIBRARY_PATH"] = "/usr/local/cuda/lib64/stubs"
    else:
        tree.link("/usr/local/cuda", "cuda-12.8")
        tree.link(f"{root}/lib64", "targets/x86_64-linux/lib")
        toolkit_libraries(tree, "12.8", target, tuple(each for each in names if each != "libnccl"))
    if flavour != "base":
        tree.library(f"/usr/lib/{tree.triple}/libnccl.so.2.25.1", more=b"NCCL version 2.25.1+cuda12.8")
        tree.link(f"/usr/lib/{tree.triple}/libnccl.so.2", "libnccl.so.2.25.1")
        tree.cached(f"/usr/lib/{tree.triple}/libnccl.so.2")
