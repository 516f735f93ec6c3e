"""What files tell of torch: its build, its copies, what its metadata asks for, its sisters."""

from __future__ import annotations

from pathlib import Path

import pytest

from envdoctor.facts import CouldNotLook, Facts
from envdoctor.platform import look_at_platform
from envdoctor_checks.python.facts import Distributions
from envdoctor_checks.python.probe import distributions
from envdoctor_checks.torch.facts import SisterPackages, TorchBuild, TorchInstalls, TorchRequirements
from envdoctor_checks.torch.metadata import holds, requirement
from envdoctor_checks.torch.probe_files import build, requirements, version_file
from envdoctor_checks.torch.versions import cuda_of_label, is_official, label_of_cuda, satisfies
from tests.support.torch_env import Environment


@pytest.fixture
def env(tmp_path: Path) -> Environment:
    return Environment(tmp_path / "venv")


def looked(env: Environment, **variables: str) -> tuple[TorchBuild, TorchInstalls]:
    host, _, paths = env.target(**variables)
    packages = Facts.of(*distributions(host, paths)).get(Distributions)
    assert isinstance(packages, Distributions)
    return build(host, paths, packages)


def asked(env: Environment) -> tuple[TorchRequirements, SisterPackages]:
    host, _, paths = env.target()
    packages = Facts.of(*distributions(host, paths)).get(Distributions)
    assert isinstance(packages, Distributions)
    return requirements(host, paths, packages, look_at_platform(host))


def test_no_torch(env: Environment) -> None:
    found, installs = looked(env)
    assert found.version is None
    assert found.path is None
    assert not installs.folders


def test_version_file_is_read_and_not_run(env: Environment) -> None:
    package = env.torch("2.8.0+cu128", "12.8")
    (package / "version.py").write_text(
        (package / "version.py").read_text() + "raise SystemExit('it was run')\n"
    )
    found, _ = looked(env)
    assert (found.version, found.torch_cuda, found.hip) == ("2.8.0+cu128", "12.8", None)
    assert found.path == str(package)
    assert found.accelerator == "cuda"


@pytest.mark.parametrize(
    ("version", "cuda", "hip", "accelerator"),
    [
        ("2.8.0+cpu", None, None, "cpu"),
        ("2.5.1", "12.4", None, "cuda"),
        ("2.9.0.dev20250801+cu129", "12.9", None, "cuda"),
        ("2.5.0a0+b465a5843b.nv24.09", "12.6", None, "cuda"),
        ("2.7.0+rocm6.3", None, "6.3.42131-fa1d09cbd", "rocm"),
        ("2.8.0+xpu", None, None, "xpu"),
    ],
)
def test_builds(env: Environment, version: str, cuda: str | None, hip: str | None, accelerator: str) -> None:
    env.torch(version, cuda, hip=hip)
    found, _ = looked(env)
    assert (found.version, found.torch_cuda, found.hip, found.accelerator) == (
        version,
        cuda,
        hip,
        accelerator,
    )


def test_old_version_files_without_annotations() -> None:
    assert version_file("__version__ = '1.12.1'\ndebug = False\ncuda = '11.3'\nhip = None\n") == (
        "1.12.1",
        "11.3",
        None,
    )
    assert version_file("cuda = None\n") == (None, None, None)


def test_installed_in_place_is_known_by_its_metadata(env: Environment) -> None:
    env.metadata("torch", "2.9.0a0+cu130")
    found, _ = looked(env)
    assert (found.version, found.torch_cuda, found.path) == ("2.9.0a0+cu130", "13.0", None)


def test_a_folder_with_caches_alone_is_no_torch(env: Environment) -> None:
    (env.site / "torch" / "__pycache__").mkdir(parents=True)
    found, _ = looked(env)
    assert found.version is None


def test_a_folder_without_a_version_could_not_be_judged(env: Environment) -> None:
    package = env.torch("2.8.0", "12.8")
    (package / "version.py").unlink()
    (env.site / "torch-2.8.0.dist-info" / "METADATA").unlink()
    (env.site / "torch-2.8.0.dist-info").rmdir()
    with pytest.raises(CouldNotLook):
        looked(env)


def test_two_copies_in_path_order(env: Environment, tmp_path: Path) -> None:
    env.torch("2.8.0+cu128", "12.8")
    other = tmp_path / "other" / "torch"
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    (other / "version.py").write_text("__version__ = '2.7.1+cpu'\ncuda = None\n")
    found, installs = looked(env, PYTHONPATH=str(other.parent))
    assert found.version == "2.7.1+cpu"
    assert [each.version for each in installs.folders] == ["2.7.1+cpu", "2.8.0+cu128"]


