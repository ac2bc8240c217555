"""The environment of children: an allow-list, so that no secret of the user's shell reaches an agent."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping

PASSED = frozenset({"PATH", "HOME", "LANG", "LANGUAGE", "TERM", "TMPDIR", "TZ", "USER", "LOGNAME", "SHELL"})
_PASSED_PREFIX = "LC_"
_LIBRARY_PATH = "LD_LIBRARY_PATH"


def library_path(environ: Mapping[str, str] | None = None) -> str | None:
    """LD_LIBRARY_PATH as the user set it: a PyInstaller executable runs with its own and keeps theirs aside."""
    environ = os.environ if environ is None else environ
    return environ.get(f"{_LIBRARY_PATH}_ORIG" if getattr(sys, "frozen", False) else _LIBRARY_PATH)


def child_environment(extra: Mapping[str, str], allow: Iterable[str] = ()) -> dict[str, str]:
    """What a child gets: the passed names (and LC_*, LD_LIBRARY_PATH) of ours, those of ``allow``, then ``extra``.

    Names in ``allow`` that are not set are left out. ``extra`` wins. SSH_AUTH_SOCK is passed only when allowed:
    it gives the use of the user's keys.
    """
    names = PASSED.union(allow) - {_LIBRARY_PATH}
    found = {name: value for name, value in os.environ.items() if name in names or name.startswith(_PASSED_PREFIX)}
    path = library_path()
    if path is not None:
        found[_LIBRARY_PATH] = path
    found.update(extra)
    return found
