"""Command lines as words and parts: quotes, operators, here-documents, without running a shell."""

from __future__ import annotations

import re

import msgspec

MAX_LENGTH = 4096
"""Characters of a command line that are looked at."""


class Word(msgspec.Struct, frozen=True):
    """One word of a command line, without its quotes, and where it stands."""

    text: str
    start: int
    end: int


_WORD = re.compile(r"""(?:[^\s"'\\]+|\\.|"(?:[^"\\]|\\.)*"|'[^']*'|["'\\])+""", re.DOTALL)
_QUOTED = re.compile(r"""\\(.)|"((?:[^"\\]|\\.)*)"|'([^']*)'""", re.DOTALL)
_QUOTING = re.compile(r"""["'\\]""")
_WINDOWS_PATH = re.compile(r"(?:[A-Za-z]:|\.{1,2}|[\w.-]+)\\\w")


def words(command: str) -> tuple[Word, ...]:
    """Split into words as a shell does, but forgivingly: an unmatched quote is a character like others."""
    return tuple(
        Word(_unquoted(found[0]), found.start(), found.end())
        for found in _WORD.finditer(command[:MAX_LENGTH])
    )


def _unquoted(word: str) -> str:
    if not _QUOTING.search(word):
        return word
    if "\\" in word and _WINDOWS_PATH.match(word):
        return word.strip("\"'")
    return _QUOTED.sub(lambda found: found[1] or found[2] or found[3] or "", word)


_OPERATOR = re.compile(
    r"""(?P<skip>\\.|"(?:[^"\\]|\\.)*"|'[^']*'|\$\((?:[^()]|\([^()]*\))*\)|\d?>&\d|&>)"""
    r"|\|\||&&|\|&?|;|&(?!>)|\n",
    re.DOTALL,
)


def parts(command: str, *, pipes: bool = True) -> list[str]:
    """Split a list of commands at its operators outside quotes; `pipes` says whether pipelines are split."""
    found = []
    start = 0
    for operator in _OPERATOR.finditer(command):
        if operator["skip"] is None and (pipes or operator[0][:1] != "|" or operator[0] == "||"):
            found.append(command[start : operator.start()])
            start = operator.end()
    found.append(command[start:])
    return [part.strip() for part in found if part.strip()]


HERE_DOCUMENT = re.compile(r"(?<!<)<<(?P<tabs>-?)\s*(?P<quote>['\"]?)(?P<end>[A-Za-z_]\w*)(?P=quote)")
"""The redirection that says how a here-document ends."""
ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
"""What begins `NAME=value` before a command."""
SHELLS = frozenset({"sh", "bash", "zsh", "dash", "ash", "fish", "pwsh", "powershell", "cmd", "cmd.exe"})
"""Programs that are shells, or run a script given with -c."""


def without_documents(command: str) -> str:
    """Drop the bodies of here-documents, which are no commands of this shell."""
    first = command.split("\n", 1)[0]
    return first if HERE_DOCUMENT.search(first) else command


def program(word: str) -> str:
    """Return the name of a program without its directory."""
    return word.replace("\\", "/").rsplit("/", 1)[-1]


def after_options(split: tuple[Word, ...], index: int, with_value: str) -> int:
    """Skip options and assignments; `with_value` are the short options whose value is the next word."""
    while index < len(split):
        text = split[index].text
        if text == "--":
            return index + 1
        if text.startswith("-") and len(text) > 1:
            index += 2 if len(text) == 2 and text[1] in with_value else 1
        elif ASSIGNMENT.match(text):
            index += 1
        else:
            break
    return index


def shell_argument(split: tuple[Word, ...]) -> str | None:
    """The script of `sh -c '...'`."""
    for index in range(1, len(split) - 1):
        if re.fullmatch(r"-[a-z]*c|/[cC]|-Command", split[index].text):
            return split[index + 1].text
        if not split[index].text.startswith("-"):
            break
    return None
