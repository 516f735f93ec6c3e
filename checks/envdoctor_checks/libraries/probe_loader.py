"""The loader's own account of itself, what torch's start-up code opens, and the model's answers over the real files."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterator

from envdoctor.api import Asked, CouldNotLook, Host, Platform, Source, Target, TargetPaths, Tier, Unavailable
from envdoctor.loader import diagnostics
from envdoctor.loader.recorded import record_of
from envdoctor.loader.tree import LiveTree
from envdoctor.probing.child import ChildEnd, ChildRequest, python_request
from envdoctor.probing.elf import Elf, read_elf
from envdoctor.target import failure
from envdoctor_checks.libraries.check import check
from envdoctor_checks.libraries.facts import LibraryCopies
from envdoctor_checks.libraries.facts_loader import (
    LibraryOpened,
    LoaderPredictions,
    LoaderSetup,
    LoaderTree,
    Preload,
    TorchLoading,
)
from envdoctor_checks.libraries.names import is_watched
from envdoctor_checks.torch.facts import CompiledExtensions, TorchBuild

PAIR = r'"(\w+)"(?:,|:) *"(lib[^"]+\.so\.[^"]+)"'
CALL = r'_preload_cuda_(?:deps|lib)\("(\w+)", "(lib[^"]+)"'
IN_MAPS = r'if "([^"]*libcudart\.so[^"]*)" not in _maps'
SONAME = r"lib[\w+-]+\.so\.\d+"
DEADLINE = 4.0
OPEN = """
import ctypes, sys
name = sys.argv[1]

class LinkMap(ctypes.Structure):
    _fields_ = [("address", ctypes.c_void_p), ("name", ctypes.c_char_p)]

try:
    library = ctypes.CDLL(name)
except OSError as error:
    answer("opened", path=None, failure=str(error))
else:
    found = ctypes.POINTER(LinkMap)()
    dlinfo = ctypes.CDLL(None).dlinfo
    dlinfo.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p]
    told = dlinfo(library._handle, 2, ctypes.byref(found)) == 0
    path = found.contents.name.decode("utf-8", "backslashreplace") if told else name
    answer("opened", path=path, failure=None)
done()
"""
"""Opens a library and asks the loader for the path in its link map (dlinfo's RTLD_DI_LINKMAP)."""


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 4)
def loader_setup(host: Host, target: Target, platform: Platform, paths: TargetPaths) -> LoaderSetup:
    """Ask the interpreter's own loader for its directories and hardware names; it starts nothing to answer."""
    program = host.resolve(target.python)
    with host.opened(program) as (read_at, size):
        elf = read_elf(read_at, size)
    if not isinstance(elf, Elf) or elf.interpreter is None:
        raise CouldNotLook(f"{program} is not a dynamic executable: which loader it has cannot be told")
    request = ChildRequest(argv=(elf.interpreter, "--list-diagnostics"), deadline=DEADLINE, env=host.environ)
    result = host.run_child(request)
    told = diagnostics.parse(result.stdout.text) if result.end is ChildEnd.ANSWERED else None
    if told is None:
        why = "it is musl's" if "musl" in elf.interpreter else "glibc tells it from 2.33 on"
        raise CouldNotLook(
            f"{elf.interpreter} --list-diagnostics {failure(result) if not result.ok else why}"
        )
    status = host.status(program)
    secure = status is not None and bool(status.mode & 0o6000) and host.uid != 0
    settings = told.settings(
        machine=platform.machine,
        program=program,
        cwd=host.cwd,
        library_path=host.environ.get("LD_LIBRARY_PATH"),
        preload=host.environ.get("LD_PRELOAD"),
        secure=secure,
    )
    source = Source("child", f"{elf.interpreter} --list-diagnostics")
    return LoaderSetup(loader=elf.interpreter, ctypes=_ctypes(host, paths), settings=settings, source=source)


