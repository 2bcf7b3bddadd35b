"""What `jobs.testing()` gives, for annotations: `from jobcard.testing import Testing`."""

from __future__ import annotations

from jobcard.client.testing import Drained, Testing

__all__ = ["Drained", "Testing"]
