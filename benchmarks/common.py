"""Timing in pairs, the place and the servers that it happens on, and a figure with its target."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from orchestrator.store import schema
from tests.support import postgres

ROOT = Path(__file__).resolve().parents[1]
SEED = 20260101
STORES = ("sqlite", "postgres")
_MEMORY = frozenset({"tmpfs", "ramfs", "devtmpfs"})

Step = Callable[[], Callable[[], Any]]
"""Prepares something, untimed, and returns what is timed."""


@dataclass(frozen=True)
class Figure:
    """One measured number. ``value`` is held against ``target``: a ratio where there is a ``floor``, else ``ours``."""

    name: str
    store: str
    unit: str
    ours: float
    floor: float | None
    value: float
    target: float
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether the target is met."""
        return self.value <= self.target

    def as_dict(self) -> dict[str, Any]:
        """For the JSON file."""
        return {**asdict(self), "ok": self.ok}


@dataclass(frozen=True)
class Size:
    """How much is measured: ``tiny`` only proves that a benchmark works."""

    name: str

    def of(self, full: int, quick: int, tiny: int) -> int:
        """The one of the three that this size stands for."""
        return {"full": full, "quick": quick, "tiny": tiny}[self.name]


@dataclass
class Place:
    """A folder on a real disk, and stores in it or on the benchmarks' own server."""

    folder: Path
    controller: postgres.Controller | None = None

    def new(self, name: str) -> Path:
        """A new empty folder."""
        return Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))

    def store(self, kind: str) -> str:
        """The URL of a new store with maf's schema."""
        if kind == "sqlite":
            url = f"sqlite:///{self.new('store')}/maf.db"
        else:
            name = f"bench_{uuid.uuid4().hex[:12]}"
            with psycopg.connect(self.server()["url"], autocommit=True) as connection:
                connection.execute(psycopg.sql.SQL("CREATE SCHEMA {}").format(psycopg.sql.Identifier(name)))
            url = postgres.in_schema(self.server()["url"], name)
        schema.create(url)
        return url

    def drop(self, url: str) -> None:
        """Remove a store again: a long history takes room."""
        if url.startswith("sqlite:///"):
            shutil.rmtree(Path(url.removeprefix("sqlite:///")).parent, ignore_errors=True)
            return
        with psycopg.connect(url, autocommit=True) as connection:
            row = connection.execute("SELECT current_schema()").fetchone()
            assert row is not None
            postgres.drop_schema(connection, row[0])

    def server(self) -> dict[str, Any]:
        """The server, started on first use: fsync and synchronous_commit are on. Unavailable: there is none."""
        if self.controller is None:
            self.controller = postgres.Controller()
        found = postgres.server(self.controller.directory, durable=True)
        with psycopg.connect(found["url"]) as connection:
            for name in ("fsync", "synchronous_commit", "full_page_writes"):
                row = connection.execute(f"SHOW {name}").fetchone()
                if row is None or row[0] != "on":
                    raise SystemExit(f"the Postgres server has {name} off: its figures would mean nothing")
        return found


@contextlib.contextmanager
def place(folder: Path | None = None) -> Iterator[Place]:
    """A :class:`Place` under ``folder`` (default ``.build/bench``), removed at the end with everything in it."""
    base = (folder or ROOT / ".build" / "bench").resolve()
    base.mkdir(parents=True, exist_ok=True)
    if file_system(base) in _MEMORY:
        raise SystemExit("the benchmarks' folder is in memory, where nothing is durable: name one on a disk (--folder)")
    here = Place(Path(tempfile.mkdtemp(prefix="run-", dir=base)))
    try:
        yield here
    finally:
        if here.controller is not None:
            here.controller.close()
        shutil.rmtree(here.folder, ignore_errors=True)


def file_system(path: Path) -> str:
    """The type of the file system that holds ``path``, such as ``ext4``; ``unknown`` where that cannot be told."""
    best, kind = "", "unknown"
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines():
            _, point, fs, *_ = line.split(" ", 3)
            if (str(path) + "/").startswith(point.rstrip("/") + "/") and len(point) >= len(best):
                best, kind = point, fs
    return kind


@dataclass(frozen=True)
class Pairs:
    """Times of interleaved runs, in milliseconds, in rounds."""

    ours: list[list[float]]
    floor: list[list[float]]

    @property
    def ratios(self) -> list[float]:
        """The ratio of the medians, round by round."""
        return [statistics.median(a) / statistics.median(b) for a, b in zip(self.ours, self.floor, strict=True)]

    def figure(self, name: str, store: str, target: float, **details: Any) -> Figure:
        """The median ratio of the rounds, held against ``target``."""
        ours = sorted(t for one in self.ours for t in one)
        floor = sorted(t for one in self.floor for t in one)
        return Figure(
            name, store, "ms", statistics.median(ours), statistics.median(floor), statistics.median(self.ratios),
            target, {
                "pairs": len(ours), "ratios": [round(r, 3) for r in self.ratios],
                "ours_p90": round(ours[int(len(ours) * 0.9)], 3), "floor_p90": round(floor[int(len(floor) * 0.9)], 3),
                **details,
            },
        )  # fmt: skip


def pairs(ours: Step, floor: Step, *, rounds: int, each: int, warm: int = 20) -> Pairs:
    """Time ``ours`` and ``floor`` one after the other, ``rounds`` times ``each`` pairs, after ``warm`` untimed ones."""
    for _ in range(warm):
        ours()()
        floor()()
    taken = Pairs([], [])
    for _ in range(rounds):
        a: list[float] = []
        b: list[float] = []
        for i in range(each):
            # Whoever comes second meets a disk that has just synced: so they take turns.
            both = [(ours, a), (floor, b)]
            for step, times in both if i % 2 == 0 else reversed(both):
                work = step()
                began = time.perf_counter_ns()
                work()
                times.append((time.perf_counter_ns() - began) / 1e6)
        taken.ours.append(a)
        taken.floor.append(b)
    return taken


def environment() -> dict[str, str]:
    """A child's environment: it finds the package, and no maf setting of the user's."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MAF_", "GIT_"))}
    return kept | {"PYTHONPATH": str(ROOT), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
