"""Two stores, one behaviour: every test that takes ``store_url`` runs on SQLite and on Postgres.

``sqlite_url`` and ``postgres_url`` give an empty store of one kind, ``store_url`` one of each kind in turn, and
``new_store_url`` a function that makes as many of that kind as a test wants. A run ends with a line that says what ran
where. Without a Postgres the tests fail; only ``--stores=sqlite``, said aloud, skips that half, and never on CI.
"""

from __future__ import annotations

import os
import uuid
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import psycopg
import pytest

from tests.support import postgres

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

STORES = ("sqlite", "postgres")
_directory = pytest.StashKey[str]()
_used = pytest.StashKey[set[str]]()


# --- the run ---------------------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stores",
        default=",".join(STORES),
        help="the stores to test, of sqlite,postgres (default: both); leaving one out skips its tests",
    )


def stores_of(config: pytest.Config) -> tuple[str, ...]:
    chosen = tuple(part.strip() for part in str(config.getoption("--stores")).split(",") if part.strip())
    if unknown := set(chosen) - set(STORES):
        raise pytest.UsageError(
            f"--stores: no store is called {', '.join(sorted(unknown))}; there are {', '.join(STORES)}"
        )
    required = os.environ.get("CI", "").lower() in {"1", "true"} or os.environ.get("MAF_REQUIRE_POSTGRES") == "1"
    if required and "postgres" not in chosen:
        raise pytest.UsageError("--stores: this is CI (or MAF_REQUIRE_POSTGRES=1), where both stores are tested")
    return chosen


def pytest_configure(config: pytest.Config) -> None:
    stores_of(config)
    worker = getattr(config, "workerinput", None)
    if worker is not None:
        config.stash[_directory] = worker["maf_directory"]
        return
    run = Run(config)
    config.stash[_directory] = str(run.postgres.directory)
    config.pluginmanager.register(run, "maf-stores")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """Note in the report, which travels from the worker to the controller, on which stores the test ran."""
    report = yield
    report.maf_stores = sorted(item.stash.get(_used, set()))
    return report


class Run:
    """In the process that the user started: holds the Postgres of the run, counts, and has the last word."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.postgres = postgres.Controller()
        self.passed: Counter[str] = Counter()
        self.skipped = 0
        self.ran = False

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        """xdist: tell the worker where the run meets."""
        node.workerinput["maf_directory"] = str(self.postgres.directory)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.ran = True
        if report.when == "call" and report.passed:
            self.passed.update(getattr(report, "maf_stores", ()))
        elif report.skipped and not hasattr(report, "wasxfail"):
            self.skipped += 1

    @pytest.hookimpl(trylast=True)
    def pytest_unconfigure(self) -> None:
        version = self.postgres.version() or "not used"
        self.postgres.close()
        reporter = self.config.pluginmanager.get_plugin("terminalreporter")
        if self.ran and reporter is not None:
            reporter.write_line(
                f"stores: sqlite {apsw.sqlite_lib_version()} ({self.passed['sqlite']} passed), "
                f"postgres {version} ({self.passed['postgres']} passed), skipped {self.skipped}"
            )


# --- stores for tests ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def postgres_server(pytestconfig: pytest.Config) -> Iterator[tuple[str, psycopg.Connection[Any]]]:
    """The run's server: its URL, and a connection to make and drop schemas with."""
    try:
        url = postgres.server(Path(pytestconfig.stash[_directory]))["url"]
    except postgres.Unavailable as error:
        pytest.fail(f"Postgres is not available: {error}", pytrace=False)
    with psycopg.connect(url, autocommit=True) as connection:
        yield url, connection


@pytest.fixture
def new_sqlite_url(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """A function: the URL of another SQLite file that does not exist yet."""
    _mark(request, "sqlite")

    def new() -> str:
        directory = tmp_path / f"store-{uuid.uuid4().hex[:12]}"
        directory.mkdir()
        return f"sqlite:///{directory}/maf.db"

    return new


@pytest.fixture
def new_postgres_url(request: pytest.FixtureRequest) -> Iterator[Callable[[], str]]:
    """A function: the URL of another empty schema; all of them are dropped when the test ends."""
    _mark(request, "postgres")
    url, connection = request.getfixturevalue("postgres_server")
    made: list[str] = []

    def new() -> str:
        schema = f"test_{uuid.uuid4().hex[:16]}"
        connection.execute(f"CREATE SCHEMA {schema}")
        made.append(schema)
        return postgres.in_schema(url, schema)

    yield new
    for schema in made:
        postgres.drop_schema(connection, schema)


@pytest.fixture
def sqlite_url(new_sqlite_url: Callable[[], str]) -> str:
    return new_sqlite_url()


@pytest.fixture
def postgres_url(new_postgres_url: Callable[[], str]) -> str:
    return new_postgres_url()


@pytest.fixture(params=STORES)
def store_kind(request: pytest.FixtureRequest) -> str:
    """``sqlite``, then ``postgres``: whatever depends on it runs on both."""
    return str(request.param)


@pytest.fixture
def new_store_url(store_kind: str, request: pytest.FixtureRequest) -> Callable[[], str]:
    """A function: the URL of another empty store of the kind that this test runs on."""
    return request.getfixturevalue(f"new_{store_kind}_url")


@pytest.fixture
def store_url(new_store_url: Callable[[], str]) -> str:
    return new_store_url()


def _mark(request: pytest.FixtureRequest, store: str) -> None:
    if store not in stores_of(request.config):
        pytest.skip(f"--stores={request.config.getoption('--stores')}")
    request.node.stash.setdefault(_used, set()).add(store)
