"""`jobcard doctor`: do this store and this machine keep what Jobcard promises, and what to do where not?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobcard.cli import output
from jobcard.cli.application import APP_HELP, load_for_reading, parse_reference
from jobcard.cli.options import common, open_store, start_logging
from jobcard.engine import exits

if TYPE_CHECKING:
    from jobcard.client import Jobcard
    from jobcard.client.doctor import Diagnosis
    from jobcard.core.findings import Finding

_EXAMPLES = f"""{APP_HELP}

\b
Examples:
  jobcard doctor
  jobcard doctor --url postgresql://jobs@db.example/shop --strict
  jobcard doctor shop:jobs --json

\b
Exit code 0: no errors; 1: errors, or warnings with --strict;
3: the store does not answer.
"""

_TITLES = {
    "versions": "Versions",
    "durability": "What the store survives",
    "url": "The way to the store",
    "file": "Its file",
    "store": "The store",
    "clock": "Its clock",
    "engines": "Engines",
    "queues": "Queues",
    "jobs": "Jobs set aside",
    "rows": "Stored jobs",
}
"""Areas in the order in which they are printed; an area of a store of somebody's own comes last, under its own name."""


@click.command(epilog=_EXAMPLES)
@click.argument("app", required=False)
@click.option("--strict", is_flag=True, help="Exit with 1 for warnings, too.")
@click.option("--full", is_flag=True, help="Look at every stored job, not only at the newest ones.")
@common()
def doctor(app: str | None, strict: bool, full: bool, url: str | None, as_json: bool) -> int:
    """Say whether this store and this machine keep what Jobcard promises, and how to mend it where not.

    It looks at versions, at what the store would not survive, at clocks, at the way to the store, at engines and
    queues, and through stored jobs for what cannot be. Nothing is changed. With APP it looks at the application's
    store and goes by its settings.
    """
    from jobcard.cli.progress import progress
    from jobcard.client.doctor import Diagnosis, look_over

    with _opened(app, url) as jobs, progress(None, "looked at") as tell:
        found = look_over(jobs.parts, full=full, tell=tell)
    if url is not None:
        found = Diagnosis(findings=[*found.findings, _command_line(url)], versions=found.versions)
    if as_json:
        _print_json(found)
    else:
        _print(found)
    return _exit_code(found, strict=strict)


def _opened(app: str | None, url: str | None) -> Jobcard:
    if app is None:
        return open_store(url)
    start_logging()
    return load_for_reading(parse_reference(app), url)


def _command_line(url: str) -> Finding:
    from jobcard.backends.url import has_password
    from jobcard.core.findings import ok, warning

    code, subject = "url.command_line", "--url"
    if has_password(url):
        text = "the password stands in the command line, where every user of this machine can read it"
        return warning(code, subject, text, "put the URL into $JOBCARD_URL, and leave --url out")
    return ok(code, subject, "it holds no password")


def _exit_code(found: Diagnosis, *, strict: bool) -> int:
    from jobcard.core.findings import Severity

    if not found.reached:
        return exits.STORE
    return exits.OK if found.ok and not (strict and found.of(Severity.WARNING)) else exits.FAILED


def _print_json(found: Diagnosis) -> None:
    from jobcard.cli.record import to_plain

    plain = [to_plain(finding) for finding in found.findings]
    output.emit_json({"ok": found.ok, "findings": plain, "versions": dict(found.versions)})


def _print(found: Diagnosis) -> None:
    by_area: dict[str, list[Finding]] = {area: [] for area in _TITLES}
    for finding in found.findings:
        by_area.setdefault(finding.area, []).append(finding)
    for area, findings in by_area.items():
        if findings:
            output.emit(_TITLES.get(area, area))
            for finding in findings:
                _print_finding(finding)
            output.emit("")
    output.emit(_summary(found))


def _print_finding(finding: Finding) -> None:
    severity = output.colored(f"{finding.severity:<7}", output.SEVERITY_STYLES[finding.severity])
    # A setting's name mostly stands in the sentence already.
    said = finding.text if finding.text.startswith(finding.subject) else f"{finding.subject}: {finding.text}"
    output.emit(f"  {severity}  {finding.code}  {output.one_line(said)}")
    if finding.fix:
        output.emit(f"{'':11}fix: {output.one_line(finding.fix)}")


def _summary(found: Diagnosis) -> str:
    from jobcard.core.findings import Severity

    numbers = [(len(found.of(severity)), severity) for severity in (Severity.ERROR, Severity.WARNING, Severity.NOTE)]
    told = [f"{number} {severity}{'' if number == 1 else 's'}" for number, severity in numbers if number]
    return ", ".join(told) or "all is well"
