"""Signals by hand and the inbox: send, look, acknowledge, done."""

from __future__ import annotations

from typing import Any

from orchestrator.domain import ids, names
from orchestrator.domain import lifecycle as lc
from orchestrator.domain.errors import (
    InvalidInput,
    LostRace,
    MafError,
    NotFound,
    Refused,
    StaleToken,
    WrongRole,
    WrongState,
)  # fmt: skip
from orchestrator.domain.moments import after
from orchestrator.service.context import Act, Context, save_session, use_case
from orchestrator.service.deliveries import emit, inbox_of, show_state
from orchestrator.store import SHARED, Row, Tx
from orchestrator.store.unit import as_list

STORM = "signal.storm"


class Storm(Refused):
    """Too many signals, or a chain of replies that is too deep."""

    code, http_status = "storm", 429


def rule_of(signal_type: str) -> lc.SignalRule:
    """The rule of a signal type. InvalidInput: there is none of that name."""
    try:
        return lc.SIGNALS[lc.SignalType(signal_type)]
    except ValueError:
        raise InvalidInput(f"{signal_type[:60]!r} is no signal type", hint="See `maf signal types`.") from None


def send(
    ctx: Context, signal_type: str, payload: dict[str, Any] | None = None, *, to: str | None = None,
    story: str | None = None, cause: str | None = None, priority: int = 1, expires_in: float | None = None,
) -> Row:  # fmt: skip
    """Send a signal by hand: blocked, help_needed, answer or emergency_stop. The stored signal.

    ``to``: an agent's id, ``role:R[/DOMAIN]``, ``all:R[/DOMAIN]``; left out, the type's own addressee. ``cause``: the
    id of the signal that this replies to. Errors are those of workflow section 5; nothing is written with them.
    """
    try:
        return _send(
            ctx, signal_type, payload, to=to, story=story, cause=cause, priority=priority, expires_in=expires_in
        )
    except Storm as storm:
        _alert(ctx, storm)
        raise


@use_case("signal.send", scope=SHARED)
def _send(
    act: Act, signal_type: str, payload: dict[str, Any] | None, *, to: str | None, story: str | None,
    cause: str | None, priority: int, expires_in: float | None,
) -> Row:  # fmt: skip
    """Send a signal by hand."""
    rule = rule_of(signal_type)
    tx = act.tx
    if act.session is None and act.agent != lc.TOOL:
        raise WrongRole(f"{signal_type} is sent by an agent", hint="Say who sends: --agent ID, or set MAF_AGENT.")
    if not rule.by_hand and act.agent != lc.TOOL:
        raise WrongRole(
            f"{signal_type} is sent by the action that it tells of, never by hand",
            hint="By hand: " + ", ".join(r.type for r in lc.SIGNALS.values() if r.by_hand) + ".",
        )
    if lc.ANY not in rule.sender and act.role not in (*rule.sender, lc.TOOL):
        raise WrongRole(f"{act.agent} is a {act.role}; {signal_type} is sent by {' or '.join(rule.sender)}",
                        hint="Send it as an agent of that role: --agent ID.")  # fmt: skip
    if not 1 <= priority <= 2**31 - 1:
        raise InvalidInput("a priority is 1 or more", hint="1 is the most urgent.")
    if expires_in is not None and not 0 < expires_in <= 366 * 86400:
        raise InvalidInput("a signal expires after more than 0 seconds and within a year", hint="Give seconds.")
    answered = _cause(tx, cause if cause is not None else _named_in(rule, payload))
    body, about = _payload(act, rule, payload or {}, story, answered)
    _refuse_stale_token(act, about)
    whom = to if to is not None else _default_addressee(rule, answered)
    _refuse_storm(act, answered)
    tx.activity(act.agent, "signal.send", about["id"] if about else None, type=signal_type)
    signal = emit(
        tx, rule.type, act.agent, whom, body, story_id=about["id"] if about else None,
        wave_id=about["wave_id"] if about else None, priority=priority, cause=answered,
        expires_at=after(tx.now, expires_in) if expires_in is not None else None,
    )  # fmt: skip
    if rule.type is lc.SignalType.BLOCKED and act.session:
        save_session(tx, act.session, status=lc.SESSION_ACTIONS["block"].to)
    if rule.type is lc.SignalType.ANSWER and answered:
        _unblock(tx, answered["from_agent"])
    return signal


def _cause(tx: Tx, cause: str | None) -> Row | None:
    if cause is None:
        return None
    found = tx.one("signal.get", id=cause) if ids.is_id(cause) else None
    if found is None:
        raise NotFound(f"there is no signal {cause[:60]!r}", hint="See `maf signal inbox`.")
    return found


def _named_in(rule: lc.SignalRule, payload: Any) -> str | None:
    """What an answer's payload says that it answers."""
    named = payload.get("answers") if rule.type is lc.SignalType.ANSWER and isinstance(payload, dict) else None
    return named if isinstance(named, str) else None