def test_requirements_follow_extras_and_markers(env: Environment) -> None:
    env.torch("2.15.0", "13.2")
    env.metadata(
        "torch",
        "2.15.0",
        "filelock",
        'cuda-toolkit[cublas,nvrtc]==13.2.2; platform_system == "Linux"',
        'nvidia-nccl-cu13==2.30.7; platform_system == "Linux"',
        'nothing-here==1; platform_system == "Windows"',
        'optional-thing; extra == "opt"',
    )
    env.metadata(
        "cuda-toolkit",
        "13.2.2",
        'nvidia-cublas==13.4.1.3.*; (sys_platform == "linux") and extra == "cublas"',
        'nvidia-cuda-nvrtc==13.2.86.*; extra == "nvrtc"',
        'nvidia-cufft==12.2.0.57.*; extra == "cufft"',
        "unconditional==1",
    )
    wanted, _ = asked(env)
    assert {each.name: each.specifier for each in wanted.requirements} == {
        "filelock": "",
        "cuda-toolkit": "==13.2.2",
        "nvidia-nccl-cu13": "==2.30.7",
        "nvidia-cublas": "==13.4.1.3.*",
        "nvidia-cuda-nvrtc": "==13.2.86.*",
    }
    cublas = wanted.of("nvidia-cublas")
    assert cublas is not None
    assert cublas.wanted_by == "cuda-toolkit[cublas]"


def test_sisters_and_what_they_ask(env: Environment) -> None:
    env.torch("2.8.0", "12.8")
    env.metadata("torchvision", "0.23.0", "numpy", "torch (==2.8.0)", 'pillow!=8.3.*,>=5.3.0; extra == "x"')
    env.metadata("torchaudio", "2.11.0")
    _, sisters = asked(env)
    assert [(each.name, each.torch) for each in sisters.packages] == [
        ("torchvision", "==2.8.0"),
        ("torchaudio", None),
    ]


def test_a_requirement_line() -> None:
    wanted = requirement(' cuda-toolkit[cublas, cudart]==13.0.3 ; platform_system == "Linux"')
    assert wanted is not None
    assert (wanted.name, wanted.extras, wanted.specifier) == (
        "cuda-toolkit",
        ("cublas", "cudart"),
        "==13.0.3",
    )


VARIABLES = {
    "platform_system": "Linux",
    "python_version": "3.9",
    "platform_machine": "x86_64",
    "sys_platform": "linux",
}


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("", True),
        ('python_version < "3.10"', True),
        ('python_version >= "3.10"', False),
        ('platform_system == "Linux" and platform_machine == "aarch64"', False),
        ('platform_machine == "aarch64" or platform_system == "Linux"', True),
        ('(platform_machine == "aarch64" or platform_system == "Linux") and python_version == "3.8"', False),
        ('sys_platform in "linux darwin"', True),
        ('extra == "cublas"', False),
        ("no marker at all (", True),
        ('unheard_of == "1"', True),
    ],
)
def test_markers(marker: str, expected: bool) -> None:
    assert holds(marker, VARIABLES) is expected


def test_a_marker_with_its_extra() -> None:
    assert holds('extra == "CuBLAS"', VARIABLES, ("cublas",))


@pytest.mark.parametrize(
    ("version", "specifier", "expected"),
    [
        ("2.8.0", "", True),
        ("2.8.0+cu128", "==2.8.0", True),
        ("2.8.0+cu128", "==2.8.0+cu126", False),
        ("2.8.1", "==2.8.0", False),
        ("2.8.0", "==2.8.*", True),
        ("12.4.5.8", "==12.4.127", False),
        ("13.4.1.3", "==13.4.1.3.*", True),
        ("13.0.88", "<14,>=13.0.88", True),
        ("3.8.4", "~=3.8.0", True),
        ("3.9.0", "~=3.8.0", False),
        ("2.14.1", ">=2.14.0", True),
        ("2.5.0a0+b465a5843b.nv24.09", "==2.5.0", None),
        ("2.9.0.dev20250801", ">=2.8", None),
    ],
)
def test_satisfies(version: str, specifier: str, expected: bool | None) -> None:
    assert satisfies(version, specifier) is expected


def test_labels() -> None:
    assert cuda_of_label("cu128") == "12.8"
    assert cuda_of_label("cu92") == "9.2"
    assert cuda_of_label("cpu") is None
    assert label_of_cuda("12.8.90") == "cu128"


@pytest.mark.parametrize(
    ("version", "official"),
    [
        ("2.8.0", True),
        ("2.8.0+cu128", True),
        ("1.13.1+rocm5.2", True),
        ("2.4.0a0+07cecf4168.nv24.05", False),
        ("2.9.0.dev20250801+cu129", False),
    ],
)
def test_official_versions(version: str, official: bool) -> None:
    assert is_official(version) is official
