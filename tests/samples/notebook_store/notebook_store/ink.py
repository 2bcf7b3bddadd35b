"""A store whose driver comes with an extra of its package."""

import no_such_ink_driver  # noqa: F401

from notebook_store import NotebookBackend


class InkBackend(NotebookBackend):
    """Jobs in ink."""