@check.probe(tier=Tier.DEFAULT)
def torch_loading(host: Host, build: TorchBuild, paths: TargetPaths) -> TorchLoading | None:
    """Read which libraries the installed torch opens by itself; nothing where no torch is installed."""
    if build.path is None:
        return None
    init = f"{build.path}/__init__.py"
    text = host.text(init, 1 << 20) or ""
    table = tuple(_preload(host, paths, build, *pair) for pair in dict.fromkeys(re.findall(PAIR, text)))
    calls = tuple(dict.fromkeys(re.findall(CALL, text)))
    named = tuple(_preload(host, paths, build, *pair) for pair in calls if "nvtx" not in pair)
    in_maps = re.search(IN_MAPS, text)
    return TorchLoading(
        dependencies=f"{build.path}/lib/libtorch_global_deps.so",
        needs_in_maps=in_maps[1] if in_maps else "libcudart.so",
        after_success=(named or table) if in_maps else (),
        after_failure=table,
        extension=f"{build.path}/_C.{paths.soabi}.so",
        source=Source("file", init),
    )


def _preload(host: Host, paths: TargetPaths, build: TorchBuild, folder: str, pattern: str) -> Preload:
    """The first file on sys.path that fits, as torch's own glob finds it."""
    major = (build.torch_cuda or "").partition(".")[0]
    for entry in paths.sys_path:
        for place in (f"nvidia/{folder}/lib", f"nvidia/cu{major}/lib", f"{folder}/lib"):
            for name in host.names(f"{entry}/{place}") or ():
                if fnmatch.fnmatchcase(name, pattern):
                    return Preload(pattern, f"{entry}/{place}/{name}")
    return Preload(pattern, None)


@check.probe(tier=Tier.DEFAULT, deadline=10.0)
def loader_predictions(
    host: Host,
    setup: LoaderSetup,
    loading: TorchLoading | Unavailable | None,
    copies: LibraryCopies | Unavailable | None,
    extensions: CompiledExtensions | Unavailable | None,
    asked: Asked | None,
) -> Iterator[LoaderPredictions | LoaderTree]:
    """Let the model of the loader answer over the files of this machine, and keep every file that it looked at."""
    from envdoctor_checks.libraries import predicting  # most runs, the quick ones, leave the model alone

    tree = LiveTree(host)
    files = (
        [each.file for each in extensions.extensions] if isinstance(extensions, CompiledExtensions) else []
    )
    names = _names(copies) if isinstance(copies, LibraryCopies) else []
    torch = loading if isinstance(loading, TorchLoading) else None
    if torch is not None:
        yield LoaderPredictions(
            scenarios=tuple(predicting.scenarios(tree, setup, torch, files)),
            by_name=tuple(predicting.by_name(tree, setup, names)),
            source=Source("call", "model of the loader"),
        )
    if asked is not None and asked.library:
        predicting.ask(tree, setup, torch, asked.library)
    elif torch is None:
        predicting.started(tree, setup)
    yield LoaderTree(record=record_of(tree), source=Source("file", "/"))


@check.probe(tier=Tier.DEFAULT, deadline=DEADLINE + 10)
def library_opened(host: Host, target: Target, asked: Asked | None) -> LibraryOpened | None:
    """Open the library that was asked about, for real, in a process of its own."""
    if asked is None or not asked.library:
        return None
    request = python_request(
        target.python,
        OPEN,
        args=(asked.library,),
        deadline=DEADLINE + 6,
        env=host.environ,
        temporary_directory=True,
    )
    result = host.run_child(request)
    told = next((stage for stage in result.stages if stage["stage"] == "opened"), None)
    source = Source("child", f"ctypes.CDLL({asked.library!r})")
    if told is None:
        return LibraryOpened(
            name=asked.library, path=None, failure=f"the process {failure(result)}", source=source
        )
    return LibraryOpened(name=asked.library, path=told["path"], failure=told["failure"], source=source)


def _ctypes(host: Host, paths: TargetPaths) -> str | None:
    """The extension whose code calls dlopen for ctypes; None where it is built into the interpreter."""
    for entry in paths.sys_path:
        for name in host.names(entry) or () if entry.endswith("lib-dynload") else ():
            if name.startswith("_ctypes.") and name.endswith(".so"):
                return f"{entry}/{name}"
    return None


def _names(copies: LibraryCopies) -> list[str]:
    """The SONAMEs, as far as names tell them, of which there is a copy."""
    return sorted(
        {each.name for each in copies.copies if re.fullmatch(SONAME, each.name) and is_watched(each.name)}
    )
