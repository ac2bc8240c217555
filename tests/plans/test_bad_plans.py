"""Bad plans in our own format: every problem with its exact line and field, in one go."""

from __future__ import annotations

import json
import os

import pytest

from orchestrator.domain.errors import InvalidInput, InvalidPlan, NotFound
from orchestrator.plans import load
from orchestrator.plans.documents import MAX_FILE_BYTES

HEAD = "maf: 1\nwaves:\n- code: W1\n  name: One\n  stories:\n  - code: S-1\n    title: A title\n    domain: core\n"
# HEAD ends within story S-1; what follows starts on line 9.


def wave(text: str) -> str:
    return f"maf: 1\nwaves:\n- {text}\n"


S = "waves[0].stories[0]"
BAD = {
    "no version": ("waves: []\n", [(1, "maf", "is missing"), (None, "", "empty")][:1]),
    "newer version": ("maf: 2\n", [(1, "maf", "version 2 is not known")]),
    "version as text": ('maf: "1"\nwaves: []\n', [(1, "maf", "must be 1, not '1'")]),
    "version true": ("maf: true\nwaves: []\n", [(1, "maf", "must be 1, not true")]),
    "nothing in it": ("maf: 1\n", [(None, "", "the plan is empty")]),
    "a list on top": ("- maf: 1\n", [(1, "", "a plan is a mapping")]),
    "a text on top": ("maf:1\n", [(1, "", "a plan is a mapping")]),
    "unknown top field": ("maf: 1\nwave: []\n", [(2, "wave", "unknown field 'wave'; did you mean 'waves'?")]),
    "waves no list": ("maf: 1\nwaves: W1\n", [(2, "waves", "must be a list, not 'W1'")]),
    "waves empty": ("maf: 1\nwaves:\n", [(2, "waves", "must be a list, not empty")]),
    "wave no mapping": (wave("W1"), [(3, "waves[0]", "must be a mapping, not 'W1'")]),
    "wave without name": (wave("code: W1"), [(3, "waves[0].name", "is missing")]),
    "wave code a number": (
        wave("{code: 1, name: x}"),
        [(3, "waves[0].code", "must be a text, not 1; put it in quotes")],
    ),
    "bad start": (
        wave("{code: W1, name: x, start: hand}"),
        [(3, "waves[0].start", "must be auto or manual, not 'hand'")],
    ),
    "wave after itself": (
        wave("{code: W1, name: x, after: [W1]}"),
        [(3, "waves[0].after[0]", "cannot wait for itself")],
    ),
    "wave after nothing": (
        wave("{code: W1, name: x,\n   after: [W0]}"),
        [(4, "waves[0].after[0]", "'W0' does not exist")],
    ),
    "wave after a text": (wave("{code: W1, name: x, after: W0}"), [(3, "waves[0].after", "must be a list, not 'W0'")]),
    "blank wave name": (wave("{code: W1, name: '  '}"), [(3, "waves[0].name", "name is empty")]),
    "wave twice": (
        wave("{code: W1, name: x}\n- {name: y, code: W1}"),
        [(4, "waves[1].code", "wave code 'W1' is used twice, first at ")],
    ),
    "waves in a circle": (
        wave("{code: W1, name: x, after: [W2]}\n- code: W2\n  name: y\n  after: [W1]"),
        [(3, "waves[0].after[0]", "wave W1 -> wave W2 -> wave W1")],
    ),
    "unknown story field": (HEAD + "    criterias: []\n", [(9, f"{S}.criterias", "did you mean 'criteria'?")]),
    "unlike any field": (HEAD + "    zzz: 1\n", [(9, f"{S}.zzz", "known are code, title")]),
    "wave in a nested story": (HEAD + "    wave: W1\n", [(9, f"{S}.wave", "unknown field 'wave'")]),
    "points a text": (HEAD + "    points: five\n", [(9, f"{S}.points", "must be a whole number, not 'five'")]),
    "points a fraction": (HEAD + "    points: 1.5\n", [(9, f"{S}.points", "must be a whole number, not 1.5")]),
    "points negative": (HEAD + "    points: -1\n", [(9, f"{S}.points", "from 0 to")]),
    "points too big": (HEAD + "    points: 2147483648\n", [(9, f"{S}.points", "to 2147483647")]),
    "points true": (HEAD + "    points: true\n", [(9, f"{S}.points", "must be a whole number, not true")]),
    "endless number": (HEAD + f"    points: {'9' * 5000}\n", [(9, f"{S}.points", "the number is too long")]),
    "priority 0": (HEAD + "    priority: 0\n", [(9, f"{S}.priority", "from 1 to")]),
    "priority a word": (
        HEAD + "    priority: high\n",
        [(9, f"{S}.priority", "from 1, or P0, P1 and so on, not 'high'")],
    ),
    "criteria a text": (HEAD + "    criteria: works\n", [(9, f"{S}.criteria", "must be a list, not 'works'")]),
    "criterion a number": (
        HEAD + "    criteria:\n    - a\n    - 7\n",
        [(11, f"{S}.criteria[1]", "a mapping of id and text, not 7")],
    ),
    "criterion without text": (HEAD + "    criteria:\n    - id: A\n", [(10, f"{S}.criteria[0].text", "is missing")]),
    "criterion field": (
        HEAD + "    criteria:\n    - text: A\n      txt: b\n",
        [(11, f"{S}.criteria[0].txt", "did you mean 'text'?")],
    ),
    "blank criterion": (
        HEAD + "    criteria: ['ok',\n      ' ']\n",
        [(10, f"{S}.criteria[1]", "the criterion is empty")],
    ),
    "criterion id twice": (
        HEAD + "    criteria:\n    - {id: A, text: x}\n    - {text: y,\n       id: A}\n",
        [(12, f"{S}.criteria[1].id", "used twice in this story")],
    ),
    "endless criterion": (
        HEAD + f"    criteria:\n    - {'x' * 10_001}\n",
        [(10, f"{S}.criteria[0]", "at most 10000 are allowed")],
    ),
    "too many criteria": (
        HEAD + "    criteria:\n" + f"    - {'x' * 9_000}\n" * 8,
        [(9, f"{S}.criteria", "72000 bytes together")],
    ),
    "metadata a list": (HEAD + "    metadata: [1]\n", [(9, f"{S}.metadata", "must be a mapping, not a list")]),
    "metadata too big": (HEAD + f"    metadata: {{a: {'x' * 70_000}}}\n", [(9, f"{S}.metadata", "at most 65536")]),
    "metadata not finite": (HEAD + "    metadata: {a: .inf}\n", [(9, f"{S}.metadata.a", ".inf is not JSON")]),
    "metadata too large a float": (HEAD + "    metadata: {a: 1e999}\n", [(9, f"{S}.metadata", "not storable JSON")]),
    "key a number": (HEAD + "    metadata: {1: x}\n", [(9, f"{S}.metadata.1", "the key 1 must be a text")]),
    "key a list": (HEAD + "    metadata: {[a]: x}\n", [(9, f"{S}.metadata", "a key must be a text")]),
    "key twice": (HEAD + "    title: Other\n", [(9, f"{S}.title", "used twice, first on line 7")]),
    "merge key": (HEAD + "    <<: {}\n", [(9, f"{S}.'<<'", "merge keys (<<) are not supported")]),
    "tag": (HEAD + "    metadata: {a: !x 1}\n", [(9, f"{S}.metadata.a", "the tag !x is not supported")]),
    "python tag": (
        HEAD + "    metadata: {a: !!python/object/apply:os.system [id]}\n",
        [(9, f"{S}.metadata.a", "python/object/apply:os.system is not supported")],
    ),
    "unknown alias": (HEAD + "    description: *x\n", [(9, f"{S}.description", "*x has no finished anchor")]),
    "alias in itself": (HEAD + "    metadata: &m {a: *m}\n", [(9, f"{S}.metadata.a", "*m has no finished anchor")]),
    "after nothing": (HEAD + "    after:\n    - S-0\n", [(10, f"{S}.after[0]", "story 'S-0' does not exist")]),
    "after itself": (HEAD + "    after: [S-1]\n", [(9, f"{S}.after[0]", "cannot wait for itself")]),
    "after twice": (
        HEAD + "    after: [S-2, S-2]\n  - {code: S-2, title: x, domain: d}\n",
        [(9, f"{S}.after[0]", "'S-2' is named twice")],
    ),
    "stories in a circle": (
        HEAD + "    after: [S-3]\n  - {code: S-2, title: x, domain: d, after: [S-1]}\n"
        "  - {code: S-3, title: x, domain: d, after: [S-2]}\n",
        [(9, f"{S}.after[0]", "story S-1 -> story S-3 -> story S-2 -> story S-1")],
    ),
    "story against its wave": (
        HEAD
        + "    after: [S-2]\n- code: W2\n  name: Two\n  after: [W1]\n"
        + "  stories:\n  - {code: S-2, title: x, domain: d}\n",
        [(9, f"{S}.after[0]", "story S-1 -> story S-2 -> wave W2 -> wave W1 -> story S-1")],
    ),
    "story twice": (
        HEAD + "stories:\n- {wave: W1, title: x, domain: d, code: S-1}\n",
        [(10, "stories[0].code", "story code 'S-1' is used twice, first at ")],
    ),
    "top story without wave": (
        HEAD + "stories:\n- {code: S-2, title: x, domain: d}\n",
        [(10, "stories[0].wave", "is missing")],
    ),
    "top story of no wave": (
        HEAD + "stories:\n- {code: S-2, title: x, domain: d, wave: W9}\n",
        [(10, "stories[0].wave", "wave 'W9' does not exist")],
    ),
    "not YAML": (HEAD + "    type: [a\n", [(10, "", "not valid YAML")]),
    "colons": ("maf: 1\nwaves: a: b\n", [(2, "", "not valid YAML")]),
    "tab as indentation": ("maf: 1\nwaves:\n\t- code: W1\n", [(3, "", "not valid YAML")]),
    "two documents": ("maf: 1\n---\nmaf: 1\n", [(2, "", "more than one YAML document")]),
    "escape character": ("maf: 1\nwaves: \x1b[31m\n", [(2, "", "U+001B is not allowed")]),
    "nested without end": ("maf: 1\nwaves: " + "[" * 100_000, [(2, "", "nested more than 64 levels")]),
    "half a surrogate": (HEAD + '    description: "\\ud800"\n', [(9, ..., "scape")]),
}


