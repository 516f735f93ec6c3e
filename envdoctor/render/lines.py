"""A page under construction: every text that enters is made safe, laid out by its cells, then coloured."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING

from envdoctor.render.style import WIDEST_PROSE, Style, paint, symbol
from envdoctor.render.words import cells, fitted, padded, wrapped

if TYPE_CHECKING:
    from collections.abc import Sequence


_SHORT = "site"
"""What the examined environment's site-packages is called in a tree."""
_FOLDER = re.compile(r"/(?:[^/\s:]+/)+(?:site|dist)-packages/")


def _common_folder(rows: Sequence[Sequence[str]]) -> str:
    """The site-packages that at least three rows speak of; empty where there is none, or several."""
    found = Counter(folder for row in rows for folder in set(_FOLDER.findall(" ".join(row))))
    return next((folder for folder, times in found.items() if times >= 3 and len(found) == 1), "")


class Page:
    """Lines of text for one style."""

    def __init__(self, style: Style) -> None:
        self.style = style
        self.prose = min(style.width, WIDEST_PROSE)
        self._lines: list[str] = []

    def text(self) -> str:
        """The finished page, with a final newline unless it is empty."""
        return "\n".join(self._lines).rstrip("\n") + "\n" if self._lines else ""

    def gap(self) -> None:
        """One empty line, however often it is asked for."""
        if self._lines and self._lines[-1]:
            self._lines.append("")

    def heading(self, text: str) -> None:
        """A line in bold."""
        self.paragraph(text, role="strong")

    def paragraph(self, text: str, indent: int = 0, *, first: str = "", role: str = "") -> None:
        """Wrapped prose. `first` (a number, a symbol) stands before the first line, and the others hang under it."""
        hang = " " * (indent + cells(first))
        lines = list(wrapped(fitted(text, self.style), max(self.prose - len(hang), 20))) or [""]
        for number, line in enumerate(lines):
            start = " " * indent + first if number == 0 else hang
            self._lines.append((start + self._painted(line, role)).rstrip())

    def marked(self, role: str, text: str, indent: int = 0, *, word: str = "", strong: str = "") -> None:
        """Wrapped prose after a coloured symbol and word: ``✗ ERROR  the title``."""
        mark = " ".join(filter(None, (symbol(self.style, role), word)))
        hang = cells(mark) + (2 if word else 1)
        lines = list(wrapped(fitted(text, self.style), max(self.prose - indent - hang, 20))) or [""]
        for number, line in enumerate(lines):
            start = paint(self.style, role, mark) + " " * (hang - cells(mark)) if number == 0 else " " * hang
            self._lines.append(" " * indent + start + self._painted(line, strong))

    def row(self, label: str, value: str, width: int, indent: int, *, aside: str = "") -> None:
        """A label, its value beside it, and dim after the value where that comes from."""
        left = indent + width + 2
        value_lines = list(wrapped(fitted(value, self.style), max(self.prose - left, 20))) or [""]
        name = fitted(label, self.style)
        if cells(name) > width:
            self._lines.append(" " * indent + name)
            name = ""
        for number, line in enumerate(value_lines):
            start = padded(name, width) if number == 0 else " " * width
            self._lines.append(f"{' ' * indent}{start}  {line}")
        if aside:
            self._aside(fitted(aside, self.style), left, cells(value_lines[-1]))

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], indent: int) -> None:
        """Aligned columns; where they are wider than the page, every row as a list of its cells by name."""
        lines = [[fitted(cell, self.style) for cell in row] for row in (columns, *rows)]
        used = [column for column in range(len(columns)) if any(row[column] for row in lines[1:])]
        widths = {column: max(cells(row[column]) for row in lines) for column in used}
        if indent + sum(widths.values()) + 2 * (len(used) - 1) <= self.style.width:
            for row in lines:
                line = "  ".join(padded(row[column], widths[column]) for column in used)
                self._lines.append((" " * indent + line).rstrip())
            return
        label = max((cells(lines[0][column]) for column in used[1:]), default=0)
        for row in lines[1:]:
            self.paragraph(f"{lines[0][0]} {row[0]}".strip(), indent)
            for column in used[1:]:
                if row[column]:
                    self.row(lines[0][column], row[column], label, indent + 2)

    def tree(self, rows: Sequence[Sequence[str]], depths: Sequence[int], indent: int) -> None:
        """Every row indented by its depth: its name, what it is, and why, on one line where they fit.

        A folder that most rows begin with is told once.
        """
        common = _common_folder(rows)
        if common:
            self.paragraph(f"{_SHORT} is {common.rstrip('/')}", indent, role="dim")
        for row, depth in zip(rows, depths, strict=True):
            short = [cell.replace(common, f"{_SHORT}/") if common else cell for cell in row]
            name, what, why = (*short, "", "")[:3]
            head = f"{name}: {what}" if what else name
            start = indent + 2 * depth
            role = "strong" if depth == 0 else ""
            if why and start + cells(head) + cells(why) + 3 <= self.prose:
                self.paragraph(f"{head} ({why})", start, role=role)
                continue
            self.paragraph(head, start, role=role)
            if why:
                self.paragraph(f"({why})", start + 4)

    def _aside(self, aside: str, left: int, used: int) -> None:
        """Beside the value where it fits, else below it."""
        if left + used + 2 + cells(aside) <= self.prose:
            self._lines[-1] += f"  {paint(self.style, 'dim', aside)}"
            return
        for line in wrapped(aside, max(self.prose - left, 20)):
            self._lines.append(" " * left + paint(self.style, "dim", line))

    def command(self, command: str, indent: int) -> None:
        """A line to copy: never wrapped, nothing added; each of its own lines on its own."""
        for line in command.split("\n"):
            self._lines.append(" " * indent + paint(self.style, "command", fitted(line, self.style)))

    def _painted(self, text: str, role: str) -> str:
        return paint(self.style, role, text) if role else text
