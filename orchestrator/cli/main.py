"""``maf``: loads the group that is called, turns errors into messages and exit codes.

Exit codes: 0 done, 1 refused by a rule, 2 wrong usage or input, 3 not found, 4 lost a race, a stale token or an ended
session, 5 the store cannot be used, 6 waited in vain; besides 70 an error inside maf, 130 interrupted, 141 the reader
of the output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import click

from orchestrator import __version__
from orchestrator.cli.base import Cli, Group, Options, ReaderGone, envelope
from orchestrator.cli.text import Screen, clean, make_streams_safe
from orchestrator.domain.errors import MafError

INTERNAL, INTERRUPTED, BROKEN_PIPE = 70, 130, 141

SECTIONS: dict[str, dict[str, str]] = {
    "Begin": {
        "init": "init", "demo": "demo", "doctor": "doctor", "config": "config",
        "completion": "config:completion",
    },
    "Plan": {"plan": "plan", "wave": "wave", "story": "story"},
    "Work": {"run": "run", "kickstart": "kickstart", "agent": "agent", "signal": "signal"},
    "Judge and merge": {"qa": "review:qa", "review": "review:review", "merge": "review:merge"},
    "Look": {"status": "look:status", "history": "look:history"},
    "Stop": {"stop": "stop:stop", "resume": "stop:resume"},
    "Store": {"db": "db"},
}  # fmt: skip
"""Which module of ``orchestrator.cli`` has which command, as ``module[:attribute]``, in the help's order."""


def _homes() -> dict[str, str]:
    found = {name: home for section in SECTIONS.values() for name, home in section.items()}
    return {name: home for name, home in found.items() if _exists(home.partition(":")[0])}


def _exists(module: str) -> bool:
    return find_spec(f"orchestrator.cli.{module}") is not None


class Root(Group):
    """``maf`` itself: its commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """The names, in the help's order."""
        return list(_homes())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """The command, imported now."""
        for section in SECTIONS.values():
            if cmd_name in section:
                module, _, attribute = section[cmd_name].partition(":")
                if not _exists(module):
                    return None
                found = getattr(import_module(f"orchestrator.cli.{module}"), attribute or "cli")
                assert isinstance(found, click.Command)
                return found
        return None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The commands by what they are for."""
        names = self.list_commands(ctx)
        room = max(map(len, names))
        for title, section in SECTIONS.items():
            rows = []
            for name in section:
                found = self.get_command(ctx, name)
                if found is not None:
                    rows.append((name.ljust(room), found.get_short_help_str(90)))
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows)


root = Root(
    "maf",
    help="Coordinates a team of coding agents in one git repository: a plan of waves and stories goes in, agents work "
    "in parallel worktrees, gates pass with evidence, branches are merged.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
root.examples = (
    "maf init                      in your repository; it says what to do next",
    "maf plan import plan.yaml     waves and stories go in",
    "maf run                       agents do them; maf status looks on",
)


def _version(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
    if asked:
        with Cli(ctx.find_root().ensure_object(Options)) as cli:
            cli.out({"version": __version__}, lambda screen: screen.line(f"maf {__version__}"))
        ctx.exit()


root.params.append(
    click.Option(["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_version,
                 help="Show the version and exit.")
)  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. Never raises but for SystemExit of click's own completion."""
    if arguments is None and getattr(sys, "frozen", False):
        from orchestrator.process import serve_if_asked

        if serve_if_asked(sys.argv):
            return 0
    args = list(sys.argv[1:] if arguments is None else arguments)
    make_streams_safe()
    options = Options()
    # Known before parsing, so that a wrong call is answered as JSON too.
    options.as_json = "--json" in (args[: args.index("--")] if "--" in args else args)
    try:
        return _run(args, options)
    except (BrokenPipeError, ReaderGone):
        # Whoever read the output has gone: nothing more to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE


def _run(args: list[str], options: Options) -> int:
    try:
        code = root.main(args=args, prog_name="maf", standalone_mode=False, obj=options)
        sys.stdout.flush()
        return code if isinstance(code, int) and not isinstance(code, bool) else 0
    except (BrokenPipeError, ReaderGone):
        raise
    except click.exceptions.NoArgsIsHelpError as error:
        Screen(sys.stdout).write(error.format_message() + "\n")
        return 2
    except click.ClickException as error:
        return _failed(options, "usage", error.format_message(), _usage_hint(error), 2)
    except MafError as error:
        return _failed(options, error.code, error.message, error.hint, error.exit_code, error)
    except (KeyboardInterrupt, click.Abort):
        return _failed(options, "interrupted", "interrupted", None, INTERRUPTED)
    except Exception as error:
        if os.environ.get("MAF_DEBUG"):
            raise
        what = f"{type(error).__name__}: {error}".splitlines()[0][:300]
        return _failed(
            options, "internal", f"an error inside maf: {what}",
            "MAF_DEBUG=1 shows where; please report it with that.", INTERNAL,
        )  # fmt: skip


def _usage_hint(error: click.ClickException) -> str:
    ctx = getattr(error, "ctx", None)
    return f"See: {ctx.command_path} --help" if ctx is not None else "See: maf --help"


def _failed(
    options: Options, code: str, message: str, hint: str | None, exit_code: int, error: MafError | None = None
) -> int:
    if options.as_json:
        body = error.as_dict() if error else {"code": code, "message": message, "hint": hint}
        screen = Screen(sys.stdout)
        screen.stream.write(envelope({"maf": 1, "ok": False, "error": body}, screen) + "\n")
        sys.stdout.flush()
        return exit_code
    screen = Screen(sys.stderr, color=options.color)
    screen.line(f"{screen.style('error:', 'red')} {clean(message, lines=True)}")
    problems = (error.details.get("problems") if error else None) or []
    for one in problems[1:20] if len(problems) > 1 else ():
        place = f"{one['file']}:{one['line']}" if one.get("line") else one.get("file", "")
        name = one.get("field") or one.get("key") or ""
        screen.line(f"  {clean(place)}: {clean(name)}{': ' if name else ''}{clean(one['message'])}")
    if hint:
        screen.line(f"{screen.style('hint:', 'cyan')} {clean(hint, lines=True)}")
    return exit_code
