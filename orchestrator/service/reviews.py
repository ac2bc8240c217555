"""Gates 4 to 7: QA, the PM's review, integration, the merge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import GuardFailed, InvalidInput, LostRace, WrongRole
from orchestrator.service import waves
from orchestrator.service.context import Act, save_session, use_case
from orchestrator.service.deliveries import emit
from orchestrator.service.transitions import check, close_assignment, fenced, find_story, move, passed_with, send_back
from orchestrator.store import Row

Findings = Sequence[str | dict[str, Any]]


def _findings(findings: Findings) -> list[dict[str, Any]]:
    found = []
    for finding in findings:
        item = {"text": finding} if isinstance(finding, str) else dict(finding)
        if not isinstance(item.get("text"), str) or not item["text"].strip():
            raise InvalidInput(
                "a finding needs a text", hint='Write it like --finding "the parser accepts 30 February".'
            )
        item["text"] = names.text(item["text"], "a finding", limit=8000)
        found.append(item)
    return found


def _report(
    act: Act, story: Row, verdict: lc.Verdict, findings: list[dict[str, Any]], evidence: dict[str, Any],
    coverage: int | None,
) -> Row:  # fmt: skip
    if coverage is not None and not 0 <= coverage <= 100:
        raise InvalidInput(f"coverage is a percentage, not {coverage}", hint="Give 0 to 100.")
    return act.tx.write(
        "qa.insert", id=ids.new_id(), story_id=story["id"], qa_agent=act.agent, verdict=verdict,
        findings=names.json_text(findings, "the findings"), coverage_percent=coverage,
        commit_sha=story["submitted_commit"], metadata=names.json_text(evidence, "the evidence"), now=act.now,
    )[0]  # fmt: skip


def _independent(act: Act, story: Row) -> None:
    if act.tx.one("assignment.was_held_by", story_id=story["id"], agent_id=act.agent):
        raise GuardFailed(
            f"{act.agent} has worked on {story['story_code']} as its dev", hint="Another agent of role qa judges it."
        )


def _same_commit(story: Row, commit: str | None) -> None:
    if commit != story["submitted_commit"]:
        raise LostRace(
            f"the check was made at {commit}, {story['story_code']} was submitted at {story['submitted_commit']}",
            hint="Check again.",
        )


def _right_role(act: Act, action: str) -> lc.StoryAction:
    """The lifecycle's row of ``action``, which the acting agent's role may do."""
    row = lc.STORY_ACTIONS[action]
    roles = " or ".join(row.by)
    if act.agent == lc.USER:
        raise WrongRole(
            f"{action} needs an agent: a live session of role {roles}",
            hint="Say who acts: --agent ID, or set MAF_AGENT.",
        )
    if act.role not in row.by:
        raise WrongRole(
            f"{act.agent!r} is a {act.role}; {action} is for {roles}", hint=f"Use an agent of role {roles}: --agent ID."
        )
    return row


@use_case("story.role", keyed=False)
def require_role(act: Act, action: str) -> None:
    """Raise where the acting agent could never do ``action``, whatever the story's state."""
    _right_role(act, action)


@use_case("story.may", keyed=False)
def may(act: Act, action: str, code: str) -> Row:
    """Whether the acting agent may do ``action`` to a story now, before the work that it needs is begun. The story.

    Raises what the action itself would; holds nothing, so the action asks again.
    """
    story = find_story(act.tx, code)
    row = _right_role(act, action)
    check(action, story)
    if row.fenced:
        story["token"] = fenced(act, story)["fencing_token"]
    if row.by == (lc.Role.QA,):
        _independent(act, story)
    return story


