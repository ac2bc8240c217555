"""What every command is made of: shared options before and after its name, output for people or as JSON, examples."""

from __future__ import annotations

import difflib
import json
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click

from orchestrator.bootstrap.context import Desk, Given
from orchestrator.cli.text import Screen, clean
from orchestrator.domain.errors import InvalidInput, MafError, StoreUnavailable

F = TypeVar("F", bound=Callable[..., Any])
ENVELOPE = 1
"""The version of the JSON envelope."""
MAX_INPUT = 16 * 1024 * 1024


@dataclass
class Options:
    """The options that every command takes, before or after its name."""

    given: Given = field(default_factory=Given)
    as_json: bool = False
    verbose: int = 0
    quiet: bool = False
    color: bool | None = None
    start: Path | None = None


class Cli(Desk):
    """A desk with an output."""

    def __init__(self, options: Options) -> None:
        super().__init__(options.given, start=options.start)
        self.options = options
        self.screen = Screen(sys.stdout, color=options.color)

    @property
    def as_json(self) -> bool:
        """Whether a program reads the output."""
        return self.options.as_json

    def out(self, data: Any, people: Callable[[Screen], None] | str | None = None) -> None:
        """The result: the JSON envelope, or what ``people`` writes (a text is one line, left out with ``-q``)."""
        if self.as_json:
            self.screen.stream.write(envelope({"maf": ENVELOPE, "ok": True, "data": data}, self.screen) + "\n")
        elif callable(people):
            people(self.screen)
        elif people and not self.options.quiet:
            self.screen.line(people)

    def note(self, text: str) -> None:
        """Progress, to stderr; quiet leaves it out."""
        if not self.options.quiet:
            Screen(sys.stderr, color=self.options.color).line(text)


def envelope(document: dict[str, Any], screen: Screen) -> str:
    """One JSON document on one line, in characters that the stream has."""
    text = json.dumps(document, ensure_ascii=not screen.unicode, default=_plain)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate, from a name that is no UTF-8
        text = json.dumps(document, default=_plain)
    return text


def _plain(value: Any) -> Any:
    if isinstance(value, set | frozenset | tuple):
        return list(value)
    if hasattr(value, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in value.__dataclass_fields__}
    return str(value)


