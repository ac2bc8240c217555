"""The sample project: a household's ledger in plain Python, tested with ``unittest``; its ``maf.toml`` and its plan."""

from __future__ import annotations

import json
from collections.abc import Sequence

TARGET = "main"
AGENTS = ("core", "reports", "cli", None)
"""The domains of the four dev agents; None takes any."""

FILES: dict[str, str] = {
    "README.md": """\
# ledger

One line an expense: `2026-11-03 groceries 23.50 weekly shopping`.

    python -m ledger.cli total < ledger.txt
    python -m unittest
""",
    # The second line is what lets one story look finished in its worktree, and fail in a fresh one.
    ".gitignore": "__pycache__/\n*.csv\n",
    "ledger/__init__.py": '"""A household\'s ledger."""\n',
    "ledger/core/__init__.py": '"""What an entry is."""\n',
    "ledger/core/entry.py": '''\
"""One line of the ledger."""

from dataclasses import dataclass
from decimal import Decimal


@dataclass(frozen=True)
class Entry:
    """An expense; the date as YYYY-MM-DD."""

    date: str
    category: str
    amount: Decimal
    note: str = ""


def parse(line):
    """The entry in a line."""
    date, category, amount, *note = line.split(maxsplit=3)
    return Entry(date, category, Decimal(amount), " ".join(note).strip())
''',
    "ledger/reports/__init__.py": '"""Sums over entries."""\n',
    "ledger/reports/totals.py": '''\
"""The sum of everything."""

from decimal import Decimal


def total(entries):
    """The sum of all amounts."""
    return sum((entry.amount for entry in entries), Decimal(0))
''',
    "ledger/cli/__init__.py": '"""The command."""\n',
    "ledger/cli/__main__.py": '''\
"""python -m ledger.cli COMMAND < ledger.txt"""

import sys

from ledger.cli.main import run

print(run(sys.argv[1], sys.stdin))
''',
    "ledger/cli/main.py": '''\
"""Which commands there are."""

from ledger.cli.total import total
from ledger.core.entry import parse


# One line a command, in order.
COMMANDS = {
    "total": total,
}


def run(name, lines):
    """The output of a command over the lines of a ledger."""
    return COMMANDS[name]([parse(line) for line in lines if line.strip()])
''',
    "ledger/cli/total.py": '''\
"""The command `total`."""

from ledger.reports import totals


def total(entries):
    """The sum of everything, as text."""
    return f"{totals.total(entries):.2f}"
''',
    "tests/__init__.py": "",
    "tests/core/__init__.py": "",
    "tests/core/test_entry.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.entry import parse


class EntryTest(TestCase):
    def test_a_line_has_date_category_amount_and_note(self):
        entry = parse("2026-11-03 groceries 23.50 weekly shopping\\n")
        self.assertEqual(("2026-11-03", "groceries"), (entry.date, entry.category))
        self.assertEqual((Decimal("23.50"), "weekly shopping"), (entry.amount, entry.note))
""",
    "tests/reports/__init__.py": "",
    "tests/reports/test_totals.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.entry import parse
from ledger.reports.totals import total


class TotalsTest(TestCase):
    def test_nothing_costs_nothing(self):
        self.assertEqual(Decimal(0), total([]))

    def test_amounts_are_added_up(self):
        lines = ("2026-11-03 groceries 0.10", "2026-11-04 groceries 0.20")
        self.assertEqual(Decimal("0.30"), total(map(parse, lines)))
""",
    "tests/cli/__init__.py": "",
    "tests/cli/test_main.py": """\
from unittest import TestCase

from ledger.cli.main import COMMANDS, run


class MainTest(TestCase):
    def test_total(self):
        self.assertEqual("30.00", run("total", ["2026-11-03 rent 10\\n", "\\n", "2026-11-04 rent 20\\n"]))

    def test_commands_are_in_order(self):
        self.assertEqual(sorted(COMMANDS), list(COMMANDS))
""",
}

PLAN = """\
maf: 1

waves:
  - code: W1
    name: Foundations
    stories:
      - code: L-1
        title: Refuse lines that are no entry
        domain: core
        criteria: [a line with too few words is refused, an amount that is no number is refused]
      - code: L-2
        title: Totals by category
        domain: reports
        criteria: ["each category has its sum, in order of the names"]
      - code: L-3
        title: Read a ledger with comments
        domain: core
        criteria: [blank lines and comments are skipped, entries come by date]
      - code: L-4
        title: Texts in columns
        domain: cli
        criteria: [amounts stand one below the other]

  - code: W2
    name: Features
    after: [W1]
    stories:
      - code: L-5
        title: Convert between currencies
        domain: core
        priority: 2
        criteria: [rates come from rates.csv, an unknown currency is refused]
      - code: L-6
        title: "Command: categories"
        domain: cli
        priority: 1
        criteria: [ledger categories prints a line for each category]
      - code: L-7
        title: "Command: largest"
        domain: cli
        priority: 1
        criteria: [ledger largest prints the largest expense]
      - code: L-8
        title: Totals by month
        domain: reports
        priority: 2
        criteria: [each month has its sum]

  - code: W3
    name: Finish
    after: [W2]
    stories:
      - code: L-9
        title: Spending against a budget
        domain: reports
        after: [L-8]
        criteria: [a month over the budget is named with what it is over]
      - code: L-10
        title: "Command: convert"
        domain: cli
        after: [L-5, L-6]
        criteria: [ledger convert prints the total in euros and dollars]
"""


def configuration(store: str, python: str) -> str:
    """The sample's ``maf.toml``. ``python``: the interpreter that runs its tests and its agents."""
    lines = [
        "# maf: four scripted agents work on this sample. `maf config show --origin` says what holds and why.",
        "",
        "[project]",
        f"target = {_toml(TARGET)}",
        "",
        "[store]",
        f"url = {_toml(store)}",
        "",
        "[checks]",
        f"commands = [{_toml([python, '-m', 'unittest', '-q'])}]",
        "timeout = 60",
    ]
    for domain in filter(None, AGENTS):
        lines += [
            "",
            f"[domains.{domain}]",
            f"owns = {_toml([f'ledger/{domain}/', f'tests/{domain}/'])}",
            'forbidden = ["maf.toml", "plan.yaml"]',
        ]
    lines += ["", "[roles.cto]", 'mode = "auto"', "[roles.pm]", 'mode = "auto"', "[roles.qa]", 'mode = "auto"']
    for agent in AGENTS:
        lines += [
            "",
            "[[agents]]",
            f"id = {_toml(agent or 'any')}",
            *([f"domain = {_toml(agent)}"] if agent else []),
            "count = 1",
            'command = ["{python}", "-P", "-m", "orchestrator.demo.agent"]',
        ]
    lines += ["", "[run]", "agents = 4", "max_attempts = 3", "timeout = 60", "backoff = 0.5"]
    return "\n".join(lines) + "\n"


def _toml(value: str | Sequence[str]) -> str:
    return json.dumps(value, ensure_ascii=False)
