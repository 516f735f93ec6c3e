"""Knowledge that rules judge by: tables beside their check, written as TOML, shipped and read as JSON.

``<check>/data/<name>.toml`` is what people edit. ``python -m envdoctor.tables [DIR]`` writes ``<name>.json``
beside every one below DIR, because a JSON table loads in a fraction of a millisecond and a TOML one in ten.
A module of tables does without ``from __future__ import annotations``: objects are read twice as fast as strings.
Every row names its source (a key of the table's `references`) and the date at which the source said so.
"""

from __future__ import annotations

import os
import re
import sys
from typing import Any, TypeVar

import msgspec

from envdoctor.errors import EnvdoctorError
from envdoctor.facts import Evidence, Fact, Source

T = TypeVar("T", bound="Table")


class TableError(EnvdoctorError):
    """A table that is missing, or that does not have the shape its type asks for: a broken installation."""


class Reference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where rows come from: a document, a package or a file of a repository."""

    title: str
    url: str = ""
    """Empty where the source is an artefact that was read, such as a wheel's metadata."""


class Row(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of every row."""

    source: str
    """Key of the table's `references`."""
    as_of: str
    """When the source said so, or was read: ``YYYY``, ``YYYY-MM`` or ``YYYY-MM-DD``."""


class Table(Fact, frozen=True, kw_only=True):
    """Base of every table. A table is a fact, so a rule asks for it by type; `source` names its file."""

    source: Source = Source("table")
    references: dict[str, Reference]

    def cite(self, row: Row, label: str, value: object) -> Evidence:
        """Evidence that rests on one row, with the row's own source."""
        reference = self.references[row.source]
        return Evidence(label, str(value), Source("table", reference.url or reference.title))


def release_key(release: str) -> tuple[int, ...]:
    """The leading dotted number of a release as integers, without trailing zeros, so that ``12.4.0 == 12.4``.

    ``580.159.03`` is newer than ``580.65.06``. What follows the number (``+cu126``) is ignored.
    Raises ValueError where there is no number.
    """
    number = re.match(r"\d+(?:\.\d+)*", release)
    if number is None:
        raise ValueError(f"no release number in {release!r}")
    parts = [int(part) for part in number.group().split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return tuple(parts)


def major_minor(release: str) -> tuple[int, int]:
    """The first two numbers of a release: ``12.8`` and ``12.8.93`` agree, ``13`` is 13.0."""
    key = (*release_key(release), 0)
    return key[0], key[1]


def compare_releases(one: str, other: str) -> int:
    """-1, 0 or 1: whether `one` is older than, equal to or newer than `other`, component by component."""
    key, against = release_key(one), release_key(other)
    return (key > against) - (key < against)


def load(package: str | None, name: str, kind: type[T]) -> T:
    """Read ``<package>/data/<name>.json`` as `kind`. Raises `TableError` that names the file and the field.

    `package` is the caller's ``__package__``.
    """
    if not package:
        raise TableError(f"table {name}: only a package has tables")
    path = os.path.join(_directory(package), "data", f"{name}.json")
    where = f"{package.rpartition('.')[2]}/{name}"
    try:
        with open(path, "rb") as file:
            table = msgspec.json.decode(file.read(), type=kind)
    except OSError as error:
        raise TableError(
            f"table {where} cannot be read ({error}); rebuild it: python -m envdoctor.tables"
        ) from error
    except msgspec.DecodeError as error:
        raise TableError(f"table {where} is not a {kind.__name__}: {error} ({path})") from error
    return msgspec.structs.replace(table, source=Source("table", where))


def _directory(package: str) -> str:
    __import__(package)
    return os.fspath(next(iter(sys.modules[package].__path__)))


def toml_files(top: str) -> list[str]:
    """Every ``data/*.toml`` below `top`, in a fixed order."""
    found = []
    for directory, subdirectories, files in os.walk(top):
        subdirectories[:] = sorted(each for each in subdirectories if not each.startswith("."))
        if os.path.basename(directory) == "data":
            found += [os.path.join(directory, file) for file in sorted(files) if file.endswith(".toml")]
    return found


def built(toml: str) -> str:
    """The JSON text of one TOML file: keys in the file's order, one line per row, so that a diff shows it."""
    import json  # a developer's command; msgspec has no control over line breaks

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    def block(value: Any) -> str:
        if isinstance(value, list) and value and isinstance(value[0], dict):
            return "[\n" + ",\n".join(line(row) for row in value) + "\n]"
        return line(value)

    content = _read_toml(toml)
    return "{\n" + ",\n".join(f"{line(key)}: {block(value)}" for key, value in content.items()) + "\n}\n"


def _read_toml(path: str) -> dict[str, Any]:
    import importlib  # a developer's command; the reader is tomli before Python 3.11

    toml = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    with open(path, "rb") as file:
        content: dict[str, Any] = toml.load(file)
    return content


def build(top: str) -> list[str]:
    """Write the JSON beside every table below `top` whose JSON differs; return the files written."""
    written = []
    for toml in toml_files(top):
        path, text = toml.removesuffix(".toml") + ".json", built(toml)
        if _text_of(path) != text:
            with open(path, "w", encoding="utf-8", newline="\n") as file:
                file.write(text)
            written.append(path)
    return written


def _text_of(path: str) -> str | None:
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as file:
        return file.read()


if __name__ == "__main__":
    for changed in build(sys.argv[1] if len(sys.argv) > 1 else os.curdir):
        print(changed)
