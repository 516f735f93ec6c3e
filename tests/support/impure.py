"""What Python does not tell an audit hook of: reading the environment, stat(2), the clock. Found by reading code."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

LOOKING_MODULES = frozenset(
    [
        "ctypes",
        "glob",
        "pathlib",
        "platform",
        "psutil",
        "random",
        "shutil",
        "socket",
        "subprocess",
        "tempfile",
        "time",
    ]
)
LOOKING_NAMES = frozenset(
    [
        "environ",
        "getenv",
        "stat",
        "lstat",
        "statvfs",
        "exists",
        "isfile",
        "isdir",
        "islink",
        "ismount",
        "access",
        "listdir",
        "scandir",
        "walk",
        "getcwd",
        "getuid",
        "geteuid",
        "getpid",
        "cpu_count",
        "uname",
        "readlink",
        "realpath",
        "abspath",
        "expanduser",
        "expandvars",
        "getsize",
        "getmtime",
        "samefile",
        "open",
        "now",
        "today",
    ]
)
"""Of `os`, `os.path` and `datetime`. Pure parts of `os.path`, such as `basename`, are not among them."""


def impure_names(function: Any) -> list[str]:
    """How a function, or one of our own that it calls by name, could look at the machine: ``rules.helper: os.environ``."""
    found: list[str] = []
    todo, seen = [getattr(function, "function", function)], set()
    while todo:
        each = todo.pop()
        if (
            not isinstance(each, FunctionType)
            or each in seen
            or not each.__module__.startswith(("envdoctor", "tests"))
        ):
            continue
        seen.add(each)
        for code in _codes(each.__code__):
            values = {name: each.__globals__.get(name) for name in code.co_names}
            found += [f"{each.__module__}.{each.__qualname__}: {how}" for how in _looking(values)]
            todo += [getattr(value, "function", value) for value in values.values()]
    return found


def _codes(code: CodeType) -> Iterator[CodeType]:
    """The code of a function and of all that is defined inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _looking(values: dict[str, object]) -> Iterator[str]:
    for name, value in values.items():
        if isinstance(value, ModuleType) and value.__name__ in LOOKING_MODULES:
            yield value.__name__
        elif (
            isinstance(value, ModuleType) and value.__name__ in ("os", "posixpath", "ntpath", "datetime")
        ) or (getattr(value, "__module__", "") == "datetime" and LOOKING_NAMES.intersection(values)):
            yield from (f"{name}.{each}" for each in LOOKING_NAMES.intersection(values))
        elif name == "open" and value is None:
            yield name
