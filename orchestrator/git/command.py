"""The one place that runs ``git``: argv lists, no shell, a clean environment, git's failures as our errors."""

from __future__ import annotations

import os
import re
import select
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from orchestrator.domain.errors import InvalidInput, MafError, NotFound, TimedOut
from orchestrator.git.errors import GitFailed, GitUnavailable

MINIMUM = (2, 38)  # the first with `merge-tree --write-tree` and `cat-file --batch-command -z`
IDENTITY = ("maf", "maf@localhost")  # always maf's own, whatever the user's configuration: the same commit everywhere
LOCK_PATIENCE = 5.0  # seconds to wait for a lock that somebody holds
STALE_REF_LOCK = 4.0  # a ref lock lives for milliseconds; one this old belongs to a dead process

# Hooks, signatures and helpers are the user's; maf's own commits and checkouts run none of them
# (a file monitor would also stay behind as an orphan process).
_CONFIG = (
    "core.hooksPath=" + os.devnull,
    "core.fsmonitor=false",
    "core.quotePath=false",
    "commit.gpgSign=false",
    "gc.auto=0",
    "maintenance.auto=false",
    "submodule.recurse=false",
    "rerere.enabled=false",
    "i18n.commitEncoding=UTF-8",
)
PREFIX = ("git", *(part for setting in _CONFIG for part in ("-c", setting)))

# Everything else named GIT_* points git elsewhere (GIT_DIR, GIT_INDEX_FILE, ...) or changes who commits.
_KEPT = re.compile(
    r"GIT_(EXEC_PATH|TEMPLATE_DIR|CEILING_DIRECTORIES|CONFIG_(GLOBAL|SYSTEM|NOSYSTEM|COUNT|(KEY|VALUE)_\d+))"
)
_LOCK = re.compile(r"Unable to create '(?P<path>.+\.lock)': File exists")
_BUSY = re.compile(r"could not lock config file|unable to lock|Another git process seems to be running")
_STORAGE = re.compile(
    r"No space left on device|Disk quota exceeded|Read-only file system|Input/output error"
    r"|Too many open files|Cannot allocate memory"
)
_DAMAGED = re.compile(
    r"is corrupt|bad object|object file .* is empty|unable to read (tree|[0-9a-f]{40})|bad signature"
    r"|index file corrupt"
)


@dataclass(frozen=True, slots=True)
class Result:
    """How a git command ended."""

    code: int
    out: bytes
    err: str

    @property
    def text(self) -> str:
        """What it printed, stripped."""
        return os.fsdecode(self.out).strip()

    @property
    def fields(self) -> list[str]:
        """The NUL-terminated fields of ``-z`` output."""
        return [os.fsdecode(part) for part in self.out.split(b"\0")][:-1]


