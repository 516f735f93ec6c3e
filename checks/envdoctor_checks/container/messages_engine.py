"""What container engines, OCI runtimes and the NVIDIA container toolkit print."""

from __future__ import annotations

import re

from envdoctor_checks.container.check import check
from envdoctor_checks.container.symptoms import (
    AvcDenied,
    CdiUnresolved,
    CommandMissing,
    DeviceDriverMissing,
    DeviceRulesFailed,
    DevicesGroupMissing,
    DriverFileExists,
    DriverNotDetected,
    HostFileMissing,
    LdcacheFailed,
    NamedSymbolNotFound,
    NotPrivilegedForVariable,
    Reloaded,
    RequirementUnmet,
    RuntimeUnknown,
    ToolkitAbsent,
    ToolkitLibraryMissing,
)

DRIVER_FILE = r"(?:lib(?:cuda|nvidia|nvcuvid|nvoptix|vdpau_nvidia|GLX_nvidia|EGL_nvidia|GLES\w*_nvidia|nvrm)[\w.+-]*|nvidia[\w.-]*|nv[\w-]*\.bin|gsp_\w+\.bin)"
"""Names of files that NVIDIA's driver brings."""


@check.message(
    r"[Cc]ould not select device driver \\?\"(?P<driver>\w*)\\?\" with capabilities",
    needles="could not select device driver",
    sample='docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].',
)
def device_driver_missing(found: re.Match[str]) -> DeviceDriverMissing:
    """dockerd knows no driver for a device request; older clients print it without the empty quotes."""
    return DeviceDriverMissing(driver=found["driver"])


@check.message(
    r"[Cc]ould not select device driver with capabilities: \[\[gpu",
    needles="could not select device driver with",
    sample="Error response from daemon: could not select device driver with capabilities: [[gpu]].",
)
def device_driver_unnamed(_found: re.Match[str]) -> DeviceDriverMissing:
    """The same without the quotes."""
    return DeviceDriverMissing(driver="")


@check.message(
    r"(?P<program>nvidia-ctk|nvidia-container-cli|nvidia-container-runtime(?:-hook)?|nvidia-container-toolkit)[\"'`:]*"
    r" ?(?:command not found|not found|could not be found|executable file not found|no such file or directory|is not installed)"
    r"|command not found: (?P<zsh>nvidia-ctk|nvidia-container-cli)|package (?P<rpm>nvidia-container-toolkit) is not installed"
    r"|no packages found matching (?P<dpkg>nvidia-container-toolkit)",
    needles=("nvidia-ctk", "nvidia-container"),
    sample="bash: nvidia-ctk: command not found",
)
def toolkit_absent(found: re.Match[str]) -> ToolkitAbsent:
    """The shells and package managers, in their ways."""
    return ToolkitAbsent(program=next(each for each in found.groups() if each))


@check.message(
    r"unknown or invalid runtime name: (?P<new>[\w.-]*\w)|[Uu]nknown runtime specified:? (?P<old>[\w.-]*\w)"
    r"|default OCI runtime \\?\"(?P<podman>[\w.-]+)\\?\" not found|OCI runtime \\?\"(?P<named>[\w.-]+)\\?\" not found"
    r"|runtime \\?\"(?P<binary>nvidia)\\?\": (?:binary not installed|invalid|executable file not found)",
    needles=("runtime name:", "runtime specified", "oci runtime", 'runtime "nvidia"', 'runtime \\"nvidia'),
    sample="docker: Error response from daemon: unknown or invalid runtime name: nvidia.",
)
def runtime_unknown(found: re.Match[str]) -> RuntimeUnknown | None:
    """dockerd and podman, over their releases."""
    name = next(each for each in found.groups() if each)
    return RuntimeUnknown(runtime=name) if "nvidia" in name else None


@check.message(
    r"no runtime for \\*\"(?P<runtime>nvidia[\w-]*)\\*\" is configured|RuntimeHandler \\*\"(?P<handler>nvidia[\w-]*)\\*\" not supported"
    r"|runtime handler \\*\"?(?P<crio>nvidia[\w-]*)\\*\"? (?:not found|is not)|RuntimeClass \\*\"(?P<none>nvidia[\w-]*)\\*\" not found",
    needles=("no runtime for", "runtimehandler", "runtime handler", "runtimeclass"),
    sample='Failed to create pod sandbox: failed to get sandbox runtime: no runtime for "nvidia" is configured',
)
def handler_unknown(found: re.Match[str]) -> RuntimeUnknown:
    """containerd and CRI-O, asked by a RuntimeClass for a handler that they do not have."""
    return RuntimeUnknown(runtime=next(each for each in found.groups() if each), kubernetes=True)


