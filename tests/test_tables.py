"""The tables against themselves, against each other, and their lookups on names as they are printed."""

from __future__ import annotations

import importlib
import os
import re
import subprocess
import sys
from typing import Any

import pytest

import envdoctor_checks
from envdoctor import tables as machinery
from envdoctor.tables import Row, Table, TableError, compare_releases, load, major_minor, release_key
from envdoctor_checks.container import tables as container
from envdoctor_checks.driver import tables as driver
from envdoctor_checks.gpu import tables as gpu
from envdoctor_checks.kernel import tables as kernel
from envdoctor_checks.libraries import tables as libraries
from envdoctor_checks.nccl import tables as nccl
from envdoctor_checks.torch import tables as torch

CHECKS = os.path.dirname(envdoctor_checks.__file__)
TOML = machinery.toml_files(CHECKS)
LOADERS = [
    driver.cuda_floors,
    driver.forward_compatibility,
    driver.architectures,
    driver.known_bad_releases,
    driver.codes,
    gpu.compute_capabilities,
    gpu.pci_ids,
    gpu.xids,
    gpu.sxids,
    torch.torch_releases,
    torch.arch_lists,
    torch.companions,
    torch.wheel_pins,
    torch.extensions,
    torch.broken_releases,
    torch.package_indexes,
    torch.alloc_conf,
    libraries.wheel_libraries,
    libraries.runtimes,
    libraries.cudnn_users,
    kernel.toolchains,
    kernel.triton,
    kernel.expected_rates,
    container.container_toolkit,
    nccl.nccl_variables,
    nccl.nccl_requirements,
]
TABLES: list[Table] = [each() for each in LOADERS]


def rows_of(table: Table) -> dict[str, tuple[Row, ...]]:
    found = {name: getattr(table, name) for name in table.__struct_fields__}
    return {
        name: rows
        for name, rows in found.items()
        if isinstance(rows, tuple) and rows and isinstance(rows[0], Row)
    }


ALL_ROWS = [
    pytest.param(table, rows, id=f"{table.source.where}:{name}")
    for table in TABLES
    for name, rows in rows_of(table).items()
]


@pytest.mark.parametrize("toml", TOML, ids=lambda path: os.path.relpath(path, CHECKS))
def test_json_is_what_the_toml_builds(toml: str) -> None:
    with open(toml.removesuffix("toml") + "json", encoding="utf-8") as file:
        assert file.read() == machinery.built(toml), "run: python -m envdoctor.tables checks"


def test_every_table_file_has_a_loader() -> None:
    assert {table.source.where for table in TABLES} == {
        f"{path.split(os.sep)[-3]}/{os.path.basename(path)[:-5]}" for path in TOML
    }


def test_no_two_tables_share_a_type_or_a_name() -> None:
    assert len({type(table) for table in TABLES}) == len(TABLES)
    assert len({table.fact_name for table in TABLES}) == len(TABLES)


@pytest.mark.parametrize(("table", "rows"), ALL_ROWS)
def test_every_row_has_a_source_and_a_date(table: Table, rows: tuple[Row, ...]) -> None:
    for row in rows:
        assert row.source in table.references, row
        assert re.fullmatch(r"20\d\d(-(0[1-9]|1[0-2])(-[0-3]\d)?)?", row.as_of), row


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.source.where)
def test_no_reference_is_left_over(table: Table) -> None:
    assert set(table.references) == {row.source for rows in rows_of(table).values() for row in rows}
    for reference in table.references.values():
        assert reference.title
        assert not reference.url or reference.url.startswith("https://")


KEYS: dict[str, tuple[str, ...]] = {
    "driver/cuda_floors:toolkits": ("cuda", "update"),
    "torch/releases:builds": ("torch", "cuda"),
    "torch/releases:numpy": ("platform",),
    "torch/arch_lists:arch_lists": ("torch", "cuda", "platform", "package"),
    "torch/companions:companions": ("package", "version"),
    "torch/wheel_pins:toolkits": ("toolkit", "extra"),
    "libraries/wheels:libraries": ("soname", "distribution"),
    "kernel/triton:assemblers": ("triton", "file"),
    "kernel/expected_rates:rates": ("gpu", "metric", "kind"),
}