@pytest.mark.parametrize("case", BAD)
def test_table(case, write, refused, parser):
    content, expected = BAD[case]
    found = refused(write(content), format="native")

    assert len(found) == len(expected), found
    for (_, line, field, message), (want_line, want_field, want_message) in zip(found, expected, strict=True):
        assert line == want_line, found
        assert want_field in {field, ...}, found
        assert want_message in message, found


HOSTILE_CODES = [
    "../x",
    "$(x)",
    "-x",
    "a b",
    "a\nb",
    "a\x00b",
    "\u202ex",
    "é",
    "",
    "x" * 51,
    "a..b",
    "x.lock",
    "x.",
    "a/b",
    "\ud800",
]


@pytest.mark.parametrize(
    ("field", "code"),
    [("code", code) for code in HOSTILE_CODES]
    + [("domain", code) for code in HOSTILE_CODES if code not in {"a..b", "x.lock", "x."}],  # a domain is no branch
)
def test_hostile_codes_and_domains(code, field, write, refused):
    story = {"code": "S-1", "title": "t", "domain": "d"} | {field: code}
    plan = {"maf": 1, "waves": [{"code": "W1", "name": "n", "stories": [story]}]}
    found = refused(write(json.dumps(plan), "plan.json"))
    assert [(line, where) for _, line, where, _ in found] == [(1, f"waves[0].stories[0].{field}")]


