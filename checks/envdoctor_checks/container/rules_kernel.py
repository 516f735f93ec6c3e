"""What the kernel's filters and policies refuse: threads by seccomp, user namespaces by AppArmor, filters of devices; runtimes."""

from __future__ import annotations

from envdoctor.api import (
    Ask,
    Change,
    Confidence,
    Evidence,
    Finding,
    Findings,
    Platform,
    Reach,
    Relaunch,
    Run,
    Severity,
)
from envdoctor.tables import compare_releases
from envdoctor_checks.container.advice import JOB, NODES, PROVE, START, UPGRADE_TOOLKIT, USE_CDI
from envdoctor_checks.container.check import check
from envdoctor_checks.container.facts import PidsLimit, ProcessLabel
from envdoctor_checks.container.facts_host import (
    BpfJitHarden,
    ContainerdConfig,
    EngineInfo,
    KernelSettings,
    NodeGpus,
    ToolkitFiles,
)
from envdoctor_checks.container.symptoms import (
    DevicePluginBlind,
    DeviceRulesFailed,
    GpuUnschedulable,
    Launched,
    RuntimeUnknown,
    ThreadRefused,
    UsernsDenied,
)

CLONE3_ENGINE = "20.10.10"
"""The first docker whose seccomp profile answers clone3 so that glibc falls back."""
CLONE3_GLIBC = "2.34"
"""The first glibc that starts threads by clone3."""


