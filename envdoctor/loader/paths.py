"""Search paths as the loader reads them: tokens expanded, split, cleaned, once each."""

from __future__ import annotations

import re

from envdoctor.loader.settings import LoaderSettings

_TOKEN = re.compile(r"\$(?:\{(ORIGIN|PLATFORM|LIB)\}|(ORIGIN|PLATFORM|LIB)(?![A-Za-z0-9_]))")


def expand(text: str, origin: str, settings: LoaderSettings, *, trusted_only: bool = False) -> str:
    """`text` with ``$ORIGIN``, ``$LIB`` and ``$PLATFORM`` replaced; empty where one of them stands for nothing.

    In secure mode ``$ORIGIN`` counts only as the first component, and with `trusted_only` (paths of the executable)
    only where it leads into a default directory. Source: ``_dl_dst_substitute`` in elf/dl-load.c.
    """
    known = {"ORIGIN": origin, "PLATFORM": settings.platform or "", "LIB": settings.lib}
    found = list(_TOKEN.finditer(text))
    origins = [match for match in found if (match[1] or match[2]) == "ORIGIN"]
    if any(not known[match[1] or match[2]] for match in found):
        return ""
    if settings.secure and any(
        match.start() or text[match.end() :][:1] not in ("", "/") for match in origins
    ):
        return ""
    result = _TOKEN.sub(lambda match: known[match[1] or match[2]], text)
    if settings.secure and trusted_only and origins and not is_trusted(result, settings):
        return ""
    return result


def has_token(text: str) -> bool:
    """Whether `expand` has anything to do."""
    return _TOKEN.search(text) is not None


def is_trusted(path: str, settings: LoaderSettings) -> bool:
    """Whether a path, its dots folded by name alone, lies in a default directory."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    clean = "/" + "/".join(parts) + "/"
    return any(clean.startswith(each.rstrip("/") + "/") for each in settings.system_dirs)


def directories(
    path: str, separators: str, origin: str, settings: LoaderSettings, *, trusted_only: bool = False
) -> tuple[str, ...]:
    """The elements of a search path, each ending in one slash; empty is the current directory.

    Elements that expand to nothing are dropped, and so are repetitions. Source: ``fillin_rpath`` in elf/dl-load.c.
    """
    found: list[str] = []
    for element in re.split(f"[{separators}]", path):
        folder = element
        if element:
            folder = expand(element, origin, settings, trusted_only=trusted_only)
            if not folder:
                continue
            folder = (folder.rstrip("/") or "") + "/"
        if folder not in found:
            found.append(folder)
    return tuple(found)


def origin_of(path: str, cwd: str) -> str:
    """The directory of the path by which an object was opened, links as they are: what ``$ORIGIN`` stands for."""
    whole = path if path.startswith("/") else f"{cwd.rstrip('/')}/{path}"
    return whole.rpartition("/")[0] or "/"
