"""What became of the demo: read back from the store and the repository, never from what was said meanwhile."""

from __future__ import annotations

import re
from typing import Any

from orchestrator.bootstrap.context import Desk
from orchestrator.bootstrap.init import public
from orchestrator.domain import lifecycle as lc
from orchestrator.gates.checks import fresh_worktree, run_checks
from orchestrator.gates.project import Project
from orchestrator.service import invariants, stories, waves

_RAN = re.compile(r"^Ran (\d+) tests?", re.MULTILINE)


def outcome(desk: Desk, seconds: float) -> dict[str, Any]:
    """The facts, JSON-serialisable. ``ok``: every wave completed, the invariants hold, the final tree's tests pass."""
    project = desk.project()
    told = [_story(stories.show(desk.ctx, row["story_code"])) for row in stories.listing(desk.ctx)]
    every = [
        {name: wave[name] for name in ("wave_code", "name", "status", "stories", "completed", "failed")}
        for wave in waves.listing(desk.ctx)
    ]
    held = invariants.check(desk.ctx, project.repo, project.settings.target)
    checks = _final_checks(project)
    broken = [{"number": one.number, "title": one.title, "rows": one.rows} for one in invariants.failed(held)]
    completed = bool(every) and all(wave["status"] == lc.WaveStatus.COMPLETED for wave in every)
    return {
        "ok": completed and not broken and checks["ok"],
        "directory": str(project.repo.root),
        "store": public(desk.location.store()[0]),
        "target": project.settings.target,
        "tip": project.repo.tip(project.settings.target),
        "seconds": round(seconds, 1),
        "waves": every,
        "stories": told,
        "attempts": sum(len(one["attempts"]) for one in told),
        "agents": sorted({run["agent"] for one in told for run in one["attempts"]}),
        "qa_rejects": _of(told, "qa_rejects"),
        "conflicts": _of(told, "conflicts"),
        "deaths": _of(told, "deaths"),
        "invariants": {"checked": len(held), "failed": broken},
        "checks": checks,
    }


def _of(told: list[dict[str, Any]], what: str) -> list[dict[str, Any]]:
    return [{"story": one["code"], **entry} for one in told for entry in one[what]]


def _story(shown: dict[str, Any]) -> dict[str, Any]:
    runs = [run for run in shown["runs"] if run["agent_type"] == lc.Role.DEV]
    rejects = [gate for gate in shown["gates"] if gate["transition_type"] == lc.Transition.REJECT]
    return {
        "code": shown["story_code"],
        "title": shown["title"],
        "domain": shown["domain"],
        "status": shown["status"],
        "merge_commit": next((g["metadata"]["commit"] for g in shown["gates"] if g["to_gate"] == lc.MERGED_GATE), None),
        "attempts": [
            {"agent": run["agent_id"], "outcome": run["outcome"], "exit_code": run["exit_code"]} for run in runs
        ],
        "qa_rejects": [
            {"by": report["qa_agent"], "findings": report["findings"]}
            for report in shown["qa_reports"]
            if report["verdict"] == lc.Verdict.FAIL
        ],
        "conflicts": [
            {"files": gate["metadata"]["conflict"], "target_tip": gate["metadata"]["target_tip"]}
            for gate in rejects
            if gate["metadata"].get("conflict")
        ],
        "deaths": [
            {
                "agent": run["agent_id"],
                "signal": -run["exit_code"],
                "taken_over_by": next((later["agent_id"] for later in runs[number:]), None),
            }
            for number, run in enumerate(runs, 1)
            if (run["exit_code"] or 0) < 0
        ],
    }


def _final_checks(project: Project) -> dict[str, Any]:
    """The project's checks once more, in a fresh worktree at the target's tip."""
    tip = project.repo.tip(project.settings.target)
    with fresh_worktree(project, tip) as path:
        checked = run_checks(project, path, tip, "demo-final")
    ran = _RAN.search(checked.tail)
    return {"ok": checked.ok, "commit": tip, "summary": checked.summary, "tests": int(ran[1]) if ran else None}
