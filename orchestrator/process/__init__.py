"""The only home of launching processes other than git: project checks and agents.

What it promises:

- ``kill -9`` of maf, at any point, leaves no process behind; nor does one of the helpers below.
- What a command leaves running is ended when it ends, also what moved to a session of its own.
- No foreign process is ever signalled: one is known by pid and start time, signalled through a pidfd.
- Wall time and output are limited by a process that does not depend on maf being responsive.
- The environment is an allow-list; there is never a shell.

How: maf starts one *supervisor* at its first launch; that forks a *keeper* for each run, which starts the
command (see :mod:`.supervisor` and :mod:`.keeper`). Three levels::

    maf ── socket ── supervisor ── socket ── keeper ── command ── …
                     subreaper               subreaper, one a run

- maf dies: the supervisor reads end of file, then the keepers do, and each ends its tree.
- the supervisor dies: the same from there on; maf reports the runs as ``lost`` once nothing is left of them.
- a keeper dies: the kernel kills its command (PDEATHSIG), the rest becomes the supervisor's, which kills it.

Only a supervisor and a keeper that are killed in the same instant lose something: what that keeper's command had left
in other processes. The command itself dies by PDEATHSIG even then.

Why a keeper for each run and not the supervisor alone: a subreaper cannot tell whose orphan it was given; session,
group and environment are all things an agent's tools change. One subreaper a run makes it exact, and makes "no
children" of wait(2) the proof that a run has left nothing. Why forked, not a script for each run: measured on two
cores, a launch of ``true`` takes 5 ms (0.4 ms of it CPU of maf, the rest in the helpers), bare ``subprocess.run`` takes
0.8 ms, and starting an interpreter alone would add some 20 ms. Twenty agents that each write a line every 10 ms cost
4 % of a core and 2 MB of memory a keeper; silent ones cost nothing, as nobody polls.

macOS has neither subreapers nor PDEATHSIG: there a process that leaves its session and its parent before the table was
sampled (once a second) can escape, what a killed keeper started is not found, and the moment between comparing the
start time (to the second) and signalling remains. The other promises do not depend on either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from orchestrator.process.connection import Child as Child
    from orchestrator.process.connection import helper as helper
    from orchestrator.process.connection import shutdown as shutdown
    from orchestrator.process.environment import child_environment as child_environment
    from orchestrator.process.environment import library_path as library_path
    from orchestrator.process.launch import run as run
    from orchestrator.process.launch import spawn as spawn
    from orchestrator.process.model import Finished as Finished
    from orchestrator.process.model import Limits as Limits
    from orchestrator.process.supervisor import serve_if_asked as serve_if_asked
    from orchestrator.process.table import alive as alive
    from orchestrator.process.table import end_tree as end_tree

_HOMES = {
    "Child": "connection",
    "run": "launch",
    "helper": "connection",
    "shutdown": "connection",
    "spawn": "launch",
    "child_environment": "environment",
    "library_path": "environment",
    "Finished": "model",
    "Limits": "model",
    "serve_if_asked": "supervisor",
    "alive": "table",
    "end_tree": "table",
}
__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    # Lazy: the supervisor imports this package too, and every page it has is one more to copy in a fork.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    return value
