"""Scenes: which blocks come from the same machine or container, so that their facts are not mixed."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Literal

import msgspec

from .commands import openings
from .model import Block

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from .model import Prompt
    from .openings import Opening

SceneKind = Literal["machine", "container", "remote", "job", "namespace", "chroot", "wsl", "build", "mixed"]


class Scene(msgspec.Struct, frozen=True):
    """Consecutive blocks from one place.

    `place` is the index of the first scene at the same place: after `exit` from a container the host's is
    there again. `kind` says what the place is ("machine": where the text begins, or another known by its
    name; "mixed": one line of commands ran in several places). `host` is the name in the prompt, `target`
    the image, container or machine that a command opened.
    """

    place: int
    kind: SceneKind
    host: str | None
    target: str | None
    blocks: tuple[Block, ...]


class _Place:
    """One machine or container, and the prompts that were seen there."""

    def __init__(self, kind: SceneKind, target: str | None = None, host: str | None = None) -> None:
        self.kind = kind
        self.target = target
        self.host = host
        self.signatures: set[tuple[str, str | None, str | None, bool | None]] = set()

    def shows(self, prompt: Prompt) -> bool:
        """Say whether this prompt is one of this place: by the host's name, else by having been seen here."""
        if prompt.host is not None and self.host is not None:
            return prompt.host == self.host
        return prompt.signature in self.signatures or not self.signatures


def scenes(blocks: Sequence[Block]) -> tuple[Scene, ...]:
    """Group the blocks of a text into scenes, in its order."""
    found: list[Scene] = []
    first_at: dict[_Place, int] = {}
    group: list[Block] = []
    current: _Place | None = None
    for block, place in _placed(blocks):
        if current is not None and place is not current:
            found.append(_scene(current, group, first_at, len(found)))
            group = []
        current = place
        group.append(block)
    if current is not None:
        found.append(_scene(current, group, first_at, len(found)))
    return tuple(found)


def _scene(place: _Place, group: list[Block], first_at: dict[_Place, int], index: int) -> Scene:
    return Scene(first_at.setdefault(place, index), place.kind, place.host, place.target, tuple(group))


_CONTAINER_NAME = re.compile(r"[0-9a-f]{12}$|[a-z0-9-]+-[a-z0-9]{8,10}-[a-z0-9]{5}$")
_LEAVE = re.compile(r"(?:exit|logout|\^D)\b")


def container_looking(host: str) -> bool:
    """Say whether engines give such host names: twelve hexadecimal digits, or a pod of a deployment."""
    return bool(_CONTAINER_NAME.match(host)) and not host.isdigit()


def _placed(blocks: Sequence[Block]) -> Iterator[tuple[Block, _Place]]:
    """Follow the person who typed from place to place."""
    stack = [_Place("machine")]
    known: dict[tuple[str, str | None], _Place] = {}
    entered: Opening | None = None
    for index, block in enumerate(blocks):
        prompt = block.prompt
        if prompt is not None and prompt.kind in _SHELLS:
            _arrive(stack, prompt, entered, known)
            entered = None
        elif prompt is not None and prompt.kind == "build":
            yield block, known.setdefault(("build", None), _Place("build"))
            continue
        if not block.command or prompt is None or prompt.kind in {"python", "ipython"}:
            yield block, stack[-1]
            continue
        if _LEAVE.match(block.command):
            yield block, stack[-1]
            if len(stack) > 1:
                stack.pop()
            continue
        opened = set(openings(block.command))
        one = opened.pop() if len(opened) == 1 else None
        if one is not None and _is_entered(one, prompt, blocks, index):
            yield block, stack[-1]
            entered = one
        elif one is not None:
            yield block, known.setdefault((one.kind, one.target), _Place(one.kind, one.target))
        else:
            yield block, _Place("mixed") if len(opened) > 1 else stack[-1]


_SHELLS = frozenset({"shell", "powershell", "cmd"})


def _is_entered(opened: Opening, prompt: Prompt, blocks: Sequence[Block], index: int) -> bool:
    """Say whether the next prompt is inside what the command opened; an engine's error leaves us here."""
    if opened.inner is not None:
        return False
    later = (blocks[ahead].prompt for ahead in range(index + 1, len(blocks)))
    following = next((one for one in later if one and one.kind in _SHELLS), None)
    if following is None:
        return False
    # These shells look as before; all others show a prompt of their own.
    return opened.kind in {"namespace", "chroot"} or following.signature != prompt.signature


def _arrive(
    stack: list[_Place],
    prompt: Prompt,
    entered: Opening | None,
    known: dict[tuple[str, str | None], _Place],
) -> None:
    """Change the place by what the prompt says: entered, the same, one left before, or a new one."""
    if entered is not None:
        place = known.setdefault((entered.kind, entered.target), _Place(entered.kind, entered.target))
        place.host = prompt.host or place.host  # another container of the same image
        stack.append(place)
    elif not stack[-1].shows(prompt):
        below = [depth for depth, place in enumerate(stack[:-1]) if place.shows(prompt)]
        if below:
            del stack[below[-1] + 1 :]
        elif prompt.host is not None:
            kind: SceneKind = "container" if container_looking(prompt.host) else "machine"
            stack[1:] = [known.setdefault((kind, prompt.host), _Place(kind, None, prompt.host))]
    here = stack[-1]
    here.signatures.add(prompt.signature)
    here.host = here.host or prompt.host
