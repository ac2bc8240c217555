"""Starting commands, what they are given, and what comes back."""

from __future__ import annotations

import hashlib
import os
import queue
import stat
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from orchestrator.domain.errors import InvalidInput
from orchestrator.process import Finished, Limits, alive, child_environment, run, spawn

LIMITS = Limits(timeout=30, output_bytes=1 << 20, grace=1.0)
PYTHON = [sys.executable, "-I", "-S", "-c"]


def test_exit_code_output_and_log(tmp_path: Path, env: dict[str, str]) -> None:
    log = tmp_path / "log"
    log.write_text("what an earlier run left, longer than what comes")
    log.chmod(0o644)
    done = run(["sh", "-c", "echo out; echo err >&2; exit 7"], cwd=tmp_path, env=env, limits=LIMITS, log_path=log)
    assert (done.reason, done.exit_code, done.signal, done.ok) == ("exited", 7, None, False)
    assert done.tail == log.read_text() == "out\nerr\n"
    assert done.output_path == log
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert 0 < done.duration < 30
    assert done.cpu_seconds > 0
    assert done.max_rss > 100_000


def test_success_is_ok(tmp_path: Path, env: dict[str, str]) -> None:
    done = run(["true"], cwd=tmp_path, env=env, limits=LIMITS)
    assert done.ok
    assert (done.tail, done.output_path, done.error) == ("", None, None)


def test_killed_by_a_signal_is_not_ok(tmp_path: Path, env: dict[str, str]) -> None:
    done = run(["sh", "-c", "kill -9 $$"], cwd=tmp_path, env=env, limits=LIMITS)
    assert (done.reason, done.exit_code, done.signal, done.ok) == ("exited", None, 9, False)


def test_starts_in_its_directory_with_default_signals(tmp_path: Path, env: dict[str, str]) -> None:
    code = (
        "import os, signal; print(os.getcwd()); print(os.getsid(0) == os.getpid());"
        "print(open('/proc/self/status').read().split('SigIgn:')[1].split()[0] if os.path.exists('/proc') else '')"
    )
    done = run(["sh", "-c", f'exec "{sys.executable}" -I -S -c "$0"', code], cwd=tmp_path, env=env, limits=LIMITS)
    directory, session, ignored = done.tail.splitlines()
    assert directory == os.path.realpath(tmp_path)
    assert session == "True"
    # Python itself ignores SIGPIPE (13) and SIGXFSZ (25); 32 and 33 are the C library's own, which no program may reset
    # (something above a CI's shell may have had them ignored). Nothing else is inherited.
    own = 1 << 12 | 1 << 24 | 1 << 31 | 1 << 32
    assert not ignored or int(ignored, 16) & ~own == 0


def test_a_pipeline_ends_by_sigpipe(tmp_path: Path, env: dict[str, str]) -> None:
    done = run(["sh", "-c", "yes | head -n 1"], cwd=tmp_path, env=env, limits=LIMITS)
    assert (done.ok, done.tail) == (True, "y\n")


