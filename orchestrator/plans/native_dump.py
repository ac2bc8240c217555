"""Writes maf's own plan format; what it writes reads back as the same plan."""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any

import yaml

from orchestrator.domain.plan import Plan, PlannedStory, PlannedWave
from orchestrator.plans.yaml_reader import resolve


def dump(plan: Plan) -> str:
    """``plan`` as YAML text. Stories stand in their waves where that keeps their order, else in a list of their own.

    Sources and notes are not part of the format.
    """
    waves = [_wave(wave) for wave in plan.waves]
    groups = [(code, list(stories)) for code, stories in groupby(plan.stories, key=lambda story: story.wave)]
    order = [code for code, _ in groups]
    nested = len(set(order)) == len(order) and order == [one.code for one in plan.waves if one.code in set(order)]
    document: dict[str, Any] = {"maf": 1}
    if waves:
        document["waves"] = waves
    if nested:
        by_wave = dict(groups)
        for wave in waves:
            if wave["code"] in by_wave:
                wave["stories"] = [_story(story) for story in by_wave[wave["code"]]]
    else:
        document["stories"] = [{"wave": story.wave, **_story(story)} for story in plan.stories]
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _wave(wave: PlannedWave) -> dict[str, Any]:
    return {
        "code": wave.code,
        "name": wave.name,
        **({} if wave.description is None else {"description": wave.description}),
        **({} if wave.priority == 1 else {"priority": wave.priority}),
        **({"after": list(wave.after)} if wave.after else {}),
        **({"start": "manual"} if wave.manual else {}),
    }


def _story(story: PlannedStory) -> dict[str, Any]:
    criteria = [one.text if one.id is None else {"id": one.id, "text": one.text} for one in story.criteria]
    return {
        "code": story.code,
        "title": story.title,
        "domain": story.domain,
        **({} if story.description is None else {"description": story.description}),
        **({} if story.story_type == "feature" else {"type": story.story_type}),
        **({} if story.priority == 1 else {"priority": story.priority}),
        **({} if story.points == 1 else {"points": story.points}),
        **({"criteria": criteria} if criteria else {}),
        **({"after": list(story.after)} if story.after else {}),
        **({"metadata": story.metadata} if story.metadata else {}),
    }


# Line breaks to YAML, which a reader may fold into others unless they are escaped.
_ODD_BREAK = re.compile("[\r\x85\u2028\u2029]")


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002 - a plan is written out
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = None
    if _ODD_BREAK.search(value) or _reads_as_something_else(value):
        style = '"'
    elif "\n" in value:
        style = "|"
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


def _reads_as_something_else(value: str) -> bool:
    """Unquoted, that is, by our reading of YAML, which is not the library's."""
    try:
        return resolve(value) is not value
    except ValueError:
        return True


_Dumper.add_representer(str, _text)