def environment() -> dict[str, str]:
    """The environment of every git process: the caller's, without what would redirect git."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("GIT_") or _KEPT.fullmatch(k)}
    kept.update(
        LC_ALL="C", GIT_TERMINAL_PROMPT="0", GIT_OPTIONAL_LOCKS="0", GIT_LITERAL_PATHSPECS="1", GIT_EDITOR="true"
    )
    return kept


def identity(name: str, email: str, when: str | None = None) -> dict[str, str]:
    """Environment for a commit: that author, maf as committer; ``when`` as git wants it (``@seconds +0000``)."""
    extra = {"GIT_AUTHOR_NAME": name, "GIT_AUTHOR_EMAIL": email}
    extra |= {"GIT_COMMITTER_NAME": IDENTITY[0], "GIT_COMMITTER_EMAIL": IDENTITY[1]}
    if when is not None:
        extra |= {"GIT_AUTHOR_DATE": when, "GIT_COMMITTER_DATE": when}
    return extra


class Git:
    """Runs git commands in one directory. Safe to share between threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.environment = environment()

    def run(
        self,
        *args: str,
        cwd: Path | None = None,
        stdin: bytes | None = None,
        env: Mapping[str, str] | None = None,
        ok: Sequence[int] = (0,),
        keep: Sequence[int] = (),
        timeout: float = 600.0,
    ) -> Result:
        """Run ``git ARGS``; an exit code outside ``ok`` is raised as a MafError.

        ``keep`` are descriptors that the child inherits. A lock held by somebody is waited for, bounded.
        """
        deadline = time.monotonic() + LOCK_PATIENCE
        pause = 0.01
        while True:
            result = self._once(args, cwd, stdin, env, keep, timeout)
            if result.code in ok:
                return result
            lock = _LOCK.search(result.err)
            if not (lock or _BUSY.search(result.err)):
                raise failure(args, result)
            broken = lock is not None and _break_ref_lock(Path(lock["path"]))
            if time.monotonic() > deadline and not broken:
                raise _held(args, result, lock["path"] if lock else None)
            time.sleep(pause)
            pause = min(pause * 2, 0.2)

    def _once(
        self,
        args: Sequence[str],
        cwd: Path | None,
        stdin: bytes | None,
        env: Mapping[str, str] | None,
        keep: Sequence[int],
        timeout: float,
    ) -> Result:
        where = cwd or self.root
        try:
            # Files, not pipes: a git that outlives a killed maf must not die of a pipe that nobody reads, half-way
            # through a merge.
            with _file() as out, _file() as err, _file(stdin or b"") as given:
                process = subprocess.Popen(
                    [*PREFIX, *args],
                    cwd=where,
                    env={**self.environment, **env} if env else self.environment,
                    stdin=given,
                    stdout=out,
                    stderr=err,
                    pass_fds=keep,
                    process_group=0,  # a Ctrl-C for maf must not cut git off half-way
                )
                code = _wait(process, timeout)
                return Result(code, _content(out), _content(err).decode("utf-8", "replace"))
        except (FileNotFoundError, NotADirectoryError) as error:
            if not where.is_dir():
                raise NotFound(f"there is no directory {where}", hint="check the path") from error
            raise GitUnavailable(
                "git is not installed, or not on the PATH", hint="install git 2.38 or newer"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise TimedOut(
                f"git {args[0]} did not end within {timeout:.0f} s", hint="is the disk or a git filter hanging?"
            ) from error
        except ValueError as error:  # NUL or a surrogate that no byte stands for
            raise InvalidInput(f"git {args[0]}: an argument cannot be passed on: {error}", hint="rename it") from error
        except OSError as error:
            raise GitUnavailable(
                f"git could not be started: {error.strerror}", hint="see the system's limits"
            ) from error

    def version(self) -> tuple[int, int]:
        """Major and minor version of the git in use; refuses one that is too old (exit 5)."""
        found = re.search(r"(\d+)\.(\d+)", self._once(("version",), None, None, None, (), 60).text)
        version = (int(found[1]), int(found[2])) if found else (0, 0)
        if version < MINIMUM:
            raise GitUnavailable(
                f"git {version[0]}.{version[1]} is too old",
                hint=f"install git {MINIMUM[0]}.{MINIMUM[1]} or newer",
            )
        return version


def _file(content: bytes = b"") -> BinaryIO:
    """A file without a name, in memory where the system can, that stands at its beginning."""
    try:
        file: BinaryIO = os.fdopen(os.memfd_create("maf-git"), "w+b", buffering=0)
    except (AttributeError, OSError):
        file = tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - closed by whoever asked for it
    if content:
        file.write(content)
        file.seek(0)
    return file


def _content(file: BinaryIO) -> bytes:
    file.seek(0)
    return file.read()


def _wait(process: subprocess.Popen[bytes], timeout: float) -> int:
    """The exit code; TimeoutExpired, with the process killed, when it takes too long."""
    try:
        return _wait_for(process, timeout)
    except BaseException:
        process.kill()
        process.wait()
        raise


def _wait_for(process: subprocess.Popen[bytes], timeout: float) -> int:
    try:
        watched = os.pidfd_open(process.pid)  # `wait` with a timeout would look again and again
    except (AttributeError, OSError):
        return process.wait(timeout)
    try:
        poll = select.poll()
        poll.register(watched, select.POLLIN)
        if not poll.poll(timeout * 1000):
            raise subprocess.TimeoutExpired(process.args, timeout)
    finally:
        os.close(watched)
    return process.wait()


def last_line(err: str) -> str:
    """The last word of git: what went wrong, without its prefix."""
    lines = [line.strip() for line in err.splitlines() if line.strip()]
    for line in reversed(lines):
        if line.startswith(("fatal:", "error:")):
            return line.split(":", 1)[1].strip()
    return lines[-1] if lines else "no message"


def failure(args: Sequence[str], result: Result) -> MafError:
    """The error of our tree for a failed git command."""
    line = last_line(result.err)
    message = f"git {args[0]}: {line}"
    if _STORAGE.search(result.err):
        return GitUnavailable(message, hint="free or repair the disk, then run the same command again")
    if "dubious ownership" in result.err:
        return GitUnavailable(message, hint="git config --global --add safe.directory PATH, or use the owner's account")
    if "Permission denied" in result.err:
        return GitUnavailable(message, hint="check who owns the repository and its worktrees")
    if _DAMAGED.search(result.err):
        return GitUnavailable(message, hint="`git fsck` names what is damaged")
    if result.code == 129:  # git did not know the option
        return GitUnavailable(message, hint=f"maf needs git {MINIMUM[0]}.{MINIMUM[1]} or newer; see `git version`")
    if "unrelated histories" in result.err:
        return GitFailed(message, hint="the branches share no commit; in a shallow clone: git fetch --unshallow")
    if result.code < 0:
        return GitFailed(f"git {args[0]} was killed by signal {-result.code}", hint="run the same command again")
    return GitFailed(message, hint="`maf doctor` checks the repository; git's message says the rest", exit=result.code)


def _held(args: Sequence[str], result: Result, lock: str | None) -> MafError:
    hint = f"if no git command is running, remove {lock}" if lock else "wait for the other git command to end"
    return GitFailed(f"git {args[0]}: another git command holds a lock: {last_line(result.err)}", hint=hint, lock=lock)


def _break_ref_lock(lock: Path) -> bool:
    """Remove a ref's lock that a killed process left. An index's is never touched here: an editor may be open on it."""
    if "refs" not in lock.parts and lock.name != "HEAD.lock":
        return False
    try:
        if time.time() - lock.stat().st_mtime < STALE_REF_LOCK:
            return False
        lock.unlink()
    except FileNotFoundError:
        pass
    except OSError:
        return False
    return True
