"""Gates called with an idempotency key: it stands for what was asked, as what a gate finds out differs each time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from typing import Concatenate, ParamSpec

from orchestrator.gates.project import Project
from orchestrator.service.context import repeated
from orchestrator.store import Row

P = ParamSpec("P")
Gate = Callable[Concatenate[Project, str, P], Row]


def keyed(
    use_case: str, again: Callable[[Project, str, Row], Row] = lambda _, __, first: first
) -> Callable[[Gate[P]], Gate[P]]:
    """Let a gate that records itself with ``use_case`` be repeated: nothing is run, the first call's result returned.

    ``again`` makes the gate's result of the use case's. Refused: the key was used for another request.
    """

    def decorate(gate: Gate[P]) -> Gate[P]:
        @wraps(gate)
        def call(project: Project, code: str, /, *args: P.args, **kwargs: P.kwargs) -> Row:
            if project.ctx.key is None:
                return gate(project, code, *args, **kwargs)
            ctx = replace(project.ctx, request=(code, args, kwargs))
            first = repeated(ctx, use_case)
            if first is not None:
                return again(project, code, first)
            return gate(replace(project, ctx=ctx), code, *args, **kwargs)

        return call

    return decorate
