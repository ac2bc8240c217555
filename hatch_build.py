"""Puts the top-level schemas into the wheel, beside the code that applies them: same bytes, one copy in git."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SCHEMAS = ("schema_sqlite.sql", "schema_postgres.sql")


class SchemaHook(BuildHookInterface):
    """An editable install needs none of this: there the store finds the files at the top level."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Called once for each build; ``version`` is ``standard`` or ``editable``."""
        if version == "standard":
            build_data["force_include"].update(
                {str(Path(self.root, name)): f"orchestrator/store/{name}" for name in SCHEMAS}
            )
