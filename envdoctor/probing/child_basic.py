"""Children on Windows, where pipes cannot be selected and no descriptor is inherited.

The same requests and results; answers come through a file, output is cut down after the end instead of while
it comes, and what the child itself started is not looked for.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
import time

from envdoctor.probing.child import Captured, ChildEnd, ChildRequest, ChildResult
from envdoctor.probing.child_kept import Answers, Exit, HeadAndTail, verdict

_KILL_WAIT = 2.0


def run_basic(request: ChildRequest) -> ChildResult:
    """Run a child to its end or its deadline."""
    began = time.monotonic()
    try:
        with tempfile.TemporaryDirectory(prefix="envdoctor-", ignore_cleanup_errors=True) as directory:
            return _run_in(directory, request, began)
    except (OSError, ValueError, TypeError, IndexError) as error:
        seconds = time.monotonic() - began
        return ChildResult(end=ChildEnd.NOT_STARTED, argv=request.argv, error=str(error), seconds=seconds)


def _run_in(directory: str, request: ChildRequest, began: float) -> ChildResult:
    answer_file = os.path.join(directory, "answers")
    open(answer_file, "xb").close()
    env = dict(os.environ if request.env is None else request.env)
    if request.answers:
        env["ENVDOCTOR_ANSWER_FD"] = answer_file
    if request.temporary_directory:
        env |= {"TEMP": directory, "TMP": directory, "TMPDIR": directory}
    process = subprocess.Popen(
        list(request.argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=request.cwd,
    )
    stdout, stderr, in_time = _communicate(process, request)
    seconds = time.monotonic() - began
    answers = Answers(request.max_answer)
    with open(answer_file, "rb") as file:
        answers.add(file.read(request.max_answer + 1))
    answers.read()
    code = process.returncode
    return ChildResult(
        end=verdict(Exit(code=code), answers if request.answers else None) if in_time else ChildEnd.TIMED_OUT,
        argv=request.argv,
        exit_code=code,
        seconds=seconds,
        done=answers.done,
        stages=tuple(answers.stages),
        stdout=_kept(stdout, request.max_output),
        stderr=_kept(stderr, request.max_output),
        error=answers.error,
    )


def _communicate(process: subprocess.Popen[bytes], request: ChildRequest) -> tuple[bytes, bytes, bool]:
    """Both streams, and whether the child came to its end before the deadline."""
    try:
        stdout, stderr = process.communicate(request.stdin, timeout=request.deadline)
    except subprocess.TimeoutExpired:
        process.kill()
    else:
        return stdout, stderr, True
    try:
        stdout, stderr = process.communicate(timeout=_KILL_WAIT)
    except subprocess.TimeoutExpired as late:  # something that the child started holds the pipes
        stdout, stderr = late.output or b"", late.stderr or b""
    return stdout, stderr, False


def _kept(stream: bytes, limit: int) -> Captured:
    kept = HeadAndTail(limit)
    kept.add(stream)
    return kept.captured()
