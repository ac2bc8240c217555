"""What a run may use, and what became of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Limits:
    """``timeout``: seconds of wall time, None for no limit. ``output_bytes``: of stdout and stderr together.

    ``grace``: seconds between SIGTERM and SIGKILL when a run is ended.
    """

    timeout: float | None
    output_bytes: int
    grace: float = 2.0


@dataclass(frozen=True)
class Finished:
    """The end of a run; when it is there, no process of the run is left.

    ``reason``:

    - ``exited``: the command ended by itself (``exit_code``, or ``signal`` when one killed it)
    - ``timeout``, ``output_limit``: it went over a limit and was ended
    - ``stopped``: by :meth:`Child.stop`, the end of maf, or a SIGTERM to its keeper
    - ``not_started``: no such program, not executable, no such directory; ``error`` names it. A command that
      exits with 127 is ``exited``.
    - ``lost``: its keeper or the supervisor was killed; the run was ended, how far it came is unknown

    ``exit_code`` and ``signal`` are kept whatever the reason: only :attr:`ok` means success. ``tail`` is the last
    4 KiB of the output, ``output_path`` the file with all of it up to the limit. ``duration`` and
    ``cpu_seconds`` are seconds, ``max_rss`` is bytes.
    """

    exit_code: int | None
    signal: int | None
    reason: str
    duration: float
    tail: str
    output_path: Path | None
    error: str | None
    cpu_seconds: float = 0.0
    max_rss: int = 0

    @property
    def ok(self) -> bool:
        """Whether the command ended by itself, with exit code 0."""
        return self.reason == "exited" and self.exit_code == 0
