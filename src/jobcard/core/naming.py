"""What a module and a job are called in the store: the same in the process that enqueues and in the one that runs.

The started script is `__main__` only in the process that was started with it, so it goes by its file
(`shop.py` -> `shop`) or, after `python -m pkg.mod`, by the module it is.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

_STARTED = ("__main__", "__mp_main__")
_NOT_IN_A_NAME = re.compile(r"[^\w.:\-/@+]")


def main_module() -> ModuleType | None:
    """The module this process was started with."""
    return sys.modules.get("__main__")


def is_main(module: str) -> bool:
    """Whether code of a module of this name stands in the started script."""
    return module in _STARTED


def main_spec_name() -> str | None:
    """The importable name of the started module after `python -m`, else None."""
    spec = getattr(main_module(), "__spec__", None)
    # A directory or a zip file is started with the spec "__main__", which no other process can import.
    return spec.name if spec is not None and spec.name not in _STARTED else None


def is_importing() -> bool:
    """Whether whoever called us stands at the top of a module that is being imported."""
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back  # type: ignore[assignment]
    return False


def main_path() -> str | None:
    """The file of the started script; None in a REPL, a notebook, `python -c` and on standard input."""
    file = getattr(main_module(), "__file__", None)
    return str(Path(file).absolute()) if file and Path(file).is_file() else None


def script_name(path: str) -> str:
    """The name a script is imported under by workers: its file's, or its directory's for `__main__.py`."""
    script = Path(path)
    return script.parent.name if script.stem == "__main__" else script.stem


def module_name(module: str) -> str:
    """What a module is called in job names; "" when the started code has no file."""
    if is_main(module):
        path = main_path()
        module = main_spec_name() or (script_name(path) if path else "")
    return _NOT_IN_A_NAME.sub("_", module.removesuffix(".__main__"))


def job_name(module: str, qualname: str) -> str:
    """The name of a job that was given none: "module.qualname"."""
    inner = qualname.replace(".<locals>", "")
    prefix = module_name(module)
    return f"{prefix}.{inner}" if prefix else inner
