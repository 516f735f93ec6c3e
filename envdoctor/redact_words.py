"""What redaction leaves alone: accounts and host names that every machine has, and words that are no one's
name.
"""

from __future__ import annotations

_COMMON_ACCOUNTS_TEXT = """
root nobody daemon bin sys sync games man lp mail news uucp proxy www-data backup list irc gnats sshd
messagebus systemd-network systemd-resolve systemd-timesync systemd-coredump polkitd avahi dnsmasq
chrony ntp postfix nginx apache mysql postgres redis docker git jenkins slurm munge nvidia-persistenced
nfsnobody nogroup wheel admin administrator system public default shared guest user users username you
me ubuntu debian centos fedora rocky almalinux ec2-user opc azureuser core vagrant runner jovyan vscode
coder gitpod codespace app appuser nonroot nemo
"""
COMMON_ACCOUNTS = frozenset(_COMMON_ACCOUNTS_TEXT.split())
"""Accounts of the system, of cloud and container images, and placeholders: the same everywhere, so no one's
name.
"""

_ORDINARY_WORDS_TEXT = """
usr lib lib32 lib64 libs libexec bin sbin etc opt var tmp dev proc sys run srv mnt media boot home local
share include src env envs venv cache data work workspace project projects build dist test tests train
job jobs node nodes host hosts server client master worker login cluster gpu gpus cpu cpus tpu cuda
cudnn cublas nccl nvcc nvidia nvml nvrtc driver drivers kernel module modules device devices torch
torchvision torchaudio triton python python2 python3 pip conda mamba miniconda anaconda poetry docker
podman kubernetes apptainer linux darwin windows ubuntu debian fedora rhel centos suse opensuse arch
alpine amd intel arm mellanox infiniband ethernet apt dnf yum zypper pacman apk gcc clang cmake ninja
make bash glibc musl file env call child text table char block directory link fifo socket other true
false none null yes auto all any the and not for was has had are can could would will may might must
should with from into that this when where which who why how what here there then than only also more
most some such very just over under after before between error warning note fatal failed failure success
message version release name names path paths value values type types kind size index count total free
used memory shared limit limits process processes thread threads user users group groups owner mode read
write open close start stop max min low high fast slow new old set get put let run ran out off its our
his her him she one two six ten day way per via yet tool tools code core base main live lock look check
checks rule rules fact facts model models script scripts notebook notebooks research science admin
system service services network interface address port bridge route mount container image engine runtime
library libraries package packages distribution site-packages dist-packages stubs compat targets extras
bus pci rank world local global proxy registry mirror nexus artifactory pypi router gateway switch login head
"""
ORDINARY_WORDS = frozenset(_ORDINARY_WORDS_TEXT.split())
"""Lower-case words that paths and messages are made of. An account or host so called is replaced only where
the place says that it is one: ``/home/cuda`` and ``cuda@host``, but not ``/usr/local/cuda``.
"""

_COMMON_HOSTS_TEXT = """
localhost localhost.localdomain localhost4 localhost6 ip6-localhost ip6-loopback ip6-allnodes
ip6-allrouters broadcasthost host.docker.internal gateway.docker.internal host.containers.internal
kubernetes.default.svc kubernetes kubernetes.default metadata metadata.google.internal kernel systemd
"""
COMMON_HOSTS = frozenset(_COMMON_HOSTS_TEXT.split())
"""Host names that every machine has."""

_PUBLIC_DOMAINS_TEXT = """
pypi.org pythonhosted.org python.org pytorch.org nvidia.com nvcr.io nvidia.cn github.com
githubusercontent.com github.io ghcr.io gitlab.com huggingface.co hf.co docker.com docker.io quay.io
gcr.io k8s.io conda.io anaconda.org anaconda.com ubuntu.com debian.org fedoraproject.org redhat.com
opensuse.org archlinux.org alpinelinux.org kernel.org readthedocs.io readthedocs.org astral.sh
microsoft.com aka.ms json-schema.org example.com example.org example.net stackoverflow.com
"""
PUBLIC_DOMAINS = tuple(_PUBLIC_DOMAINS_TEXT.split())
"""Where everybody downloads from and reads: a URL there names nobody."""
