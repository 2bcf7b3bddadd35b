"""`jobcard completion`: the script that lets a shell complete this command."""

from __future__ import annotations

import click

from jobcard.cli import output
from jobcard.cli.options import plain

_EXAMPLES = """\b
Examples:
  eval "$(jobcard completion bash)"            in ~/.bashrc
  eval "$(jobcard completion zsh)"             in ~/.zshrc
  jobcard completion fish > ~/.config/fish/completions/jobcard.fish
"""


@click.command(epilog=_EXAMPLES)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@plain
def completion(shell: str) -> None:
    """Print the script that completes commands and options in bash, zsh or fish."""
    from click.shell_completion import get_completion_class

    from jobcard.cli.main import COMPLETION, cli

    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(cli, {}, "jobcard", COMPLETION)
    # Not `source()`: for bash that looks at the version of the bash found here, which need not be the reader's.
    output.emit((made.source_template % made.source_vars()).rstrip("\n"))
