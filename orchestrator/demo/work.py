"""What the scripted agents make of each story of the sample's plan, and what goes wrong with three of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Work:
    """A story's change.

    ``files``: written whole. ``command``: registered in ``ledger/cli/main.py``, a line of its import and its table.
    ``meets``: a story that is begun before this one is submitted, so that the two edit the same lines at once.
    ``dies_after``: the first attempt commits these files and is then killed with signal 9.
    """

    files: dict[str, str]
    command: str | None = None
    meets: str | None = None
    dies_after: tuple[str, ...] = ()


WORK: dict[str, Work] = {
    "L-1": Work(
        {
            "ledger/core/entry.py": '''\
"""One line of the ledger."""

from dataclasses import dataclass
from decimal import Decimal, InvalidOperation


class LedgerError(ValueError):
    """A line that is no entry."""


@dataclass(frozen=True)
class Entry:
    """An expense; the date as YYYY-MM-DD."""

    date: str
    category: str
    amount: Decimal
    note: str = ""


def parse(line):
    """The entry in a line. LedgerError: it is none."""
    words = line.split(maxsplit=3)
    if len(words) < 3:
        raise LedgerError(f"{line.strip()!r}: a line is DATE CATEGORY AMOUNT [NOTE]")
    try:
        amount = Decimal(words[2])
    except InvalidOperation:
        raise LedgerError(f"{words[2]!r} is no amount") from None
    return Entry(words[0], words[1], amount, " ".join(words[3:]).strip())
''',
            "tests/core/test_refusals.py": """\
from unittest import TestCase

from ledger.core.entry import LedgerError, parse


class RefusalsTest(TestCase):
    def test_too_few_words(self):
        with self.assertRaisesRegex(LedgerError, "DATE CATEGORY AMOUNT"):
            parse("2026-11-03 groceries")

    def test_no_amount(self):
        with self.assertRaisesRegex(LedgerError, "'much' is no amount"):
            parse("2026-11-03 groceries much")
