"""The series of releases as a plan for maf: a wave for each release, a story for each group of its changes."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from groups import Group
    from releases import Release


@dataclass(frozen=True, slots=True)
class Story:
    """One story: ``paths`` become what they are in the wave's release. ``after`` holds story codes of its wave."""

    code: str
    title: str
    domain: str
    paths: tuple[str, ...]
    after: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Wave:
    """All the changes that lead to ``release``."""

    code: str
    release: Release
    stories: tuple[Story, ...]


def waves(releases: Sequence[Release], grouped: Sequence[Sequence[Group]]) -> list[Wave]:
    """One wave for each release but the first; ``grouped`` holds the groups of each of these."""
    found = []
    for release, groups in zip(releases[1:], grouped, strict=True):
        wave = _usable(f"{release.package}-{release.version}", 34)
        codes: dict[str, str] = {}
        for group in groups:
            code = f"{wave}-{_usable(group.name.partition('+')[0], 15)}"
            codes[group.name] = code if code not in codes.values() else f"{wave}-{len(codes)}"
        stories = [
            Story(codes[one.name], _title(one, release), one.domain, one.paths, tuple(codes[n] for n in one.after))
            for one in groups
        ]
        found.append(Wave(wave, release, tuple(stories)))
    return found


def write_plan(plan: Sequence[Wave], path: Path) -> None:
    """The plan in maf's own format (docs/plan-format.md)."""
    document: dict[str, Any] = {"maf": 1, "waves": []}
    for at, wave in enumerate(plan):
        stories = [
            {
                "code": story.code,
                "title": story.title,
                "domain": story.domain,
                "description": "Files:\n" + "".join(f"- {path}\n" for path in story.paths),
                "criteria": [
                    f"every file named is what {wave.release} has in its place",
                    f"all tests of {wave.release.package} pass, none is deselected",
                ],
                **({"after": list(story.after)} if story.after else {}),
            }
            for story in wave.stories
        ]
        document["waves"].append(
            {
                "code": wave.code,
                "name": str(wave.release),
                **({"after": [plan[at - 1].code]} if at else {}),
                "stories": stories,
            }
        )
    path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), "utf-8")


def write_manifest(plan: Sequence[Wave], maf: Sequence[str], path: Path) -> None:
    """What the scripted agents go by: for each story its paths and the tree to take them from; how to call maf."""
    stories = {
        story.code: {"title": story.title, "source": str(wave.release.folder), "paths": list(story.paths)}
        for wave in plan
        for story in wave.stories
    }
    path.write_text(json.dumps({"maf": list(maf), "stories": stories}, indent=1), "utf-8")


def _title(group: Group, release: Release) -> str:
    names = group.name.replace("+", ", ")
    count = len(group.paths)
    return f"{names if len(names) < 120 else names[:120] + ' …'}: {count} file{'s' * (count > 1)} of {release}"


def _usable(text: str, limit: int) -> str:
    """``text`` as part of a code: letters, digits, ``.``, ``_`` and ``-``."""
    return re.sub(r"[^A-Za-z0-9._-]+|\.\.+", "-", text)[:limit].strip("-._") or "x"
