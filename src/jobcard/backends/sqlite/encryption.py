"""Another key for an encrypted file."""

from __future__ import annotations

from dataclasses import replace

from jobcard.backends.sqlite import keys
from jobcard.backends.sqlite.files import FileConnection
from jobcard.backends.sqlite.options import Options
from jobcard.errors import ConfigError, StoreUnavailableError


def change_key(path: str, options: Options, new_key: object) -> None:
    """Encrypt a file with another key; nobody may have it open, and nobody can open it meanwhile."""
    checked = keys.check("the new key", new_key)
    if options.encryption_key is None:
        raise ConfigError("this store is not encrypted: copy it into one that is, and it has a key")
    opened = FileConnection(path, options, create=False)
    connection = opened.connection
    try:
        # Whoever had it open in WAL mode would go on with the old key. Without a WAL nobody else is in, and a death in
        # the middle is undone by the next one who opens the file.
        connection.execute("pragma locking_mode = exclusive")
        connection.execute("pragma journal_mode = delete")
        connection.change_key(checked)
    except StoreUnavailableError as error:
        raise StoreUnavailableError(
            "the file is in use: its key can be changed when every engine and client of it has stopped"
        ) from error
    finally:
        opened.close()
    # Opened with the new one it gets its journal back, and proves that it has it.
    FileConnection(path, replace(options, encryption_key=checked), create=False).close()
