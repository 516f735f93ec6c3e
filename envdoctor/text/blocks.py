"""From lines to blocks: what was typed, what it printed, and the blocks of a shape that a check declares."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from .commands import opening, simple_commands
from .late import Late, opening_of
from .model import Block, FoundBlock
from .prompts import Typed, bare_command, looks_typed, prompt_head, read_prompt
from .words import HERE_DOCUMENT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .model import Line, Prompt
    from .scenes import Scene
    from .shapes import BlockShape

__all__ = ["Block", "FoundBlock", "find_blocks", "find_in_scenes", "split_blocks"]

_MAX_TYPED = 400  # lines of a here-document or an open quote; a longer one was cut off


def split_blocks(lines: Sequence[Line]) -> tuple[Block, ...]:
    """Split a text at its prompts; every line is typed, in one block's output, or blank at a block's end."""
    reader = _Typist(lines)
    blocks: list[Block] = []
    command: str | None = None
    prompt: Prompt | None = None
    first = start = index = 0
    while index < len(lines):
        typed = reader.typed(index)
        if typed is None:
            index += 1
            continue
        earlier = command, prompt
        end = index - reader.head_lines(index)
        prompt = reader.prompt(index, typed)
        if earlier[0] and prompt.kind == "trace" and prompt == earlier[1] and start == end:
            # `set -x` shows all commands of a pipeline before its output, in any order: one block.
            more, index = _continued(lines, index, typed, reader)
            command = f"{command}\n{more}"
        else:
            _add(blocks, *earlier, lines, (first, start, end))
            first = index
            command, index = _continued(lines, index, typed, reader)
        reader.follow(command, prompt)
        start = index
    _add(blocks, command, prompt, lines, (first, start, len(lines)))
    return tuple(blocks)


def _add(
    blocks: list[Block],
    command: str | None,
    prompt: Prompt | None,
    lines: Sequence[Line],
    where: tuple[int, int, int],
) -> None:
    """Add one block: `where` has the index of the prompt, of the first output and of the line after it."""
    first, start, end = where
    while end > start and not lines[end - 1].text:
        end -= 1
    if command is None:
        while start < end and not lines[start].text:
            start += 1
        first = start
    if command is not None or end > start:
        blocks.append(Block(command, prompt, tuple(lines[start:end]), lines[first].number))


class _Typist:
    """Decides which lines were typed; weak prompts by what the whole text and the last commands say."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self.lines = lines
        self.read = [read_prompt(line) for line in lines]
        known = [typed for typed in self.read if typed and not typed.weak and typed.prompt.kind in _SHELLS]
        if not known:  # people leave out prompts in all of a text, or in none of it
            self.read = [
                typed or bare_command(line.text) for typed, line in zip(self.read, lines, strict=True)
            ]
        self.hash_everywhere = not known and self._all_hashes_typed()
        self.root_shell = False

    def _all_hashes_typed(self) -> bool:
        """`#` is the prompt of root, not a comment, where each `# ...` line of a text is a command."""
        hashes = [line.text[2:].strip() for line in self.lines if line.text[:2] == "# "]
        return bool(hashes) and all(looks_typed(text) for text in hashes)

    def typed(self, index: int) -> Typed | None:
        """Return the prompt on a line if it is one."""
        typed = self.read[index]
        if typed is None or not typed.weak:
            return typed
        if not looks_typed(typed.command):
            return None
        if typed.prompt.kind == "trace" and self._in_diff(index):
            return None
        text = self.lines[index].text
        if text[:2] == "# " and not (self.hash_everywhere or self.root_shell):
            return None
        return typed

    def _in_diff(self, index: int) -> bool:
        near = self.lines[max(0, index - 3) : index + 4]
        return any(line.text.startswith(("- ", "-- ", "@@", "--- ")) for line in near)

    def head_lines(self, index: int) -> int:
        """1 where the line above is the first of a prompt that takes two, else 0."""
        return int(index > 0 and prompt_head(self.lines[index - 1].text) is not None)

    def prompt(self, index: int, typed: Typed) -> Prompt:
        """Return the prompt with what its first line says."""
        head = prompt_head(self.lines[index - 1].text) if index else None
        return msgspec.structs.replace(head, root=typed.prompt.root) if head else typed.prompt

    def follow(self, command: str, prompt: Prompt) -> None:
        """Remember whether a bare `# ` may come next: after su, sudo -i, or a shell in a container."""
        if prompt.kind != "shell":
            return
        if command.split(None, 1)[:1] in (["exit"], ["logout"]):
            self.root_shell = False
        elif _BECOME_ROOT.match(command):
            self.root_shell = True
        else:
            opened = opening(command)
            if opened:
                self.root_shell = self.root_shell or opened.inner is None
            elif prompt.user or prompt.host:
                self.root_shell = False  # back at a prompt that has a name


_SHELLS = frozenset({"shell", "powershell", "cmd"})
_BECOME_ROOT = re.compile(r"(?:sudo +)?su(?: |$)|sudo +(?:-\w*[is]\b|(?:ba|z)?sh$)")
_SECONDARY = re.compile(r"> ?")
_IPYTHON_MORE = re.compile(r" +\.\.\.: ?")


def _continued(lines: Sequence[Line], index: int, typed: Typed, reader: _Typist) -> tuple[str, int]:
    """Return the whole command typed at `index` and the index of its first output."""
    kind = typed.prompt.kind
    command = typed.command
    index += 1
    if kind in {"python", "ipython"}:
        while index < len(lines):
            more = _more_python(lines[index].text, kind)
            if more is None:
                break
            command += "\n" + more
            index += 1
        return command, index
    if kind in {"powershell", "cmd"}:
        ending = "`" if kind == "powershell" else "^"
        while command.endswith(ending) and index < len(lines):
            command = command[:-1].rstrip() + " " + lines[index].text.strip().removeprefix(">> ")
            index += 1
        return command, index
    return _continued_shell(lines, index, command, reader)


