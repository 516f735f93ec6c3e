"""What is read out of pasted blocks: commands of engines, of the toolkit, of the shell; and what is not."""

from __future__ import annotations

from typing import Any

import pytest

from envdoctor.facts import Fact
from envdoctor.testing import read, samples
from envdoctor_checks.container import facts, facts_host, symptoms
from envdoctor_checks.container.facts import IdRange, ListedPath
from envdoctor_checks.container.plugin import check


def only(kind: type[Fact], text: str) -> Any:
    """The fact of one type in a text, None where there is none."""
    return read(check, text).get(kind)


def test_every_message_has_a_sample_that_fits() -> None:
    samples(check)


SILENT = """
$ pip install torch
Collecting torch
  Downloading torch-2.8.0-cp312-cp312-manylinux_2_28_x86_64.whl (888.1 MB)
Successfully installed torch-2.8.0
$ docker ps
CONTAINER ID   IMAGE     COMMAND   CREATED   STATUS    PORTS     NAMES
$ ls -l
-rw-r--r-- 1 me me 12 Jan  5 10:00 train.py
$ python train.py
epoch 1: loss 1.37
"""


def test_a_text_without_containers_gives_no_symptom() -> None:
    assert read(check, SILENT).all_symptoms() == ()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("docker run --rm -it --gpus all -v $PWD:/w -u 1000:1000 acme/x:1 bash", ("docker", "acme/x:1", True, "1000:1000", (("$PWD", "/w"),))),
        ("sudo docker run -d --runtime=nvidia --name a -p 80:80 acme/x", ("docker", "acme/x", True, None, ())),
        ("docker run --rm -v data:/data acme/x python -m app --gpus 4", ("docker", "acme/x", False, None, ())),
        ("docker run --mount type=bind,src=/a,dst=/b acme/x", ("docker", "acme/x", False, None, (("/a", "/b"),))),
        ("podman run --device nvidia.com/gpu=all --userns=keep-id acme/x", ("podman", "acme/x", True, None, ())),
        ("apptainer exec --nv --bind /scratch x.sif python a.py", ("apptainer", "x.sif", True, None, (("/scratch", "/scratch"),))),
        ("apptainer exec x.sif nvidia-smi", ("apptainer", "x.sif", False, None, ())),
        ("docker run -e NVIDIA_VISIBLE_DEVICES=0 acme/x", ("docker", "acme/x", True, None, ())),
    ],
)  # fmt: skip
def test_launches(typed: str, expected: tuple[Any, ...]) -> None:
    (launch,) = read(check, f"$ {typed}\nok\n").symptoms(symptoms.Launched)
    assert (launch.engine, launch.image, launch.gpus, launch.user, launch.binds) == expected
    assert launch.root == typed.startswith("sudo")
    assert launch.keep_id == ("keep-id" in typed)


def test_exec_starts_nothing() -> None:
    found = read(check, "$ docker exec -it web nvidia-smi\nFailed to initialize NVML: Unknown Error\n")
    assert found.symptoms(symptoms.Launched) == ()
    assert found.symptoms(symptoms.Entered)


COMPOSE = """
$ cat compose.yaml
services:
  train:
    image: acme/train:2
    user: "1000:1000"
    volumes:
      - ./out:/out
      - cache:/cache
    deploy:
      resources:
        reservations:
          devices:
            - driver: nvidia
              capabilities: [gpu]
  web:
    image: nginx
volumes:
  cache:
"""