@check.message(
    r"unresolvable CDI devices? (?P<device>[\w./-]+=[\w:.-]+)|(?:unknown|undefined) CDI device[s:]* \\?\"?(?P<other>[\w./-]+=[\w:.-]+)",
    needles=("unresolvable cdi device", "cdi device"),
    sample="Error: setting up CDI devices: unresolvable CDI devices nvidia.com/gpu=all",
)
def cdi_unresolved(found: re.Match[str]) -> CdiUnresolved | None:
    """podman, dockerd, containerd and the toolkit use one library for it, and so one wording."""
    device = (found["device"] or found["other"]).rstrip(".:")
    return CdiUnresolved(device=device) if "nvidia.com/" in device else None


@check.message(
    rf"(?:cannot stat|error stat'ing file|failed to stat CDI host device|error mounting) [`\\\"']*(?P<path>/[^\s`'\"\\]*/{DRIVER_FILE})[`\\\"']*(?=.*(?:[Nn]o such file|no such device))",
    needles=("cannot stat", "stat'ing file", "cdi host device", "error mounting"),
    sample="Error: crun: cannot stat `/usr/lib64/libnvidia-ml.so.555.42.02`: No such file or directory",
)
def host_file_missing(found: re.Match[str]) -> HostFileMissing:
    """crun, runc and the CDI library, about a file that the specification names."""
    return HostFileMissing(path=found["path"])


@check.message(
    r"requirement error: (?:unsatisfied condition: (?P<condition>[^,\n\\]+?)(?=,? please|[\\\n]|: unknown|$)|invalid expression|(?P<other>.+))",
    needles="requirement error",
    sample="nvidia-container-cli: requirement error: unsatisfied condition: cuda>=12.4, please update your driver to a newer version",
)
def requirement_unmet(found: re.Match[str]) -> RequirementUnmet | None:
    """The toolkit compares NVIDIA_REQUIRE_* with the driver before it mounts anything."""
    return RequirementUnmet(condition=found["condition"].strip()) if found["condition"] else None


@check.message(
    r"(?:unmet|unsatisfied) requirements?.*?: (?P<condition>(?:cuda|driver|arch|brand)\s*[<>=]+\s*[\w.]+)",
    needles=("unmet requirement", "unsatisfied requirement"),
    sample="failed to create NVIDIA Container Runtime: requirements not met: unsatisfied requirement: cuda>=12.8",
)
def requirement_unmet_in_runtime(found: re.Match[str]) -> RequirementUnmet:
    """The same check in the runtime's own code, which CDI mode uses."""
    return RequirementUnmet(condition=found["condition"].strip())


@check.message(
    r"load library failed: (?P<library>lib[\w-]+\.so[\w.]*)",
    needles="load library failed",
    sample="nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1: cannot open shared object file",
)
def toolkit_library_missing(found: re.Match[str]) -> ToolkitLibraryMissing:
    """The toolkit loads the driver's libraries where the engine runs."""
    return ToolkitLibraryMissing(library=found["library"])


@check.message(
    r"ldcache error: (?:open failed: (?P<missing>/[^\s:]+)|process (?P<failed>/\S+) (?:failed|terminated))",
    needles="ldcache error",
    sample="nvidia-container-cli: ldcache error: open failed: /sbin/ldconfig.real: no such file or directory",
)
def ldcache_failed(found: re.Match[str]) -> LdcacheFailed:
    """The ldconfig that the configuration names is not there, or could not run in the container's root."""
    return LdcacheFailed(program=found["missing"] or found["failed"])


@check.message(
    rf"(?:mount error: )?file creation failed: (?:\S*?/(?:merged|rootfs|subvolumes/[0-9a-f]+|mnt/[0-9a-f]+))?(?P<path>/\S*?{DRIVER_FILE}): file exists",
    needles="file creation failed",
    sample="nvidia-container-cli: mount error: file creation failed: /var/lib/docker/overlay2/1f/merged/usr/bin/nvidia-smi: file exists",
)
def driver_file_exists(found: re.Match[str]) -> DriverFileExists:
    """The toolkit makes each mount point anew and finds one."""
    return DriverFileExists(path=found["path"])


@check.message(
    r"cgroup subsystem devices not found",
    needles="cgroup subsystem devices not found",
    sample="nvidia-container-cli: container error: cgroup subsystem devices not found: unknown.",
)
def devices_group_missing(_found: re.Match[str]) -> DevicesGroupMissing:
    """libnvidia-container before 1.8 looks for version 1 of control groups."""
    return DevicesGroupMissing()


