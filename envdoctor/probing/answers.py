"""How a script answers from the examined interpreter: `child.python_request` runs it after this.

Standard library only, Python 3.8 and later. Each answer is one line of JSON on a descriptor of its own, so
whatever the script or a library prints, or does to stdout and stderr, cannot disturb it.
"""

import os
import sys
import time

if __name__ == "__main__" and sys.path[:1] == [""]:
    # `python -c` would import json, or torch, from whatever directory envdoctor was started in.
    del sys.path[0]

import json  # only now: the current directory is off the path

_BEGAN = time.monotonic()
_descriptor = -1


def answer(stage: str, /, **fields: object) -> None:
    """Tell that `stage` is reached, with what was learnt; call it *before* a call that may crash or hang.

    Values that JSON does not know are told as text, NaN and infinities too. "at" is seconds since the script
    began.
    """
    _write({"stage": stage, "at": round(time.monotonic() - _BEGAN, 6), **fields})


def done() -> None:
    """Tell that the script came to its end: nothing is missing."""
    _write({"done": True})


def _write(record: "dict[str, object]") -> None:
    if _descriptor < 0:
        raise RuntimeError("only the process that envdoctor started may answer, not one that it forked")
    try:
        text = json.dumps(record, ensure_ascii=False, allow_nan=False, default=str)
    except ValueError:  # NaN or an infinity, for which JSON has no number
        record = json.loads(json.dumps(record, default=str), parse_constant=str)
        text = json.dumps(record, ensure_ascii=False)
    rest = text.encode("utf-8", "surrogatepass") + b"\n"  # undecodable names: the reader shows U+FFFD
    while rest:
        rest = rest[os.write(_descriptor, rest) :]


def _forget() -> None:
    """In a forked process: let go of the pipe, which else would stay open as long as it lives."""
    global _descriptor  # noqa: PLW0603 - one script, one descriptor
    os.close(_descriptor)
    _descriptor = -1


def _open() -> None:
    """The descriptor that the variable names; on Windows, where none is inherited, the file that it names."""
    global _descriptor  # noqa: PLW0603 - as above
    where = os.environ.pop("ENVDOCTOR_ANSWER_FD")
    if where.isdigit():
        _descriptor = int(where)
        os.set_inheritable(_descriptor, False)
    else:
        _descriptor = os.open(where, os.O_WRONLY | os.O_APPEND | getattr(os, "O_BINARY", 0))
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_forget)


def _tell_where_it_hung() -> None:
    """SIGTERM, which comes at the deadline, first writes the Python lines of every thread to stderr."""
    import faulthandler

    if hasattr(faulthandler, "register"):
        sigterm = 15  # `import signal` costs milliseconds
        faulthandler.register(sigterm, all_threads=True, chain=True)


if __name__ == "__main__":
    _open()
    _tell_where_it_hung()
    # The script comes as an argument of its own: its tracebacks count its own lines, and it may begin with
    # __future__.
    exec(compile(sys.argv.pop(1), "<envdoctor>", "exec", dont_inherit=True), globals())  # noqa: S102 - our own script
