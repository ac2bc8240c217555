"""``maf story``."""

from __future__ import annotations

from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen, clean, cut, short
from orchestrator.domain import lifecycle as lc
from orchestrator.service import stories

cli = group("story", "Stories: from their entry over the gates to the merge.")
_code = click.argument("code", metavar="CODE")
_reason = click.option("--reason", required=True, metavar="TEXT", help="Why.")


@command(
    cli, "add",
    'maf story add S-1 --wave W1 --title "Add a parser" --domain core --criteria "parses dates"',
    'maf story add S-2 --wave W1 --title "Use it" --domain ui --criteria "shows dates" --after S-1',
)  # fmt: skip
@_code
@click.option("--wave", required=True, metavar="WAVE", help="The wave it belongs to.")
@click.option("--title", required=True, help="One line.")
@click.option("--domain", required=True, help="The part of the project that it is about.")
@click.option(
    "--criteria", multiple=True, metavar="TEXT", help="An acceptance criterion; repeatable. Gate 0 asks for one."
)
@click.option("--description", help="More about it.")
@click.option("--type", "story_type", default="feature", show_default=True, help="feature, bug, …")
@click.option("--priority", type=int, default=1, show_default=True, help="1 is the most urgent.")
@click.option("--points", type=int, default=1, show_default=True, help="How much work it is.")
@click.option("--after", multiple=True, metavar="STORY", help="Wait for this story; repeatable, or with commas.")
def add(
    cli: Cli, code: str, wave: str, title: str, domain: str, criteria: tuple[str, ...], description: str | None,
    story_type: str, priority: int, points: int, after: tuple[str, ...],
) -> None:  # fmt: skip
    """Add a story to a wave. It enters as backlog, before gate 0."""
    row = stories.add(
        cli.ctx, code, wave, title=title, domain=domain, description=description, criteria=criteria,
        story_type=story_type, priority=priority, points=points,
        after=[c for text in after for c in text.split(",") if c],
    )  # fmt: skip
    cli.out(row, f"{code} is in {wave}. Next: maf story approve {code} --agent cto")


@command(cli, "depend", "maf story depend S-3 --after S-1")
@_code
@click.option("--after", required=True, metavar="STORY", help="The story to wait for.")
def depend(cli: Cli, code: str, after: str) -> None:
    """Make a story wait for another one."""
    stories.add_dependency(cli.ctx, code, after)
    cli.out({"story_code": code, "after": after}, f"{code} waits for {after}")


@command(cli, "list", "maf story list", "maf story list --wave W1 --status ready", looks=True)
@click.option("--wave", metavar="WAVE", help="Only this wave's.")
@click.option("--status", metavar="STATUS", help="Only those with this status.")
def list_(cli: Cli, wave: str | None, status: str | None) -> None:
    """Stories in the plan's order."""
    rows = stories.listing(cli.ctx, wave=wave, status=status)

    def people(screen: Screen) -> None:
        if not rows:
            some = wave or status
            screen.line(
                "None of that kind." if some else "No stories yet. Next: maf plan import PATH, or maf story add"
            )
            return
        screen.table(
            ["STORY", "WAVE", "STATUS", "GATE", "DOMAIN", "PRIO", "AGENT", "AFTER", "TITLE"],
            [[r["story_code"], r["wave_code"], r["status"], r["current_gate"], r["domain"], r["priority"],
              r["assigned_agent"], ", ".join(r["depends_on"]), r["title"]] for r in rows],
        )  # fmt: skip

    cli.out(rows, people)


@command(cli, "show", "maf story show S-1", "maf story show S-1 --json", looks=True)
@_code
def show(cli: Cli, code: str) -> None:
    """Everything about a story: criteria, gates and their evidence, findings, attempts."""
    data = stories.show(cli.ctx, code)
    cli.out(data, lambda screen: _show(screen, data))


def _first(notes: str | None) -> str:
    """The first line, and that there are more: what QA found stands in full below the gates."""
    first, *more = (notes or "").strip().splitlines() or [""]
    return f": {first}{' …' if more else ''}" if first else ""


def _evidence(found: dict[str, Any]) -> str:
    """A gate's evidence in short: what ran, how it ended, at which commit; or by which policy it was decided."""
    decision, counts, ran = found.get("decision") or {}, found.get("counts") or {}, found.get("command") or ""
    ran = ran if isinstance(ran, str) else " ".join(map(str, ran))
    parts = [
        f"{cut(ran, 60)}: exit {found.get('exit_code')}" if ran else "",
        ", ".join(f"{number} {what}" for what, number in counts.items()),
        f"{found['duration']:.1f} s" if "duration" in found else "",
        f"at {found['commit'][:12]}" if found.get("commit") else "",
        decision.get("policy") or decision.get("no_checks") or "",
    ]
    shown = ", ".join(part for part in parts if part)
    return f"  ({shown})" if shown else ""


