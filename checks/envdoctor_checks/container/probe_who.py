"""Which container this is, who we are in it, and who that is outside."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from typing import Literal

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import (
    ContainerEngine,
    GidMap,
    HomeDirectory,
    Identity,
    IdRange,
    ImageKind,
    ImageVariables,
    PasswdEntry,
    Preload,
    ProcessLabel,
    UidMap,
)
from envdoctor_checks.container.procfs import account, id_ranges, mount_lines

WHOLE = 4 << 20
"""Bytes of a file of /proc that are read; 4000 mounts take a sixth of it."""
GROUPS = r"/(?:docker|libpod|containerd|cri-containerd|crio|lxc|lxc\.payload)[-/.]|docker-[0-9a-f]{12}"
MARKERS = (
    ("/var/run/secrets/kubernetes.io", "kubernetes"),
    ("/.singularity.d", "apptainer"),
    ("/run/.containerenv", "podman"),
    ("/.dockerenv", "docker"),
)
NAMES = {
    "lxc": "lxc",
    "lxc-libvirt": "lxc",
    "systemd-nspawn": "systemd-nspawn",
    "docker": "docker",
    "podman": "podman",
}
"""What ``container=`` says in the environment of a container's first process."""
LOCAL_SERVICES = frozenset({"files", "compat", "systemd", "altfiles", "db", "mymachines"})
"""Name services whose users are in files, or are no person's accounts."""


@check.probe(tier=Tier.QUICK)
def uid_map(host: Host) -> UidMap:
    """Which UIDs of the parent namespace ours are."""
    return UidMap(ranges=_ranges(host, "/proc/self/uid_map"), source=Source("file", "/proc/self/uid_map"))


@check.probe(tier=Tier.QUICK)
def gid_map(host: Host) -> GidMap:
    """Which GIDs of the parent namespace ours are."""
    return GidMap(ranges=_ranges(host, "/proc/self/gid_map"), source=Source("file", "/proc/self/gid_map"))


def _ranges(host: Host, path: str) -> tuple[IdRange, ...]:
    """The kernel allows 340 lines; an empty map is a namespace that nobody has set up yet."""
    text = host.text(path)
    if text is None:
        raise CouldNotLook(f"{path} is not there")
    ranges = id_ranges(text)
    if text.strip() and not ranges:
        raise CouldNotLook(f"{path} does not hold a map of ids")
    return ranges


@check.probe(tier=Tier.QUICK)
def identity(host: Host) -> Identity | None:
    """UID, GID and supplementary groups, as the kernel shows them in here."""
    if host.uid < 0:
        return None
    return Identity(uid=host.uid, gid=host.gid, groups=host.groups, source=Source("call", "getuid"))


@check.probe(tier=Tier.QUICK)
def passwd_entry(host: Host) -> PasswdEntry | None:
    """The entry in the file; where a name service may know more, absence cannot be said."""
    if host.uid < 0:
        return None
    found = account(host.text("/etc/passwd") or "", host.uid)
    if found is None:
        services = _services(host) - LOCAL_SERVICES
        if services:
            names = ", ".join(sorted(services))
            reason = (
                f"/etc/passwd has no UID {host.uid}, and users also come from {names}, which was not asked"
            )
            raise CouldNotLook(reason, f"getent passwd {host.uid}")
    name, home = found or (None, None)
    return PasswdEntry(uid=host.uid, name=name, home=home, source=Source("file", "/etc/passwd"))


def _services(host: Host) -> frozenset[str]:
    line = re.search(r"(?m)^passwd:(.*)$", host.text("/etc/nsswitch.conf") or "")
    return frozenset(re.findall(r"[a-z_]+", re.sub(r"\[.*?\]", " ", line[1]))) if line else frozenset()


@check.probe(tier=Tier.QUICK)
def home_directory(host: Host) -> HomeDirectory | None:
    """Where ``~`` leads, by HOME, else by the passwd entry, and whether it can be written."""
    if host.uid < 0:
        return None
    told = host.environ.get("HOME")
    found = account(host.text("/etc/passwd") or "", host.uid)
    path = (told or "/") if told is not None else found[1] if found else None
    status = host.status(path) if path else None
    return HomeDirectory(
        path=path,
        found_via="HOME" if told is not None else "passwd",
        exists=status is not None and status.kind == "directory",
        writable=path is not None and host.may(path, os.W_OK | os.X_OK),
        source=Source("env", "HOME") if told is not None else Source("file", "/etc/passwd"),
    )


@check.probe(tier=Tier.QUICK)
def container_engine(host: Host, ids: UidMap | None) -> ContainerEngine:
    """By what engines leave inside, the most telling first."""
    engine, where = _engine(host)
    told = dict(re.findall(r'(?m)^(\w+)="?([^"\n]*)"?$', host.text("/run/.containerenv") or ""))
    rootless = None
    if told.get("rootless"):
        rootless = told["rootless"] == "1"
    elif engine and ids is not None:
        rootless = not ids.identity
    image = (
        told.get("image")
        or host.environ.get("APPTAINER_CONTAINER")
        or host.environ.get("SINGULARITY_CONTAINER")
    )
    return ContainerEngine(
        engine=engine,
        rootless=rootless if engine else None,
        image=image or None,
        found_via=where,
        source=Source("file", where or "/proc/self/cgroup"),
    )