def test_a_compose_file() -> None:
    found = read(check, COMPOSE)
    train, web = found.symptoms(symptoms.Launched)
    assert (train.image, train.gpus, train.user, train.binds) == (
        "acme/train:2",
        True,
        "1000:1000",
        (("./out", "/out"),),
    )
    assert (web.image, web.gpus, web.binds) == ("nginx", False, ())
    (request,) = found.symptoms(symptoms.DeviceRequested)
    assert request.capabilities == ("gpu",)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("$ docker info\nServer:\n Server Version: 27.1.1\n Cgroup Driver: systemd\n Cgroup Version: 2\n Runtimes: nvidia runc\n Docker Root Dir: /var/lib/docker\n Operating System: Ubuntu 24.04 LTS\n",
         {"server version": "27.1.1", "cgroup version": "2", "docker root dir": "/var/lib/docker"}),
        ("$ docker version --format '{{.Client.Version}} {{.Server.Version}}'\n28.0.1 27.1.1\n", {"server version": "27.1.1"}),
        ("$ podman info\nhost:\n  cgroupVersion: v2\n  security:\n    rootless: true\n", {"rootless": "true", "cgroup version": "v2", "engine": "podman"}),
        ("$ docker context ls\nNAME  DESCRIPTION\ndefault  x  unix:///var/run/docker.sock\ndesktop-linux *  Docker Desktop  unix:///x\n", {"context": "desktop-linux"}),
        ("$ which docker\n/snap/bin/docker\n", {"program": "/snap/bin/docker"}),
    ],
)  # fmt: skip
def test_engines(text: str, values: dict[str, str]) -> None:
    info = only(facts_host.EngineInfo, text)
    assert values.items() <= info.values.items()


def test_what_the_engine_is() -> None:
    snap = only(
        facts_host.EngineInfo,
        "$ docker info | grep Root\n Docker Root Dir: /var/snap/docker/common/var-lib-docker\n",
    )
    assert snap.snap
    assert not snap.desktop
    rootless = only(
        facts_host.EngineInfo,
        "$ docker info\n Security Options:\n  seccomp\n  rootless\n Kernel Version: 6.8.0\n",
    )
    assert rootless.rootless
    assert not rootless.snap


def test_the_toolkits_file_whole_and_in_part() -> None:
    whole = only(
        facts_host.ToolkitConfig,
        '$ cat /etc/nvidia-container-runtime/config.toml\n#accept = true\n[nvidia-container-cli]\nldconfig = "@/sbin/ldconfig"\n#no-cgroups = false\n',
    )
    assert whole.complete
    assert whole.settings == {"ldconfig": "@/sbin/ldconfig", "no-cgroups": "false"}
    part = only(
        facts_host.ToolkitConfig,
        "$ grep no-cgroups /etc/nvidia-container-runtime/config.toml\nno-cgroups = true\n",
    )
    assert not part.complete
    assert part.no_cgroups


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("$ nvidia-ctk --version\nNVIDIA Container Toolkit CLI version 1.17.5\ncommit: abc\n", "1.17.5"),
        ("$ nvidia-container-cli -V\ncli-version: 1.11.0\nlib-version: 1.11.0\n", "1.11.0"),
        ("$ nvidia-container-cli -V | head -1\nversion: 1.2.0\n", "1.2.0"),
        ("$ nvidia-container-runtime --version\nNVIDIA Container Runtime version 1.14.3\n", "1.14.3"),
    ],
)
def test_releases_of_the_toolkit(text: str, release: str) -> None:
    assert only(facts_host.ToolkitRelease, text).release == release


def test_configurations_of_engines() -> None:
    docker = only(
        facts_host.DockerConfig,
        '$ cat /etc/docker/daemon.json\n{"runtimes": {"nvidia": {"path": "x"}}, "exec-opts": ["native.cgroupdriver=cgroupfs"]}\n',
    )
    assert (docker.valid, docker.runtimes, docker.cgroup_driver) == (True, ("nvidia",), "cgroupfs")
    broken = only(facts_host.DockerConfig, "$ cat /etc/docker/daemon.json\n{\n  'runtimes': {}\n}\n")
    assert not broken.valid
    containerd = only(
        facts_host.ContainerdConfig,
        '$ containerd config dump | grep -E "default_runtime_name|runtimes"\n  default_runtime_name = "runc"\n  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]\n',
    )
    assert (containerd.default_runtime, containerd.runtimes) == ("runc", ("nvidia",))
    assert only(facts_host.ContainerdConfig, "$ cat /etc/containerd/config.toml\nversion = 2\n") is None