HOSTILE_TEXTS = {
    "NUL": ("a\x00b", {"title", "type", "description", "metadata", "criterion", "criterion id", "wave name"}),
    "surrogate": ("a\ud800b", {"title", "type", "description", "metadata", "criterion", "criterion id", "wave name"}),
    "right to left": ("a\u202eb", {"title", "type", "criterion id", "wave name"}),
    "line break": ("a\nb", {"title", "type", "criterion id", "wave name"}),
    "escape": ("a\x1b[31mb", {"title", "type", "criterion id", "wave name"}),
    "long": ("x" * 256, {"title", "type", "criterion id", "wave name"}),
    "shell": ("$(touch x) `id` ; rm -rf /", set()),
    "parent": ("../../etc/passwd", set()),
    "dash": ("--help", set()),
    "umlauts and emoji": ("Grüße 🎉 \u65e5\u672c", set()),
}


@pytest.mark.parametrize("case", HOSTILE_TEXTS)
def test_hostile_texts(case, write, refused):
    text, bad = HOSTILE_TEXTS[case]
    story = {"code": "S-1", "title": text, "domain": "d", "type": text, "description": text, "metadata": {"k": [text]}}
    story["criteria"] = [{"id": text, "text": text}]
    path = write(json.dumps({"maf": 1, "waves": [{"code": "W1", "name": text, "stories": [story]}]}), "plan.json")
    if not bad:
        plan = load([path])
        assert plan.stories[0].title == plan.waves[0].name == plan.stories[0].metadata["k"][0] == text
        return
    story_field = "waves[0].stories[0]."
    fields = {
        "title": "title",
        "type": "type",
        "description": "description",
        "criterion": "criteria[0].text",
        "criterion id": "criteria[0].id",
    }
    found = {where for _, _, where, _ in refused(path)}
    want = {story_field + fields[name] for name in bad & fields.keys()}
    want |= {"waves[0].name"} if "wave name" in bad else set()
    assert {where for where in found if "metadata" not in where} == want
    assert any("metadata" in where for where in found) == ("metadata" in bad)


