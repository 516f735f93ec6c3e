"""What came of asking for a name: the file, the rule that led there, and all that was tried."""

from __future__ import annotations

from typing import Literal

import msgspec

Rule = Literal["path", "rpath", "ld-library-path", "runpath", "cache", "default"]
"""What led to a file: a name with a slash, DT_RPATH, LD_LIBRARY_PATH, DT_RUNPATH, ld.so.cache, the default directories."""
How = Literal["searched", "already-loaded", "same-file", "failed"]
"""How a lookup ended: a new file; an object of that name was there; another name for a file that was there; not."""


class Attempt(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file that was tried for a name."""

    path: str
    rule: Rule
    verdict: str
    """``taken``; ``absent``; ``no-directory``; ``permission``; ``other-class``; ``other-machine``; ``stale`` (a cache
    line without its file); ``not-set-uid``; an errno's name; else the words with which the loader gives up."""
    source: str = ""
    """The file whose run path names the directory."""


class Lookup(msgspec.Struct, frozen=True, omit_defaults=True):
    """One request for a name: an edge of the tree of libraries."""

    name: str
    """As asked for, tokens expanded."""
    wanted_by: str
    """The file that needed it, or whose code called dlopen."""
    how: How
    found: str = ""
    """The file that it became."""
    rule: Rule | None = None
    """Of a file that was found by searching."""
    source: str = ""
    """The file whose run path led there."""
    attempts: tuple[Attempt, ...] = ()
    """Every file that was tried, in order; the last is the one taken, where one was."""
    dlopen: bool = False
