"""Worlds for the tests of the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.cli.worlds import World

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def bare(tmp_path: Path) -> World:
    """No check is installed."""
    folder = tmp_path / "world"
    folder.mkdir()
    return World(folder)


@pytest.fixture
def world(bare: World) -> World:
    """One stranger's check is installed."""
    bare.plugin()
    return bare