def _refuse_stale_token(act: Act, about: Row | None) -> None:
    """StaleToken where a dev carries a token that proves none of its open assignments, or not that of ``about``."""
    token = act.ctx.token
    if token is None or act.role != lc.Role.DEV:
        return
    held = {a["story_id"]: a["fencing_token"] for a in act.tx.all("assignment.open_of_agent", agent_id=act.agent)}
    if token != held[about["id"]] if about and about["id"] in held else token not in held.values():
        raise StaleToken(
            f"the token {token} is stale: {act.agent} holds no story by it", hint="Stop: the story has been given away."
        )


def _payload(
    act: Act, rule: lc.SignalRule, payload: dict[str, Any], story: str | None, answered: Row | None
) -> tuple[dict[str, Any], Row | None]:
    """The payload with what maf knows filled in, and the story that it is about."""
    if not isinstance(payload, dict):
        raise InvalidInput("the payload is a JSON object", hint='Write it like {"reason": "…"}.')
    body = dict(payload)
    about: Row | None = None
    if story is not None:
        about = act.tx.one("story.get", code=names.code(story, "the story code"))
        if about is None:
            raise NotFound(f"there is no story {story!r}", hint="See `maf story list`.")
    elif "story_id" in rule.required and body.get("story_id") is None and act.session:
        current = act.session["current_story_id"]
        about = act.tx.one("story.by_id", id=current) if current else None
    elif isinstance(body.get("story_id"), str):
        about = act.tx.one("story.by_id", id=body["story_id"]) if ids.is_id(body["story_id"]) else None
        if about is None:
            raise NotFound(f"there is no story with the id {body['story_id'][:60]!r}", hint="Name it: --story CODE.")
    if "story_id" in rule.required and (story is not None or "story_id" not in body or body["story_id"] is None):
        body["story_id"] = about["id"] if about else None
    if rule.type is lc.SignalType.ANSWER:
        if answered is None:
            raise InvalidInput("an answer names what it answers", hint="Give the signal's id: --reply-to ID.")
        body["answers"] = answered["id"]
        if about is None and answered["story_id"] is not None:
            about = act.tx.one("story.by_id", id=answered["story_id"])  # what was asked about it
    _refuse_wrong_fields(rule, body)
    names.json_text(body, "the payload")
    return body, about


def _refuse_wrong_fields(rule: lc.SignalRule, body: dict[str, Any]) -> None:
    for name in rule.required:
        value = body.get(name)
        if value is None and name in rule.nullable:
            continue
        wanted = lc.PAYLOAD_FIELDS[name]
        if not isinstance(value, wanted) or (isinstance(value, str) and not value.strip()):
            kind = {"str": "text", "list": "a list", "dict": "an object"}[wanted.__name__]
            state = "is missing" if value is None else f"is {value!r:.40}"
            raise InvalidInput(
                f"{rule.type}: payload field {name!r} {state}; it must be {kind}",
                hint=f"Required: {', '.join(rule.required)}. Example: --payload '{{\"{name}\": …}}'",
            )


def _default_addressee(rule: lc.SignalRule, answered: Row | None) -> str | None:
    if rule.to == lc.ALL:
        return None
    if rule.to == lc.ASKER:
        return answered["from_agent"] if answered else None
    return f"role:{rule.to}"


def _refuse_storm(act: Act, answered: Row | None) -> None:
    depth = answered["chain_depth"] + 1 if answered else 0
    if depth > lc.MAX_CHAIN_DEPTH:
        raise Storm(
            f"this would be reply number {depth} of one chain; at most {lc.MAX_CHAIN_DEPTH} are allowed",
            hint="Stop replying; ask a person.",
        )
    rate = act.ctx.policy.signals_per_minute
    if rate and act.agent != lc.TOOL:
        sent = act.tx.must("signal.sent_since", agent_id=act.agent, since=after(act.now, -60))["sent"]
        if sent >= rate:
            raise Storm(
                f"{act.agent} has sent {sent} signals within a minute; the limit is {rate}",
                hint="Wait, or raise [signals] per_minute in maf.toml.",
            )


def _alert(ctx: Context, storm: Storm) -> None:
    """One alert a minute for an agent in a storm, in the audit log and to the PM."""

    def work(tx: Tx) -> None:
        since = after(tx.now, -60)
        if tx.one("activity.recent_alert", agent_id=ctx.agent, activity_type=STORM, since=since) is None:
            tx.activity(ctx.agent, STORM, reason=storm.message)
            emit(
                tx, lc.SignalType.HELP_NEEDED, lc.TOOL, f"role:{lc.Role.PM}",
                {"story_id": None, "question": f"{ctx.agent} sends too much: {storm.message}"},
            )  # fmt: skip

    try:
        ctx.store.write(work)
    except MafError:  # pragma: no cover - the refusal itself matters more than its alert
        return


