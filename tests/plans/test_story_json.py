from __future__ import annotations

import json
import os
from collections import Counter
from pathlib import Path

import pytest

from orchestrator.domain.planning import critical_path, summary
from orchestrator.plans import dump, load
from orchestrator.plans.registry import detect

SAMPLES = os.environ.get("MAF_SAMPLE_PLANS")


def story(code: str, **fields) -> str:
    basic = {"story_id": code, "title": f"Title of {code}", "domain": "core", "wave_number": 0}
    return json.dumps({**basic, **fields}, indent=1)


@pytest.fixture
def samples():
    if not SAMPLES or not (Path(SAMPLES) / "maf").is_dir():
        pytest.skip("MAF_SAMPLE_PLANS names no folder with sample plans (maf/*.json)")
    return Path(SAMPLES) / "maf"


def test_the_sample(samples, write):
    assert detect([samples]) == "story-json"
    plan = load([samples])
    counts = summary(plan)
    assert (counts.stories, counts.waves, counts.dependencies, counts.wave_waits, counts.criteria) == (
        21,
        6,
        29,
        5,
        133,
    )
    assert [(wave.code, wave.name, wave.after) for wave in plan.waves] == [
        (f"W{n}", f"Wave {n}", (f"W{n - 1}",) if n else ()) for n in range(6)
    ]
    assert counts.stories_by_wave == {"W0": 6, "W1": 3, "W2": 3, "W3": 3, "W4": 3, "W5": 3}
    by_code = {one.code: one for one in plan.stories}
    for path in samples.glob("*.json"):
        source = json.loads(path.read_text())
        one = by_code[source["story_id"]]
        assert (one.title, one.domain, one.points) == (source["title"], source["domain"], source["story_points"])
        assert one.priority == int(source["priority"][1:]) + 1
        assert [(c.id, c.text) for c in one.criteria] == [
            (c["id"], c["description"]) for c in source["acceptance_criteria"]
        ]
        assert set(source["dependencies"]["required_before"]) <= set(one.after)
        assert all(one.code in by_code[other].after for other in source["dependencies"]["blocks"])
        assert one.metadata["status"] == "complete"
        for key in ("objective", "files", "tdd", "safety", "technical_requirements", "metadata", "notes"):
            assert one.metadata[key] == source[key]
        assert one.description is not None
        assert one.description.startswith(source["description"])
        assert source["objective"]["so_that"] in one.description
    assert Counter(one.priority for one in plan.stories) == {1: 11, 2: 10}
    assert any("21 complete" in note for note in plan.notes)
    assert any("29 dependencies" in note for note in plan.notes)
    paths = critical_path({s.code: s.after for s in plan.stories}, {s.code: s.points for s in plan.stories})
    assert max(paths, key=paths.__getitem__) == "WAVE-P0-001"
    again = load([write(dump(plan))])
    assert (again.waves, again.stories) == (plan.waves, plan.stories)


def test_union_waves_with_gaps_and_defaults(tmp_path, write):
    write(story("A", dependencies={"required_before": [], "blocks": ["B", "C"]}, status="done"), "a.json")
    write(story("B", wave_number=2, dependencies={"required_before": ["A"]}, priority="P2"), "b.json")
    write(story("C", wave_number=5, acceptance_criteria=["plain", {"description": "d", "test": "t"}]), "c.json")
    write('{"name": "not a story"}', "package.json")
    plan = load([tmp_path])
    assert [(one.code, one.after) for one in plan.stories] == [("A", ()), ("B", ("A",)), ("C", ("A",))]
    assert [(one.code, one.after) for one in plan.waves] == [("W0", ()), ("W2", ("W0",)), ("W5", ("W2",))]
    assert [one.priority for one in plan.stories] == [1, 3, 1]
    assert [(one.id, one.text) for one in plan.stories[2].criteria] == [(None, "plain"), (None, "d")]
    assert plan.stories[2].metadata == {"acceptance_criteria": [{"test": "t"}]}
    assert any("package.json was left out" in note for note in plan.notes)
    assert any("2 none, 1 done" in note for note in plan.notes)