def test_cdi_list() -> None:
    specs = only(
        facts_host.CdiSpecs,
        "$ nvidia-ctk cdi list\nINFO[0000] Found 2 CDI devices\nnvidia.com/gpu=0\nnvidia.com/gpu=all\n",
    )
    assert specs.specs[0].devices == ("0", "all")
    assert only(facts_host.CdiSpecs, "$ nvidia-ctk cdi list\nINFO[0000] Found 0 CDI devices\n").specs == ()


def test_users() -> None:
    maps = "$ docker exec x cat /proc/self/uid_map /proc/self/gid_map\n 0 1000 1\n 1 100000 65536\n 0 1001 1\n 1 200000 65536\n"
    assert only(facts.UidMap, maps).ranges == (IdRange(0, 1000, 1), IdRange(1, 100000, 65536))
    assert only(facts.GidMap, maps).outside(2) == 200001
    inside = only(facts.Identity, "$ docker exec x id\nuid=999(app) gid=999(app) groups=999(app),44(video)\n")
    assert (inside.uid, inside.groups) == (999, (999, 44))
    assert only(facts.Identity, "me@box:~$ id\nuid=1000(me) gid=1000(me) groups=1000(me)\n") is None
    entry = only(
        facts.PasswdEntry, "$ docker run --rm acme/x getent passwd app\napp:x:999:999::/opt/app:/bin/false\n"
    )
    assert (entry.uid, entry.home) == (999, "/opt/app")


def test_listings() -> None:
    listed = only(
        facts.ListedPaths,
        "$ ls -ln /srv/out\ntotal 4\ndrwxr-xr-x 2 3001 3001 4096 Jan  5 10:00 run1\n-rw-r--r-- 1 0 0 9 2025-01-05 10:00 log.txt\n",
    )
    assert listed.paths == (
        ListedPath("/srv/out/run1", "drwxr-xr-x", "3001", "3001"),
        ListedPath("/srv/out/log.txt", "-rw-r--r--", "0", "0"),
    )
    one = only(facts.ListedPaths, "$ ls -ld /srv/out\ndrwx------ 2 root root 4096 Jan  5 10:00 /srv/out\n")
    assert one.paths[0].path == "/srv/out"


def test_mounts() -> None:
    text = "$ findmnt -T /tmp/x\nTARGET SOURCE               FSTYPE OPTIONS\n/tmp   /dev/mapper/vg0-tmp  ext4   rw,nosuid,noexec,relatime\n"
    (mount,) = only(facts.Mounts, text).mounts
    assert (mount.target, mount.device, mount.noexec, mount.owner) == (
        "/tmp",
        "/dev/mapper/vg0-tmp",
        True,
        None,
    )
    text = "$ mount | grep work\n/dev/sda1 on /work type xfs (ro,relatime)\nproc on /proc type proc (rw)\n"
    (mount,) = only(facts.Mounts, text).mounts
    assert (mount.target, mount.read_only) == ("/work", True)


def test_files_of_control_groups() -> None:
    text = "$ docker exec x sh -c 'uname -r; cat /sys/fs/cgroup/memory.max; ulimit -u; cat /sys/fs/cgroup/pids.max /sys/fs/cgroup/pids.current'\n6.8.0\n8589934592\nunlimited\nmax\n17\n"
    assert only(facts.MemoryLimit, text).limit == 8 << 30
    assert only(facts.PidsLimit, text).limit is None
    assert only(facts.PidsUsage, text).current == 17
    quota = "$ cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu/cpu.cfs_period_us\n150000\n100000\n"
    assert only(facts.CpuQuota, quota).cores == 1.5
    assert only(facts.CpuQuota, "$ cat /sys/fs/cgroup/cpu.max\nmax 100000\n").cores is None
    stat = "$ cat /sys/fs/cgroup/cpu.stat\nusage_usec 1\nnr_periods 10\nnr_throttled 3\nthrottled_usec 9\n"
    assert only(facts.CpuThrottling, stat).throttled == 3
    assert only(facts.OomKills, "$ cat /sys/fs/cgroup/memory.events\nlow 0\noom_kill 4\n").kills == 4
    assert (
        only(
            facts.MemoryLimit,
            "$ cat /sys/fs/cgroup/memory.max\ncat: /sys/fs/cgroup/memory.max: No such file or directory\n",
        )
        is None
    )
    rules = only(facts.DeviceRules, "$ cat /sys/fs/cgroup/devices/devices.list\nc 1:3 rwm\nc 136:* rwm\n")
    assert not rules.allows(195)


