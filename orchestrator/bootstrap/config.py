"""The configuration, validated: layers in, :class:`~orchestrator.domain.settings.Settings` out, with origins."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from orchestrator.bootstrap import model
from orchestrator.bootstrap.locate import Layer, Location
from orchestrator.domain.errors import InvalidInput
from orchestrator.domain.settings import Checks, DevAgent, Domain, RoleSettings, Run, Settings

_REPEATABLE = {"domains", "roles"}
"""Tables of tables, merged one level deeper."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """The settings, and for each ``section.key`` its value and where it comes from."""

    settings: Settings
    values: dict[str, Any]
    origins: dict[str, str]


def load(location: Location) -> Configuration:
    """All layers together: flags > environment > project file > user file > defaults.

    InvalidInput names the file, the key and what would be right.
    """
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in reversed(location.layers):
        _merge(merged, layer.values, "", origins, layer)
    try:
        read = model.File.model_validate(merged)
    except ValidationError as error:
        raise _explained(error, origins, location) from None
    url, origin = location.store() if location.root or "store" in merged else (read.store.url, "default")
    values = dict(_flat(read.model_dump(mode="json"), ""))
    values["store.url"] = url
    for role in ("pm", "qa", "cto"):
        values[f"roles.{role}.id"] = values[f"roles.{role}.id"] or role
    origins["store.url"] = origin
    return Configuration(_settings(read, url), values, {key: _origin(key, origins) for key in values})


def _merge(into: dict[str, Any], values: dict[str, Any], prefix: str, origins: dict[str, str], layer: Layer) -> None:
    for name, value in values.items():
        key = f"{prefix}{name}"
        section = prefix == "" or prefix.rstrip(".") in _REPEATABLE
        if section and isinstance(value, dict) and isinstance(into.setdefault(name, {}), dict):
            _merge(into[name], value, f"{key}.", origins, layer)
        else:
            into[name] = value
            origins[key] = layer.origin_of(key)


def _flat(values: dict[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in values.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and (prefix == "" or prefix.rstrip(".") in _REPEATABLE):
            found += _flat(value, f"{key}.")
        else:
            found.append((key, value))
    return found


def _origin(key: str, origins: dict[str, str]) -> str:
    parts = key.split(".")
    for end in range(len(parts), 0, -1):
        if (found := origins.get(".".join(parts[:end]))) is not None:
            return found
    return "default"


def _settings(read: model.File, url: str) -> Settings:
    roles = {
        name: RoleSettings(section.mode, section.id or name, section.command, section.prompt)
        for name, section in (("cto", read.roles.cto), ("pm", read.roles.pm), ("qa", read.roles.qa))
    }
    checks = read.checks
    return Settings(
        store=url,
        target=read.project.target,
        checks=Checks(checks.commands, checks.none, checks.timeout, checks.output_limit, dict(checks.environment)),
        plan_files=read.project.plan_files,
        domains={name: Domain(d.owns, d.reads, d.forbidden) for name, d in read.domains.items()},
        roles=roles,
        agents=tuple(
            DevAgent(a.id, a.command, a.domain, a.count, a.prompt, a.submits, dict(a.environment), a.pass_environment)
            for a in read.agents
        ),
        run=Run(**read.run.model_dump()),
        signals_per_minute=read.signals.per_minute,
        ttl_hand=read.sessions.ttl,
    )


def _explained(error: ValidationError, origins: dict[str, str], location: Location) -> InvalidInput:
    """Pydantic's first complaint as a person would say it, all of them in the details."""
    problems = []
    for one in error.errors(include_url=False, include_context=False):
        loc = [part for part in one["loc"] if not (isinstance(part, str) and part.startswith("function-"))]
        key = "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in loc).lstrip(".")
        plain = ".".join(str(p) for p in loc)
        where = _origin(plain, origins)
        if where == "default":
            below = [origin for name, origin in origins.items() if not plain or name.startswith(f"{plain}.")]
            where = below[0] if below else str(location.file or "the configuration")
        message = one["msg"].removeprefix("Value error, ")
        if one["type"] == "extra_forbidden":
            message = "there is no such key" + _similar(loc)
        elif key:
            message = message[0].lower() + message[1:]
        problems.append({"file": where, "key": key, "message": message})
    first = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    key = f"{first['key']}: " if first["key"] else ""
    return InvalidInput(
        f"{first['file']}: {key}{first['message']}{more}",
        hint="Correct it there; docs/configuration.md has every key.",
        problems=problems,
    )


def _similar(loc: list[Any]) -> str:
    known = model.File
    names: list[str] = []
    at: type[BaseModel] | None = known
    for part in loc[:-1]:
        at = _model_of(at, part) if at is not None else None
    if at is not None:
        names = list(at.model_fields)
    close = difflib.get_close_matches(str(loc[-1]), names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known are {', '.join(names)}" if names else ""


def _model_of(at: type[BaseModel], part: Any) -> type[BaseModel] | None:
    if at is model.File and part == "domains":
        return _Domains
    if at is model.File and part == "agents":
        return _Agents
    if at is _Domains:
        return model.DomainSection
    if at is _Agents:
        return model.AgentSection
    found = at.model_fields.get(str(part))
    kind = found.annotation if found else None
    return kind if isinstance(kind, type) and issubclass(kind, BaseModel) else None


class _Domains(BaseModel):
    """Stands for the table of domains, whose keys are free."""


class _Agents(BaseModel):
    """Stands for the list of agents, whose keys are numbers."""
