"""Plants the fault that $PLANTED_FAULT names; only a test puts this folder on PYTHONPATH."""

import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import os
import sys
import traceback

_fault = os.environ.get("PLANTED_FAULT")


class _Planter(importlib.abc.MetaPathFinder):
    """Finds the modules that the fault changes, and changes them when they have been imported."""

    def __init__(self, breaks):
        self._breaks = breaks

    def find_spec(self, name, path=None, target=None):
        plant = self._breaks.get(name)
        spec = importlib.machinery.PathFinder.find_spec(name, path) if plant else None
        if spec is None or spec.loader is None:
            return None
        run = spec.loader.exec_module

        def run_and_plant(module):
            run(module)
            plant(module)

        spec.loader.exec_module = run_and_plant
        return spec


if _fault:
    try:
        sys.meta_path.insert(0, _Planter(importlib.import_module(f"planted.faults.{_fault}").BREAKS))
    except BaseException:
        # An exception here would only be printed, and the process would go on without the fault.
        traceback.print_exc()
        os._exit(70)
