"""Where the project is, which store it has, and what the configuration's layers say. Standard library only.

Every command comes through here, hundreds of times an hour, so nothing is validated but what is asked for;
``orchestrator.bootstrap.config`` validates everything.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from orchestrator.domain.errors import InvalidInput, StoreUnavailable

FILE, HOME = "maf.toml", ".maf"
DEFAULT_STORE = "sqlite:///.maf/maf.db"

VARIABLES: dict[str, tuple[str, type[int | float | str]]] = {
    "MAF_DB": ("store.url", str),
    "MAF_TARGET": ("project.target", str),
    "MAF_CHECKS_TIMEOUT": ("checks.timeout", float),
    "MAF_CHECKS_OUTPUT_LIMIT": ("checks.output_limit", int),
    "MAF_RUN_AGENTS": ("run.agents", int),
    "MAF_RUN_MAX_ATTEMPTS": ("run.max_attempts", int),
    "MAF_RUN_TIMEOUT": ("run.timeout", float),
    "MAF_RUN_OUTPUT_LIMIT": ("run.output_limit", int),
    "MAF_RUN_BACKOFF": ("run.backoff", float),
    "MAF_RUN_BACKOFF_MAX": ("run.backoff_max", float),
    "MAF_SIGNALS_PER_MINUTE": ("signals.per_minute", int),
    "MAF_SESSIONS_TTL": ("sessions.ttl", int),
}
"""Settings that the environment may decide: variable -> (setting, its type)."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One source of settings. ``names`` says where a setting comes from where that is finer than ``origin``."""

    origin: str
    values: dict[str, Any]
    names: dict[str, str] = field(default_factory=dict)

    def origin_of(self, key: str) -> str:
        """What to call the source of ``key``."""
        return self.names.get(key, self.origin)


@dataclass(frozen=True)
class Location:
    """The project around a folder, and the layers of its configuration, the strongest first."""

    start: Path
    root: Path | None
    environment: Mapping[str, str]
    flags: dict[str, Any] = field(default_factory=dict)

    @property
    def file(self) -> Path | None:
        """The project's ``maf.toml``, if it has one."""
        path = self.root / FILE if self.root else None
        return path if path is not None and path.is_file() else None

    @property
    def user_file(self) -> Path:
        """The user's own settings, for all projects."""
        home = self.environment.get("XDG_CONFIG_HOME") or Path.home() / ".config"
        return Path(home) / "maf" / "config.toml"

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Flags, environment, project file, user file. InvalidInput: one cannot be read."""
        layers = [Layer("command line", self.flags, {"store.url": "--db"}), self._from_environment()]
        if self.file is not None:
            layers.append(Layer(str(self.file), read_toml(self.file)))
        if self.user_file.is_file():
            layers.append(Layer(str(self.user_file), read_toml(self.user_file)))
        return tuple(layers)

    def _from_environment(self) -> Layer:
        values: dict[str, Any] = {}
        names: dict[str, str] = {}
        for variable, (key, kind) in VARIABLES.items():
            text = self.environment.get(variable)
            if not text:
                continue
            try:
                value = kind(text)
            except ValueError:
                raise InvalidInput(
                    f"{variable} is {text[:60]!r}; it must be a number", hint=f"Correct it, or unset {variable}."
                ) from None
            section, _, name = key.partition(".")
            values.setdefault(section, {})[name] = value
            names[key] = variable
        return Layer("environment", values, names)

    def find(self, key: str) -> tuple[Any, str] | None:
        """The strongest value of the setting ``section.name`` and where it comes from; None where no layer has one."""
        for layer in self.layers:
            value: Any = layer.values
            for part in key.split("."):
                value = value.get(part) if isinstance(value, dict) else None
            if value is not None:
                return value, layer.origin_of(key)
        return None

    def store(self) -> tuple[str, str]:
        """The store's URL, its path made absolute, and where it comes from.

        ``--db``, else ``MAF_DB``, else ``[store] url``, else ``.maf/maf.db`` of the project.
        StoreUnavailable: none is named and there is no project here.
        """
        # The stronger two need no file at all.
        if "store" in self.flags:
            url, origin = self.flags["store"]["url"], "--db"
        elif self.environment.get("MAF_DB"):
            url, origin = self.environment["MAF_DB"], "MAF_DB"
        else:
            found = self.find("store.url")
            if found is None and self.root is None:
                raise StoreUnavailable(
                    f"there is no project at {self.start} or above",
                    hint="Go into your repository and run `maf init`, or name a store: --db URL.",
                )
            url, origin = found or (DEFAULT_STORE, "default")
        if not isinstance(url, str):
            raise InvalidInput(f"{origin}: [store] url must be a text", hint=f'Write it like url = "{DEFAULT_STORE}".')
        return absolute(url, self.root or self.start), origin


def absolute(url: str, base: Path) -> str:
    """``url`` with a relative SQLite path made absolute, seen from ``base``."""
    prefix = "sqlite:///"
    if not url.startswith(prefix) or len(url) == len(prefix):
        return url
    return prefix + os.path.normpath(base / url.removeprefix(prefix))


def read_toml(path: Path) -> dict[str, Any]:
    """The file's tables. InvalidInput, with the line: it is no TOML."""
    import tomllib

    try:
        return tomllib.loads(path.read_text("utf-8"))
    except UnicodeDecodeError:
        raise InvalidInput(f"{path} is not UTF-8", hint="Save it as UTF-8.") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{path} is not valid TOML: {error}", hint="Correct that line.") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", hint="Check who may read it.") from None


def locate(start: Path, environment: Mapping[str, str], *, db: str | None = None) -> Location:
    """The project around ``start``: the nearest ``maf.toml``, ``.maf/`` or git repository upwards.

    Inside a linked worktree it is the main worktree's.
    """
    flags = {"store": {"url": db}} if db else {}
    root = find_root(start)
    try:
        str(root or start).encode()
    except UnicodeEncodeError:  # neither a database nor a JSON document can hold it
        raise InvalidInput(
            f"the path {str(root or start)!a} is not UTF-8",
            hint="Rename the folder. If its name is right, the locale is not: set LC_ALL=C.UTF-8.",
        ) from None
    return Location(start, root, environment, flags)


def find_root(start: Path) -> Path | None:
    """The project's folder, or None."""
    for folder in (start, *start.parents):
        git = folder / ".git"
        if git.is_file():
            return _main_worktree(folder, git)
        if git.is_dir() or (folder / FILE).is_file() or (folder / HOME).is_dir():
            return folder
    return None


def _main_worktree(folder: Path, git: Path) -> Path:
    """The main worktree of the linked worktree at ``folder``; a submodule is a repository of its own."""
    try:
        admin = folder / git.read_text("utf-8", "surrogateescape").strip().removeprefix("gitdir:").strip()
        common = admin / (admin / "commondir").read_text("utf-8", "surrogateescape").strip()
    except OSError:
        return folder
    common = Path(os.path.realpath(common))
    if common.name == ".git":
        return common.parent
    from orchestrator.git import Repository

    with Repository.open(folder) as repository:
        return repository.root
