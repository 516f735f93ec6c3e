"""The prefixes that launchers, container engines, loggers and CI systems put before the lines of a program.

Two kinds. An *evident* prefix is recognised on its own line (`[rank1]: `, a syslog stamp). A *regular* one
looks like content (`0: `, `web | `) and is only taken where neighbouring lines bear it out. Both leave the
message with its own indentation, which tracebacks need.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from .late import Late

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_CLOCK = r"\d\d:\d\d:\d\d(?:[.,]\d{1,9})?"
_STAMP = rf"\d{{4}}-\d\d-\d\d[T ]{_CLOCK}"
_ZONE = r"(?:Z|[+-]\d\d:?\d\d)?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)"
_DAY = r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)"
_LEVEL = r"(?:TRACE|DEBUG|INFO|SUCCESS|WARNING|WARN|ERROR|CRITICAL|FATAL)"
# A syslog tag. The one of systemd stays in the text: its messages are about units and need it.
_TAG = r"(?:(?=(?P<unit>systemd[\w-]*)(?:\[\d+\])?: )|(?P<service>[\w./@-]+)(?:\[(?P<pid>\d+)\])?: ?)"


class Evident(NamedTuple):
    """An expression for one evident prefix; `stamp` marks times, which are content where nothing follows."""

    regex: Late
    stamp: bool = False


def _table(*rows: tuple[str, str, bool]) -> dict[str, tuple[Evident, ...]]:
    """Sort the expressions by the characters that they may begin with, so that most lines try none or few."""
    table: dict[str, list[Evident]] = {}
    for first, regex, stamp in rows:
        evident = Evident(Late(regex), stamp)
        for character in first:
            table.setdefault(character, []).append(evident)
    return {character: tuple(found) for character, found in table.items()}


_EVIDENT = _table(
    # PyTorch's own: "[rank0]: Traceback", "[rank5]:[E ProcessGroupNCCL.cpp:1182]"; torchrun's "[default0]:"
    ("[", r"\[(?:rank|default|trainer|worker)(?P<rank>\d{1,5})\]: ?", False),
    # mpirun --tag-output and horovodrun; whether a space follows is settled for all lines together
    ("[", r"\[(?:[\w.-]+@)?(?:\d+,)?(?P<rank>\d{1,5})\]<std(?:out|err|diag)>:", False),
    ("[", r"\[pod/(?P<host>[\w.-]+)/(?P<service>[\w.-]+)\] ?", False),
    # the kernel: "[  123.456789] ", with the caller, or with the host name of journalctl -o short-monotonic
    ("[", r"\[ *\d{1,8}\.\d{6}\](?:\[ *[TC]\d+\])? (?:(?P<host>[\w.-]+) kernel: )?", True),
    ("[", rf"\[{_DAY} {_MONTH} [ \d]\d {_CLOCK} \d{{4}}\] ?", True),
    ("[", rf"\[{_STAMP}{_ZONE}(?: (?:DP\d+ )?(?:TP(?P<rank>\d+))(?: EP\d+)?)?\] ?", True),
    ("[", rf"\[{_STAMP}: [IWEF] [\w./-]+:\d+\] ?", True),
    ("[", rf"\[{_CLOCK}\] ?", True),
    # Ray and vLLM: "(train pid=7, ip=10.0.0.2) ", "(EngineCore_0 pid=1) ", "(VllmWorker rank=1 pid=7) "
    (
        "(",
        r"\((?:(?P<service>[\w.:<>-]+) )?(?:rank=(?P<rank>\d{1,5}) )?pid=(?P<pid>\d+)"
        r"(?:, ip=(?P<host>[\w.:-]+))?\) ?",
        False,
    ),
    ("(", r"\((?P<service>raylet|autoscaler|gcs_server)(?:, ip=(?P<host>[\w.:-]+))?\) ?", False),
    # ISO times: of syslog with host and tag, of container runtimes, CI and plain loggers
    ("12", rf"{_STAMP}{_ZONE} (?P<host>[\w.-]+) (?=kernel: |[\w./@-]+\[\d+\]: ){_TAG}", True),
    ("12", rf"{_STAMP}{_ZONE} \| {_LEVEL} *\| [\w.<>]+:[\w.<>]+:\d+ - ", True),
    # (a zone after a space is how stat and ls print the times of files: content)
    ("12", rf"{_STAMP}{_ZONE} (?![+-]\d{{4}}\b)(?:(?:stdout|stderr) [FP] |\d\d[OE][+ ] ?)?", True),
    # syslog and journald; journalctl --no-hostname leaves the host out, -o short-full writes the date in full
    (
        "JFMASOND",
        rf"{_MONTH} [ \d]\d {_CLOCK} (?:(?P<host>[\w.-]+) (?=[\w./@-]+(?:\[\d+\])?: ))?{_TAG}",
        True,
    ),
    ("MTWFS", rf"{_DAY} {_STAMP} [A-Z]{{3,5}} (?P<host>[\w.-]+) {_TAG}", True),
    ("MTWFS", rf"{_DAY} {_MONTH} [ \d]\d {_CLOCK} \d{{4}}(?=\[(?:\d+,)?\d+\]<std)", True),
    ("<", r"<\d{1,2}>(?=\[ *\d)", True),
    (
        "kduls",
        r"(?:kern|user|daemon|syslog|auth|local\d) *:(?:emerg|alert|crit|err|warn|notice|info|debug) *: ",
        True,
    ),
    # vLLM and glog: level, time and place in the source
    ("DIWEC", rf"{_LEVEL} \d\d-\d\d {_CLOCK} \[?[\w./-]+\.py:\d+\] ?", True),
    ("IWEF", rf"[IWEF]\d{{4}} {_CLOCK}\s+\d+ [\w./-]+:\d+\] ?", True),
    ("#", r"#\d{1,4} \d+\.\d{1,3} ", True),  # BuildKit's plain progress
    ("E", r"E   (?=\s*\S)", False),  # pytest
    ("-", r"-{2,}> ?\d+ ", False),  # the arrow of IPython, at the line that failed
)
# gh run view --log: job, step and the time of the runner, separated by tabs
_RUNNER = Late(rf"[^\t]{{1,120}}\t[^\t]{{1,120}}\t(?={_STAMP}Z)")


class Peeled(NamedTuple):
    """One prefix that was found: its length and what it says. `stamp` as in Evident."""

    length: int
    said: dict[str, str | None]
    stamp: bool


def peel_evident(text: str) -> Peeled | None:
    """Recognise one evident prefix at the start of `text`."""
    for evident in _EVIDENT.get(text[:1], ()):
        found = evident.regex.match(text)
        if found:
            said = found.groupdict()
            said["service"] = said.get("service") or said.pop("unit", None)
            return Peeled(found.end(), said, evident.stamp)
    if "\t" in text:
        found = _RUNNER.match(text)
        if found:
            return Peeled(found.end(), {}, True)
    return None


def peel_regular(texts: Sequence[str]) -> dict[int, Peeled]:
    """Recognise the prefixes that only their neighbours prove; keys are indexes into `texts`."""
    found: dict[int, Peeled] = {}
    for recognise in _REGULAR:
        found.update(recognise(texts))
        if found:
            break  # one layer at a time: the next round sees what is below it
    return found


_COMPOSE = Late(r"([A-Za-z][\w.-]{1,100})( {0,100})\|(?: |$)")
_LEVEL_NAME = Late(_LEVEL + "$")


def _compose(texts: Sequence[str]) -> dict[int, Peeled]:
    """docker compose: the name of the container, padded so that all bars stand in one column."""
    rows = [(i, m) for i, text in enumerate(texts) if "|" in text and (m := _COMPOSE.match(text))]
    if not rows:
        return {}
    column = Counter(m.end(2) for _, m in rows).most_common(1)[0][0]
    rows = [(i, m) for i, m in rows if m.end(2) == column and not _LEVEL_NAME.match(m[1])]
    count = Counter(m[1] for _, m in rows)
    return {
        i: Peeled(m.end(), {"service": m[1]}, False)
        for i, m in rows
        if count[m[1]] >= (2 if re.search(r"[-_]\d+$", m[1]) else 3)
    }


_STERN = Late(r"([a-z][a-z0-9.-]{0,200}-[a-z0-9]{5}) ([a-z][a-z0-9.-]{0,60}) ")


def _stern(texts: Sequence[str]) -> dict[int, Peeled]:
    """stern: pod and container before every line."""
    rows = [(i, m) for i, text in enumerate(texts) if (m := _STERN.match(text))]
    count = Counter(m[0] for _, m in rows)
    return {i: Peeled(m.end(), {"host": m[1], "service": m[2]}, False) for i, m in rows if count[m[0]] >= 3}


_TASK = Late(r" {0,4}(\d{1,5}):(?: |$)")
_NODE = Late(r"([A-Za-z][A-Za-z_.-]{0,60}\d[\w.-]{0,60}):(?: |$)")
_SLURM = Late(r"(?:srun|slurmstepd|salloc): ")
_FILE_NAME = Late(r"\.(?:so|py|cu|cuh|cpp|cc|c|h|o|json|safetensors|bin|whl|pt|pth|ya?ml|log|txt|conf)\b")


def _tasks(texts: Sequence[str]) -> dict[int, Peeled]:
    """srun --label: the task number before every line of a run."""
    found: dict[int, Peeled] = {}
    for run in _runs(texts, _TASK):
        if len(run) >= 3 and _says_several_things(texts, run):
            found.update({i: Peeled(m.end(), {"rank": m[1]}, False) for i, m in run})
    return found


def _nodes(texts: Sequence[str]) -> dict[int, Peeled]:
    """pdsh and DeepSpeed's launcher: the host name before every line of a run."""
    found: dict[int, Peeled] = {}
    for run in _runs(texts, _NODE):
        names = {m[1] for _, m in run}
        if len({re.sub(r"\d+", "0", name) for name in names}) != 1 or _FILE_NAME.search(run[0][1][1]):
            continue
        if len(run) >= (4 if len(names) > 1 else 5) and _says_several_things(texts, run):
            found.update({i: Peeled(m.end(), {"host": m[1]}, False) for i, m in run})
    return found