def test_hostile_keys_stay_printable(write, refused):
    for key in ("\ud800", "a\x1b[31m", "\u202e", "x" * 5000):
        content = json.dumps({"maf": 1, key: 1, "waves": []})
        for _, _, field, message in refused(write(content, "plan.json")):
            assert field.isprintable()
            assert message.isprintable()
            assert len(field + message) < 400


def test_every_problem_of_all_files_at_once(write, refused):
    one = write("maf: 1\nwaves:\n- {code: W1, nam: x}\n- {code: W2, name: y, after: [W9]}\n", "a.yaml")
    two = write(
        "maf: 1\nstories:\n- {code: S, wave: W1, title: '', domain: d}\n- {code: S, wave: W2, title: t, domain: d}\n",
        "b.yaml",
    )
    three = write("maf: [\n", "c.yaml")
    found = refused(one, two, three)
    assert len(found) == 6
    assert {(file, line, field) for file, line, field, _ in found} == {
        ("a.yaml", 3, "waves[0].name"),
        ("a.yaml", 3, "waves[0].nam"),
        ("a.yaml", 4, "waves[1].after[0]"),
        ("b.yaml", 3, "stories[0].title"),
        ("b.yaml", 4, "stories[1].code"),
        ("c.yaml", 2, ""),
    }


def test_a_code_used_in_two_files_names_both(write, refused):
    one = write("maf: 1\nwaves:\n\n- {code: W1, name: x}\n", "a.yaml")
    two = write("maf: 1\nwaves:\n- {code: W1, name: x}\n", "b.yaml")
    ((file, line, field, message),) = refused(one, two)
    assert (file, line, field) == ("b.yaml", 3, "waves[0].code")
    assert message.endswith("a.yaml:4")


BROKEN_FILES = {
    "empty": (b"", None, "is empty"),
    "blank": (b" \n\n", None, "is empty"),
    "binary": (b"maf: 1\n\x00\x01", 2, "NUL"),
    "UTF-16": ("maf: 1".encode("utf-16"), 1, "UTF-16"),
    "Latin-1": ("maf: 1\nwaves: Grüße".encode("latin-1"), 2, "not UTF-8 (byte 0xfc)"),
    "over 10 MB": (b"maf: 1\n#" + b"x" * MAX_FILE_BYTES, None, "larger than 10 MB"),
}