@check.message(
    r"open failed: /sys/fs/cgroup/\S*devices\.allow: permission denied|bpf_prog_query\(BPF_CGROUP_DEVICE\) failed: operation not permitted"
    r"|failed to add device rules: .*(?:load program: permission denied|operation not permitted)"
    r"|failed to (?:get|find) (?:device )?cgroup (?:mount )?(?:path|root)\S*|(?:container|mount) error: .*cgroup\S*.*: [Pp]ermission denied",
    needles=("devices.allow", "bpf_prog_query", "add device rules", "cgroup"),
    sample="nvidia-container-cli: mount error: open failed: /sys/fs/cgroup/devices/user.slice/devices.allow: permission denied",
)
def device_rules_denied(_found: re.Match[str]) -> DeviceRulesFailed:
    """An ordinary user may not change the device rules of a control group."""
    return DeviceRulesFailed(why="permission")


@check.message(
    r"named symbol not found|\bcudaErrorSymbolNotFound\b|CUDA_ERROR_NOT_FOUND",
    needles=("named symbol not found", "cudaerrorsymbolnotfound", "cuda_error_not_found"),
    sample="RuntimeError: CUDA error: named symbol not found",
)
def named_symbol_not_found(_found: re.Match[str]) -> NamedSymbolNotFound:
    """CUDA 500."""
    return NamedSymbolNotFound()


@check.message(
    r"failed to add device rules: .*load program: invalid argument|last insn is not an exit or jmp",
    needles=("add device rules", "last insn is not"),
    sample=(
        "nvidia-container-cli: mount error: failed to add device rules: unable to generate new device filter program from"
        " existing programs: unable to create new device filters program: load program: invalid argument: last insn is not an exit or jmp"
    ),
)
def device_rules_refused(_found: re.Match[str]) -> DeviceRulesFailed:
    """The toolkit reads the group's program, adds its own in front, and the kernel does not take the result."""
    return DeviceRulesFailed(why="not-loadable")


@check.message(
    r"insufficient privileges to read device list from NVIDIA_VISIBLE_DEVICES",
    needles="insufficient privileges to read device list",
    sample="error: insufficient privileges to read device list from NVIDIA_VISIBLE_DEVICES envvar",
)
def not_privileged(_found: re.Match[str]) -> NotPrivilegedForVariable:
    """The toolkit is told to listen to the variable in privileged containers only."""
    return NotPrivilegedForVariable()


@check.message(
    r"(?:exec: |executable file )[`\\\"']+(?P<program>nvidia-smi)[`\\\"']+[: ]+(?:executable file )?not found in \$PATH",
    needles="not found in $path",
    sample='exec: "nvidia-smi": executable file not found in $PATH: unknown.',
)
def command_missing(found: re.Match[str]) -> CommandMissing:
    """runc and crun, when nothing of the driver was mounted."""
    return CommandMissing(program=found["program"])


@check.message(
    r"WARNING: The NVIDIA Driver was not detected\.|WARNING: No NVIDIA GPU detected",
    needles=("nvidia driver was not detected", "no nvidia gpu detected"),
    sample="WARNING: The NVIDIA Driver was not detected.  GPU functionality will not be available.",
)
def driver_not_detected(_found: re.Match[str]) -> DriverNotDetected:
    """The entry point of NVIDIA's images."""
    return DriverNotDetected()


@check.message(
    r"systemd(?:\[\d+\])?: Reloading(?: requested from| configuration|\.\.\.|\.|$)|\bsystemctl\s+(?:--\S+\s+)*daemon-reload\b",
    needles=("reloading", "daemon-reload"),
    sample="Mar 02 04:10:11 node7 systemd[1]: Reloading requested from client PID 4111 ('systemctl')...",
)
def reloaded(_found: re.Match[str]) -> Reloaded:
    """systemd's journal, or the command."""
    return Reloaded()


@check.message(
    r"avc:\s+denied\s+\{(?P<rights>[^}]*)\}(?P<rest>.*scontext=\S*?:(?P<source>container\w*_t|svirt_\w+_t|spc_t)\S*.*"
    r"tcontext=\S*?:(?P<target>\w+_t)\S*.*tclass=(?P<kind>\w+).*)",
    needles="avc:",
    sample=(
        'type=AVC msg=audit(1.2:3): avc:  denied  { read write } for  pid=7 comm="python" name="nvidia0"'
        " scontext=system_u:system_r:container_t:s0:c1,c2 tcontext=system_u:object_r:xserver_misc_device_t:s0 tclass=chr_file"
    ),
)
def avc_denied(found: re.Match[str]) -> AvcDenied:
    """The audit log, raw or interpreted by ausearch, when a container's domain is the source."""
    name = re.search(r"\bname=\"?([^\s\"]+)", found["rest"])
    what = f"{found['kind']} {name[1]}" if name else found["kind"]
    return AvcDenied(source_type=found["source"], target_type=found["target"], what=what)
