"""What Python's ``os`` module lacks of the kernel: the calls that keep a process tree together.

Linux has them in prctl(2). Elsewhere each is a no-op that says so by its result, and
:mod:`orchestrator.process.keeper` falls back to watching the process table.
"""

from __future__ import annotations

import signal
import sys
from typing import Any

_SET_DEATH_SIGNAL = 1
_SET_NAME = 15
_SET_CHILD_SUBREAPER = 36

_libc: Any = None


def prepare() -> None:
    """Load libc now, so that no forked child has to."""
    global _libc
    if sys.platform == "linux" and _libc is None:
        import ctypes

        _libc = ctypes.CDLL(None, use_errno=True)


def _prctl(option: int, argument: object) -> bool:
    prepare()
    return _libc is not None and _libc.prctl(option, argument, 0, 0, 0) == 0


def become_subreaper() -> bool:
    """Orphaned descendants become children of this process instead of init's. False: not possible here."""
    return _prctl(_SET_CHILD_SUBREAPER, 1)


def die_with_parent() -> bool:
    """The kernel kills this process when its parent ends; holds across exec, is not inherited by children."""
    return _prctl(_SET_DEATH_SIGNAL, int(signal.SIGKILL))


def set_name(name: str) -> None:
    """The name ``ps`` and ``top`` show; at most 15 bytes."""
    _prctl(_SET_NAME, name.encode()[:15])