@pytest.mark.parametrize("case", BROKEN_FILES)
@pytest.mark.parametrize("format_", [None, "native", "story-json"])
def test_files_that_are_no_text(case, format_, write, refused):
    content, line, message = BROKEN_FILES[case]
    name = "plan.json" if format_ == "story-json" else "plan.yaml"
    ((_, found_line, field, found),) = refused(write(content, name), format=format_)
    assert (found_line, field) == (line, "")
    assert message in found


def test_a_plan_of_almost_10_mb_is_read(write):
    filler = "# " + "x" * 98 + "\n"
    path = write(HEAD + filler * ((MAX_FILE_BYTES - 1000) // len(filler)))
    assert len(load([path]).stories) == 1


def test_many_problems_are_counted_but_not_all_listed(write):
    path = write("maf: 1\nwaves:\n" + "- {}\n" * 50_000)
    with pytest.raises(InvalidPlan) as caught:
        load([path])
    assert caught.value.details["count"] == 10_000
    assert len(caught.value.details["problems"]) == 200


def test_ten_megabytes_of_punctuation_are_refused(write, refused):
    ((_, line, _, message),) = refused(write("maf: 1\nwaves:\n- [" + ",".join("x" * 600_000) + "]\n"), format="native")
    assert line == 3
    assert "more than 500000 values" in message


def test_a_billion_laughs_are_refused(write, refused, parser):
    levels = "".join(f"  l{i + 1}: &l{i + 1} [{', '.join([f'*l{i}'] * 10)}]\n" for i in range(12))
    content = HEAD + "    metadata:\n" + "      l0: &l0 [" + "ha, " * 10 + "]\n" + levels.replace("  l", "      l")
    ((_, line, field, message),) = refused(write(content))
    assert "aliases repeat more than" in message
    assert line is not None
    assert field.startswith("waves[0].stories[0].metadata.l")


BAD_JSON = {
    "syntax": ('{"maf": 1,\n "waves": [}', 2, "", "not valid JSON"),
    "key twice": ('{"maf": 1,\n "waves": [],\n "waves": []}', 3, "waves", "used twice, first on line 2"),
    "not a number": (
        '{"maf": 1, "waves": [{"code": "W",\n"name": "n", "priority": NaN}]}',
        2,
        "waves[0].priority",
        "NaN is not",
    ),
    "deep": ('{"maf": 1, "waves":\n' + "[" * 200 + "]" * 200 + "}", 2, "", "nested more than 64"),
    "bottomless": ('{"maf": 1, "waves":\n' + "[" * 200_000 + "]" * 200_000 + "}", None, "", "nested more than 64"),
    "long number": (
        '{"maf": 1, "waves": [{"code": "W", "name": "n",\n"priority": ' + "9" * 5000 + "}]}",
        2,
        "waves[0].priority",
        "too long",
    ),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_bad_json(case, write, refused):
    content, line, field, message = BAD_JSON[case]
    first = refused(write(content, "plan.json"), format="native")[0]
    assert first[1:3] == (line, field)
    assert message in first[3]


def test_paths_and_formats(tmp_path, write):
    with pytest.raises(NotFound, match="no file or folder"):
        load([tmp_path / "nowhere.yaml"])
    good = write(HEAD)
    with pytest.raises(InvalidInput, match="unknown plan format") as caught:
        load([good], "jira")
    assert "native, story-json" in str(caught.value.hint)
    with pytest.raises(InvalidInput, match=r"cannot tell the format of .*Looked for: .*'maf: 1'.*'story_id'"):
        load([write("just: text\n", "notes.yaml")])
    with pytest.raises(InvalidInput, match="no path"):
        load([])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="cannot tell the format"):
        load([tmp_path / "empty"])
    with pytest.raises(InvalidInput, match="several formats"):
        load([good, write('{"story_id": "X"}', "story.json")])
    for name in ("a\x00b", "a\nb", "x" * 5000, "\udcff"):
        with pytest.raises((NotFound, InvalidInput)) as caught:
            load([tmp_path / name])
        assert str(caught.value).isprintable()


def test_a_pipe_is_not_waited_for(tmp_path, refused):
    os.mkfifo(tmp_path / "plan.yaml")
    ((_, _, _, message),) = refused(tmp_path / "plan.yaml")
    assert "not a regular file" in message
