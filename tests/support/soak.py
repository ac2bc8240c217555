"""How much a stress test does: a tenth or less in a test run, all of it with MAF_SOAK=1."""

from __future__ import annotations

import os

SOAK = os.environ.get("MAF_SOAK") == "1"


def count(full: int, brief: int) -> int:
    """The count of this run."""
    return full if SOAK else brief
