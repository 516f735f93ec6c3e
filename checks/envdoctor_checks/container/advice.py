"""Remedies that several rules propose, and the outcomes that containers decide."""

from __future__ import annotations

from envdoctor.api import Change, InstallSystem, Outcome, Reach, Relaunch, Remedy, Run

START = Outcome("container-start")
NODES = Outcome("device-nodes")
LIBCUDA = Outcome("libcuda-loadable")
NVML = Outcome("nvml")
AVAILABLE = Outcome("cuda-available")
MEMORY = Outcome("memory")
JOB = Outcome("job")

PROVE = "docker run --rm --gpus all ubuntu nvidia-smi"
RESTART_CAVEAT = "Restarting the daemon stops the running containers unless live-restore is on."
INSTALL_TOOLKIT = InstallSystem(
    package="nvidia-container-toolkit",
    why="it gives the engine its GPU support",
    caveat="The packages come from NVIDIA's repository: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
    verify="nvidia-ctk --version",
)
CONFIGURE_DOCKER = Run(
    title="register the nvidia runtime with docker and restart it",
    commands=("nvidia-ctk runtime configure --runtime=docker", "systemctl restart docker"),
    reach=Reach.HOST,
    needs_root=True,
    caveat=RESTART_CAVEAT,
    verify=PROVE,
)
UPGRADE_TOOLKIT = InstallSystem(
    package="nvidia-container-toolkit",
    why="install the newest release of nvidia-container-toolkit over the old one",
    verify="nvidia-ctk --version",
)
GENERATE_CDI = Run(
    title="generate the CDI specification anew, from the driver and the devices that are there now",
    commands=("nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml", "nvidia-ctk cdi list"),
    reach=Reach.HOST,
    needs_root=True,
    caveat="Do it after every driver upgrade and MIG change, or enable nvidia-cdi-refresh.path where the toolkit has it.",
    verify="podman run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi",
)
USE_CDI = Run(
    title="hand the GPUs over by CDI, which needs no hook and no control groups",
    commands=(
        "nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml",
        "# then start the container with --device nvidia.com/gpu=all instead of --gpus or hooks",
    ),
    reach=Reach.HOST,
    needs_root=True,
    verify="podman run --rm --device nvidia.com/gpu=all ubuntu nvidia-smi",
)


def request_gpus(why: str) -> Relaunch:
    """Start the container with GPUs."""
    return Relaunch(
        adds="--gpus all",
        why=why,
        caveat="Podman: --device nvidia.com/gpu=all; apptainer: --nv; Kubernetes: resources.limits nvidia.com/gpu.",
    )


def as_owner(engine: str | None, owner: tuple[int, int] | None) -> Remedy:
    """Run the container's process as the user whose files these are; `owner` is UID and GID on the host, where known."""
    ids = f"{owner[0]}:{owner[1]}" if owner else '"$(id -u):$(id -g)"'
    uid, gid = (str(each) for each in owner) if owner else ("<id -u>", "<id -g>")
    lines = {
        "docker": (f"docker run --user {ids} ...",),
        "podman": ("podman run --userns=keep-id ...",),
        "compose": (f'user: "{uid}:{gid}"   # in the service of compose.yaml',),
        "kubernetes": (
            f"securityContext: {{runAsUser: {uid}, runAsGroup: {gid}, fsGroup: {gid}}}   # in the pod spec",
        ),
    }
    chosen = {"podman": ("podman",), "kubernetes": ("kubernetes",), "docker": ("docker", "compose")}.get(
        engine or "", tuple(lines)
    )
    return Change(
        title="start the container as the user who owns the files",
        reach=Reach.CONTAINER,
        example=tuple(line for name in chosen for line in lines[name]),
        needs_restart="container",
        caveat="Such a user may have no name and no home in the image: set HOME to a directory that it may write.",
    )


def own_ids(
    engine: str | None, uid: int, outside: int | None, directory: str = "<directory>"
) -> tuple[Remedy, ...]:
    """Make a shifted UID the user's own, or the directory the shifted UID's; `outside` is that UID on the host."""
    lines = {
        "podman": ("podman run --userns=keep-id ...   # your own UID inside and outside",),
        "docker": (
            "docker run --userns=host ...   # where the daemon remaps users (userns-remap)",
            "docker run --user 0:0 ...   # with rootless docker, where root inside is you outside",
        ),
        "kubernetes": ("hostUsers: true   # in the pod spec",),
    }
    chosen = (engine,) if engine in lines else tuple(lines)
    theirs = f"podman unshare chown -R {uid}:{uid} {directory}"
    on_host = (
        f"sudo chown -R {outside if outside is not None else '<UID outside>'} {directory}   # on the host"
    )
    return (
        Change(
            title="map your own UID to itself",
            reach=Reach.CONTAINER,
            example=tuple(line for name in chosen for line in lines[name or ""]),
            needs_restart="container",
        ),
        Change(
            title="or give the directory to the mapped user",
            reach=Reach.HOST,
            example=(theirs,) if engine == "podman" else (on_host,) if engine else (theirs, on_host),
        ),
    )


def move_home(path: str = "/tmp/home") -> Relaunch:  # noqa: S108 - a proposal for a container's own /tmp
    """Give the process a home that it can write, and so its caches a place."""
    return Relaunch(
        adds=f"-e HOME={path}",
        why="so that caches have a place that this user can write",
        caveat="Caches there are gone with the container: mount a volume on it to keep them.",
    )


def move_caches(root: str = "/tmp/cache") -> Change:  # noqa: S108 - a proposal for a container's own /tmp
    """Name a writable place for each cache without touching HOME."""
    return Change(
        title="name a writable directory for the caches",
        reach=Reach.CONTAINER,
        example=(
            f"export XDG_CACHE_HOME={root} HF_HOME={root}/huggingface TORCH_HOME={root}/torch",
            f"export TRITON_CACHE_DIR={root}/triton TORCHINDUCTOR_CACHE_DIR={root}/inductor CUDA_CACHE_PATH={root}/nv",
        ),
        needs_restart="process",
    )
