"""What every test file may lean on: the `--slow` switch and the fake driver, built once per run."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_driver import FakeDriver, build

if TYPE_CHECKING:
    from pathlib import Path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow", action="store_true", help="also run the tests that take more than a few seconds"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--slow"):
        return
    skip = pytest.mark.skip(reason="takes long; --slow runs it")
    for item in items:
        if "slow" in item.keywords:
            item.add_marker(skip)


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> FakeDriver:
    """libnvidia-ml.so.1 and libcuda.so.1 of our own, compiled with the machine's gcc."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc on this machine to build the fake driver with")
    folder: Path = tmp_path_factory.mktemp("fake-driver")
    return FakeDriver(build(folder))
