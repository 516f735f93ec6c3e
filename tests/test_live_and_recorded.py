"""`record` and then `check --facts` judge as `check` did on the machine itself, redacted or not."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.environments import envdoctor, environ, environment, report_of, verdicts

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.support.environments import Environment
    from tests.support.fake_driver import FakeDriver

BROKEN_LIBRARY = (
    "raise ImportError('libcudart.so.12: cannot open shared object file: No such file or directory')\n"
)
WORKS = """
class _Version: cuda = '12.8'; hip = None
version = _Version()
class cuda:
    class nccl:
        version = staticmethod(lambda: (2, 27, 3))
    is_available = staticmethod(lambda: False)
    device_count = staticmethod(lambda: 0)
    @staticmethod
    def init(): raise RuntimeError('The NVIDIA driver on your system is too old (found version 11040).')
class backends:
    class cudnn: version = staticmethod(lambda: 91002)
class _C: _cuda_getArchFlags = staticmethod(lambda: 'sm_70 sm_75 sm_80 sm_86 sm_90')
"""
"""As much of a torch as the child asks, on a driver that is too old for it."""


class Judged:
    """One machine three times: live, from its redacted recording, and from one that is not."""

    def __init__(self, folder: Path, made: Environment, env: Mapping[str, str]) -> None:
        target = ("--python", made.python)
        plain, kept = str(folder / "redacted.json"), str(folder / "kept.json")
        looks = (
            ("check", "--format", "json", *target),
            ("record", "-o", plain, *target),
            ("record", "-o", kept, "--no-redact", *target),
        )
        with ThreadPoolExecutor() as pool:
            done = list(pool.map(lambda arguments: envdoctor(*arguments, env=env, cwd=folder), looks))
            self.live = report_of(done[0])
            facts = [("check", "--format", "json", "--facts", name) for name in (plain, kept)]
            later = list(pool.map(lambda arguments: envdoctor(*arguments, env=env, cwd=folder), facts))
        self.code = done[0].returncode
        self.codes = [each.returncode for each in later]
        self.redacted, self.kept = (report_of(each) for each in later)
        self.document: dict[str, Any] = json.loads((folder / "redacted.json").read_text())


def check_equal(judged: Judged) -> None:
    assert verdicts(judged.kept) == verdicts(judged.live)
    assert verdicts(judged.redacted) == verdicts(judged.live)
    assert judged.codes == [judged.code, judged.code]
    for document in (judged.kept, judged.redacted):
        assert document["target"]["source"] == "facts"
        assert document["summary"] == judged.live["summary"]
        outcomes = [
            {each["name"]: each["outcome"] for each in told["checks"]} for told in (document, judged.live)
        ]
        assert outcomes[0] == outcomes[1]


def test_a_plain_machine(tmp_path: Path) -> None:
    judged = Judged(tmp_path, environment(tmp_path / "venv"), environ(tmp_path))
    check_equal(judged)
    assert judged.document["recorded"]["redacted"] is True


def test_a_torch_that_misses_a_library(tmp_path: Path) -> None:
    made = environment(tmp_path / "venv").torch(BROKEN_LIBRARY)
    judged = Judged(tmp_path, made, environ(tmp_path))
    check_equal(judged)
    assert judged.code == 1
    assert judged.live["findings"][0]["id"] == "libraries/cudart-missing"


@pytest.mark.parametrize(
    ("scenario", "first"),
    [
        ("old-driver-470", "driver/too-old-for-torch"),
        ("gpu-lost", "gpu/fallen-off-bus"),
        ("fabric-not-started", "driver/fabric-manager-not-running"),
        ("nvml-crashes", "driver/call-crashed"),
    ],
)
def test_a_driver_in_trouble(scenario: str, first: str, fake_driver: FakeDriver, tmp_path: Path) -> None:
    made = environment(tmp_path / "venv").torch(WORKS if scenario == "old-driver-470" else "")
    judged = Judged(tmp_path, made, fake_driver.environ(scenario, environ(tmp_path)))
    check_equal(judged)
    assert first in {finding["id"] for finding in judged.live["findings"] if finding["role"] == "root"}
    assert judged.code == 1


def test_a_user_and_a_home_with_names(tmp_path: Path) -> None:
    """Names in paths are replaced, and what is judged by them is judged the same."""
    made = environment(tmp_path / "venv")
    more = {"LOGNAME": "marianne", "USER": "marianne", "TORCHINDUCTOR_CACHE_DIR": "/home/marianne/cache"}
    judged = Judged(tmp_path, made, environ(tmp_path, **more))
    check_equal(judged)
    assert "marianne" not in json.dumps(judged.document)
