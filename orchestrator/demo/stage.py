"""Makes what the demo plays on: the repository, ``maf.toml``, the store and the plan in it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from orchestrator.bootstrap.context import Desk, Given
from orchestrator.bootstrap.init import init, public
from orchestrator.bootstrap.locate import absolute
from orchestrator.demo import sample
from orchestrator.domain.errors import InvalidInput, MafError, Refused
from orchestrator.git.command import Git, identity
from orchestrator.plans import load
from orchestrator.service import planning
from orchestrator.store import open_store, schema

FOLDER = "maf-demo"
DEFAULT_STORE = "sqlite:///.maf/maf.db"
# The user's own git settings must neither stop the sample's commits nor change what is in its files.
_CONFIG = {"commit.gpgSign": "false", "core.autocrlf": "false", "core.hooksPath": os.devnull, "merge.renames": "true"}


def folder(given: str | None, base: Path) -> Path:
    """Where the demo goes: the folder that was named, which has to be empty, else ``maf-demo`` (``-2``, …) here.

    Refused: it has something in it. InvalidInput: it is a file, or no folder can be made there.
    """
    if given is not None:
        path = base / given
        _refuse_taken(path)
    else:
        names = (FOLDER, *(f"{FOLDER}-{number}" for number in range(2, 10_000)))
        path = next(base / name for name in names if not os.path.lexists(base / name))
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"no folder can be made at {path}: {why}", hint="Name another: maf demo DIR") from None
    return path.resolve()


def _refuse_taken(path: Path) -> None:
    try:
        if os.path.lexists(path) and not path.is_dir():
            raise InvalidInput(f"{path} is not a folder", hint="Name another: maf demo DIR")
        if path.is_dir() and any(path.iterdir()):
            raise Refused(f"{path} is not empty", hint="Name another, or a new one: maf demo DIR")
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise InvalidInput(f"{str(path)!r} cannot be used: {why}", hint="Name another: maf demo DIR") from None


def refuse_used(url: str) -> None:
    """Refused: the store named by ``--db`` has a plan in it already. It is made where it is not there yet."""
    schema.create(url)
    with open_store(url) as store, store.read() as reader:
        if reader.all("wave.list"):
            raise Refused(
                f"the store {public(url)} holds a plan already, and the demo would play in it",
                hint="Give the demo an empty store, or none: without --db it makes its own.",
            )


def build(root: Path, db: str | None) -> Desk:
    """The sample in the empty folder ``root``, ready for ``maf run``. ``db``: a store's URL, None for one inside it."""
    url = absolute(db, Path.cwd()) if db else None
    if url is not None:
        try:
            refuse_used(url)
        except MafError:
            root.rmdir()  # empty as yet: nothing stays of a demo that cannot be
            raise
    for name, text in {
        **sample.FILES,
        "maf.toml": sample.configuration(public(url) if url else DEFAULT_STORE, sys.executable),
        "plan.yaml": sample.PLAN,
    }.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8", newline="\n")
    git = Git(root)
    git.run("init", "--quiet", f"--initial-branch={sample.TARGET}")
    for key, value in _CONFIG.items():
        git.run("config", key, value)
    git.run("add", "--all", "--force")
    git.run("commit", "--quiet", "--message", "A household's ledger", env=identity("maf demo", "demo@maf.invalid"))
    desk = open_desk(root, url)
    try:
        init(desk.location, start=root)
        planning.import_plan(desk.ctx, load([root / "plan.yaml"]))
    except BaseException:
        desk.close()
        raise
    return desk


def open_desk(root: Path, url: str | None) -> Desk:
    """The sample's desk. What the caller's shell says about another project's store or agent is not heard."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MAF_")}
    return Desk(Given(db=url), start=root, environment=kept)
