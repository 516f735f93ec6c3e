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
from envdoctor.session import Doctor, Seen

if TYPE_CHECKING:
    from envdoctor.cli.options import Presentation
    from envdoctor.report import Report, Selection, SourceOfFacts

See = Callable[[Doctor, Progress], Seen]


def deliver(see: See, selection: Selection, wanted: Presentation, source: SourceOfFacts) -> int:
    """Look, judge, write. Returns the exit code; raises `EnvdoctorError` for what the user got wrong.

    When envdoctor itself breaks, a format that programs read gets its document all the same.
    """
    try:
        report = _report(see, selection, wanted)
        page = render(report, wanted.format, wanted.options)
    except NoChecksError as error:
        say(f"envdoctor: {error}")
        return _put(crashed(str(error), source), wanted)
    except EnvdoctorError:
        raise
    except Exception as error:
        tell(error)
        return _put(crashed(described(error), source), wanted)
    return _written(page, wanted, report.summary.exit_code)


def _report(see: See, selection: Selection, wanted: Presentation) -> Report:
    doctor = installed_doctor()
    verify(doctor, selection)
    with Progress.on_stderr(quiet=wanted.quiet) as progress:
        seen = see(doctor, progress)
        progress.says("judging")
        report = doctor.report(seen, selection)
        return redacted(report) if wanted.redact else report


def _put(report: Report, wanted: Presentation) -> int:
    """The document of a run that broke, where a program waits for one."""
    if FORMATS[wanted.format].whole_document:
        return _written(render(report, wanted.format, wanted.options), wanted, report.summary.exit_code)
    return report.summary.exit_code


def _written(page: str, wanted: Presentation, code: int) -> int:
    try:
        if wanted.output is not None:
            write_file(wanted.output, page)
            if not wanted.quiet:
                say(f"report written to {wanted.output}")
        else:
            write_out(page)
    except (OSError, WriteError) as error:
        say(f"envdoctor: the report could not be written: {error}")
        return 3
    return code


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