BAD = {
    "no id": ({"story_id": None}, [(2, "story_id", "is missing")]),
    "no title": ({"title": None}, [(3, "title", "is missing")]),
    "title a number": ({"title": 7}, [(3, "title", "must be a text, not 7")]),
    "domain with a blank": ({"domain": "a b"}, [(4, "domain", "not a usable domain")]),
    "hostile id": ({"story_id": "../x"}, [(2, "story_id", "not a usable code")]),
    "wave a text": ({"wave_number": "1"}, [(5, "wave_number", "must be a whole number, not '1'")]),
    "wave true": ({"wave_number": True}, [(5, "wave_number", "must be a whole number")]),
    "wave negative": ({"wave_number": -1}, [(5, "wave_number", "must be from 0")]),
    "priority a word": ({"priority": "high"}, [(6, "priority", "must be P0, P1")]),
    "priority 0": ({"priority": 0}, [(6, "priority", "from 1 to")]),
    "points a text": ({"story_points": "3"}, [(6, "story_points", "must be a whole number, not '3'")]),
    "points negative": ({"story_points": -3}, [(6, "story_points", "from 0 to")]),
    "criteria a text": ({"acceptance_criteria": "x"}, [(6, "acceptance_criteria", "must be a list")]),
    "criterion empty": (
        {"acceptance_criteria": [{"id": "A"}]},
        [(7, "acceptance_criteria[0].description", "is missing")],
    ),
    "criterion blank": (
        {"acceptance_criteria": [{"id": "A", "description": ""}]},
        [(9, "acceptance_criteria[0].description", "the criterion is empty")],
    ),
    "dependencies a list": ({"dependencies": ["A"]}, [(6, "dependencies", "must be an object")]),
    "blocks a text": ({"dependencies": {"blocks": "A"}}, [(7, "dependencies.blocks", "must be a list")]),
    "needs nobody": (
        {"dependencies": {"required_before": ["Z"]}},
        [(8, "dependencies.required_before[0]", "'Z' does not exist")],
    ),
    "blocks nobody": (
        {"dependencies": {"blocks": ["Z"]}},
        [(8, "dependencies.blocks[0]", "'Z', which this one blocks, is not")],
    ),
    "needs itself": (
        {"dependencies": {"required_before": ["S"]}},
        [(8, "dependencies.required_before[0]", "cannot wait for itself")],
    ),
    "NUL in a note": ({"notes": "a\x00"}, [(1, "metadata", "NUL")]),
    "surrogate in a key": ({"\ud800": 1}, [(1, "metadata", "not storable JSON")]),
    "metadata too big": ({"notes": "x" * 70_000}, [(1, "metadata", "at most 65536")]),
    "several": ({"title": "", "domain": 1, "story_points": -1}, [(4, "domain", "must be a text")]),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_stories(case, write, refused):
    fields, expected = BAD[case]
    found = refused(write(story("S", **fields), "s.json"))
    assert [(line, field) for _, line, field, _ in found] == [(line, field) for line, field, _ in expected], found
    assert all(want in one[3] for one, (_, _, want) in zip(found, expected, strict=True)), found


def test_a_circle_over_files_is_named_where_it_is_written(write, refused):
    one = write(story("A", dependencies={"blocks": ["B"]}), "a.json")
    two = write(story("B", dependencies={"blocks": ["A"]}), "b.json")
    ((file, line, field, message),) = refused(one, two)
    assert (file, line, field) == ("b.json", 8, "dependencies.blocks[0]")
    assert message.endswith("story A -> story B -> story A")


def test_a_story_twice_names_both(write, refused):
    found = refused(write(story("A"), "a.json"), write(story("A"), "b.json"))
    assert [(file, line, field) for file, line, field, _ in found] == [("b.json", 2, "story_id")]
    assert found[0][3].endswith("a.json:2")


def test_a_story_against_its_wave(write, refused):
    one = write(story("A", dependencies={"required_before": ["B"]}), "a.json")
    ((file, line, field, message),) = refused(one, write(story("B", wave_number=1), "b.json"))
    assert (file, line, field) == ("a.json", 8, "dependencies.required_before[0]")
    assert message.endswith("story A -> story B -> wave W1 -> wave W0 -> story A")


def test_a_broken_file_does_not_hide_the_others(write, refused):
    one = write('{"story_id": "A",\n]', "a.json")
    found = refused(one, write(story("B", title=3), "b.json"), write("[]", "c.json"), format="story-json")
    assert [(file, line) for file, line, _, _ in found] == [("a.json", 2), ("b.json", 3), ("c.json", 1)]
