"""What a worker must import to find an application's `Jobcard`."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from types import ModuleType
from typing import NamedTuple

from jobcard.core import naming
from jobcard.errors import ConfigError


class AppReference(NamedTuple):
    """Where an application's `Jobcard` stands: in a module or in a script, never both.

    module: an importable name. path: the file of a script, imported as `naming.script_name(path)`.
    attribute: its name there. imports: modules to import after it; they hold further jobs.
    """

    module: str | None
    path: str | None
    attribute: str
    imports: tuple[str, ...] = ()


def find_reference(app: object, *, created_in: str, job_modules: Iterable[str], imports: Iterable[str]) -> AppReference:
    """Where `app` can be found by another process; `ConfigError` when it cannot.

    created_in: the module it was created in. job_modules: those that declared jobs with it.
    """
    modules = dict.fromkeys(job_modules)
    wanted = tuple(dict.fromkeys((*imports, *(name for name in modules if not naming.is_main(name)))))
    main = naming.main_module()
    attribute = _attribute_of(main, app)
    if attribute is not None:
        spec_name, path = naming.main_spec_name(), naming.main_path()
        if spec_name is not None:
            return AppReference(spec_name, None, attribute, wanted)
        if path is not None:
            return AppReference(None, path, attribute, wanted)
    if naming.main_path() is None and naming.is_main(created_in):
        raise ConfigError(
            "an engine runs jobs in processes of their own, which import them from a file: put the Jobcard and "
            "its jobs into a module; there is none behind a REPL, a notebook, `python -c` or standard input"
        )
    if any(map(naming.is_main, modules)):
        raise ConfigError(
            "the started script declares jobs but holds its Jobcard under no name of its own, so a worker cannot find "
            "them: give it one there, for example `from app import jobs`"
        )
    for name, module in _candidates(created_in):
        attribute = _attribute_of(module, app)
        if attribute is not None:
            return AppReference(name, None, attribute, wanted)
    raise ConfigError("a worker finds the Jobcard by its name in a module: assign it to one at the top level")


def _candidates(first: str) -> list[tuple[str, ModuleType]]:
    # A copy: another thread may import while we look.
    modules = dict(sys.modules)
    ordered = {first: modules.get(first), **modules}
    return [(name, module) for name, module in ordered.items() if module is not None and not naming.is_main(name)]


def _attribute_of(module: ModuleType | None, app: object) -> str | None:
    # By identity over the namespace itself: a lazy module would import things if asked by getattr.
    namespace = getattr(module, "__dict__", {})
    return next((name for name, value in list(namespace.items()) if value is app), None)