@use_case("qa.pass", lc.STORY_ACTIONS["pass"].by)
def qa_pass(
    act: Act, code: str, *, commit: str, evidence: dict[str, Any], findings: Findings = (), coverage: int | None = None,
    checked_since: str | None = None,
) -> Row:  # fmt: skip
    """Pass gate 4 with the evidence of checks run afresh at the submitted commit; writes the QA report."""
    story = find_story(act.tx, code)
    action = check("pass", story, checked_since=checked_since)
    _independent(act, story)
    _same_commit(story, commit)
    passed_with(evidence)
    act.tx.activity(act.agent, "qa.pass", story["id"], commit=commit)
    report = _report(act, story, lc.Verdict.PASS, _findings(findings), evidence, coverage)
    moved = move(act.tx, story, action, act.agent, evidence={**evidence, "qa_report": report["id"]})
    emit(
        act.tx, lc.SignalType.QA_APPROVED, act.agent, f"role:{lc.Role.PM}",
        {"story_id": story["id"], "qa_report_id": report["id"]}, story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return {**moved, "qa_report_id": report["id"]}


@use_case("qa.report_failure", (lc.Role.QA,), keyed=False)
def qa_checks_failed(act: Act, code: str, *, evidence: dict[str, Any]) -> None:
    """Keep the evidence of checks that did not pass; the story stays where it is, for QA to reject or look into."""
    story = find_story(act.tx, code)
    check("reject", story)
    _independent(act, story)
    act.tx.activity(act.agent, "qa.checks_failed", story["id"])
    _report(
        act, story, lc.Verdict.FAIL, [{"text": evidence.get("summary") or "the checks did not pass"}], evidence, None
    )


@use_case("qa.reject", lc.STORY_ACTIONS["reject"].by)
def qa_reject(
    act: Act, code: str, *, findings: Findings, evidence: dict[str, Any] | None = None, coverage: int | None = None
) -> Row:
    """Reject at gate 4 with at least one finding: back to gate 2 with its dev."""
    story = find_story(act.tx, code)
    action = check("reject", story)
    _independent(act, story)
    items = _findings(findings)
    if not items:
        raise InvalidInput("a rejection needs a finding", hint='Say what is wrong: --finding "…"')
    act.tx.activity(act.agent, "qa.reject", story["id"])
    report = _report(act, story, lc.Verdict.FAIL, items, evidence or {}, coverage)
    why = "; ".join(item["text"] for item in items)[:4000]
    return send_back(
        act, story, action, why, {"findings": items}, evidence={"qa_report": report["id"], "findings": items}
    )


@use_case("review.accept", lc.STORY_ACTIONS["accept"].by)
def accept(act: Act, code: str, *, notes: str | None = None, policy: str | None = None) -> Row:
    """Pass gate 5: the PM accepts; the story joins the merge queue."""
    if notes is not None:
        names.text(notes, "the notes", limit=8000)
    story = find_story(act.tx, code)
    action = check("accept", story)
    act.tx.activity(act.agent, "review.accept", story["id"])
    decision = {"by": act.agent, "role": act.role, **({"policy": policy} if policy else {})}
    moved = move(act.tx, story, action, act.agent, notes=notes, evidence={"decision": decision})
    emit(
        act.tx, lc.SignalType.READY_FOR_MERGE, act.agent, f"role:{lc.Role.CTO}",
        {"story_id": story["id"], "branch_name": story["branch_name"]}, story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    return moved


@use_case("review.return", lc.STORY_ACTIONS["return"].by)
def give_back(act: Act, code: str, *, reason: str) -> Row:
    """Return at gate 5: back to gate 2 with its dev."""
    names.text(reason, "the reason", limit=4000, required=True)
    story = find_story(act.tx, code)
    action = check("return", story)
    act.tx.activity(act.agent, "review.return", story["id"])
    return send_back(act, story, action, reason, {"reason": reason}, evidence={"decision": {"by": act.agent}})


@use_case("merge.integrate", lc.STORY_ACTIONS["integrate"].by)
def integrate(act: Act, code: str, *, commit: str, evidence: dict[str, Any], checked_since: str | None = None) -> Row:
    """Pass gate 6: ``evidence`` holds the merged ``tree``, the ``target_tip`` it was made on, and the checks on it."""
    story = find_story(act.tx, code)
    action = check("integrate", story, checked_since=checked_since)
    _same_commit(story, commit)
    if not evidence.get("tree") or not evidence.get("target_tip"):
        raise GuardFailed("integration needs the merged tree and the tip it was made on", hint="Integrate again.")
    act.tx.activity(lc.TOOL, "merge.integrate", story["id"])
    return move(act.tx, story, action, lc.TOOL, evidence=passed_with(evidence))


@use_case("merge.reintegrate", lc.STORY_ACTIONS["re-integrate"].by)
def reintegrate(act: Act, code: str, *, reason: str) -> Row:
    """Go back before gate 6: the target has moved since the integration was checked."""
    story = find_story(act.tx, code)
    action = check("re-integrate", story)
    act.tx.activity(lc.TOOL, "merge.reintegrate", story["id"], reason=reason)
    return move(act.tx, story, action, lc.TOOL, notes=reason)


@use_case("merge.merge", lc.STORY_ACTIONS["merge"].by)
def merge(act: Act, code: str, *, merge_commit: str, evidence: dict[str, Any]) -> Row:
    """Pass gate 7: the merge commit is on the target. Completes the story, and its wave if it was the last."""
    story = find_story(act.tx, code)
    # The target has moved already: a wave paused in between cannot undo that, so it may be recorded.
    action = check("merge", story, checked_since=evidence.get("began"))
    act.tx.activity(act.agent, "merge.merge", story["id"], commit=merge_commit)
    moved = move(
        act.tx,
        story,
        action,
        act.agent,
        completed_at=act.now,
        evidence=passed_with({**evidence, "commit": merge_commit}),
    )
    last = act.tx.one("assignment.open", story_id=story["id"])
    if last is not None:
        close_assignment(act.tx, last, lc.EndReason.COMPLETED)
    holder = last or act.tx.one("assignment.latest", story_id=story["id"])
    session = act.tx.one("session.get", agent_id=holder["agent_id"]) if holder else None
    if session is not None:
        save_session(act.tx, session, total_stories_completed=session["total_stories_completed"] + 1)
    emit(
        act.tx, lc.SignalType.MERGE_COMPLETE, act.agent, None, {"story_id": story["id"], "commit_sha": merge_commit},
        story_id=story["id"], wave_id=story["wave_id"],
    )  # fmt: skip
    waves.judge(act.tx, story["wave_id"])
    return moved


@use_case("merge.refuse", lc.STORY_ACTIONS["refuse"].by)
def refuse(act: Act, code: str, *, reason: str, evidence: dict[str, Any] | None = None) -> Row:
    """Refuse at gate 6 or 7 (a conflict, a failed check, another branch tip): back to gate 2 with its dev."""
    names.text(reason, "the reason", limit=8000, required=True)
    story = find_story(act.tx, code)
    action = check("refuse", story)
    act.tx.activity(act.agent, "merge.refuse", story["id"])
    return send_back(
        act, story, action, reason, {"reason": reason}, evidence=evidence or {"decision": {"by": act.agent}}
    )