def _engine(host: Host) -> tuple[str | None, str]:
    if host.environ.get("KUBERNETES_SERVICE_HOST"):
        return "kubernetes", "KUBERNETES_SERVICE_HOST"
    for path, engine in MARKERS:
        if host.exists(path):
            return engine, path
    told = host.environ.get("container") or (host.text("/run/systemd/container") or "").strip()
    if told:
        return NAMES.get(told, "other"), "container"
    if "ENROOT_ROOTFS" in host.environ:
        return "enroot", "ENROOT_ROOTFS"
    groups = host.text("/proc/self/cgroup") or ""
    if "kubepods" in groups:
        return "kubernetes", "/proc/self/cgroup"
    found = re.search(GROUPS, groups)
    if found:
        name = found[0].strip("/-.").partition("-")[0]
        return {"docker": "docker", "libpod": "podman", "lxc": "lxc", "lxc.payload": "lxc"}.get(
            name, "containerd"
        ), "/proc/self/cgroup"
    return _by_root(host)


def _by_root(host: Host) -> tuple[str | None, str]:
    """A root file system that an engine has put together."""
    for mount in mount_lines(host.text("/proc/self/mountinfo", limit=WHOLE) or ""):
        if mount.target == "/" and mount.fstype in ("overlay", "fuse-overlayfs", "fuse.fuse-overlayfs"):
            layers = " ".join(mount.super_options)
            for name, words in (
                ("docker", "/docker/"),
                ("containerd", "containerd"),
                ("podman", "/containers/"),
                ("enroot", "/enroot"),
            ):
                if words in layers:
                    return name, "/proc/self/mountinfo"
    return None, ""


@check.probe(tier=Tier.QUICK)
def image(host: Host, engine: ContainerEngine) -> tuple[ImageKind, ImageVariables] | None:
    """What the image brings of CUDA, and what it or its launch asks of the NVIDIA runtime."""
    if engine.engine is None:
        return None
    values = {name: value for name, value in host.environ.items() if name.startswith("NVIDIA_")}
    where = "NVIDIA_*"
    if "NVIDIA_VISIBLE_DEVICES" not in values:
        first = _first_environment(host)
        where = "/proc/1/environ" if first else where
        values = {**first, **values}
    cuda = host.environ.get("CUDA_VERSION") or None
    return (
        ImageKind(cuda=cuda, flavour=_flavour(host) if cuda else None, source=Source("env", "CUDA_VERSION")),
        ImageVariables(values=values, source=Source("env", where)),
    )


def _first_environment(host: Host) -> dict[str, str]:
    """The NVIDIA_* variables of the container's first process: ssh and su do not hand them on."""
    try:
        text = host.text("/proc/1/environ") or ""
    except CouldNotLook:
        return {}  # another user's: what our own environment has must do
    pairs = (entry.partition("=") for entry in text.split("\0") if entry.startswith("NVIDIA_"))
    return {name: value for name, equals, value in pairs if equals}


def _flavour(host: Host) -> Literal["base", "runtime", "devel"]:
    cuda = host.environ.get("CUDA_HOME") or "/usr/local/cuda"
    if host.exists(f"{cuda}/bin/nvcc"):
        return "devel"
    names = host.names(f"{cuda}/lib64") or ()
    return (
        "runtime" if any(name.startswith(("libcublas", "libnvrtc", "libnpp")) for name in names) else "base"
    )


@check.probe(tier=Tier.QUICK)
def process_label(host: Host) -> ProcessLabel:
    """The security module's label for us, and the seccomp mode."""
    label = None
    with suppress(CouldNotLook):  # EINVAL: there is no security module that labels processes
        label = (host.text("/proc/self/attr/current") or "").strip("\0 \n") or None
    mode = re.search(r"(?m)^Seccomp:\s*(\d)", host.text("/proc/self/status") or "")
    return ProcessLabel(
        label=label, seccomp=int(mode[1]) if mode else None, source=Source("file", "/proc/self/attr/current")
    )


@check.probe(tier=Tier.QUICK)
def preload(host: Host) -> Preload:
    """LD_PRELOAD first, then the file, as the loader reads them."""
    told = host.environ.get("LD_PRELOAD", "")
    lines = [line.partition("#")[0] for line in (host.text("/etc/ld.so.preload") or "").splitlines()]
    libraries = re.split(r"[\s:]+", " ".join([told, *lines]).strip())
    return Preload(
        libraries=tuple(each for each in libraries if each),
        source=Source("env", "LD_PRELOAD") if told else Source("file", "/etc/ld.so.preload"),
    )
