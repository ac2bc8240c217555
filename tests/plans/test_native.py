from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from orchestrator.domain.errors import InvalidPlan
from orchestrator.domain.plan import Criterion, Plan, PlannedStory, PlannedWave
from orchestrator.domain.planning import problems, summary
from orchestrator.plans import dump, load

ROOT = Path(__file__).parents[2]
DOC = ROOT / "docs" / "plan-format.md"


def example_of_the_docs() -> str:
    found = re.search(r"```yaml\n(.*?)```", DOC.read_text(), re.DOTALL)
    assert found
    return found[1]


def test_the_example_of_the_docs(write, parser):
    plan = load([write(example_of_the_docs())])
    assert plan.waves == (
        PlannedWave("W1", "Foundations"),
        PlannedWave(
            "W2", "Polish", "Starts by hand, once the first wave is completed.", priority=2, after=("W1",), manual=True
        ),
    )
    assert plan.stories == (
        PlannedStory(
            "PARSE-1",
            "W1",
            "Parse ISO dates",
            "core",
            "Accept what ISO 8601 calls a calendar date.\nAnything else is an error that names the text.\n",
            (Criterion("parses 2026-01-31"), Criterion("refuses 2026-02-30", "AC-2")),
            points=3,
        ),
        PlannedStory(
            "CLI-1",
            "W1",
            "A command that prints the parsed date",
            "cli",
            after=("PARSE-1",),
            metadata={"ticket": 4711, "reviewers": ["ann", "bob"]},
        ),
        PlannedStory("DOC-1", "W2", "Describe the command", "docs", story_type="documentation", priority=3),
    )
    assert type(plan.stories[1].metadata["reviewers"]) is list
    assert summary(plan).stories_by_wave == {"W1": 2, "W2": 1}


def test_the_docs_name_every_field_and_format():
    from orchestrator.plans import FORMATS
    from orchestrator.plans.native_model import TopStoryModel, WaveModel

    text = DOC.read_text()
    for name in [*TopStoryModel.model_fields, *WaveModel.model_fields, *FORMATS]:
        assert f"| `{name}` |" in text


def test_json_is_the_same_format(write):
    import yaml

    tree = yaml.safe_load(example_of_the_docs())
    tree["waves"][0]["stories"][0]["criteria"][0] = "parses 2026-01-31"
    tabbed = json.dumps(tree, indent="\t")
    plain = load([write(example_of_the_docs())])
    assert load([write(tabbed, "plan.json")]).stories == plain.stories
    assert load([write("\ufeff" + tabbed, "plan.json")]).waves == plain.waves


def test_json_joins_escaped_surrogate_pairs(write):
    content = r'{"maf": 1, "waves": [{"code": "W1", "name": "\ud83c\udf89"}]}'
    assert load([write(content, "plan.json")]).waves[0].name == "🎉"


def test_words_that_yaml_1_1_takes_for_something_else(write, parser):
    content = (
        "maf: 1\nwaves:\n- code: 'no'\n  name: on\n  description: 2026-01-01\n- {code: yes, name: 1:30, after: [no]}\n"
    )
    first, second = load([write(content)]).waves
    assert (first.code, first.name, first.description) == ("no", "on", "2026-01-01")
    assert (second.code, second.name, second.after) == ("yes", "1:30", ("no",))


def test_anchors(write, parser):
    content = (
        "maf: 1\nwaves:\n- code: W1\n  name: &n One\n  stories:\n"
        "  - {code: A, title: *n, domain: d, criteria: &c [works], metadata: &m {k: [1]}}\n"
        "  - {code: B, title: b, domain: d, criteria: *c, metadata: *m}\n"
    )
    one, two = load([write(content)]).stories
    assert one.title == "One"
    assert one.criteria == two.criteria == (Criterion("works"),)
    assert one.metadata == two.metadata == {"k": [1]}
    assert one.metadata is not two.metadata


def test_folders_are_read_and_other_files_left_out(tmp_path, write):
    write("maf: 1\nwaves: [{code: W1, name: x}]\n", "b.yaml")
    write("maf: 1\nstories: [{code: S, wave: W1, title: t, domain: d}]\n", "a.yml")
    write("# notes\n", "README.md")
    write("name: something else\n", "other.yaml")
    write("{}", ".hidden.json")
    (tmp_path / "sub.yaml").mkdir()
    plan = load([tmp_path, tmp_path / "b.yaml"])
    assert [len(plan.waves), len(plan.stories)] == [1, 1]
    assert len(plan.notes) == 1
    assert "other.yaml was left out" in plan.notes[0]


def test_what_the_store_knows_may_be_referred_to(write, refused):
    path = write("maf: 1\nstories: [{code: S-2, wave: W1, title: t, domain: d, after: [S-1]}]\n")
    assert len(refused(path)) == 2
    assert load([path], known_waves={"W1"}, known_stories={"S-1"}).stories[0].after == ("S-1",)