def _runs(texts: Sequence[str], regex: Late) -> Iterator[list[tuple[int, re.Match[str]]]]:
    """Yield the runs of lines that match; empty lines and the launcher's own do not interrupt one."""
    run: list[tuple[int, re.Match[str]]] = []
    for i, text in enumerate(texts):
        found = regex.match(text)
        if found:
            run.append((i, found))
        elif run and text and not _SLURM.match(text):
            yield run
            run = []
    if run:
        yield run


def _says_several_things(texts: Sequence[str], run: list[tuple[int, re.Match[str]]]) -> bool:
    """Tell labels from keys: under one label a program says several things, `ip -o addr` repeats the name."""
    words: dict[str, set[str]] = {}
    for i, found in run:
        first = texts[i][found.end() :].split(None, 1)[:1]
        words.setdefault(found[1], set()).update(first)
    return any(len(said) > 1 for said in words.values())


_QUOTE = Late(r">(?!>>)(?: ?>(?!>>))*(?: |$)")
_UNFINISHED = Late(r"(?:\\|\||&&|\bdo|\bthen|[{(])$")


def _quoted(texts: Sequence[str]) -> dict[int, Peeled]:
    """Markdown and mail quoting: a run of lines that stands by itself, or most of the text."""
    rows = [(i, m) for i, text in enumerate(texts) if text[:1] == ">" and (m := _QUOTE.match(text))]
    if len(rows) < 3:
        return {}
    nearly_all = len(rows) > 0.6 * sum(1 for text in texts if text)
    found: dict[int, Peeled] = {}
    for run in _consecutive(rows):
        before = texts[run[0][0] - 1] if run[0][0] else ""
        if _UNFINISHED.search(before):
            continue  # the shell asks for the rest of a command
        if nearly_all or (len(run) >= 3 and (not before or before.endswith(":"))):
            found.update({i: Peeled(m.end(), {}, False) for i, m in run})
    return found


def _consecutive(rows: list[tuple[int, re.Match[str]]]) -> Iterator[list[tuple[int, re.Match[str]]]]:
    run: list[tuple[int, re.Match[str]]] = []
    for row in rows:
        if run and row[0] != run[-1][0] + 1:
            yield run
            run = []
        run.append(row)
    if run:
        yield run


_STEP_HEAD = Late(r" ?> \[[^\]]{0,120}?\b\d{1,4}/\d{1,4}\]")
_SECONDS = Late(r"\d{1,5}\.\d{1,3} ")


def _failed_step(texts: Sequence[str]) -> dict[int, Peeled]:
    """BuildKit's summary of the step that failed: seconds before every line, between two rules."""
    found: dict[int, Peeled] = {}
    inside = False
    for i, text in enumerate(texts):
        if _STEP_HEAD.match(text):
            inside = True
        elif inside:
            match = _SECONDS.match(text)
            if match:
                found[i] = Peeled(match.end(), {}, True)
            inside = not text.startswith("------")
    return found


_REGULAR: tuple[Callable[[Sequence[str]], dict[int, Peeled]], ...] = (
    _quoted,
    _compose,
    _stern,
    _tasks,
    _nodes,
    _failed_step,
)
