"""``maf config`` and ``maf completion``."""

from __future__ import annotations

import json
from typing import Any

import click

from orchestrator.cli.base import Cli, command, group
from orchestrator.cli.text import Screen
from orchestrator.domain.errors import InvalidInput

cli = group("config", "What is set, and where: flags > environment > maf.toml > the user's file.")
SHELLS = ("bash", "zsh", "fish", "powershell")


@command(cli, "show", "maf config show", "maf config show --origin")
@click.option("--origin", is_flag=True, help="Where each value comes from.")
def show(cli: Cli, origin: bool) -> None:
    """Every setting that holds here. A store's password is not shown."""
    from orchestrator.bootstrap.init import public

    found = cli.configuration
    values = {**found.values, "store.url": public(found.values["store.url"])}
    files = {"project": str(cli.location.file) if cli.location.file else None, "user": str(cli.location.user_file)}
    data: dict[str, Any] = {"files": files, "values": values}
    if origin:
        data["origins"] = found.origins

    def people(screen: Screen) -> None:
        rows = [
            [key, json.dumps(value, ensure_ascii=False), found.origins[key]] for key, value in sorted(values.items())
        ]
        if origin:
            screen.table(["KEY", "VALUE", "FROM"], rows, flexible=1)
        else:
            screen.table(["KEY", "VALUE"], [row[:2] for row in rows])

    cli.out(data, people)


@command(
    None, "completion", 'eval "$(maf completion bash)"', "maf completion fish > ~/.config/fish/completions/maf.fish"
)
@click.argument("shell", type=click.Choice(SHELLS))
def completion(cli: Cli, shell: str) -> None:
    """The script that completes maf's commands in your shell."""
    from click.shell_completion import get_completion_class

    from orchestrator.cli.main import root

    found = get_completion_class(shell)
    if found is None:
        raise InvalidInput(f"this click has no completion for {shell}", hint="Upgrade click.")
    script = found(root, {}, "maf", "_MAF_COMPLETE").source()
    cli.out({"shell": shell, "script": script}, lambda screen: screen.write(script.rstrip("\n") + "\n"))
