"""`jobcard grants`: what an administrator tells the server, so that each part of the system has a user of its own."""

from __future__ import annotations

import click

from jobcard.backends.roles import Role
from jobcard.cli import output
from jobcard.cli.options import URL_HELP, common


@click.command(epilog="Example: jobcard grants --url postgresql://db.example/shop --role producer --user shop_web")
@click.option("--role", type=click.Choice([role.value for role in Role]), required=True, help="What the user is for.")
@click.option("--user", metavar="NAME", required=True, help="The user on the server, who is there already.")
@common(URL_HELP)
def grants(role: str, user: str, url: str | None, as_json: bool) -> None:
    """Print the statements that give a user of the server what it needs, and no more.

    Nothing is opened or changed, and no password is printed. Roles: engine, producer, viewer, migration.
    """
    from jobcard.backends.registry import open_backend
    from jobcard.backends.roles import HasRoles
    from jobcard.client import sources
    from jobcard.errors import ConfigError

    where = url or sources.find_url()
    store = open_backend(where)
    try:
        if not isinstance(store, HasRoles):
            kind = where.partition(":")[0]
            raise ConfigError(f"a store of {kind} knows no roles: whoever reaches it may do everything in it")
        statements = store.grants(Role(role), user)
        end = getattr(store, "statement_end", ";")  # a server's own client may take it for a part of the last word
    finally:
        store.close()
    if as_json:
        output.emit_json([*statements])
    else:
        for statement in statements:
            output.emit(f"{statement}{end}")
