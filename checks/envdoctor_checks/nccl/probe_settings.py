"""NCCL's settings: the environment and the conf files, in the order in which NCCL takes them."""

from __future__ import annotations

import os
from collections.abc import Iterator

from envdoctor.api import CouldNotLook, Host, Source, Tier
from envdoctor.probing.elf import Elf, read_elf
from envdoctor.probing.ldcache import Cache, parse
from envdoctor_checks.nccl.check import check
from envdoctor_checks.nccl.facts import NcclSettings, NetPlugin, Setting

MAX_SETTINGS = 1000
JUDGED = ("NCCL_SOCKET_", "NCCL_NET", "NCCL_IB_", "NCCL_P2P_", "NCCL_CUMEM_", "NCCL_MNNVL_", "NCCL_COMM_ID")
"""Beginnings of the names that are kept first where there are more than that."""
SYSTEM_FILE = "/etc/nccl.conf"


@check.probe(tier=Tier.QUICK)
def nccl_settings(host: Host) -> NcclSettings:
    """Environment variables win over the user's file, and that over /etc: NCCL overwrites nothing that is set."""
    found = [Setting(name, value) for name, value in sorted(host.environ.items()) if name.startswith("NCCL_")]
    files = []
    missing = None
    named = host.environ.get("NCCL_CONF_FILE", "")
    for path in (named or _user_file(host), SYSTEM_FILE):
        text = _text(host, path) if path else None
        if text is not None and path:
            files.append(path)
            found += parse_conf(text, path)
        elif path and path == named:
            missing = named
    if len(found) > MAX_SETTINGS:
        found.sort(key=lambda each: not each.name.startswith(JUDGED))
    return NcclSettings(
        settings=tuple(found[:MAX_SETTINGS]),
        files=tuple(files),
        missing_file=missing,
        omitted=max(0, len(found) - MAX_SETTINGS),
        source=Source("env"),
    )


def _text(host: Host, path: str) -> str | None:
    try:
        return host.text(path)
    except CouldNotLook:
        return None  # NCCL passes over a file that this user may not read, without a word


def _user_file(host: Host) -> str | None:
    """``.nccl.conf`` in the home directory of the password file: NCCL does not ask HOME."""
    for line in (_text(host, "/etc/passwd") or "").splitlines():
        fields = line.split(":")
        if len(fields) > 5 and fields[2] == str(host.uid):
            return f"{fields[5].rstrip('/')}/.nccl.conf"
    home = host.environ.get("HOME")
    return f"{home}/.nccl.conf" if home else None


def parse_conf(text: str, path: str) -> Iterator[Setting]:
    """NCCL's assignments in a conf file as it splits them: at the first ``=``, blanks and quotes kept."""
    for number, line in enumerate(text.split("\n"), 1):
        name, equals, value = line.partition("=")
        if equals and name.startswith("NCCL_"):
            yield Setting(name, value, path, number)


@check.probe(tier=Tier.QUICK)
def net_plugin(host: Host, settings: NcclSettings) -> NetPlugin | None:
    """The plugin that NCCL_NET_PLUGIN names, and whether the loader would find it and what it needs."""
    named = settings.effective("NCCL_NET_PLUGIN")
    if named is None or named.value.strip() in ("", "none"):
        return None
    loader = _Loader(host)
    name = named.value.split(",")[0].strip()
    path = next((found for each in _file_names(name) if (found := loader.find(each))), None)
    missing = tuple(loader.missing(path)) if path else ()
    return NetPlugin(name=name, path=path, missing=missing, source=Source("file", path or name))


def _file_names(name: str) -> tuple[str, ...]:
    """What NCCL tries for a name: as it is, and as the suffix of its own scheme."""
    return (name,) if "/" in name else (name, f"libnccl-net-{name}.so")


class _Loader:
    """Where the loader would look for a library of a plugin: LD_LIBRARY_PATH, its run path, the cache, the defaults."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._path = [each for each in host.environ.get("LD_LIBRARY_PATH", "").split(":") if each]
        multiarch = f"{host.machine}-linux-gnu"
        self._defaults = [
            f"/lib/{multiarch}",
            f"/usr/lib/{multiarch}",
            "/lib64",
            "/usr/lib64",
            "/lib",
            "/usr/lib",
        ]
        self._cached = _cache(host)

    def find(self, name: str, more: tuple[str, ...] = ()) -> str | None:
        """The file that it would take."""
        if "/" in name:
            return name if self._is_there(name) else None
        for folder in (*self._path, *more):
            if self._is_there(f"{folder}/{name}"):
                return f"{folder}/{name}"
        cached = self._cached.get(name)
        if cached and self._is_there(cached):
            return cached
        return next(
            (f"{folder}/{name}" for folder in self._defaults if self._is_there(f"{folder}/{name}")), None
        )

    def missing(self, path: str) -> Iterator[str]:
        """Names in its DT_NEEDED that are nowhere."""
        try:
            with self._host.opened(path) as (read_at, size):
                elf = read_elf(read_at, size)
        except OSError:
            return
        if isinstance(elf, Elf):
            run_path = (elf.rpath or elf.runpath or "").replace("$ORIGIN", os.path.dirname(path)).split(":")
            for name in elf.needed:
                if not self.find(name, tuple(filter(None, run_path))):
                    yield name

    def _is_there(self, path: str) -> bool:
        try:
            return self._host.exists(path)
        except CouldNotLook:
            return False


def _cache(host: Host) -> dict[str, str]:
    try:
        cache = parse(host.read("/etc/ld.so.cache", 16 << 20))
    except OSError:
        return {}
    entries = cache.entries if isinstance(cache, Cache) else ()
    return {entry.soname: entry.path for entry in reversed(entries)}