def _more_python(text: str, kind: str) -> str | None:
    if kind == "python":
        return text[4:] if text == "..." or text.startswith("... ") else None
    found = _IPYTHON_MORE.match(text)
    return text[found.end() :] if found else None


_UNFINISHED = re.compile(r"(?:\||&&|\bdo|\bthen|\belse|\{|\(|;)$")
_LOOP = re.compile(r"(?:^|[;&|] *)(?:for|while|until|if|case) ")
_LOOP_END = re.compile(r"\b(?:done|fi|esac)\b")


def _continued_shell(lines: Sequence[Line], index: int, command: str, reader: _Typist) -> tuple[str, int]:
    """Follow backslashes, the shell's own `> ` prompts, open quotes and here-documents."""
    while index < len(lines) and reader.read[index] is None:
        text = lines[index].text
        if _backslash(command):
            command = command[:-1].rstrip() + " " + _SECONDARY.sub("", text.strip(), count=1)
        elif text[:1] == ">" and (
            _UNFINISHED.search(command) or (_LOOP.search(command) and not _LOOP_END.search(command))
        ):
            command += "\n" + _SECONDARY.sub("", text, count=1)
        else:
            break
        index += 1
    ending = HERE_DOCUMENT.search(command)
    if ending:
        return _until(lines, index, command, lambda body: body[-1].lstrip("\t> ") == ending["end"])
    if _quote_open(command):
        return _until(
            lines, index, command, lambda body: not _quote_open("\n".join((command, *body))), reader
        )
    return command, index


def _backslash(command: str) -> bool:
    return command.endswith("\\") and not command.endswith("\\\\")


def _until(
    lines: Sequence[Line],
    index: int,
    command: str,
    complete: Callable[[list[str]], bool],
    reader: _Typist | None = None,
) -> tuple[str, int]:
    """Take lines until the command is complete; where it never is, it was cut off, and they are output."""
    body: list[str] = []
    for ahead in range(index, min(len(lines), index + _MAX_TYPED)):
        typed = reader.read[ahead] if reader else None
        if typed and not typed.weak:
            break
        body.append(_SECONDARY.sub("", lines[ahead].text, count=1))
        if complete(body):
            return "\n".join((command, *body)), ahead + 1
    return command, index


_CLOSED = re.compile(r"""\\.|"(?:[^"\\]|\\.)*"|'[^']*'|(?:^|\s)#\s[^\n]*""", re.DOTALL)


def _quote_open(command: str) -> bool:
    left = _CLOSED.sub("", command)
    return '"' in left or "'" in left


def find_blocks(lines: Sequence[Line], shapes: Sequence[BlockShape]) -> tuple[FoundBlock, ...]:
    """Find the blocks of every shape, in the order of the text; one line may belong to several shapes."""
    from .scenes import scenes  # which groups the blocks of this module

    return find_in_scenes(scenes(split_blocks(lines)), shapes)


def find_in_scenes(scenes: Sequence[Scene], shapes: Sequence[BlockShape]) -> tuple[FoundBlock, ...]:
    """`find_blocks` where the scenes are at hand; `FoundBlock.scene` is an index into them."""
    ready = [_Shape(shape) for shape in shapes]
    found: list[FoundBlock] = []
    for number, scene in enumerate(scenes):
        for block in scene.blocks:
            commands = _commands(block)
            texts = [line.text for line in block.lines]
            for shape in ready:
                command = shape.recognised(commands)
                firsts = shape.firsts(texts)
                if command is None and not firsts:
                    continue
                parts = [_cut(block, first, set(firsts), shape) for first in firsts] or [block]
                found.extend(FoundBlock(shape.shape, part, number, command) for part in parts)
    return tuple(found)


def _commands(block: Block) -> tuple[str, ...]:
    if not block.command:
        return ()
    if block.prompt and block.prompt.kind in {"python", "ipython"}:
        return (block.command,)
    return simple_commands(block.command)


class _Shape:
    """A shape with its expressions."""

    def __init__(self, shape: BlockShape) -> None:
        self.shape = shape
        self.command = None if shape.command is None else Late(shape.command)
        self.ends = None if shape.ends is None else Late(shape.ends)
        starts = shape.starts
        self.first = None
        self.opening = ""
        if starts is not None:
            regex = Late(starts)
            # Matching once at the start of a line is much cheaper than searching it.
            self.first = regex.match if starts.startswith("^") and "|" not in starts else regex.search
            self.opening = opening_of(starts)

    def recognised(self, commands: tuple[str, ...]) -> str | None:
        """Return the command that the shape's expression matches."""
        if self.command is None:
            return None
        return next((command for command in commands if self.command.match(command)), None)

    def firsts(self, texts: list[str]) -> list[int]:
        """Return the indexes of the lines that the shape begins with."""
        if self.first is None:
            return []
        return [
            index for index, text in enumerate(texts) if text.startswith(self.opening) and self.first(text)
        ]


def _cut(block: Block, first: int, starts: set[int], shape: _Shape) -> Block:
    """Take the lines from `first` on that are of its stream, up to the end of the shape."""
    kept = [block.lines[first]]
    for index in range(first + 1, len(block.lines)):
        line = block.lines[index]
        if line.stream != kept[0].stream:
            continue
        if (
            index in starts
            or len(kept) == shape.shape.max_lines
            or (shape.ends and shape.ends.search(line.text))
        ):
            break
        kept.append(line)
    while not kept[-1].text and len(kept) > 1:
        kept.pop()
    return Block(block.command, block.prompt, tuple(kept), kept[0].number)
