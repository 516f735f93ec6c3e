"""What the programs of a machine that is only files answer.

The driver's calls are real: NVML and cuInit are asked of the fake driver, in the children that ask any machine. What
only another interpreter, torch or compiler could tell is said here, in the form in which it comes.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

from msgspec import structs

from envdoctor.probing.child import Captured, ChildEnd, ChildRequest, ChildResult, run_child
from envdoctor.target import ASK_PATHS
from envdoctor_checks.driver import cuda_child, nvml_child
from envdoctor_checks.kernel import compile_script
from envdoctor_checks.nccl import probe_names
from envdoctor_checks.torch import child_script

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from envdoctor.host import Host
    from tests.support.fake_driver import FakeDriver

NO_LIBRARY = "cannot open shared object file: No such file or directory"
Stage = dict[str, Any]


class Answers:
    """The programs of one machine."""

    def __init__(self, driver: FakeDriver) -> None:
        self._driver = driver
        self.host: Host | None = None
        self.scenario: str | Path | None = None
        """What the driver's calls answer; None: its libraries are not there."""
        self.libcuda = "/usr/lib/x86_64-linux-gnu/libcuda.so.1"
        """The file that the loader takes for libcuda.so.1."""
        self.paths: Stage = {}
        self.torch: tuple[Stage, ...] = ()
        self.torch_ends: dict[str, Any] = {}
        """How the child that imports torch ends, where not well: fields of `ChildResult`."""
        self.trace: str = ""
        """What the loader and the program write to stderr during the import."""
        self.versions: dict[str, str] = {}
        """What ``PROGRAM --version`` prints."""
        self.diagnostics = ""
        """What the loader says of itself (``ld.so --list-diagnostics``)."""
        self.names: dict[str, tuple[str, ...]] = {}
        """Host names and the addresses that they resolve to, the machine's own first."""
        self.unanswered: list[str] = []
        """Children that nobody has an answer for: each would be a hole in the recording."""

    def run(self, request: ChildRequest) -> ChildResult:
        """In place of starting it."""
        program = self.host.resolve(request.argv[0]) if self.host is not None else ""
        if request.argv[1:] == ("--version",) and program in self.versions:
            said = Captured(text=self.versions[program])
            return ChildResult(end=ChildEnd.ANSWERED, argv=request.argv, exit_code=0, stdout=said)
        if request.argv[1:] == ("--list-diagnostics",) and self.diagnostics:
            said = Captured(text=self.diagnostics)
            return ChildResult(end=ChildEnd.ANSWERED, argv=request.argv, exit_code=0, stdout=said)
        words = request.argv
        script = words[words.index("-c") + 2] if "-c" in words else ""
        known: dict[str, Callable[[], ChildResult]] = {
            ASK_PATHS: lambda: _told({"stage": "paths", **self.paths}),
            nvml_child.SCRIPT: lambda: self._nvml(request),
            cuda_child.SCRIPT: lambda: self._cuda(request),
            child_script.SCRIPT: self._torch,
            compile_script.SCRIPT: lambda: _told(*self._compiled()),
            probe_names.SCRIPT: lambda: _told(*self._named(words[words.index(probe_names.SCRIPT) + 1 :])),
        }
        if script not in known:
            self.unanswered.append(ChildResult(end=ChildEnd.NOT_STARTED, argv=words).command)
            return ChildResult(end=ChildEnd.NOT_STARTED, argv=words, error="no such program on this machine")
        return structs.replace(known[script](), argv=words)

    def _nvml(self, request: ChildRequest) -> ChildResult:
        if self.scenario is None:
            init = {"stage": "init", "code": 12, "name": "NVML_ERROR_LIBRARY_NOT_FOUND"}
            return _told({"stage": "calling", "call": "nvmlInit"}, init)
        return run_child(self._with_driver(request, self.scenario))

    def _cuda(self, request: ChildRequest) -> ChildResult:
        if self.scenario is None:
            failed = {"stage": "not-loaded", "error": f"libcuda.so.1: {NO_LIBRARY}"}
            return _told({"stage": "calling", "call": "dlopen libcuda.so.1"}, failed)
        result = run_child(self._with_driver(request, self.scenario))
        stages = tuple(
            {**stage, "library": self.libcuda} if stage["stage"] == "loaded" else stage
            for stage in result.stages
        )
        return structs.replace(result, stages=stages)

    def _with_driver(self, request: ChildRequest, scenario: str | Path) -> ChildRequest:
        """The same question, put by this interpreter to the fake driver."""
        own = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
        asked = {"CUDA_VISIBLE_DEVICES"} & set(request.env or ())
        environ = self._driver.environ(scenario, own) | {name: (request.env or {})[name] for name in asked}
        return structs.replace(request, argv=(sys.executable, *request.argv[1:]), env=environ)

    def _torch(self) -> ChildResult:
        if not self.torch_ends:
            return structs.replace(_told(*self.torch), stderr=Captured(text=self.trace))
        result = ChildResult(
            end=ChildEnd.EXITED, argv=(), stages=self.torch, stderr=Captured(text=self.trace)
        )
        return structs.replace(result, **self.torch_ends)

    def _named(self, asked: tuple[str, ...]) -> list[Stage]:
        """What getaddrinfo gives for the machine's own name and for those that are asked for."""
        own = next(iter(self.names), "localhost")
        unknown = {"error": "Name or service not known"}
        return [
            {"stage": stage, "name": name, "addresses": list(self.names.get(name, ()))}
            | ({} if name in self.names else unknown)
            for stage, name in (("own", own), *(("master", each) for each in asked))
        ]

    def _compiled(self) -> list[Stage]:
        """The stages of the compile-and-load probe, by the programs and headers that the machine has."""
        host = self.host
        assert host is not None
        folders = [each for each in host.environ.get("PATH", "").split(":") if each]
        gcc, gxx = (any(host.exists(f"{folder}/{name}") for folder in folders) for name in ("gcc", "g++"))
        stages: list[Stage] = [
            {"stage": "user", "name": host.environ.get("USER", "root")},
            {"stage": "compiling"},
        ]
        stages.append(_stage("c", "gcc -shared -fPIC c.c -o c.so") if gcc else _absent("c", "gcc or clang"))
        if not gxx:
            return [*stages, _absent("cxx", "g++"), *([_stage("load", "dlopen")] if gcc else [])]
        include = self.paths["include"]
        headers = host.exists(f"{include}/Python.h")
        command = f"g++ -shared -fPIC -I{include} python.cpp -o python.so"
        missing = "python.cpp:1:10: fatal error: Python.h: No such file or directory"
        return [
            *stages,
            _stage("cxx", "g++ -shared -fPIC cxx.cpp -o cxx.so"),
            _stage("python-h", command, "" if headers else missing),
            _stage("openmp", "g++ -shared -fPIC -fopenmp openmp.cpp -o openmp.so"),
            _stage("load", "dlopen"),
        ]


def _told(*stages: Stage) -> ChildResult:
    """A child that answered all this, and came to its end."""
    timed = tuple({"at": 0.0, **stage} for stage in stages)
    plain = json.loads(json.dumps(timed))
    return ChildResult(end=ChildEnd.ANSWERED, argv=(), exit_code=0, done=True, stages=tuple(plain))


def _stage(name: str, command: str, output: str = "") -> Stage:
    return {"stage": name, "ok": not output, "command": command, "output": output}


def _absent(name: str, programs: str) -> Stage:
    return {"stage": name, "ok": False, "command": "", "output": f"{programs} is not on PATH"}
