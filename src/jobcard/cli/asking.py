"""Asking before what cannot be taken back."""

from __future__ import annotations

import sys

import click

from jobcard.cli import output


def agreed(question: str, *, yes: bool) -> bool:
    """Whether somebody agrees: with `--yes` unasked; a usage error where nobody can be asked."""
    if yes:
        return True
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody can be asked here: say --yes")
    if click.confirm(question, err=True):
        return True
    output.note("nothing was changed")
    return False