def _keep(name: str) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback that puts a shared option where every command finds it; one after the name wins over one before."""

    def store(ctx: click.Context, _: click.Parameter, value: Any) -> Any:
        if value is None or value is False or value == 0:
            return value
        options = ctx.find_root().ensure_object(Options)
        if name in ("db", "agent", "token", "key"):
            setattr(options.given, name, value)
        elif name == "no_color":
            options.color = False
        elif name == "verbose":
            options.verbose += value
        else:
            setattr(options, name, value)
        return value

    return store


def shared_options() -> list[click.Option]:
    """A fresh set of the options that every command takes."""

    def option(*names: str, keep: str, **more: Any) -> click.Option:
        return click.Option(names, expose_value=False, callback=_keep(keep), **more)

    return [
        option("--db", keep="db", metavar="URL", help="The store: sqlite:///PATH or postgresql://…  [MAF_DB]"),
        option("--agent", keep="agent", metavar="ID", help="Who acts.  [MAF_AGENT]"),
        option("--json", "as_json", keep="as_json", is_flag=True, help="One JSON document on stdout, errors too."),
        option("--key", keep="key", metavar="TEXT", help="Idempotency key: a repeat does nothing more."),
        option("--token", keep="token", type=click.IntRange(min=1), metavar="N",
               help="The assignment's fencing token.  [MAF_TOKEN]"),
        option("-q", "--quiet", keep="quiet", is_flag=True, help="Only what was asked for."),
        option("-v", "--verbose", keep="verbose", count=True, help="Say more."),
        option("--no-color", keep="no_color", is_flag=True, help="No colours.  [NO_COLOR]"),
    ]  # fmt: skip


SHARED = ("db", "agent", "as_json", "key", "token", "quiet", "verbose", "no_color")


class _Shared(click.Command):
    """Takes the shared options and shows them apart, in one line; shows examples."""

    examples: tuple[str, ...] = ()

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        taken = {name for param in own for name in param.opts}
        return [*own, *(o for o in shared_options() if not taken.intersection(o.opts))]

    def get_short_help_str(self, limit: int = 45) -> str:
        """The whole first sentence: click would cut it to one line, and a list has room for two."""
        return super().get_short_help_str(max(limit, 200))

    def get_help(self, ctx: click.Context) -> str:
        """The help, in characters that the terminal has."""
        return Screen(sys.stdout).shown(super().get_help(ctx))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The command's own options in full; those of all commands by name."""
        own: list[tuple[click.Parameter, tuple[str, str]]] = []
        shared: list[tuple[click.Parameter, tuple[str, str]]] = []
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None and not isinstance(param, click.Argument):
                (shared if param.name in SHARED and not param.expose_value else own).append((param, record))
        if own:
            with formatter.section("Options"):
                formatter.write_dl([record for _, record in own])
        if isinstance(self, click.Group):
            self.format_commands(ctx, formatter)
        if ctx.parent is None and shared:
            with formatter.section("Options of every command"):
                formatter.write_dl([record for _, record in shared])
        elif shared:
            with formatter.section("Options of every command (maf --help says more)"):
                formatter.write_text(" ".join(max(param.opts, key=len) for param, _ in shared))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, as they are typed."""
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        super().format_epilog(ctx, formatter)


class Command(_Shared):
    """A command."""


class Group(_Shared, click.Group):
    """A group of commands; shows its help when called alone."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of the day, not of the alphabet."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As click does, with a hint where the name is close to one that exists."""
        name = args[0] if args else ""
        if self.get_command(ctx, name) is None and not name.startswith("-"):
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1, cutoff=0.5)
            hint = f" Did you mean {close[0]!r}?" if close else ""
            raise click.UsageError(f"there is no command {clean(name)[:60]!r}.{hint}", ctx)
        return super().resolve_command(ctx, args)


class ReaderGone(Exception):
    """Whoever read the output has gone."""


def group(name: str, help: str) -> Group:  # noqa: A002 - click's own word
    """A group of commands."""
    return Group(name, help=help, no_args_is_help=True)


def command(
    parent: Group | None, name: str, *examples: str, params: Sequence[click.Parameter] = (), looks: bool = False,
    **more: Any,
) -> Callable[[F], Command]:  # fmt: skip
    """Make a command of a function that is called with a :class:`Cli` first. Its docstring is the help.

    ``looks``: it only reads the store. Given with an agent's id it is a sign of life all the same.
    """

    def decorate(function: F) -> Command:
        @wraps(function)
        def run(*args: Any, **kwargs: Any) -> Any:
            options = click.get_current_context().find_root().ensure_object(Options)
            try:
                with Cli(options) as cli:
                    if looks:
                        cli.keep_alive()
                    try:
                        return function(cli, *args, **kwargs)
                    except StoreUnavailable:
                        raise
                    except MafError:
                        # What was refused was rolled back, and the sign of life that it was with it.
                        with suppress(MafError):
                            cli.keep_alive()
                        raise
            except BrokenPipeError:
                raise ReaderGone from None  # click would make exit code 1 of it, which says something else here

        own = [*reversed(getattr(function, "__click_params__", [])), *params]
        run.__dict__.pop("__click_params__", None)
        made = Command(name, callback=run, params=own, help=function.__doc__, **more)
        made.examples = examples
        if parent is not None:
            parent.add_command(made)
        return made

    return decorate


def json_input(text: str, what: str) -> Any:
    """JSON as an argument; ``-`` reads standard input, ``@FILE`` a file. InvalidInput: it is none."""
    if text == "-":
        text = sys.stdin.read(MAX_INPUT)
    elif text.startswith("@"):
        try:
            with open(text[1:], encoding="utf-8") as file:  # noqa: PTH123 - a limited read of what the user names
                text = file.read(MAX_INPUT)
        except (OSError, ValueError) as error:
            raise InvalidInput(
                f"{what}: {clean(text[1:])[:200]} cannot be read: {error}", hint="Check the file."
            ) from None
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(
            f"{what} is not JSON: {str(error)[:200]}", hint='Write it like \'{"reason": "…"}\'.'
        ) from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def pick(row: dict[str, Any], *columns: str) -> dict[str, Any]:
    """Some columns of a row."""
    return {column: row.get(column) for column in columns}
