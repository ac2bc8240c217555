"""Starting commands: what is asked is checked here, before any process is made."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import InvalidInput, MafError
from orchestrator.process import wire
from orchestrator.process.connection import Child, OnExit, connect
from orchestrator.process.model import Finished, Limits


def spawn(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
    log_path: Path | None = None,
    stdin: str | bytes | None = None,
    on_exit: OnExit | None = None,
) -> Child:
    """Start a command; returns when it runs or could not be started (then ``poll()`` says why).

    ``argv``: the program (looked up in ``env``'s PATH, or a path, relative to ``cwd``) and its arguments; never a
    shell. ``env``: the whole environment, from :func:`child_environment`. ``log_path``: gets stdout and
    stderr, is replaced, mode 0600; None keeps only the tail. ``stdin``: given whole, through a file; None is
    /dev/null. ``on_exit`` is called once, on the reader thread: it may set events or queue, and must neither block nor
    call into this package. Raises InvalidInput for what can never run, MafError when no process can be made.
    """
    child = _launch(argv, cwd, env, limits, log_path, stdin, on_exit)
    child.started.wait()
    return child


def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
    log_path: Path | None = None,
    stdin: str | bytes | None = None,
) -> Finished:
    """Run a command to its end; as :func:`spawn`. Interrupted (Ctrl-C), it ends the command first."""
    child = _launch(argv, cwd, env, limits, log_path, stdin, None)
    try:
        child.wait()
    except BaseException:
        child.stop("interrupted")
        child.wait(limits.grace + 12.0)
        raise
    finished = child.poll()
    assert finished is not None
    return finished


def _launch(
    argv: Sequence[str],
    cwd: Path,
    env: Mapping[str, str],
    limits: Limits,
    log_path: Path | None,
    stdin: str | bytes | None,
    on_exit: OnExit | None,
) -> Child:
    _check(argv, cwd, env, limits, log_path)
    request: dict[str, Any] = {
        "op": "run",
        "argv": list(argv),
        "cwd": os.path.abspath(cwd),
        "env": dict(env),
        "timeout": limits.timeout,
        "output_bytes": limits.output_bytes,
        "grace": limits.grace,
        "log": log_path is not None,
        "stdin": stdin is not None,
    }
    files: list[int] = []
    try:
        if log_path is not None:
            files.append(_open_log(log_path))
        if stdin is not None:
            files.append(_spool(stdin.encode("utf-8", "surrogateescape") if isinstance(stdin, str) else stdin))
        for _ in range(3):  # a supervisor that died since the last run is replaced; it has not seen this one
            connection = connect()
            child = Child(connection, limits, log_path, on_exit)
            if not connection.add(child):
                continue
            try:
                connection.send({**request, "id": child.number}, files)
            except OSError:
                if connection.drop(child):
                    continue
            return child
    finally:
        wire.close(files)
    raise MafError(f"cannot start {argv[0]!r}: the process supervisor ends at once", hint="look for what kills it")


def _open_log(path: Path) -> int:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        os.fchmod(descriptor, 0o600)
    except OSError as error:
        hint = "the directory must exist and be writable, and the file must not be a symbolic link"
        raise InvalidInput(f"cannot write the log {path}: {error.strerror}", hint=hint) from error
    return descriptor


def _spool(data: bytes) -> int:
    """A file without a name that holds ``data``: any length is delivered, and nobody has to feed a pipe."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(data)
            file.seek(0)
            return os.dup(file.fileno())
    except OSError as error:
        hint = "make room, or set TMPDIR to a directory that has some"
        raise MafError(f"cannot keep the command's input in a temporary file: {error.strerror}", hint=hint) from error


def _check(argv: Sequence[str], cwd: Path, env: Mapping[str, str], limits: Limits, log_path: Path | None) -> None:
    if isinstance(argv, (str, bytes)) or not argv or not all(isinstance(word, str) for word in argv) or not argv[0]:
        hint = 'such as ["pytest", "-q"]; for shell syntax, ["sh", "-c", "…"]'
        raise InvalidInput(f"a command is a list of words, not {argv!r}", hint=hint)
    words = [*argv, str(cwd), str(log_path or ""), *env.keys(), *env.values()]
    if any("\0" in word for word in words):
        hint = "remove it from the command, its directory or its environment"
        raise InvalidInput(f"the command {argv[0]!r} holds a NUL character, which no argument can carry", hint=hint)
    wrong = [name for name in env if not name or "=" in name]
    if wrong:
        raise InvalidInput(f"not the name of an environment variable: {wrong[0]!r}", hint="without '=', not empty")
    if (limits.timeout is not None and limits.timeout <= 0) or limits.output_bytes < 0 or limits.grace < 0:
        raise InvalidInput(f"impossible limits: {limits}", hint="timeout above 0, output_bytes and grace not below 0")
