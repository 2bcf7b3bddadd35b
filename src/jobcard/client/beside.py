"""Another client of the same application: the same store, through connections of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jobcard.backends.ready import make_ready

if TYPE_CHECKING:
    from jobcard.client.app import Jobcard


def beside(app: Jobcard, *, url: str | None = None, pool_size: int, call_timeout: float) -> Jobcard:
    """A client that reads and writes as `app` does, with a pool of its own; the same one where there can be no other.

    url: another store to ask instead, such as a replica, whose schema is left as it is. pool_size: connections at
    most. call_timeout: seconds that a statement may take, and a call waits for a connection or for what others hold
    locked. Opens the store: `StoreError` while it cannot be reached.
    """
    from jobcard.backends.registry import open_backend
    from jobcard.client.app import Jobcard

    connection = app.parts.connection
    given, settings = connection.own_backend, connection.settings
    if url is None:
        if given is not None and not isinstance(given, (str, type)):
            return app
        with connection.as_it_is() as store:
            if not store.capabilities.survives_process:
                return app
    backend = open_backend(
        settings.url if url is None else url,
        settings.config if url is None else None,
        backend=given if url is None else None,
        moving_to=settings.moving_to if url is None else None,
        pool_size=pool_size,
        pool_timeout=call_timeout,
        call_timeout=call_timeout,
        patience=call_timeout,
    )
    try:
        make_ready(backend, migrate=settings.migrate and url is None, strict_durability=settings.strict_durability)
    except BaseException:
        backend.close()
        raise
    other = Jobcard()
    other.parts.is_beside = True  # no handle is meant for it
    other.codec.know_what(app.codec)
    other.parts.connection.lend_instead(backend)
    return other
