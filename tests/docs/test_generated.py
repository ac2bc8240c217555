"""The documentation says what the code does: generated parts, links, named commands, the monitoring queries."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest

from orchestrator.cli.main import root as command_tree
from orchestrator.domain import lifecycle as lc
from orchestrator.service import sessions, stories, waves
from orchestrator.service.context import Context
from orchestrator.store import open_store, schema

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "docs"))

import generate  # noqa: E402 - the generator is a script beside the pages

PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").rglob("*.md")]


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


# --- generated parts -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", generate.pages(), ids=name_of)
def test_generating_again_gives_the_same_bytes(page):
    assert generate.render(page.read_text("utf-8")).encode() == page.read_bytes(), "run `make docs`"


def test_the_check_names_a_page_that_is_out_of_date(tmp_path, monkeypatch, capsys):
    page = tmp_path / "PAGE.md"
    page.write_text("before\n<!-- generated: gates -->\nold\n<!-- end -->\nafter\n")
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "pages", lambda: [page])
    assert generate.main(["--check"]) == 1
    assert "PAGE.md" in capsys.readouterr().out
    assert "old" in page.read_text()
    assert generate.main([]) == 0
    assert page.read_text() == f"before\n<!-- generated: gates -->\n{generate.gates()}<!-- end -->\nafter\n"
    assert generate.main(["--check"]) == 0


def test_every_part_stands_somewhere():
    used = {name for page in generate.pages() for _, name, _ in generate.PART.findall(page.read_text("utf-8"))}
    assert used == set(generate.PARTS)


def test_the_tables_name_every_action_signal_and_gate():
    text = (ROOT / "docs" / "lifecycle.md").read_text("utf-8")
    for name in [*lc.STORY_ACTIONS, *lc.WAVE_ACTIONS, *lc.SESSION_ACTIONS]:
        assert f"\n| {name} |" in text
    for signal in lc.SignalType:
        assert f"\n| `{signal}` |" in text
    for gate in lc.GATES:
        assert f"\n| {gate.number} | {gate.name} |" in text


def test_the_schema_table_names_every_table():
    text = (ROOT / "schema_sqlite.sql").read_text("utf-8")
    tables = re.findall(r"^CREATE TABLE (\w+)", text, re.MULTILINE)
    assert re.findall(r"^\| `(\w+)` \|", generate.schema(), re.MULTILINE) == tables


def test_orchestration_has_the_headings_of_the_specification():
    found = re.findall(r"^## (.+)$", (ROOT / "ORCHESTRATION.md").read_text("utf-8"), re.MULTILINE)
    assert found == [
        "Overview", "Database Schema", "Signal Types", "Wave Execution", "Monitoring", "Scripts", "Gates",
    ]  # fmt: skip


# --- links and commands ----------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    heads = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


def resolve(words: list[str]) -> tuple[click.Command, list[str]]:
    """The command that these words call, and the words after its name."""
    command: click.Command = command_tree
    context = click.Context(command, info_name="maf")
    while isinstance(command, click.Group) and words and re.fullmatch(r"[a-z]+", words[0]):
        below = command.get_command(context, words[0])
        assert below is not None, f"there is no command {words[0]}"
        command, words = below, words[1:]
    return command, words


def mentions(page: Path) -> set[str]:
    text = page.read_text("utf-8")
    spans = re.findall(r"`(maf [^`\n]+)`", text)
    blocks = re.findall(r"^```[a-z]*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    lines = [line.split(" #")[0] for block in blocks for line in block.splitlines() if line.startswith("maf ")]
    return {text.strip() for text in [*spans, *lines]}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_is_named_exists_with_its_options(page):
    for mention in sorted(mentions(page)):
        for call in re.split(r"\s;\s|\s\|\s", mention):
            command, rest = resolve(shlex.split(call)[1:])
            known = {opt for param in command.get_params(click.Context(command)) for opt in param.opts}
            options = {
                word.strip("[]").split("=")[0] for word in rest if re.fullmatch(r"\[?--?[a-z][a-z-]*(=.*)?\]?", word)
            }
            assert options <= known | {"--help", "--version"}, call


# --- decisions -------------------------------------------------------------------------------------------------


def test_decisions_are_numbered_without_a_gap_and_listed():
    files = sorted(path.name for path in (ROOT / "docs" / "adr").glob("0*.md"))
    assert [int(name[:4]) for name in files] == list(range(1, len(files) + 1))
    index = (ROOT / "docs" / "adr" / "README.md").read_text("utf-8")
    assert re.findall(r"\]\((0\d+-[^)]+)\)", index) == files
    for name in files:
        text = (ROOT / "docs" / "adr" / name).read_text("utf-8")
        assert re.findall(r"^## (.+)$", text, re.MULTILINE) == ["Context", "Decision", "Consequences"], name


# --- monitoring ------------------------------------------------------------------------------------------------


@pytest.fixture
def store(store_url):
    schema.create(store_url)
    with open_store(store_url) as store:
        yield store


def queries() -> list[str]:
    return [q for q in (ROOT / "docs" / "monitoring.sql").read_text("utf-8").split(";\n") if q.strip()]


def test_the_monitoring_queries_run_as_they_stand(store):
    ctx = Context(store)
    for agent, role in (("cto", "cto"), ("pm", "pm"), ("dev-1", "dev"), ("gone", "qa")):
        sessions.register(ctx, agent, role)
    sessions.end(ctx, "gone", reason="a test")
    waves.add(ctx, "W1", name="First")
    for story in ("S-1", "S-2", "S-3"):
        stories.add(ctx, story, wave="W1", title="A", domain="core", criteria=["it works"])
    for story in ("S-1", "S-2"):
        stories.approve(ctx.acting("cto"), story)
    waves.start(ctx.acting("pm"), "W1")
    stories.assign(ctx.acting("pm"), "S-1", "dev-1")

    agents, under_way, signals, progress = (store.engine.raw(query) for query in queries())
    assert agents[0] == ["agent_id", "status", "current_gate", "last_heartbeat"]
    assert {row[0] for row in agents[1]} == {"cto", "pm", "dev-1"}
    assert {row[0]: (row[1], row[2], row[3]) for row in under_way[1]} == {
        "S-1": (lc.StoryStatus.ASSIGNED, 1, "dev-1"), "S-2": (lc.StoryStatus.READY, 1, None),
    }  # fmt: skip
    assert ("story_assigned", "pm", "dev-1") in {row[:3] for row in signals[1]}
    assert [tuple(row) for row in progress[1]] == [("W1", 3, 0)]


def test_the_generator_runs_as_a_script():
    done = subprocess.run(
        [sys.executable, "docs/generate.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