LET_THREADS = (
    Relaunch(
        adds="--security-opt seccomp=unconfined",
        why="to see that it is that, or where the engine cannot be upgraded",
        caveat="The container is then not filtered at all.",
    ),
    Change(
        title="or use an image with an older base: glibc 2.33 or less (debian 11 bullseye, ubuntu 20.04)",
        reach=Reach.CONTAINER,
        needs_restart="container",
    ),
    Run(
        title="upgrade docker to 20.10.10 or later, with runc and libseccomp",
        commands=(
            "apt-get install --only-upgrade docker-ce containerd.io libseccomp2",
            "systemctl restart docker",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="Restarting the daemon stops the running containers unless live-restore is on.",
    ),
)


@check.rule
def seccomp_blocks_clone3(
    said: ThreadRefused,
    info: EngineInfo | None,
    platform: Platform | None,
    limit: PidsLimit | None,
    label: ProcessLabel | None,
    launches: tuple[Launched, ...],
) -> Findings:
    """An old engine's seccomp profile breaks threads of a newer glibc."""
    version = info.release if info else ""
    old = bool(version) and compare_releases(version, CLONE3_ENGINE) < 0
    if said.error == "EAGAIN" or (version and not old) or (label is not None and label.seccomp == 0):
        return
    glibc = platform.libc_version if platform else None
    new_glibc = glibc is not None and compare_releases(glibc, CLONE3_GLIBC) >= 0
    if said.error is None and not (
        old or (new_glibc and launches and limit is not None and limit.limit is None)
    ):
        return
    evidence: list[Evidence] = [said.evidence()]
    if info is not None and version:
        evidence.append(info.shows("engine", version))
    if platform is not None and glibc:
        evidence.append(platform.shows("glibc", glibc))
    yield Finding(
        title="the engine's seccomp profile refuses clone3, by which this image's glibc starts threads",
        confidence=Confidence.CERTAIN if old else Confidence.LIKELY,
        detail="From 2.34 on glibc starts threads with clone3 and falls back only when the kernel says that there is no such call. "
        'Profiles before docker 20.10.10 (and an old libseccomp or runc) answer "not permitted" instead. Limits of tasks '
        "and memory have no part in it.",
        evidence=tuple(evidence),
        remedies=LET_THREADS,
        breaks=(JOB,),
        shows=(JOB,),
        asks=()
        if old
        else (
            Ask(
                "docker version; grep Seccomp /proc/self/status",
                "the engine's release, and whether a filter is on",
            ),
        ),
    )


RESTRICTED = "kernel.apparmor_restrict_unprivileged_userns"
PROFILE = (
    "# /etc/apparmor.d/apptainer, an AppArmor profile that allows it to one program (name yours)",
    "abi <abi/4.0>,",
    "include <tunables/global>",
    "profile apptainer /usr/local/libexec/apptainer/bin/starter flags=(unconfined) { userns, }",
)


ALLOW_USERNS = (
    Change(
        title="install an AppArmor profile for the program, then load it with apparmor_parser -r",
        reach=Reach.HOST,
        example=PROFILE,
    ),
    Run(
        title="or install the setuid variant, which needs no user namespace",
        commands=("apt-get install apptainer-suid",),
        reach=Reach.HOST,
        needs_root=True,
        caveat="The package is apptainer's own (its PPA), beside the package apptainer of the same release.",
    ),
    Run(
        title="or lift the restriction for all programs",
        commands=("sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",),
        reach=Reach.HOST,
        needs_root=True,
        caveat="It is there against exploits of the kernel. Keep it in /etc/sysctl.d to have it after the next boot.",
    ),
)


@check.rule
def apparmor_blocks_userns(
    denials: tuple[UsernsDenied, ...], settings: KernelSettings | None, platform: Platform | None
) -> Findings:
    """AppArmor forbids unprivileged user namespaces."""
    value = settings.values.get(RESTRICTED) if settings else None
    failed = [each for each in denials if not each.by_apparmor]
    named = [each for each in denials if each.by_apparmor]
    if not denials or value == "0" or (not named and value is None and _switched_off(settings)):
        return
    certain = bool(named) or value == "1"
    ubuntu = platform is not None and platform.distribution == "ubuntu"
    powerless = any(each.created for each in failed)
    if not certain and platform is not None and platform.distribution not in (None, "ubuntu"):
        return
    evidence = [each.evidence() for each in (*failed[:2], *named[:1])]
    if settings is not None and value is not None:
        evidence.append(settings.shows(RESTRICTED, value))
    yield Finding(
        title="AppArmor keeps ordinary users from user namespaces, which this engine needs",
        confidence=Confidence.CERTAIN
        if certain
        else Confidence.LIKELY
        if ubuntu or powerless
        else Confidence.POSSIBLE,
        detail="Ubuntu from 23.10 on gives a user namespace without any right to programs that no AppArmor profile allows it to. "
        "Packages of the distribution bring such profiles; a program in /usr/local or in a home directory has none.",
        evidence=tuple(evidence),
        remedies=ALLOW_USERNS,
        breaks=(START,),
        shows=(START,),
        asks=()
        if certain
        else (Ask("sysctl kernel.apparmor_restrict_unprivileged_userns", "whether it is 1"),),
    )


def _switched_off(settings: KernelSettings | None) -> str | None:
    """The setting that forbids user namespaces altogether."""
    values = settings.values if settings else {}
    off = ("user.max_user_namespaces", "kernel.unprivileged_userns_clone")
    return next((name for name in off if values.get(name) == "0"), None)


@check.rule
def userns_disabled(denials: tuple[UsernsDenied, ...], settings: KernelSettings) -> Findings:
    """The kernel is set to give no user namespaces at all."""
    name = _switched_off(settings)
    if name is None or not denials or any(each.by_apparmor for each in denials):
        return
    value = "1" if name.endswith("clone") else "15000"
    yield Finding(
        title=f"{name} is 0: no user namespace can be made, and rootless engines need one",
        subject=f"setting:{name}",
        evidence=(denials[0].evidence(), settings.shows(name, "0")),
        remedies=(
            Run(
                title=f"allow them: {name} = {value}",
                commands=(f"sysctl -w {name}={value}",),
                reach=Reach.HOST,
                needs_root=True,
                caveat="Keep it in /etc/sysctl.d to have it after the next boot.",
            ),
        ),
        breaks=(START,),
        shows=(START,),
    )


RUNTIME_FIXES = (
    Change(
        title="give the pod (and the device plugin's DaemonSet) a RuntimeClass whose handler is nvidia",
        reach=Reach.CONTAINER,
        example=(
            "apiVersion: node.k8s.io/v1",
            "kind: RuntimeClass",
            "metadata: {name: nvidia}",
            "handler: nvidia   # then runtimeClassName: nvidia in the pod spec",
        ),
        needs_restart="container",
    ),
    Run(
        title="or make nvidia the default runtime of the node's containerd",
        commands=(
            "nvidia-ctk runtime configure --runtime=containerd --set-as-default",
            "systemctl restart containerd",
        ),
        reach=Reach.HOST,
        needs_root=True,
        caveat="k3s and RKE2 write the file themselves and find the runtime at their start: restart k3s or rke2-agent instead.",
        verify="kubectl describe node | grep nvidia.com/gpu",
    ),
)


@check.rule
def k8s_runtime_not_nvidia(said: DevicePluginBlind, config: ContainerdConfig | None) -> Findings:
    """The Kubernetes node's default runtime or RuntimeClass is not nvidia."""
    if config is not None and config.default_runtime is not None and "nvidia" in config.default_runtime:
        return
    evidence = [said.evidence()]
    if config is not None:
        evidence.append(config.shows("containerd's default runtime", config.default_runtime or "runc"))
    yield Finding(
        title="the device plugin runs without the nvidia runtime: it sees no driver and offers no GPU",
        confidence=Confidence.CERTAIN if config is not None else Confidence.LIKELY,
        detail="Pods, the device plugin's among them, are started by the node's default runtime unless a RuntimeClass says otherwise. "
        "Only the nvidia runtime mounts the driver, so installing the toolkit is not enough.",
        evidence=tuple(evidence),
        remedies=RUNTIME_FIXES,
        breaks=(NODES,),
        shows=(NODES,),
        asks=()
        if config
        else (
            Ask(
                "containerd config dump | grep default_runtime_name; kubectl get runtimeclass",
                "which runtime starts the pods",
            ),
        ),
    )


@k8s_runtime_not_nvidia.sign
def _no_handler(said: RuntimeUnknown) -> Findings:
    """A RuntimeClass names a handler that the node's engine does not have."""
    if said.kubernetes:
        yield Finding(
            title=f"the node's container engine has no runtime handler {said.runtime}",
            detail="The RuntimeClass asks for it; the toolkit's containerd (or CRI-O) configuration was not written, or not read since.",
            evidence=(said.evidence(),),
            remedies=(RUNTIME_FIXES[1], RUNTIME_FIXES[0]),
            breaks=(START,),
            shows=(START,),
        )


@k8s_runtime_not_nvidia.sign
def _no_gpu_offered(
    said: GpuUnschedulable,
    node: NodeGpus | None,
    config: ContainerdConfig | None,
    blind: tuple[DevicePluginBlind, ...],
) -> Findings:
    """No node has a free GPU: all are taken, or none is offered."""
    if blind or (node is not None and node.gpus > 0):
        return
    plain = config is not None and "nvidia" not in (config.default_runtime or "runc")
    yield Finding(
        title="no node offers a GPU"
        if node is not None
        else "no node has a free GPU: all are taken, or the nodes offer none",
        severity=Severity.ERROR if node is not None or plain else Severity.WARNING,
        confidence=Confidence.LIKELY if node is not None or plain else Confidence.POSSIBLE,
        evidence=(said.evidence(),),
        remedies=RUNTIME_FIXES,
        breaks=(NODES,),
        shows=(NODES,),
        asks=(
            Ask("kubectl describe nodes | grep -A8 Allocatable", "whether nvidia.com/gpu is offered at all"),
        ),
    )


LOWER_HARDENING = Run(
    title="let the toolkit read the group's filter program",
    commands=("sysctl -w net.core.bpf_jit_harden=1",),
    reach=Reach.HOST,
    needs_root=True,
    caveat="1 still hardens programs of ordinary users. Keep it in /etc/sysctl.d to have it after the next boot.",
    verify=PROVE,
)


@check.rule
def bpf_jit_harden(said: DeviceRulesFailed, harden: BpfJitHarden | None) -> Findings:
    """net.core.bpf_jit_harden=2 breaks the toolkit's device rules."""
    if said.why != "not-loadable" or (harden is not None and harden.value != 2):
        return
    yield Finding(
        title="the kernel hides the container's device filter (net.core.bpf_jit_harden = 2), so the toolkit cannot extend it",
        confidence=Confidence.CERTAIN if harden is not None else Confidence.LIKELY,
        detail="The toolkit reads the filter program of the control group, puts its own rules in front and loads both. With full "
        "hardening the kernel gives nothing but zeros to read, and refuses what is made of them.",
        evidence=(
            said.evidence(),
            *((harden.shows("net.core.bpf_jit_harden", harden.value),) if harden else ()),
        ),
        remedies=(LOWER_HARDENING, UPGRADE_TOOLKIT, USE_CDI),
        breaks=(START,),
        shows=(START,),
        asks=() if harden else (Ask("sysctl net.core.bpf_jit_harden", "whether it is 2"),),
    )


@bpf_jit_harden.sign
def _hardened(harden: BpfJitHarden, files: ToolkitFiles) -> Findings:
    """The setting on a host with the toolkit: newer releases do without reading the program."""
    if harden.value == 2 and files.present:
        yield Finding(
            title="net.core.bpf_jit_harden is 2: the toolkit's hook may fail to allow GPUs in containers",
            severity=Severity.NOTE,
            evidence=(harden.shows("net.core.bpf_jit_harden", harden.value),),
            remedies=(LOWER_HARDENING, USE_CDI),
        )