def _show(screen: Screen, data: dict[str, Any]) -> None:
    gate = data["current_gate"]
    name = lc.GATES[gate].name if gate < lc.MERGED_GATE else "merged"
    screen.line(f"{screen.style(clean(data['story_code']), 'bold')}  {clean(data['title'])}")
    screen.facts([
        ("status", data["status"]), ("gate", f"{gate} ({name})"), ("wave", data["wave_code"]),
        ("domain", data["domain"]), ("agent", data["assigned_agent"]), ("branch", data["branch_name"]),
        ("submitted", data["submitted_commit"]),
        ("priority", data["priority"]), ("points", data["story_points"]), ("attempts", data["attempts"] or None),
        ("after", ", ".join(f"{d['story_code']} ({d['status']})" for d in data["depends_on"])),
        ("description", data["description"]),
    ])  # fmt: skip
    screen.bullets("Acceptance criteria", [
        f"{c['id']}: {c['text']}" if c.get("id") else c["text"] for c in data["acceptance_criteria"]
    ])  # fmt: skip
    screen.bullets("Gates", [
        f"{short(g['created_at'])}  {'-' if g['from_gate'] is None else g['from_gate']} → {g['to_gate']}  "
        f"{g['transition_type']} by {g['agent_id']}{_first(g['notes'])}{_evidence(g['metadata'])}"
        for g in data["gates"]
    ])  # fmt: skip
    screen.bullets("QA reports", [
        f"{short(r['created_at'])}  {r['verdict']} by {r['qa_agent']}"
        + (": " + "; ".join(f["text"] for f in r["findings"]) if r["findings"] else "")
        for r in data["qa_reports"]
    ])  # fmt: skip
    screen.bullets("Held by", [
        f"{a['agent_id']} since {short(a['assigned_at'])}" + (f", {a['end_reason']}" if a["ended_at"] else ", now")
        for a in data["assignments"]
    ])  # fmt: skip


@command(cli, "approve", "maf story approve S-1 --agent cto")
@_code
@click.option("--notes", metavar="TEXT", help="Kept with the gate.")
def approve(cli: Cli, code: str, notes: str | None) -> None:
    """Pass gate 0 (cto): title, domain and acceptance criteria stand."""
    row = stories.approve(cli.role("cto"), code, notes=notes)
    cli.out(row, f"{code} is {row['status']}. Next: maf story assign {code} --to DEV --agent pm (in an active wave)")


@command(cli, "assign", "maf story assign S-1 --to dev-1 --agent pm")
@_code
@click.option("--to", required=True, metavar="DEV", help="A live dev of its domain who holds no story.")
def assign(cli: Cli, code: str, to: str) -> None:
    """Give a ready story to a dev (pm)."""
    row = stories.assign(cli.role("pm"), code, to)
    cli.out(row, f"{code} is {to}'s (token {row['token']}). Next: maf story start {code} --agent {to}")


@command(cli, "next", "maf story next --agent dev-1")
def next_(cli: Cli) -> None:
    """Take the best ready story of your domain (dev). Exit code 3: nothing is ready."""
    row = stories.next_story(cli.ctx)
    code = clean(row["story_code"])
    cli.out(row, f"{code} is yours (token {row['token']}): {clean(row['title'])}\nNext: maf story start {code}")


@command(cli, "start", "maf story start S-1 --agent dev-1")
@_code
def start(cli: Cli, code: str) -> None:
    """Begin your story (dev): its branch and worktree are made ready, and you are told where."""
    from orchestrator.gates.dev import start_story

    row = start_story(cli.project(), code)
    conflict = [clean(path) for path in row.get("conflict") or ()]
    text = f"{code} is in progress on {clean(row['branch'])}\nwork in {clean(row['worktree'])}"
    if conflict:
        text += f"\nthe target has moved: resolve {', '.join(conflict)} and commit"
    cli.out(row, f"{text}\nNext: maf story advance {code}")


@command(cli, "advance", "maf story advance S-1 --agent dev-1")
@_code
def advance(cli: Cli, code: str) -> None:
    """Pass gate 1 (planning) or 2 (implementation), whichever your story stands before (dev)."""
    from orchestrator.gates.dev import advance as pass_gate

    row = pass_gate(cli.project(), code)
    step = "commit your work, then: maf story advance" if row["current_gate"] == 2 else "maf story submit"
    cli.out(row, f"{code} stands before gate {row['current_gate']}. Next: {step} {code}")


@command(cli, "submit", "maf story submit S-1 --agent dev-1")
@_code
def submit(cli: Cli, code: str) -> None:
    """Pass gate 3 (self-test) and hand the story to QA (dev). Runs the checks in your worktree."""
    from orchestrator.gates.dev import submit as hand_in

    cli.note(f"running the checks of {clean(code)}")
    row = hand_in(cli.project(), code)
    cli.out(row, f"{code} is {row['status']} at {row['submitted_commit'][:12]}")


@command(cli, "release", 'maf story release S-1 --reason "dev-1 is needed elsewhere" --agent pm')
@_code
@_reason
def release(cli: Cli, code: str, reason: str) -> None:
    """Take a story from its dev (pm): ready again, its work kept."""
    from orchestrator.gates.dev import release as let_go

    row = let_go(cli.project("pm"), code, reason)
    cli.out(row, f"{code} is {row['status']}; its branch and commits are kept")


@command(cli, "fail", 'maf story fail S-1 --reason "not wanted any more" --agent pm')
@_code
@_reason
def fail(cli: Cli, code: str, reason: str) -> None:
    """Give a story up (pm); `story reopen` brings it back."""
    from orchestrator.gates.dev import fail as give_up

    row = give_up(cli.project("pm"), code, reason)
    cli.out(row, f"{code} is {row['status']}. To bring it back: maf story reopen {code}")


@command(cli, "reopen", "maf story reopen S-1 --agent pm")
@_code
def reopen(cli: Cli, code: str) -> None:
    """Bring a failed story back (pm), with its branch and commits."""
    row = stories.reopen(cli.role("pm"), code)
    cli.out(row, f"{code} is {row['status']}")