def test_settings() -> None:
    text = "$ sysctl kernel.apparmor_restrict_unprivileged_userns net.core.bpf_jit_harden\nkernel.apparmor_restrict_unprivileged_userns = 1\nnet.core.bpf_jit_harden = 2\n"
    assert only(facts_host.KernelSettings, text).values == {
        "kernel.apparmor_restrict_unprivileged_userns": "1"
    }
    assert only(facts_host.BpfJitHarden, text).value == 2
    text = "$ cat /proc/sys/kernel/apparmor_restrict_unprivileged_userns /proc/sys/user/max_user_namespaces\n1\n255672\n"
    assert only(facts_host.KernelSettings, text).values["user.max_user_namespaces"] == "255672"
    assert only(facts_host.SelinuxMode, "$ getenforce\nPermissive\n").mode == "permissive"
    assert (
        only(facts_host.SelinuxMode, "$ sestatus\nSELinux status: enabled\nCurrent mode:   enforcing\n").mode
        == "enforcing"
    )


@pytest.mark.parametrize(
    "text",
    [
        "$ docker inspect x -f '{{.Config.Env}}'\n[PATH=/usr/bin NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility]\n",
        '            "Env": [\n                "NVIDIA_VISIBLE_DEVICES=all",\n',
        "ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=utility\n",
        "      NVIDIA_VISIBLE_DEVICES: all\n",
        "      - NVIDIA_VISIBLE_DEVICES=all\n",
        "    - name: NVIDIA_VISIBLE_DEVICES\n      value: all\n",
        "$ docker run -e NVIDIA_VISIBLE_DEVICES=all acme/x\nok\n",
        "$ kubectl exec p -- printenv NVIDIA_VISIBLE_DEVICES\nall\n",
    ],
)
def test_variables_of_images(text: str) -> None:
    assert only(facts.ImageVariables, text).values["NVIDIA_VISIBLE_DEVICES"] == "all"


@pytest.mark.parametrize(
    ("line", "path", "why"),
    [
        ("PermissionError: [Errno 13] Permission denied: '/out/a b'", "/out/a b", "permission"),
        ("OSError: [Errno 30] Read-only file system: '/root/.triton'", "/root/.triton", "read-only"),
        ("mkdir: cannot create directory \u2018/out/x\u2019: Permission denied", "/out/x", "permission"),
        ("sh: 1: cannot create /out/x: Permission denied", "/out/x", "permission"),
        ("rm: cannot remove '/out/x': Permission denied", "/out/x", "permission"),
    ],
)  # fmt: skip
def test_refused_writes(line: str, path: str, why: str) -> None:
    (said,) = read(check, line).symptoms(symptoms.WriteRefused)
    assert (said.path, said.why) == (path, why)


def test_devices_are_no_files_to_write() -> None:
    assert read(check, "PermissionError: [Errno 13] Permission denied: '/dev/nvidiactl'").all_symptoms() == ()


def test_node_gpus() -> None:
    assert (
        only(facts_host.NodeGpus, "Allocatable:\n  cpu:  64\n  nvidia.com/gpu:  8\n  pods:  110\n").gpus == 8
    )
    assert only(facts_host.NodeGpus, "Allocatable:\n  cpu:  64\n  memory: 1Ki\n  pods:  110\n").gpus == 0
    assert only(facts_host.NodeGpus, "Allocatable:\n  cpu:  64\n") is None
