"""What ``check`` and ``explain`` share: facts to a report to a page to its place, and an exit code."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from envdoctor.cli.crash import crashed, described, tell
from envdoctor.cli.failures import NoChecksError, WriteError
from envdoctor.cli.files import write_file
from envdoctor.cli.leaving import say, write_out
from envdoctor.cli.progress import Progress
from envdoctor.errors import EnvdoctorError, UsageError
from envdoctor.render import FORMATS, render
from envdoctor.report import TargetEntry
from envdoctor.session import Doctor, Seen

if TYPE_CHECKING:
    from envdoctor.cli.options import Presentation
    from envdoctor.report import Report, Selection, SourceOfFacts

See = Callable[[Doctor, Progress], Seen]


class _Run:
    """One run, which knows what it has learnt should it break."""

    def __init__(self, selection: Selection, wanted: Presentation, target: TargetEntry) -> None:
        self._selection = selection
        self._wanted = wanted
        self._target = target

    def report(self, see: See) -> Report:
        """Look and judge."""
        doctor = installed_doctor()
        verify(doctor, self._selection)
        with Progress.on_stderr(quiet=self._wanted.quiet) as progress:
            seen = see(doctor, progress)
            self._target = seen.target
            progress.says("judging")
            report = doctor.report(seen, self._selection)
            return redacted(report) if self._wanted.redact else report

    def broken(self, what: str) -> int:
        """The document of a run that broke, where a program waits for one; the exit code."""
        report = crashed(what, self._target)
        if FORMATS[self._wanted.format].whole_document:
            report = redacted(report) if self._wanted.redact else report
            _written(render(report, self._wanted.format, self._wanted.options), self._wanted)
        return report.summary.exit_code


def deliver(see: See, selection: Selection, wanted: Presentation, source: SourceOfFacts) -> int:
    """Look, judge, write. Returns the exit code; raises `EnvdoctorError` for what the user got wrong.

    When envdoctor itself breaks, a format that programs read gets its document all the same.
    """
    run = _Run(selection, wanted, TargetEntry(source))
    try:
        report = run.report(see)
        page = render(report, wanted.format, wanted.options)
    except NoChecksError as error:
        say(f"envdoctor: {error}")
        return run.broken(str(error))
    except EnvdoctorError:
        raise
    except Exception as error:
        tell(error)
        return run.broken(described(error))
    return report.summary.exit_code if _written(page, wanted) else 3


def _written(page: str, wanted: Presentation) -> bool:
    """Whether the page got to where it was wanted; where not, stderr says why."""
    try:
        if wanted.output is None:
            write_out(page)
            return True
        write_file(wanted.output, page)
    except (OSError, WriteError) as error:
        say(f"envdoctor: the report could not be written: {error}")
        return False
    if not wanted.quiet:
        say(f"report written to {wanted.output}")
    return True


def installed_doctor() -> Doctor:
    """The loaded checks. Raises `NoChecksError` when there are none."""
    doctor = Doctor()
    if doctor.plugins.checks:
        return doctor
    if not doctor.plugins.broken:
        raise NoChecksError(
            "no checks are installed; put them back with: pip install --force-reinstall envdoctor"
        )
    broken = doctor.plugins.broken
    raise NoChecksError(
        f"none of the installed checks ({len(broken)}) could be loaded; {broken[0].entry_point.name}: "
        f"{broken[0].error}; put them back with: pip install --force-reinstall envdoctor"
    )


def verify(doctor: Doctor, selection: Selection) -> None:
    """Refuse ids that do not exist, and a selection that leaves nothing to report."""
    doctor.verify_selection(selection)
    if not any(selection.wants(rule) for rule in doctor.rule_ids()):
        raise UsageError("--select and --ignore together leave no rule to report")


def redacted(report: Report) -> Report:
    """The report without what names this machine, its devices and its users."""
    from envdoctor.host import Host
    from envdoctor.redact import Redactor, own_names, redact_report

    return redact_report(report, Redactor(**own_names(Host.here())))