def test_ten_thousand_stories_in_a_chain(write):
    stories = (
        {"code": f"S{i}", "title": "t", "domain": "d", "after": [f"S{i - 1}"] if i else []} for i in range(10_000)
    )
    wave = {"code": "W1", "name": "n", "stories": list(stories)}
    assert len(load([write(json.dumps({"maf": 1, "waves": [wave]}), "p.json")]).stories) == 10_000


def test_the_schema_for_editors_is_strict():
    from orchestrator.plans.native_model import json_schema

    schema = json_schema()
    assert schema["required"] == ["maf"]
    assert schema["$defs"]["StoryModel"]["additionalProperties"] is False
    kinds = [
        one.get("type") or one["$ref"]
        for one in schema["$defs"]["StoryModel"]["properties"]["criteria"]["items"]["anyOf"]
    ]
    assert sorted(kinds) == ["#/$defs/CriterionModel", "string"]


@pytest.mark.parametrize("heavy", ["pydantic", "yaml"])
def test_heavy_imports_wait(heavy):
    modules = "orchestrator.plans, orchestrator.plans.story_json, orchestrator.plans.native"
    code = f"import sys, {modules}; sys.exit({heavy!r} in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


CODES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9_-]{0,8}", fullmatch=True)
PRINTABLE = st.characters(
    exclude_categories=["Cs", "Cc"],
    exclude_characters="\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
)
LINE = st.text(PRINTABLE, min_size=1, max_size=20).filter(str.strip) | st.sampled_from(
    [
        "no",
        "null",
        "~",
        "1e3",
        "0o7",
        "1:30",
        "2026-01-01",
        "-",
        "- a",
        "a: b",
        "# x",
        "&a",
        "*a",
        "!t",
        "{",
        "<<",
        "=",
        ".inf",
        "|",
        ">",
        "%",
        "@",
        "`",
    ]
)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=40) | LINE
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(TEXT.filter(lambda key: key != "<<"), inner, max_size=3)
    ),
    max_leaves=6,
)


@st.composite
def plans(draw):
    codes = draw(st.lists(CODES, min_size=1, max_size=4, unique=True))
    waves = tuple(
        PlannedWave(
            code,
            draw(LINE),
            draw(st.none() | TEXT),
            draw(st.integers(1, 9)),
            tuple(draw(st.lists(st.sampled_from(codes[:index]), unique=True))) if index else (),
            draw(st.booleans()),
        )
        for index, code in enumerate(codes)
    )
    stories: list[PlannedStory] = []
    names = draw(st.lists(CODES, max_size=5, unique=True))
    order = draw(st.booleans())
    where = [draw(st.sampled_from(range(len(codes)))) for _ in names]
    for index, (name, wave) in enumerate(zip(names, sorted(where) if order else where, strict=True)):
        earlier = [one.code for one in stories if one.wave == codes[wave]]
        stories.append(
            PlannedStory(
                name,
                codes[wave],
                draw(LINE),
                draw(CODES),
                draw(st.none() | TEXT),
                tuple(
                    Criterion(text, f"AC-{number}" if draw(st.booleans()) else None)
                    for number, text in enumerate(draw(st.lists(TEXT.filter(str.strip), max_size=3)))
                ),
                draw(LINE),
                draw(st.integers(1, 9)),
                draw(st.integers(0, 99)),
                tuple(draw(st.lists(st.sampled_from(earlier), unique=True))) if earlier and index else (),
                draw(st.dictionaries(TEXT.filter(lambda key: key != "<<"), VALUES, max_size=3)),
            )
        )
    return Plan(waves, tuple(stories), "native")


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None, max_examples=60
)
@given(plan=plans())
@example(
    plan=Plan((PlannedWave("W", "n", "a\n  b\n\n"), PlannedWave("V", "n", "\n a \n\tb\r\n\x85\u2028")), (), "native")
)
def test_what_is_dumped_reads_back(plan, write, parser):
    assert problems(plan) == []
    text = dump(plan)
    again = load([write(text)])
    assert (again.waves, again.stories) == (plan.waves, plan.stories)
    assert dump(again) == text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_damaged_files_give_a_plan_or_a_clear_refusal(data, write):
    content = bytearray(example_of_the_docs().encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        junk = data.draw(
            st.binary(max_size=4) | st.sampled_from([b"- ", b"\n", b": ", b"&a ", b"*a", b"[", b"}", b"? "])
        )
        content[at : at + data.draw(st.integers(0, 6))] = junk
    path = write(bytes(content))
    try:
        plan = load([path], "native")
    except InvalidPlan as error:
        refusal = error
    else:
        assert problems(plan) == []
        return
    assert all(one["file"] == str(path) for one in refusal.details["problems"])
    assert str(refusal).isprintable()
