"""What is installed, read from names; and lists of packages out of pasted text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from envdoctor.facts import CouldNotLook, Facts
from envdoctor.reading import read_text
from envdoctor_checks.python.facts import (
    CondaPackages,
    Distributions,
    LeftoverWarned,
    ModuleNotFound,
    RequirementConflict,
    normalised,
)
from envdoctor_checks.python.plugin import check
from envdoctor_checks.python.probe import channel_name, distributions
from tests.support.torch_env import Environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def looked(env: Environment, **variables: str) -> Facts:
    host, _, paths = env.target(**variables)
    return Facts.of(*distributions(host, paths))


def packages(facts: Facts) -> Distributions:
    found = facts.get(Distributions)
    assert isinstance(found, Distributions)
    return found


def read(text: str) -> Facts:
    return read_text(text, "-", [check]).facts


def test_an_empty_environment_has_none(env: Environment) -> None:
    found = packages(looked(env))
    assert found.complete
    assert found.version("torch") is None


def test_names_are_normalised(env: Environment) -> None:
    env.metadata("NVIDIA_cuda.Runtime-cu12", "12.8.90")
    assert packages(looked(env)).version("nvidia-cuda-runtime-cu12") == "12.8.90"


def test_first_of_the_path_is_the_one_that_counts(env: Environment, tmp_path: Path) -> None:
    env.metadata("torch", "2.8.0")
    first = tmp_path / "first"
    (first / "torch-2.7.1.dist-info").mkdir(parents=True)
    found = packages(looked(env, PYTHONPATH=str(first)))
    assert [each.version for each in found.named("torch")] == ["2.7.1", "2.8.0"]
    assert found.version("torch") == "2.7.1"


def test_egg_info_files_and_folders(env: Environment) -> None:
    (env.site / "old_thing-1.5-py3.11.egg-info").write_text("Metadata-Version: 1.0\n")
    developed = env.site / "in_place.egg-info"
    developed.mkdir()
    (developed / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: in-place\nVersion: 0.3\n")
    found = packages(looked(env))
    assert found.version("old-thing") == "1.5"
    assert found.version("in-place") == "0.3"


def test_leftovers_are_no_installation(env: Environment) -> None:
    (env.site / "~orch-2.0.0.dist-info").mkdir()
    (env.site / "~orch").mkdir()
    facts = looked(env)
    assert packages(facts).version("torch") is None
    assert not packages(facts).named("-orch")
    assert len(next(each for each in facts if each.fact_name == "python.leftovers").paths) == 2  # type: ignore[attr-defined] # a Leftovers


def test_conda_records(env: Environment) -> None:
    records = env.folder / "conda-meta"
    records.mkdir()
    (records / "pytorch-2.5.1-py3.11_cuda12.4_cudnn9.1.0_0.json").write_text(
        '{"build": "x", "channel": "https://conda.anaconda.org/pytorch/linux-64", "depends": []}'
    )
    (records / "numpy-1.26.4-py311h24aa872_0.json").write_text(
        '{"channel": "https://repo.anaconda.com/pkgs/main/linux-64"}'
    )
    (records / "history").write_text("")
    env.metadata("numpy", "1.26.4")
    facts = looked(env)
    conda = facts.get(CondaPackages)
    assert isinstance(conda, CondaPackages)
    assert {each.name: each.channel for each in conda.packages} == {
        "pytorch": "pytorch",
        "numpy": "pkgs/main",
    }
    assert len(packages(facts).named("numpy")) == 1
    assert packages(facts).version("pytorch") == "2.5.1"


@pytest.mark.skipif(os.getuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_said(env: Environment) -> None:
    host, _, paths = env.target()
    env.site.chmod(0)
    try:
        with pytest.raises(CouldNotLook):
            distributions(host, paths)
    finally:
        env.site.chmod(0o755)


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://conda.anaconda.org/conda-forge/linux-64", "conda-forge"),
        ("https://repo.anaconda.com/pkgs/main/noarch", "pkgs/main"),
        ("pytorch", "pytorch"),
        ("pypi", "pypi"),
    ],
)
def test_channel_names(url: str, name: str) -> None:
    assert channel_name(url) == name


def test_normalised() -> None:
    assert normalised("Flash_Attn") == "flash-attn"
    assert normalised("zope.interface") == "zope-interface"


def test_prose_is_no_list() -> None:
    facts = read("I installed torch 2.8 and it works.\nnumpy is fine too.\n")
    assert facts.get(Distributions) is None


def test_pip_list_with_its_header_is_complete() -> None:
    found = packages(
        read("$ pip list\nPackage    Version\n---------- -------\nnumpy      2.1.0\ntorch      2.8.0+cu128\n")
    )
    assert found.complete
    assert found.version("torch") == "2.8.0+cu128"


def test_a_filtered_list_is_not_complete() -> None:
    found = packages(read("$ pip list | grep torch\ntorch          2.8.0\ntorchvision    0.23.0\n"))
    assert not found.complete
    assert found.version("torchvision") == "0.23.0"


def test_pip_freeze_and_its_urls() -> None:
    text = (
        "$ pip freeze\n"
        "flash_attn @ file:///wheels/flash_attn-2.7.0%2Bcu12torch2.5cxx11abiTRUE-cp311-cp311-linux_x86_64.whl#sha256=0\n"
        "torch==2.5.1\n"
    )
    found = packages(read(text))
    assert found.version("flash-attn") == "2.7.0+cu12torch2.5cxx11abiTRUE"
    assert found.version("torch") == "2.5.1"


def test_conda_list() -> None:
    text = (
        "$ conda list | grep torch\n"
        "pytorch                   2.4.1           py3.11_cuda12.1_cudnn9.1.0_0    pytorch\n"
        "torchvision               0.19.1                   cpu_py311_0    conda-forge\n"
    )
    conda = read(text).get(CondaPackages)
    assert isinstance(conda, CondaPackages)
    assert [each.channel for each in conda.packages] == ["pytorch", "conda-forge"]


def test_pip_show() -> None:
    text = "$ pip show torch\nName: torch\nVersion: 2.6.0\nSummary: Tensors\nLocation: /opt/x/site-packages\nRequires: numpy\n"
    one = packages(read(text)).distributions[0]
    assert (one.name, one.version, one.location) == ("torch", "2.6.0", "/opt/x/site-packages")


def test_collect_env_lines_of_either_kind() -> None:
    assert packages(read("[pip3] torch==2.6.0+cu124\n")).version("torch") == "2.6.0+cu124"
    conda = read("[conda] pytorch   2.3.0   py3.11_cuda12.1_cudnn8.9.2_0    pytorch\n").get(CondaPackages)
    assert isinstance(conda, CondaPackages)
    assert conda.packages[0].build == "py3.11_cuda12.1_cudnn8.9.2_0"
    assert read("[conda] Could not collect\n").get(CondaPackages) is None


def test_what_installers_print() -> None:
    found = packages(
        read("Successfully installed nvidia-nccl-cu12-2.27.3 torch-2.8.0 typing-extensions-4.14.0\n")
    )
    assert found.version("nvidia-nccl-cu12") == "2.27.3"
    assert found.version("torch") == "2.8.0"
    assert packages(read(" + torch==2.8.0\n")).version("torch") == "2.8.0"
    there = "Requirement already satisfied: torch>=2.0 in ./v/site-packages (from x) (2.1.0+cu118)\n"
    assert packages(read(there)).version("torch") == "2.1.0+cu118"
    listing = "2025-01-01 /x/dist-packages/flash_attn-2.4.2.dist-info\n"
    assert packages(read(listing)).version("flash-attn") == "2.4.2"


def test_conflicts_of_pip() -> None:
    facts = read("somelib 1.0 requires torch==2.3.1, but you have torch 2.4.1 which is incompatible.\n")
    assert facts.symptoms(RequirementConflict)[0].other == "torch"
    assert packages(facts).version("torch") == "2.4.1"
    older = read(
        "ERROR: somelib 1.0 has requirement torch==1.4.0, but you'll have torch 1.5.0 which is incompatible.\n"
    )
    assert older.symptoms(RequirementConflict)[0].found == "1.5.0"
    absent = read("somelib 1.0 requires triton, which is not installed.\n")
    assert absent.symptoms(RequirementConflict)[0].found is None


def test_modules_and_leftovers_in_messages() -> None:
    assert (
        read("ModuleNotFoundError: No module named 'torch'\n").symptoms(ModuleNotFound)[0].module == "torch"
    )
    assert read("/usr/bin/python3: No module named torch.\n").symptoms(ModuleNotFound)[0].module == "torch"
    warned = read("WARNING: Ignoring invalid distribution ~orch (/x/site-packages)\n").symptoms(
        LeftoverWarned
    )
    assert warned[0].folder == "/x/site-packages"
