"""Real shared libraries made with gcc, and wheels that bring them: what the loader and RECORD have to say is real."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.torch_env import Environment


def build(
    path: Path,
    *,
    source: str = "",
    soname: str = "",
    needs: tuple[Path, ...] = (),
    versions: str = "",
    flags: tuple[str, ...] = (),
) -> Path:
    """Compile a shared library. `versions` is a linker's version script; `needs` become DT_NEEDED."""
    path.parent.mkdir(parents=True, exist_ok=True)
    code = path.parent / f"{path.name}.c"
    code.write_text(source or "int nothing;\n")
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-o",
        str(path),
        str(code),
        f"-Wl,-soname,{soname or path.name}",
        *flags,
    ]
    if versions:
        script = path.parent / f"{path.name}.map"
        script.write_text(versions)
        command.append(f"-Wl,--version-script={script}")
    command += ["-Wl,--no-as-needed", *(str(each) for each in needs)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return path


def versioned(path: Path, version: str, *names: str) -> Path:
    """A library whose functions carry a version, as NVIDIA's carry their SONAME."""
    code = "\n".join(f"int {name}(void) {{ return 0; }}" for name in names)
    exported = " ".join(f"{name};" for name in names)
    return build(path, source=code, versions=f"{version} {{ global: {exported} local: *; }};\n")


def install_wheel(environment: Environment, name: str, version: str, files: dict[str, bytes]) -> Path:
    """Put files into site-packages with a dist-info whose RECORD lists them, as pip leaves them."""
    info = environment.metadata(name, version)
    lines = []
    for path, content in files.items():
        target = environment.site / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        lines.append(f"{path},sha256={digest},{len(content)}")
    (info / "RECORD").write_text("\n".join([*lines, f"{info.name}/RECORD,,", ""]))
    return info


def loading(path: Path, **variables: str) -> str:
    """What Python prints when the loader cannot open a library: the last line of the traceback."""
    told = subprocess.run(
        [sys.executable, "-c", "import ctypes, sys; ctypes.CDLL(sys.argv[1])", str(path)],
        env={"PATH": os.environ["PATH"], **variables},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return told.stderr.strip().splitlines()[-1] if told.returncode else ""
