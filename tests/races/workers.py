"""What the processes of the race tests do. Each opens a store of its own and reports through a queue or a pipe."""

from __future__ import annotations

import os
import time
import traceback
from contextlib import contextmanager

from orchestrator.domain import moments
from orchestrator.domain.errors import LostRace, NotFound, Refused, SessionEnded
from orchestrator.service import context, reviews, sessions, signals, stories
from orchestrator.store import open_store

RAN = {"command": ["true"], "exit_code": 0}
PATIENCE = 300  # seconds at a barrier: a worker that died must not leave the others waiting for ever


def running(url, barrier, out, work, *args):
    """Run ``work(ctx, meet, …)``; its result, or the traceback of what it must not raise, goes into ``out``."""
    try:
        with open_store(url) as store:
            result = work(context.Context(store), lambda: barrier.wait(PATIENCE), *args)
        out.put(("done", args[0], result))
    except BaseException:  # noqa: BLE001 - whatever it is, the test has to hear of it
        barrier.abort()
        out.put(("died", args[0], traceback.format_exc()))


@contextmanager
def losing():
    """A race may be lost in the ways that the workflow names; anything else is an error."""
    try:
        yield
    except (LostRace, NotFound, Refused):
        pass


def claim(ctx, meet, number, rounds):
    """One ready story a round, and everybody asks for the next: the rounds that this process won."""
    won = []
    for turn in range(rounds):
        if number == 0:
            stories.approve(ctx.acting("cto"), f"S-{turn}")
        meet()
        try:
            taken = stories.next_story(ctx.acting(f"dev-{number}"))
            won.append((turn, taken["story_code"], taken["token"]))
        except NotFound:
            pass
        meet()
        if won and won[-1][0] == turn:
            stories.fail(ctx.acting("maf"), won[-1][1], reason="the round is over")
        meet()
    return won


def assign(ctx, meet, number, rounds):
    """One ready story a round, and eight PMs give it to eight devs: the rounds that this process won."""
    won = []
    for turn in range(rounds):
        meet()
        with losing():
            taken = stories.assign(ctx.acting("pm"), f"S-{turn}", f"dev-{number}")
            won.append((turn, taken["story_code"], taken["token"]))
        meet()
        if won and won[-1][0] == turn:
            stories.fail(ctx.acting("maf"), won[-1][1], reason="the round is over")
    return won


def acknowledge(ctx, meet, number, ids):
    """One signal to role:pm a round, and every PM takes it."""
    won = []
    for turn, signal in enumerate(ids):
        meet()
        with losing():
            signals.acknowledge(ctx.acting(f"pm-{number}"), signal)
            won.append(turn)
    return won


def merge(ctx, meet, number, rounds):
    """The last two stories of a wave a round; half of the processes merge the one, half the other."""
    won = []
    for turn in range(rounds):
        meet()
        with losing():
            merged = reviews.merge(
                ctx.acting("cto"), f"S-{turn}-{number % 2}", merge_commit=f"{number:040x}", evidence=RAN
            )
            won.append((turn, merged["story_code"]))
    return won


def contend(ctx, meet, number):
    """Claim whatever is ready until nothing is: the claims of this process."""
    dev, won = ctx.acting(f"dev-{number}"), []
    meet()
    while True:
        try:
            taken = stories.next_story(dev)
        except NotFound:
            return won
        won.append((taken["story_code"], taken["token"]))
        stories.fail(ctx.acting("maf"), taken["story_code"], reason="taken")


def write_until_killed(url, number, pipe):
    """Write for ever; the id of each write goes down the pipe once the use case has returned, not before."""

    def acknowledged(kind, name):
        pipe.send((kind, name))

    with open_store(url) as store:
        ctx = context.Context(store)
        agent = f"w-{number}-{os.getpid()}"
        sessions.register(ctx, agent, "dev")
        acknowledged("agent", agent)
        me, turn = ctx.acting(agent), 0
        while True:
            turn += 1
            code = f"K-{os.getpid()}-{turn}"
            stories.add(ctx, code, "W", title=code, domain="core", criteria=["it works"])
            acknowledged("story", code)
            sent = signals.send(me, "help_needed", {"question": "?"}, to="role:pm")
            acknowledged("signal", sent["id"])
            stories.approve(ctx.acting("cto"), code)
            taken = stories.assign(ctx.acting("pm"), code, agent)
            acknowledged("token", f"{code}:{taken['token']}")
            stories.start(me, code, branch=f"feature/{code}", base="0" * 40)
            acknowledged("gate", f"{code}:1")
            stories.advance(me, code, gate=1, evidence=RAN)
            acknowledged("gate", f"{code}:2")
            stories.fail(ctx.acting("maf"), code, reason="next")
            acknowledged("failed", code)


def with_wrong_clock(url, offset, agent, ttl, ready, stop, out):
    """Register, heartbeat and write, which sweeps, until told to stop, by a clock ``offset`` seconds off."""
    right = moments.system_now
    moments.system_now = lambda: moments.after(right(), offset)
    time.time = lambda real=time.time: real() + offset
    lost, written = [], 0
    with open_store(url) as store:
        ctx = context.Context(store)
        sessions.register(ctx, agent, "dev", ttl=ttl)
        while not stop.is_set():
            try:
                sessions.heartbeat(ctx.acting(agent))
            except SessionEnded as error:
                lost.append(error.message)
                break
            written += 1
            stories.add(ctx, f"{agent}-{written}", "W", title="only to write", domain="core")
            ready.release()
            time.sleep(0.1)
    out.put((agent, lost))
