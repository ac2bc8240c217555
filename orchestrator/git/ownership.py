"""Which files a domain may change: a pure function over a diff.

Patterns are those of ``.gitignore`` where that is clear, and stricter where it is not:

- ``*`` and ``?`` stay within one name, ``**`` spans folders, ``[a-z]`` is one of; letters count by case;
- a pattern with a slash, also a trailing one, starts at the top of the repository (``docs/``, ``src/core/**``);
  one without (``*.py``, ``Makefile``) matches that name at any depth;
- what matches a folder matches everything in it;
- no ``!``, no ``..``, no backslash: refused (InvalidInput).

``forbidden`` wins over ``owns``, ``owns`` over ``reads``. A domain with ``owns`` changes those only. Whatever the
rules: a symlink that leads out of the repository, a submodule, and the files that steer git or maf themselves
(``maf.toml`` holds the very checks that the story must pass) are refused, unless ``owns`` names them literally;
a symlink outwards always is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.domain.errors import InvalidInput
from orchestrator.git.models import Change


@dataclass(frozen=True, slots=True)
class PathRules:
    """A domain's paths, as patterns. All empty: it may change everything but what steers git and maf."""

    owns: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    forbidden: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for pattern in (*self.owns, *self.reads, *self.forbidden):
            _compiled(pattern)


@dataclass(frozen=True, slots=True)
class Violation:
    """One file that the story may not change: ``rule`` is stable for programs, ``message`` for people."""

    path: str
    rule: str  # forbidden, not_owned, read_only, control, symlink, submodule, path
    message: str


def check_paths(changes: Iterable[Change], rules: PathRules) -> list[Violation]:
    """What a diff changes although it must not; empty when all is allowed. At most one violation a path."""
    found: dict[str, Violation] = {}
    for change in changes:
        for path in change.touched:
            verdict = _verdict(path, change, rules)
            if verdict is not None:
                found.setdefault(path, Violation(path, *verdict))
    return list(found.values())


def matches(pattern: str, path: str) -> bool:
    """Whether a pattern covers a path. InvalidInput for a pattern that is none."""
    return _compiled(pattern).fullmatch(path) is not None


def _verdict(path: str, change: Change, rules: PathRules) -> tuple[str, str] | None:
    parts = path.split("/")
    if path.startswith("/") or any(part in ("", ".", "..") or part.casefold() == ".git" for part in parts):
        return "path", f"{path!r} is not a path inside the repository"
    hit = _first(rules.forbidden, path)
    if hit:
        return "forbidden", f"{path!r} is forbidden to this domain (forbidden: {hit})"
    if change.is_symlink and path == change.path and _leads_out(path, change.link_target):
        return "symlink", f"{path!r} is a symlink that leads out of the repository ({change.link_target!r})"
    named = path in {pattern.lstrip("/") for pattern in rules.owns}
    if change.is_submodule and not named:
        return "submodule", f"{path!r} is a submodule; only a domain whose owns names it may change it"
    if _steers(parts) and not (named or _names_folder(rules.owns, parts[0])):
        return "control", f"{path!r} steers git or maf itself; only a domain whose owns names it may change it"
    return None if _first(rules.owns, path) else _not_owned(path, rules)


def _not_owned(path: str, rules: PathRules) -> tuple[str, str] | None:
    hit = _first(rules.reads, path)
    if hit:
        return "read_only", f"{path!r} may only be read by this domain (reads: {hit})"
    if rules.owns:
        return "not_owned", f"{path!r} is outside what this domain owns ({', '.join(rules.owns)})"
    return None


def _steers(parts: Sequence[str]) -> bool:
    folded = [part.casefold() for part in parts]  # a file system may not tell them apart
    return folded[-1] in (".gitattributes", ".gitmodules") or folded == ["maf.toml"] or folded[0] == ".maf"


def _names_folder(owns: Sequence[str], folder: str) -> bool:
    return folder.casefold() == ".maf" and any(pattern.lstrip("/").split("/")[0] == folder for pattern in owns)


def _leads_out(path: str, target: str | None) -> bool:
    """Judged by the text alone: what a link resolves to on disk can change after the check."""
    if not target or target.startswith("/"):
        return True
    depth = path.count("/")
    named = False
    for part in target.split("/"):
        if part == "..":
            if named:  # a/../.. : a may itself be a link, so this could be anywhere
                return True
            depth -= 1
        elif part not in ("", "."):
            named = True
            if part.casefold() == ".git":
                return True
    return depth < 0


def _first(patterns: Sequence[str], path: str) -> str | None:
    return next((pattern for pattern in patterns if matches(pattern, path)), None)


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    body = pattern.removeprefix("/").rstrip("/")
    parts = body.split("/")
    if not body or pattern.startswith("!") or "\\" in pattern or "\0" in pattern or {"", ".", ".."} & set(parts):
        raise InvalidInput(
            f"{pattern!r} is not a path pattern",
            hint="paths from the repository's top, with / and *, ** or ?; no !, no .., no backslash",
        )
    anchored = "/" in pattern
    expression = "" if anchored else "(?:.*/)?"
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        if part == "**":
            expression += ".+" if last else "(?:.*/)?"
        else:
            expression += _segment(part, pattern) + ("" if last else "/")
    # a folder stands for all that is in it; with a trailing slash the name itself must be a folder
    expression += "/.+" if pattern.endswith("/") else "(?:/.+)?"
    return re.compile(expression, re.DOTALL)


def _segment(part: str, pattern: str) -> str:
    out = ""
    index = 0
    while index < len(part):
        char = part[index]
        if char == "*":
            while part[index + 1 : index + 2] == "*":
                index += 1
            out += "[^/]*"
        elif char == "?":
            out += "[^/]"
        elif char == "[":
            end = part.find("]", index + 2)
            if end < 0:
                raise InvalidInput(f"{pattern!r} has a [ without its ]", hint="close it, or write [[] for the letter")
            inside = part[index + 1 : end]
            negated = inside[:1] in ("!", "^")
            chosen = re.sub(r"([\\\[\]^&~|])", r"\\\1", inside[negated:])
            out += f"(?!/)[{'^' if negated else ''}{chosen}]"
            index = end
        else:
            out += re.escape(char)
        index += 1
    try:
        re.compile(out)
    except re.error as error:
        raise InvalidInput(f"{pattern!r} is not a path pattern: {error}", hint="check the [ ]") from error
    return out