@pytest.mark.parametrize(("table", "rows"), ALL_ROWS)
def test_no_key_occurs_twice(table: Table, rows: tuple[Row, ...], request: pytest.FixtureRequest) -> None:
    fields = rows[0].__struct_fields__
    first = next(field for field in fields if field not in ("source", "as_of"))
    key = KEYS.get(request.node.callspec.id, (first,))
    seen = [tuple(getattr(row, field) for field in key) for row in rows]
    assert len(seen) == len(set(seen)), [each for each in seen if seen.count(each) > 1]


@pytest.mark.parametrize(("table", "rows"), ALL_ROWS)
def test_texts_are_plain(table: Table, rows: tuple[Row, ...]) -> None:
    for row in rows:
        for field in row.__struct_fields__:
            value = getattr(row, field)
            if isinstance(value, str):
                assert value == value.strip() != "", row
                assert value.isprintable(), row


# --- loading


class Small(Table, frozen=True, kw_only=True):
    numbers: tuple[int, ...]


@pytest.fixture
def package(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An importable package of its own with a data folder."""
    (tmp_path / "tables_of_a_stranger" / "data").mkdir(parents=True)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "tables_of_a_stranger", raising=False)
    importlib.invalidate_caches()
    return tmp_path / "tables_of_a_stranger"


def test_a_stranger_may_have_tables_too(package: Any) -> None:
    (package / "data" / "small.toml").write_text("numbers = [1, 2]\n[references]\n")
    subprocess.run(
        [sys.executable, "-m", "envdoctor.tables", str(package)],
        check=True,
        cwd=os.path.dirname(CHECKS) + "/..",
    )
    table = load("tables_of_a_stranger", "small", Small)
    assert table.numbers == (1, 2)
    assert table.source.where == "tables_of_a_stranger/small"
    assert machinery.build(str(package)) == []


def test_a_missing_table_says_how_to_build_it(package: Any) -> None:
    with pytest.raises(TableError, match=r"tables_of_a_stranger/small.*envdoctor\.tables"):
        load("tables_of_a_stranger", "small", Small)


@pytest.mark.parametrize(
    "content", ['{"numbers": ["1"], "references": {}}', '{"numbers": [], "references": {}, "more": 1}', "{"]
)
def test_a_table_of_another_shape_is_refused_by_name(package: Any, content: str) -> None:
    (package / "data" / "small.json").write_text(content)
    with pytest.raises(TableError, match="small is not a Small"):
        load("tables_of_a_stranger", "small", Small)


def test_loading_a_table_needs_no_toml_reader_and_no_json_module() -> None:
    code = (
        "import sys; from envdoctor_checks.driver.tables import cuda_floors; cuda_floors();"
        "print([m for m in ('tomllib', 'tomli', 'json', 'importlib.metadata', 'dataclasses') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_env())
    assert out.stdout.strip() == "[]"


def _env() -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join((os.path.dirname(CHECKS), os.path.dirname(os.path.dirname(CHECKS)))),
    }


# --- releases


@pytest.mark.parametrize(
    ("older", "newer"),
    [
        ("580.65.06", "580.159.03"),
        ("525.60.13", "525.105.17"),
        ("9.9", "10.0"),
        ("12.4", "12.4.1"),
        ("2.9.1", "2.10.0"),
    ],
)
def test_releases_are_compared_as_integers(older: str, newer: str) -> None:
    assert compare_releases(older, newer) == -1
    assert compare_releases(newer, older) == 1


def test_equal_releases_are_written_in_several_ways() -> None:
    assert compare_releases("12.0", "12") == compare_releases("12.4.0", "12.4") == 0
    assert release_key("2.9.1+cu128") == (2, 9, 1)
    assert major_minor("13.0.2") == major_minor("13") == (13, 0)
    with pytest.raises(ValueError, match="no release number"):
        release_key("unknown")