""",
        }
    ),
    "L-2": Work(
        {
            "ledger/reports/by_category.py": '''\
"""Sums by category."""

from decimal import Decimal


def by_category(entries):
    """Category -> sum, in order of the names."""
    sums = {}
    for entry in entries:
        sums[entry.category] = sums.get(entry.category, Decimal(0)) + entry.amount
    return dict(sorted(sums.items()))
''',
            "tests/reports/test_by_category.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.entry import parse
from ledger.reports.by_category import by_category


class ByCategoryTest(TestCase):
    def test_each_category_has_its_sum_in_order(self):
        lines = ("2026-11-03 rent 500", "2026-11-03 food 12.50", "2026-11-04 food 7.50")
        self.assertEqual([("food", Decimal(20)), ("rent", Decimal(500))], list(by_category(map(parse, lines)).items()))
""",
        }
    ),
    "L-3": Work(
        {
            "ledger/core/reader.py": '''\
"""A whole ledger."""

from ledger.core.entry import parse


def read(lines):
    """The entries by date; blank lines and comments (#) are skipped."""
    kept = (line for line in lines if line.strip() and not line.lstrip().startswith("#"))
    return sorted(map(parse, kept), key=lambda entry: entry.date)
''',
            "tests/core/test_reader.py": """\
from unittest import TestCase

from ledger.core.reader import read


class ReaderTest(TestCase):
    def test_comments_and_blank_lines_are_skipped(self):
        self.assertEqual([], read(["# 2026", "", "   "]))

    def test_entries_come_by_date(self):
        found = read(["2026-11-04 food 2", "2026-11-03 food 1"])
        self.assertEqual(["2026-11-03", "2026-11-04"], [entry.date for entry in found])
""",
        }
    ),
    "L-4": Work(
        {
            "ledger/cli/columns.py": '''\
"""Texts and amounts in columns."""


def columns(rows):
    """Lines of a name and an amount, the amounts one below the other."""
    cells = [(name, f"{amount:.2f}") for name, amount in rows]
    left = max((len(name) for name, _ in cells), default=0)
    right = max((len(amount) for _, amount in cells), default=0)
    return "\\n".join(f"{name.ljust(left)}  {amount.rjust(right)}" for name, amount in cells)
''',
            "tests/cli/test_columns.py": """\
from unittest import TestCase

from ledger.cli.columns import columns


class ColumnsTest(TestCase):
    def test_amounts_stand_one_below_the_other(self):
        self.assertEqual("food    7.50\\nrent  500.00", columns([("food", 7.5), ("rent", 500)]))

    def test_nothing(self):
        self.assertEqual("", columns([]))
""",
        }
    ),
    # rates.csv is hidden by the project's .gitignore: `git add` leaves it out, the worktree's tests pass all the same,
    # and QA's, in a fresh one, do not.
    "L-5": Work(
        {
            "ledger/core/rates.py": '''\
"""Currencies."""

import csv
from decimal import Decimal
from pathlib import Path


def rates():
    """Currency -> what one euro is in it."""
    with Path(__file__).with_name("rates.csv").open(encoding="utf-8", newline="") as file:
        return {row["currency"]: Decimal(row["rate"]) for row in csv.DictReader(file)}


def convert(amount, currency):
    """An amount in euros in another currency. LookupError: it is unknown."""
    known = rates()
    if currency not in known:
        raise LookupError(f"{currency!r} is not one of {', '.join(sorted(known))}")
    return (amount * known[currency]).quantize(Decimal("0.01"))
''',
            "ledger/core/rates.csv": "currency,rate\nEUR,1\nUSD,1.10\nGBP,0.85\n",
            "tests/core/test_rates.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.rates import convert


class RatesTest(TestCase):
    def test_dollars(self):
        self.assertEqual(Decimal("11.00"), convert(Decimal(10), "USD"))

    def test_unknown(self):
        with self.assertRaisesRegex(LookupError, "EUR, GBP, USD"):
            convert(Decimal(10), "???")
""",
        }
    ),
    "L-6": Work(
        {
            "ledger/cli/categories.py": '''\
"""The command `categories`."""

from ledger.cli.columns import columns
from ledger.reports.by_category import by_category


def categories(entries):
    """A line for each category."""
    return columns(by_category(entries).items())
''',
            "tests/cli/test_categories.py": """\
from unittest import TestCase

from ledger.cli.main import run


class CategoriesTest(TestCase):
    def test_a_line_for_each_category(self):
        lines = ["2026-11-03 rent 500", "2026-11-03 food 7.50"]
        self.assertEqual("food    7.50\\nrent  500.00", run("categories", lines))
""",
        },
        command="categories",
        meets="L-7",
    ),
    "L-7": Work(
        {
            "ledger/cli/largest.py": '''\
"""The command `largest`."""


def largest(entries):
    """The largest expense."""
    found = max(entries, key=lambda entry: entry.amount, default=None)
    return f"{found.date} {found.category} {found.amount:.2f}" if found else "nothing spent"
''',
            "tests/cli/test_largest.py": """\
from unittest import TestCase

from ledger.cli.main import run


class LargestTest(TestCase):
    def test_the_largest_expense(self):
        lines = ["2026-11-03 rent 500", "2026-11-03 food 7.50"]
        self.assertEqual("2026-11-03 rent 500.00", run("largest", lines))

    def test_nothing(self):
        self.assertEqual("nothing spent", run("largest", []))
""",
        },
        command="largest",
        meets="L-6",
    ),
    "L-8": Work(
        {
            "ledger/reports/by_month.py": '''\
"""Sums by month."""

from decimal import Decimal


def by_month(entries):
    """Month as YYYY-MM -> sum, in order."""
    sums = {}
    for entry in entries:
        sums[entry.date[:7]] = sums.get(entry.date[:7], Decimal(0)) + entry.amount
    return dict(sorted(sums.items()))
''',
            "tests/reports/test_by_month.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.entry import parse
from ledger.reports.by_month import by_month


class ByMonthTest(TestCase):
    def test_each_month_has_its_sum(self):
        lines = ("2026-12-01 rent 500", "2026-11-03 food 1", "2026-11-30 food 2")
        self.assertEqual({"2026-11": Decimal(3), "2026-12": Decimal(500)}, by_month(map(parse, lines)))
""",
        }
    ),
    "L-9": Work(
        {
            "ledger/reports/budget.py": '''\
"""Spending against a budget."""

from ledger.reports.by_month import by_month


def over_budget(entries, budget):
    """Month -> by how much it is over the budget, for those that are."""
    return {month: spent - budget for month, spent in by_month(entries).items() if spent > budget}
''',
            "tests/reports/test_budget.py": """\
from decimal import Decimal
from unittest import TestCase

from ledger.core.entry import parse
from ledger.reports.budget import over_budget


class BudgetTest(TestCase):
    def test_a_month_over_the_budget_is_named(self):
        lines = ("2026-11-03 food 30", "2026-12-01 rent 500")
        self.assertEqual({"2026-12": Decimal(400)}, over_budget(map(parse, lines), Decimal(100)))
""",
        },
        dies_after=("ledger/reports/budget.py",),
    ),
    "L-10": Work(
        {
            "ledger/cli/convert.py": '''\
"""The command `convert`."""

from ledger.cli.columns import columns
from ledger.core.rates import convert as converted
from ledger.reports.totals import total


def convert(entries):
    """The total in euros and dollars."""
    euros = total(entries)
    return columns((currency, converted(euros, currency)) for currency in ("EUR", "USD"))
''',
            "tests/cli/test_convert.py": """\
from unittest import TestCase

from ledger.cli.main import run


class ConvertTest(TestCase):
    def test_the_total_in_both(self):
        self.assertEqual("EUR  10.00\\nUSD  11.00", run("convert", ["2026-11-03 food 10"]))
""",
        },
        command="convert",
    ),
}