def _unblock(tx: Tx, agent: str) -> None:
    session = tx.one("session.get", agent_id=agent)
    if session and session["status"] == lc.SessionStatus.BLOCKED:
        save_session(tx, session, status=lc.SESSION_ACTIONS["unblock"].to)


@use_case("signal.inbox", scope=SHARED)
def inbox(act: Act, *, size: int = 100) -> dict[str, list[Row]]:
    """What is pending for the acting agent, and what it has acknowledged but not finished; nothing is taken."""
    if act.session is None:
        raise InvalidInput("an inbox is an agent's", hint="Say whose: --agent ID, or set MAF_AGENT.")
    tx = act.tx
    pending = tx.all(
        "delivery.inbox",
        now=tx.now,
        addressees=as_list(inbox_of(act.session), tx.engine.name),
        size=max(1, min(size, 1000)),
    )
    new = [row["delivery_id"] for row in pending if row["delivered_at"] is None]
    if new:
        tx.mark("delivery.seen", ids=as_list(new, tx.engine.name), now=tx.now)
    return {"pending": pending, "taken": tx.all("delivery.taken", agent_id=act.agent, size=size)}


def _locked(tx: Tx, signal: str) -> Row:
    found = tx.one("signal.lock", id=signal) if ids.is_id(signal) else None
    if found is None:
        raise NotFound(f"there is no signal {signal[:60]!r}", hint="See `maf signal inbox`.")
    if found["expires_at"] is not None and found["expires_at"] <= tx.now:
        # The next exclusive transaction marks it so; until then it is not to be taken either.
        raise WrongState("the signal is expired", hint="See what is left: maf signal inbox")
    return found


@use_case("signal.ack", scope=SHARED)
def acknowledge(act: Act, signal: str) -> Row:
    """Take a signal: exactly one agent wins a role's. LostRace: another has it; repeating one's own is no error."""
    return _acknowledge(act, signal)


def _acknowledge(act: Act, signal: str) -> Row:
    if act.session is None:
        raise InvalidInput("a signal is taken by an agent", hint="Say who: --agent ID, or set MAF_AGENT.")
    tx = act.tx
    locked = _locked(tx, signal)
    mine = inbox_of(act.session)
    deliveries = [d for d in tx.all("delivery.of_signal", signal_id=signal) if d["addressee"] in mine]
    if not deliveries:
        raise Refused(f"the signal is not addressed to {act.agent}", hint="See yours: maf signal inbox")
    if not any(d["status"] == lc.SignalStatus.PENDING for d in deliveries):
        taken = deliveries[0]
        if taken["taken_by"] == act.agent and taken["status"] == lc.SignalStatus.ACKNOWLEDGED:
            return taken
        if taken["taken_by"] not in (None, act.agent):
            raise LostRace(f"{taken['taken_by']} has taken this signal", hint="See what is left: maf signal inbox")
        raise WrongState(f"the signal is {taken['status']}", hint="See what is left: maf signal inbox")
    tx.activity(act.agent, "signal.ack", locked["story_id"], type=locked["signal_type"])
    taken = tx.swap(
        "delivery.acknowledge", signal_id=signal, agent_id=act.agent, now=tx.now,
        addressees=as_list(mine, tx.engine.name),
    )  # fmt: skip
    show_state(tx, signal)
    return {**deliveries[0], **taken}


@use_case("signal.done", scope=SHARED)
def done(act: Act, signal: str) -> Row:
    """Mark a signal as processed, acknowledging it first where that is still open; set exactly once."""
    taken = _acknowledge(act, signal) if not _is_mine(act, signal) else {}
    tx = act.tx
    locked = _locked(tx, signal)
    tx.activity(act.agent, "signal.done", locked["story_id"], type=locked["signal_type"])
    processed = tx.swap("delivery.process", signal_id=signal, agent_id=act.agent, now=tx.now)
    show_state(tx, signal)
    if locked["signal_type"] == lc.SignalType.BLOCKED:
        _unblock(tx, locked["from_agent"])
    return {**taken, **processed}


def _is_mine(act: Act, signal: str) -> bool:
    _locked(act.tx, signal)
    return any(
        d["taken_by"] == act.agent and d["status"] == lc.SignalStatus.ACKNOWLEDGED
        for d in act.tx.all("delivery.of_signal", signal_id=signal)
    )


def show(ctx: Context, signal: str) -> dict[str, Any]:
    """A signal with its deliveries."""
    with ctx.store.read() as reader:
        found = reader.one("signal.get", id=signal) if ids.is_id(signal) else None
        if found is None:
            raise NotFound(f"there is no signal {signal[:60]!r}", hint="See `maf signal inbox`.")
        return {**found, "deliveries": reader.all("delivery.of_signal", signal_id=signal)}
