"""The life of a worker process: dies with its engine, imports the application, serves jobs, ends.

Started by `pool.py` as `python -P -c "…; main()" SOCKET PERMITS BOARD ENGINE_PID` in a session of its own, its
standard output and error going to a pipe that the engine keeps the tail of.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import importlib.util
import os
import signal
import socket
import sys
import traceback
from types import ModuleType
from typing import Any, NoReturn

from jobcard.core import context, naming
from jobcard.core.settings import settings_to_plain
from jobcard.workers import farewell, messages
from jobcard.workers.board import TELL_SIGNAL, Board
from jobcard.workers.death import die_with_parent
from jobcard.workers.link import engine_store
from jobcard.workers.pipes import EngineGoneError, Pipes
from jobcard.workers.runtime import serve

_IMPORTLIB = importlib.__file__


def main() -> None:
    """Be a worker until the engine has no more work or is gone."""
    sock_fd, permits, board, engine = (int(argument) for argument in sys.argv[1:5])
    if not die_with_parent(engine):
        os._exit(0)
    work(sock_fd, permits, board)


def work(sock_fd: int, permits: int, board: int, app: Any = None) -> NoReturn:
    """Serve as a worker on these descriptors. app: the application, when it has been imported already."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(TELL_SIGNAL, signal.SIG_IGN)  # before the first job there is nothing to tell
    faulthandler.enable()
    for original in (sys.__stdout__, sys.__stderr__):
        # What a job printed must be out before it can crash. An imported application may have replaced the others.
        original.reconfigure(line_buffering=True, errors="backslashreplace")  # type: ignore[union-attr]
    pipes = Pipes(socket.socket(fileno=sock_fd), permits, Board(board))
    with contextlib.suppress(EngineGoneError):
        boot = pipes.boot()
        context.enter_worker(engine_store(pipes.ask))
        try:
            app = import_app(boot) if app is None else app
        except EngineGoneError:
            raise
        except BaseException as error:
            pipes.send(messages.IMPORT_FAILED, _explain(error))
            os._exit(1)
        reach_store(app, boot)
        pipes.send(messages.HELLO, introduce(app))
        serve(app, pipes)
        farewell.say(app)
    # Not sys.exit: threads that a job left behind must not keep the process, and the engine is done with us.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)


def reach_store(app: Any, boot: dict[str, Any]) -> None:
    """Jobs ask the store through their engine; with `worker_client="direct"` they open it themselves.

    Whoever opens it, `within=` or a backup too, opens the one that the engine works on.
    """
    given = boot.get("store", {})
    settings = app.settings
    app.parts.connection.use(
        **{name: given.get(name, getattr(settings, name)) for name in ("url", "config", "moving_to")}
    )
    if given.get("worker_client", settings.worker_client) == "direct":
        context.enter_worker(None)


def import_app(boot: dict[str, Any]) -> Any:
    """Import what the engine names and return the application's `Jobcard`."""
    sys.path[:] = boot["sys_path"]
    sys.argv[:] = boot["argv"]
    context.importing = True
    try:
        module = import_script(boot["path"]) if boot["path"] else importlib.import_module(boot["module"])
        for name in boot["imports"]:
            importlib.import_module(name)
        return find_app(module, boot["attribute"])
    finally:
        context.importing = False


def import_script(path: str) -> ModuleType:
    """Import a started script under the name its jobs carry: its file's."""
    name = naming.script_name(path)
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be imported as a module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def find_app(module: ModuleType, attribute: str | None) -> Any:
    """The `Jobcard` of a module: by name, or the only one there."""
    if attribute:
        app = module
        for part in attribute.split("."):
            app = getattr(app, part)
        if not hasattr(app, "registry"):
            raise TypeError(f"{module.__name__}:{attribute} is no Jobcard but {type(app).__name__}")
        return app
    found = {
        id(value): value for value in vars(module).values() if hasattr(value, "registry") and hasattr(value, "codec")
    }
    if len(found) != 1:
        raise LookupError(f"{module.__name__} has {len(found)} Jobcards; say which: {module.__name__}:NAME")
    return next(iter(found.values()))


def introduce(app: Any) -> dict[str, Any]:
    """What the engine must know of an application, as plain data."""
    settings = app.settings
    names = {}
    for definition in app.registry:
        about = {
            "isolation": definition.isolation,
            "memory_limit": definition.options.memory_limit,
            "on_lost_lease": definition.options.on_lost_lease,
        }
        names.update(dict.fromkeys((definition.name, *definition.aliases), about))
    schedules = getattr(getattr(app, "parts", None), "schedules", None)
    declared = [] if schedules is None else [[name, text] for name, text in schedules.declared_texts().items()]
    return {
        "settings": settings_to_plain(settings),
        "names": names,
        "schedules": declared,
        "has_farewell": bool(farewell.of(app)),
    }


def _explain(error: BaseException) -> dict[str, Any]:
    """What went wrong at an import, and in which file and line of the application."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - no pathlib for speed
    theirs = [frame for frame in frames if not frame.filename.startswith((ours, "<frozen", _IMPORTLIB))]
    where = theirs[-1] if theirs else None
    filename, line = (where.filename, where.lineno) if where else (None, None)
    if isinstance(error, SyntaxError) and error.filename:
        filename, line = error.filename, error.lineno
    return {
        "message": f"{type(error).__name__}: {error}",
        "file": filename,
        "line": line,
        "traceback": "".join(traceback.format_exception(error))[-8192:],
    }
