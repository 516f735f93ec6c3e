"""Wheel files as pip installs them. Standard library only: a build that pip starts imports it as well."""

from __future__ import annotations

import base64
import hashlib
import zipfile
from pathlib import Path


def packed(into: Path, name: str, release: str, files: dict[str, bytes]) -> Path:
    """A wheel file."""
    stem = f"{name.replace('-', '_')}-{release}"
    into.mkdir(exist_ok=True)
    about = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {release}\n".encode(),
        "WHEEL": b"Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    content = files | {f"{stem}.dist-info/{each}": text for each, text in about.items()}
    record = "".join(f"{path},sha256={_digest(data)},{len(data)}\n" for path, data in content.items())
    content[f"{stem}.dist-info/RECORD"] = (record + f"{stem}.dist-info/RECORD,,\n").encode()
    wheel = into / f"{stem}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, data in content.items():
            archive.writestr(path, data)
    return wheel


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