def test_nothing_of_ours_is_open_in_the_child(tmp_path: Path, env: dict[str, str]) -> None:
    code = "import os; print([n for n in range(3, 200) if os.path.exists(f'/dev/fd/{n}') and n != 3])"
    log = tmp_path / "log"
    done = run([*PYTHON, code], cwd=tmp_path, env=env, limits=LIMITS, log_path=log, stdin="x")
    assert done.tail == "[]\n"


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["no-such-program-here"], "no such program"),
        (["./missing"], "no such program"),
        (["./plain"], "not executable"),
        (["plain"], "not executable"),
        (["./empty"], "not a program"),
        (["./orphan"], "interpreter"),
    ],
)
def test_could_not_start(tmp_path: Path, env: dict[str, str], argv: list[str], says: str) -> None:
    (tmp_path / "plain").write_text("#!/bin/sh\n")
    for name, text in (("empty", "echo\n"), ("orphan", "#!/no/such/interpreter\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    child = spawn(argv, cwd=tmp_path, env={**env, "PATH": f"{env['PATH']}:{tmp_path}"}, limits=LIMITS)
    done = child.poll()
    assert done is not None
    assert (done.reason, done.exit_code, child.pid) == ("not_started", None, None)
    assert done.error is not None
    assert argv[0] in done.error
    assert says in done.error


def test_missing_directory_is_not_started(tmp_path: Path, env: dict[str, str]) -> None:
    done = run(["true"], cwd=tmp_path / "gone", env=env, limits=LIMITS)
    assert done.reason == "not_started"
    assert done.error is not None
    assert "gone" in done.error


def test_127_by_the_command_is_not_a_failure_to_start(tmp_path: Path, env: dict[str, str]) -> None:
    done = run(["sh", "-c", "no-such-program-here"], cwd=tmp_path, env=env, limits=LIMITS)
    assert (done.reason, done.exit_code) == ("exited", 127)


def test_relative_program_and_path_are_the_childs(tmp_path: Path, env: dict[str, str]) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\necho here\n")
    (tmp_path / "tool").chmod(0o755)
    for argv, path in ((["./tool"], env["PATH"]), (["tool"], str(tmp_path)), (["tool"], "")):
        done = run(argv, cwd=tmp_path, env={**env, "PATH": path}, limits=LIMITS)
        assert done.tail == "here\n", done


@pytest.mark.parametrize(
    "change",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": "echo hello"},
        {"argv": ["echo", "a\0b"]},
        {"env": {"A": "\0"}},
        {"env": {"A=B": "x"}},
        {"limits": Limits(timeout=0, output_bytes=1)},
        {"limits": Limits(timeout=1, output_bytes=-1)},
        {"log_path": Path("/no/such/directory/log")},
    ],
)
def test_what_can_never_run_is_refused(tmp_path: Path, change: dict[str, object]) -> None:
    asked = {"argv": ["true"], "cwd": tmp_path, "env": {}, "limits": LIMITS, "log_path": tmp_path / "log", **change}
    with pytest.raises(InvalidInput) as caught:
        run(asked.pop("argv"), **asked)  # type: ignore[arg-type]
    assert caught.value.hint
    assert not (tmp_path / "log").exists()


def test_stdin_larger_than_any_pipe(tmp_path: Path, env: dict[str, str]) -> None:
    data = os.urandom(3 << 20)
    code = "import sys, hashlib; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest())"
    done = run([sys.executable, "-c", code], cwd=tmp_path, env=env, limits=LIMITS, stdin=data)
    assert done.tail.strip() == hashlib.sha256(data).hexdigest()


def test_stdin_that_is_not_read_and_none(tmp_path: Path, env: dict[str, str]) -> None:
    assert run(["true"], cwd=tmp_path, env=env, limits=LIMITS, stdin="x" * (1 << 20)).ok
    assert run(["cat"], cwd=tmp_path, env=env, limits=LIMITS).tail == ""
    assert run(["cat"], cwd=tmp_path, env=env, limits=LIMITS, stdin="grüße").tail == "grüße"


def test_tail_is_the_end_and_decodes_anything(tmp_path: Path, env: dict[str, str]) -> None:
    code = "import sys; sys.stdout.buffer.write(b'a' + 'ü'.encode() * 5000 + b'\\xff\\xfe end')"
    done = run([*PYTHON, code], cwd=tmp_path, env=env, limits=LIMITS)
    # The cut falls into a character; what is left of it is not shown.
    assert done.tail == "ü" * ((4096 - 6) // 2) + "\ufffd\ufffd end"


def test_undecodable_arguments_arrive(tmp_path: Path, env: dict[str, str]) -> None:
    word = os.fsdecode(b"caf\xe9")
    code = "import os, sys; print(os.fsencode(sys.argv[1]), os.environb[b'WORD'])"
    done = run([*PYTHON, code, word], cwd=tmp_path, env={**env, "WORD": word}, limits=LIMITS)
    assert done.tail == "b'caf\\xe9' b'caf\\xe9'\n"


def test_fifty_at_once(tmp_path: Path, env: dict[str, str]) -> None:
    def one(number: int) -> Finished:
        return run(["sh", "-c", f"echo {number}; exit {number}"], cwd=tmp_path, env=env, limits=LIMITS)

    with ThreadPoolExecutor(50) as pool:
        done = list(pool.map(one, range(50)))
    assert [(end.reason, end.exit_code, end.tail) for end in done] == [("exited", n, f"{n}\n") for n in range(50)]


def test_callback_comes_once_from_the_reader_thread(tmp_path: Path, env: dict[str, str]) -> None:
    seen: queue.Queue[tuple[Finished, str]] = queue.Queue()

    def on_exit(done: Finished) -> None:
        seen.put((done, threading.current_thread().name))
        raise ValueError("a callback that fails harms nobody else")

    child = spawn(["cat"], cwd=tmp_path, env=env, limits=LIMITS, stdin="x", on_exit=on_exit)
    done, thread = seen.get(timeout=15)
    assert (done, thread) == (child.poll(), "maf-process-reader")
    assert run(["true"], cwd=tmp_path, env=env, limits=LIMITS).ok
    assert seen.empty()


def test_spawn_gives_the_pair_to_record(tmp_path: Path, env: dict[str, str]) -> None:
    child = spawn(["sleep", "600"], cwd=tmp_path, env=env, limits=LIMITS)
    assert child.pid is not None
    assert child.start_time is not None
    assert alive(child.pid, child.start_time)
    assert child.poll() is None
    assert child.wait(0.01) is None
    child.stop("not needed any more")
    done = child.wait(15)
    assert done is not None
    assert (done.reason, done.signal, done.error) == ("stopped", 15, "not needed any more")
    child.stop("again")
    assert child.wait(0) is done


def test_only_the_allowed_names_pass(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("API_TOKEN", "SSH_AUTH_SOCK", "LC_TIME", "WANTED", "HOME"):
        monkeypatch.setenv(name, f"value of {name}")
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    env = child_environment({"MAF_STORY": "S1", "HOME": "/elsewhere"}, allow=["WANTED", "NOT_SET"])
    done = run(["env"], cwd=tmp_path, env=env, limits=LIMITS)
    got = dict(line.split("=", 1) for line in done.tail.splitlines())
    assert got == env
    assert {"API_TOKEN", "SSH_AUTH_SOCK", "NOT_SET"}.isdisjoint(got)
    assert (got["LC_TIME"], got["WANTED"]) == ("value of LC_TIME", "value of WANTED")
    assert (got["MAF_STORY"], got["HOME"]) == ("S1", "/elsewhere")


def test_a_frozen_executable_gives_back_the_library_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/user")
    assert child_environment({})["LD_LIBRARY_PATH"] == "/of/the/user"
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/of/the/bundle")
    assert "LD_LIBRARY_PATH" not in child_environment({}, allow=["LD_LIBRARY_PATH"])
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/of/the/user")
    assert child_environment({})["LD_LIBRARY_PATH"] == "/of/the/user"
