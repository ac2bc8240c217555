"""Writes the generated parts of the documentation: `make docs`. With ``--check`` it only says which are out of date.

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->`` in a Markdown file; :data:`PARTS` has
what makes each of them: the lifecycle tables, the error tree, the schema, and ``monitoring.sql``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from enum import StrEnum
from pathlib import Path

from orchestrator.domain import errors
from orchestrator.domain import lifecycle as lc

ROOT = Path(__file__).resolve().parent.parent
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def pages() -> list[Path]:
    """The Markdown files that may have generated parts."""
    return [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def code(*words: str) -> str:
    """Names, as code."""
    return ", ".join(f"`{word}`" for word in words)


def _moves(gates: dict[int, int]) -> str:
    """Gate moves in few words: neighbours that go to the same gate as a range."""
    runs: list[list[int]] = []
    for before, after in sorted(gates.items()):
        if runs and runs[-1][1:] == [before - 1, after]:
            runs[-1][1] = before
        else:
            runs.append([before, before, after])
    return ", ".join(f"{a} → {to}" if a == b else f"{a} to {b} → {to}" for a, b, to in runs)


def _from(statuses: Sequence[StrEnum]) -> str:
    if set(statuses) == lc.UNENDED_STORIES:
        return "any that has not ended"
    if set(statuses) == set(lc.SessionStatus) - {lc.SessionStatus.TERMINATED}:
        return "any live one"
    return code(*statuses)


def gates() -> str:
    """The gates."""
    rows = ((g.number, g.name, f"`{g.owner}`", g.passes_when) for g in lc.GATES)
    return table(["gate", "name", "passed by", "passes when"], rows)


def stories() -> str:
    """What can be done with a story."""
    rows = []
    for a in lc.STORY_ACTIONS.values():
        status = f"{_from(a.frm)} → `{a.to}`" if a.to else f"{_from(a.frm)}, stays"
        if a.name == "reopen":
            status += f", or `{lc.reopened_status(lc.FIRST_GATE)}` before gate 0"
        kind = f" ({a.transition})" if a.transition and a.transition != lc.Transition.ADVANCE else ""
        signal = f"`{a.signal}` → {_whom(lc.SIGNALS[a.signal].to)}" if a.signal else ""
        rows.append((a.name, code(*a.by), status, f"{_moves(a.gates)}{kind}", signal, "yes" if a.active_wave else "no"))
    return table(["action", "by", "status", "gate", "signal", "only in an active wave"], rows)


def waves() -> str:
    """What can be done with a wave."""
    rows = (
        (a.name, code(*a.by), f"{_from(a.frm)} → `{a.to}`", f"`{a.signal}` → all" if a.signal else "")
        for a in lc.WAVE_ACTIONS.values()
    )
    return table(["action", "by", "status", "signal"], rows)


def sessions() -> str:
    """What happens to an agent's session."""
    return table(["event", "from", "to"], ((a.name, _from(a.frm), f"`{a.to}`") for a in lc.SESSION_ACTIONS.values()))


def _whom(to: str) -> str:
    return f"`{to}`" if to in set(lc.Role) else to


def _signals(*, extension: bool) -> str:
    rows = []
    for r in lc.SIGNALS.values():
        if r.extension == extension:
            fields = ", ".join(f"`{f}`{' (or null)' if f in r.nullable else ''}" for f in r.required)
            how = "`maf signal send`" if r.by_hand else "the action"
            sender = ", ".join(s if s == lc.ANY else f"`{s}`" for s in r.sender)
            rows.append((f"`{r.type}`", sender, _whom(r.to), fields, how, code(*r.answered_by)))
    return table(["signal", "from", "to", "payload", "sent by", "processed by"], rows)


def signals() -> str:
    """The specification's signals."""
    return _signals(extension=False)


def signal_extensions() -> str:
    """The signals beyond the specification."""
    return _signals(extension=True)


LANES = (lc.Role.CTO, lc.Role.PM, lc.Role.DEV, lc.Role.QA)
GAP = 22


