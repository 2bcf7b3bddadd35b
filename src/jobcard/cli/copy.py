"""`jobcard copy`: everything of one store into another, at rest or while it is used."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import asdict
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from jobcard.cli import output
from jobcard.cli.asking import agreed
from jobcard.cli.options import MOMENT, plain, start_logging, url_option
from jobcard.core.states import JobState
from jobcard.engine import exits

if TYPE_CHECKING:
    from jobcard.moving.copying import Copied
    from jobcard.moving.pages import Selection
    from jobcard.moving.plan import Plan
    from jobcard.moving.stores import Stores
    from jobcard.moving.verify import Verified
    from jobcard.moving.voice import Voice

_EPILOG = """\b
Examples:
  jobcard copy --from sqlite:///jobs.db --to postgresql://db.example/shop --dry-run
  jobcard copy --from sqlite:///jobs.db --to postgresql://db.example/shop --live
  jobcard copy --from sqlite:///jobs.db --to postgresql://db.example/shop --live --rollback

\b
Killed at any moment, the same command goes on from there. Exit code 0: the
target has everything, verified job by job; 1: it has not, or not yet.
"""


def _several(ctx: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...]:
    return () if value is None else tuple(filter(None, (part.strip() for part in value.split(","))))


@click.command(epilog=_EPILOG)
@url_option("What is copied; else the store found as by every command.", "--from", "source")
@url_option("Where to; else $JOBCARD_MOVING_TO.", "--to", "target")
@click.option("--live", is_flag=True, help="Move while engines and producers go on; the source is sealed in the end.")
@click.option("--dry-run", is_flag=True, help="Change nothing: say what would be copied, and what stands in the way.")
@click.option("--verify", is_flag=True, help="Change nothing: say whether the target has everything.")
@click.option("--abort", is_flag=True, help="Give up what is not at its end: the target is emptied again.")
@click.option("--rollback", is_flag=True, help="Open a sealed source again, until the target is open.")
@click.option("--merge", is_flag=True, help="The target may have jobs; they stay as they are.")
@click.option("--states", callback=_several, metavar="A,B", help="Only jobs in these states.")
@click.option("--queues", callback=_several, metavar="A,B", help="Only jobs of these queues.")
@click.option("--since", type=MOMENT, metavar="TIME", help="Only jobs created then or later: a time, or 15m, 2h, 3d.")
@click.option("--skip-unreadable", is_flag=True, help="Jobs that cannot be read are no reason to fail.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@plain
def copy(
    source: str | None,
    target: str | None,
    live: bool,
    dry_run: bool,
    verify: bool,
    abort: bool,
    rollback: bool,
    merge: bool,
    states: tuple[str, ...],
    queues: tuple[str, ...],
    since: datetime | None,
    skip_unreadable: bool,
    yes: bool,
    as_json: bool,
) -> int:
    """Copy every job of one store into another, with queues, schedules, ids, times and unique keys.

    The source stays as it is, and in use; no engine may be at work meanwhile. With --live engines and producers go
    on, and the target takes over: start those that shall follow with $JOBCARD_MOVING_TO before. See docs/moving.md.
    """
    from jobcard.moving import copying
    from jobcard.moving import live as moving
    from jobcard.moving.plan import plan
    from jobcard.moving.stores import open_stores

    _check_words(live=live, dry_run=dry_run, verify=verify, abort=abort, rollback=rollback)
    if live and (merge or states or queues or since):
        raise click.UsageError("--live moves everything into an empty store: leave out --merge and what chooses jobs")
    selection = _selection(states, queues, since)
    looks_only = dry_run or verify
    start_logging()
    with open_stores(*_urls(source, target), migrate=not looks_only, missing_is_empty=dry_run) as stores:
        if dry_run:
            found = plan(stores, selection, merge=merge, live=live)
            return _tell_plan(stores, found, as_json)
        voice = _voice(as_json)
        if verify:
            return _tell_verified(copying.check(stores, selection, merged=merge, voice=voice), skip_unreadable, as_json)
        if rollback:
            moving.roll_back(stores, voice=voice)
            return _tell_done("the source takes jobs again; run the same with --live to go on, or --abort", as_json)
        if abort:
            question = f"Give this move up, and delete what was copied into {stores.target_name}?"
            if not agreed(question, yes=yes):
                return exits.FAILED
            moving.abort(stores, voice=voice)
            return _tell_done("given up: the source is as it was, and the target is open", as_json)
        if live:
            copied = moving.move_live(stores, skip_unreadable=skip_unreadable, voice=voice)
        else:
            copied = copying.copy(stores, selection, merge=merge, voice=voice)
        if copied is None:
            return _tell_done("nothing to do: the target has taken over already, and the source is sealed", as_json)
        return _tell_copied(copied, skip_unreadable, as_json)


def _check_words(**given: bool) -> None:
    """One of what changes nothing or takes back; `--live` may stand beside, for the command is the same but for it."""
    words = [name for name, value in given.items() if value and name != "live"]
    if len(words) > 1:
        raise click.UsageError(f"--{words[0].replace('_', '-')} and --{words[1].replace('_', '-')}: say one of them")


def _urls(source: str | None, target: str | None) -> tuple[str, str]:
    from jobcard.client import sources

    target = target or sources.find_moving_to()
    if target is None:
        raise click.UsageError(f"Missing option '--to', and no ${sources.MOVING_TO} stands in for it")
    return source or sources.find_url(), target


def _selection(states: tuple[str, ...], queues: tuple[str, ...], since: datetime | None) -> Selection:
    from jobcard.core.clock import to_instant
    from jobcard.moving.pages import Selection

    if unknown := sorted(set(states) - {*JobState}):
        raise click.UsageError(f"--states: {', '.join(unknown)}: choose from {', '.join(JobState)}")
    return Selection(
        states=frozenset(states), queues=frozenset(queues), since=None if since is None else to_instant(since)
    )


def _voice(as_json: bool) -> Voice:
    from jobcard.cli.progress import progress
    from jobcard.moving.voice import Voice

    def bar(total: int | None, done: str) -> AbstractContextManager[Callable[[int], None]]:
        return progress(total, done, lines=not as_json)

    return Voice(say=partial(output.note), progress=bar)


# ------------------------------------------------------------------ telling


def _tell_done(text: str, as_json: bool) -> int:
    if as_json:
        output.emit_json({"done": text})
    else:
        output.emit(text)
    return exits.OK


def _tell_plan(stores: Stores, found: Plan, as_json: bool) -> int:
    if as_json:
        output.emit_json(
            {
                "jobs": {**dict.fromkeys(JobState, 0), **found.jobs, "total": sum(found.jobs.values())},
                **asdict(found.settled),
                "unreadable": found.unreadable,
                "target": {"same": found.same, "changed": found.changed, "others": found.others},
                "engines": found.engines,
                "problems": found.problems,
            }
        )
    else:
        rows: list[dict[str, Any]] = [
            {"what": f"jobs {state}", "count": found.jobs.get(state, 0)} for state in JobState
        ]
        rows += [
            {"what": "jobs in all", "count": sum(found.jobs.values())},
            {"what": "queues", "count": found.settled.queues},
            {"what": "schedules", "count": found.settled.schedules},
            {"what": "once keys", "count": found.settled.once_keys},
            {"what": "jobs that cannot be read", "count": found.unreadable},
            {"what": "in the target already", "count": found.same},
            {"what": "in the target, but not the same", "count": found.changed},
            {"what": "in the target alone", "count": found.others},
            {"what": "live engines on the source", "count": len(found.engines["source"])},
            {"what": "live engines on the target", "count": len(found.engines["target"])},
        ]
        output.table(("what", "count"), [{**row, "count": f"{row['count']:,}"} for row in rows])
        for problem in found.problems:
            output.emit(f"in the way: {problem}")
        if not found.problems:
            output.emit("nothing stands in the way; nothing was changed")
    return exits.FAILED if found.problems else exits.OK


def _plain_verified(verified: Verified) -> dict[str, Any]:
    return {
        "jobs": verified.jobs,
        "missing": verified.missing,
        "different": verified.different,
        "others": verified.others,
        "unreadable": verified.unreadable,
        "names": verified.names,
        "settings": verified.settings,
        "checksum_source": str(verified.source),
        "checksum_target": str(verified.target),
        "equal": verified.is_equal,
    }


def _tell_verified(verified: Verified, skip_unreadable: bool, as_json: bool) -> int:
    is_good = verified.is_equal and (skip_unreadable or not verified.unreadable)
    if as_json:
        output.emit_json(_plain_verified(verified))
    else:
        _print_verified(verified)
    return exits.OK if is_good else exits.FAILED


def _print_verified(verified: Verified) -> None:
    if verified.is_equal:
        output.emit(f"verified: all {verified.jobs:,} jobs are in the target, the same")
    else:
        output.emit(
            f"NOT equal: of {verified.jobs:,} jobs {verified.missing:,} are missing in the target, "
            f"{verified.different:,} are different there"
        )
        for name in [*verified.names, *verified.settings]:
            output.emit(f"  {name}")
    if verified.source.jobs:
        output.emit(f"checksum  source {verified.source}  target {verified.target}")
    if verified.others:
        output.emit(f"the target has {verified.others:,} jobs that the source has not")
    if verified.unreadable:
        output.emit(f"{verified.unreadable:,} jobs of the source cannot be read")


def _tell_copied(copied: Copied, skip_unreadable: bool, as_json: bool) -> int:
    is_good = copied.is_good(skip_unreadable=skip_unreadable)
    passed, settled = copied.passed, copied.settled
    if as_json:
        output.emit_json(
            {
                "jobs": copied.verified.jobs,
                "written": passed.written,
                "kept": passed.kept,
                "left_out": passed.left_out,
                **(asdict(settled) if settled is not None else {}),
                "seconds": round(copied.seconds, 3),
                "paused_seconds": None if copied.paused is None else round(copied.paused, 3),
                "verified": _plain_verified(copied.verified),
                "ok": is_good,
            }
        )
        return exits.OK if is_good else exits.FAILED
    if settled is None:
        output.emit("nothing to do: the target has all of it already")
    else:
        rate = f" ({passed.written / copied.seconds:,.0f} a second)" if copied.seconds > 1 else ""
        output.emit(f"written: {passed.written:,} jobs in {copied.seconds:.1f} s{rate}")
        output.emit(
            f"with them: {settled.queues:,} queues, {settled.schedules:,} schedules, {settled.once_keys:,} once keys"
        )
    if passed.kept:
        output.emit(f"{passed.kept:,} jobs were in the target, and stay there as they are")
    for job_id, why in passed.left_out.items():
        output.emit(f"left out: {job_id}: {why}")
    _print_verified(copied.verified)
    if copied.paused is not None:
        output.emit(f"the target has taken over; nobody could claim or enqueue for {copied.paused:.1f} s")
    return exits.OK if is_good else exits.FAILED