def flow() -> str:
    """The signals of a story's life as a sequence diagram, in the order of the specification."""
    asked = {a.signal for a in lc.STORY_ACTIONS.values() if a.signal}
    rules = [r for r in lc.SIGNALS.values() if r.type in asked and not r.extension]
    lines = ["".join(str(lane).upper().center(7).ljust(GAP) for lane in LANES), _bars()]
    for rule in rules:
        start = LANES.index(lc.Role(rule.sender[0]))
        to = lc.Role.DEV if rule.to == lc.ITS_DEV else rule.to
        ends = [n for n in range(len(LANES)) if n != start] if to == lc.ALL else [LANES.index(lc.Role(to))]
        lines += [*_arrow(rule.type, start, ends), _bars()]
    return "```text\n" + "".join(line.rstrip() + "\n" for line in lines) + "```\n"


def _bars() -> str:
    return "".join("│".center(7).ljust(GAP) for _ in LANES)


def _arrow(name: str, start: int, ends: Sequence[int]) -> list[str]:
    left, right = min(start, *ends), max(start, *ends)
    first, last = 3 + left * GAP, 3 + right * GAP
    label, line = list(_bars()), list(_bars())
    middle = 3 + (start if start < max(ends) else start - 1) * GAP  # beside the sender
    label[middle + 2 : middle + 2 + len(name)] = name
    for column in range(first, last + 1):
        on_lane = (column - 3) % GAP == 0
        if column in (first, last):
            line[column] = "├" if column == first else "┤"
        else:
            line[column] = "┼" if on_lane else "─"
    for end in ends:
        line[3 + end * GAP + (-1 if end > start else 1)] = "▶" if end > start else "◀"
        line[3 + end * GAP] = "│"
    return ["".join(label), "".join(line)]


def schema() -> str:
    """The tables of the store: what the schema says above each of them."""
    text = (ROOT / "schema_postgres.sql").read_text("utf-8")
    rows: list[tuple[str, str, str]] = []
    words = ""
    for comment, name in re.findall(r"((?:^-- .*\n)*)^CREATE TABLE (\w+)", text, re.MULTILINE):
        # Two tables under one comment share it.
        words = " ".join(line.removeprefix("-- ") for line in comment.splitlines()) or words
        what = re.sub(r"\s*\(extension: .*?\)", "", words).removeprefix("extension: ")
        part = "an extension" if "extension:" in words else "the specification"
        rows.append((f"`{name}`", what[0].upper() + what[1:], part))
    return table(["table", "what it holds", "from"], rows)


def monitoring() -> str:
    """The four monitoring queries."""
    return f"```sql\n{(ROOT / 'docs' / 'monitoring.sql').read_text('utf-8')}```\n"


def exit_codes() -> str:
    """The exit codes, with the errors behind each."""
    rows: list[tuple[str, str, str]] = [("0", "done", "")]
    for top in errors.MafError.__subclasses__():
        below = sorted(e.code for e in _below(top))
        rows.append((str(top.exit_code), (top.__doc__ or "").strip().rstrip("."), code(top.code, *below)))
    return table(["exit code", "meaning", "`error.code` with `--json`"], sorted(rows))


def _below(kind: type[errors.MafError]) -> list[type[errors.MafError]]:
    """The error classes of the tree below one, those of other modules apart."""
    mine = [sub for sub in kind.__subclasses__() if sub.__module__ == errors.__name__]
    return [e for sub in mine for e in (sub, *_below(sub))]


PARTS: dict[str, Callable[[], str]] = {
    "gates": gates,
    "stories": stories,
    "waves": waves,
    "sessions": sessions,
    "signals": signals,
    "signal-extensions": signal_extensions,
    "flow": flow,
    "schema": schema,
    "monitoring": monitoring,
    "exit-codes": exit_codes,
}


def render(text: str) -> str:
    """A page with its generated parts made afresh. KeyError: it names a part that there is none of."""
    return PART.sub(lambda m: f"{m[1]}{PARTS[m[2]]()}{m[3]}", text)


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or with ``--check`` name those that are out of date and return 1."""
    stale = [page for page in pages() if render(page.read_text("utf-8")) != page.read_text("utf-8")]
    for page in stale:
        print(f"{'out of date' if '--check' in arguments else 'wrote'}: {page.relative_to(ROOT)}")
        if "--check" not in arguments:
            page.write_text(render(page.read_text("utf-8")), "utf-8")
    return 1 if stale and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
