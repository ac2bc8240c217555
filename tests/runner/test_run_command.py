"""``maf run`` as it shows itself: lines in a pipe, JSON for programs, a live view in a terminal, and Ctrl-C."""

import json
import re
import signal
import subprocess
import time

import pytest

from orchestrator.bootstrap.context import Desk, Given
from orchestrator.bootstrap.init import init
from orchestrator.service import stories, waves
from tests.support.terminal import MAF, Terminal, in_terminal, leftovers, piped

WRITES = 'echo {story} > {story}.txt; git add . && git commit -qm "Write {story}"'
LINE = re.compile(r"\d\d:\d\d:\d\d  (S-\d|   )        ?\S.*")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
HIDE, SHOW, UP = "\x1b[?25l", "\x1b[?25h", "\x1b[1A"


@pytest.fixture
def project(tmp_path, sqlite_url):
    return lambda script=WRITES, **more: make(tmp_path / "repo", sqlite_url, script, **more)


def make(root, url, script, *, count=2, attempts=2, title="Write a file"):
    root.mkdir()
    subprocess.run(["git", "init", "-q", "-b", "main"], cwd=root, check=True)
    (root / "maf.toml").write_text(
        f"[store]\nurl = {json.dumps(url)}\n"
        '[checks]\ncommands = [["true"]]\n'
        f'[[agents]]\nid = "dev"\ncommand = ["sh", "-c", {json.dumps(script)}]\nprompt = "none"\nsubmits = false\n'
        f"[run]\nagents = 2\nmax_attempts = {attempts}\nbackoff = 0.05\n"
    )
    subprocess.run(["git", "add", "."], cwd=root, check=True)
    subprocess.run(["git", "commit", "-qm", "First"], cwd=root, check=True)
    with Desk(Given(), start=root, environment={}) as desk:
        init(desk.location, start=root)
        waves.add(desk.ctx, "W1", name="Only")
        for number in range(1, count + 1):
            stories.add(desk.ctx, f"S-{number}", "W1", title=title, domain="core", criteria=["it is there"])
    return root


def story(root, code):
    with Desk(Given(), start=root, environment={}) as desk:
        return stories.show(desk.ctx, code)


# --- in a pipe ---------------------------------------------------------------------------------------------------


def test_a_pipe_gets_a_line_for_each_event(project):
    done = piped([MAF, "run"], cwd=project())
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    for code in ("S-1", "S-2"):
        said = "\n".join(line for line in lines if f"  {code}  " in line)
        for word in ("works on", "submitted", "passed QA", "is merged as"):
            assert word in said
    assert lines[-1].endswith("1 of 1 wave completed")


def test_json_is_one_object_a_line(project):
    root = project()
    done = piped([MAF, "run", "--json"], cwd=root)
    assert (done.returncode, done.stderr) == (0, "")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert all({"event", "text", "at"} <= set(event) for event in events)
    assert sorted(e["story"] for e in events if e["event"] == "merged") == ["S-1", "S-2"]
    assert (events[0]["event"], events[-1]["event"]) == ("wave", "finished")
    assert [e["at"] for e in events] == sorted(e["at"] for e in events)


def test_quiet_says_only_how_it_ended(project):
    done = piped([MAF, "run", "-q"], cwd=project())
    assert done.returncode == 0
    assert [line.split("  ")[-1].strip() for line in done.stdout.splitlines()] == ["1 of 1 wave completed"]


def test_a_failed_story_is_exit_code_1_and_says_why(project):
    root = project("echo no key; exit 3", count=1, attempts=1)
    done = piped([MAF, "run"], cwd=root)
    assert done.returncode == 1
    assert "it exited with 3; it last said: no key" in done.stdout
    assert "failed: W1" in done.stdout.splitlines()[-1]
    assert story(root, "S-1")["status"] == "failed"


def test_until_idle_ends_where_a_person_is_waited_for(project):
    root = project()
    with (root / "maf.toml").open("a") as file:
        file.write('[roles.cto]\nmode = "human"\n')
    done = piped([MAF, "run", "--until", "idle"], cwd=root)
    assert done.returncode == 0
    assert "S-1 waits for `maf story approve S-1`" in done.stdout
    assert story(root, "S-1")["status"] == "backlog"


def test_agents_bounds_how_many_work_at_once(project):
    # Each counts the agents that are at work with it; a second one would be seen.
    crowd = "echo x > ../$$.here; ls ../*.here | wc -l > {story}.txt; sleep 0.5; rm ../$$.here"
    root = project(f"{crowd}; git add . && git commit -qm w", count=3)
    done = piped([MAF, "run", "--agents", "1"], cwd=root)
    assert done.returncode == 0, done.stdout
    assert [(root / f"S-{n}.txt").read_text().strip() for n in (1, 2, 3)] == ["1", "1", "1"]


def test_no_project_is_said_so(tmp_path):
    done = piped([MAF, "run"], cwd=tmp_path)
    assert done.returncode == 5
    assert "maf init" in done.stderr


# --- in a terminal -----------------------------------------------------------------------------------------------


def test_a_terminal_gets_a_live_view(tmp_path, store_url):
    root = make(tmp_path / "repo", store_url, f"sleep 1; {WRITES}")
    began = time.monotonic()
    code, output = in_terminal([MAF, "run"], cwd=root)
    took = time.monotonic() - began
    assert code == 0, output
    assert (output.count(HIDE), output.count(SHOW)) == (1, 1)
    assert output.index(HIDE) < output.index(SHOW)
    assert UP in output
    plain = ESCAPE.sub("", output)
    for shown in ("gate 1 planning", "dev-1", "Write a file", "0/2", "S-1 is merged as", "1 of 1 wave completed"):
        assert shown in plain
    last = plain.rpartition("─" * 10)[2]
    assert "2/2" in last
    assert "completed" in last
    assert "gate" not in last
    # Each picture starts with its rule; there are at most four a second.
    assert plain.count("─ ") + plain.count("─\r") <= 4 * took + 3


def test_a_live_view_draws_nothing_while_nothing_happens(project):
    root = project("sleep 4; exit 1", count=1, attempts=1)
    with Terminal([MAF, "run"], cwd=root) as terminal:
        terminal.wait_for("gate 1 planning")
        time.sleep(1.0)  # what belongs to the start is drawn by now
        drawn = len(terminal.drain())
        time.sleep(2.0)
        assert len(terminal.drain()) == drawn
        assert terminal.finish() == 1


@pytest.mark.parametrize("environment", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_a_terminal_that_is_to_stay_plain_gets_lines(project, environment):
    code, output = in_terminal([MAF, "run"], cwd=project(count=1), **environment)
    assert code == 0
    assert ESCAPE.search(output) is None
    assert [line for line in output.splitlines() if not LINE.fullmatch(line)] == []


def test_a_title_cannot_style_the_terminal(project):
    code, output = in_terminal([MAF, "run"], cwd=project(f"sleep 1; {WRITES}", count=1, title="x[red]y :smile: z"))
    assert code == 0
    assert "x[red]y :smile: z" in output


def test_what_an_agent_said_cannot_drive_the_terminal(project):
    root = project(r"printf 'a\033[2Jb\342\200\256c\n'; exit 1", count=1, attempts=1)
    code, output = in_terminal([MAF, "run"], cwd=root)
    assert code == 1
    assert r"it last said: a\x1b[2Jb\u202ec" in output


# --- Ctrl-C ------------------------------------------------------------------------------------------------------


def test_ctrl_c_ends_in_good_order(project):
    root = project("echo half > half.txt; sleep 60", count=1)
    with Terminal([MAF, "run"], cwd=root) as terminal:
        terminal.wait_for("gate 1 planning")
        until = time.monotonic() + 20
        while not (root / ".maf/worktrees/S-1/half.txt").exists() and time.monotonic() < until:
            time.sleep(0.05)
        terminal.type("\x03")
        assert terminal.finish() == 1
        told = terminal.output.index("ending: agents get a few seconds; Ctrl-C again ends at once")
        assert told < terminal.output.index("ended by SIGINT")
        assert SHOW in terminal.output
    assert story(root, "S-1")["status"] == "ready"
    assert leftovers(root) == []
    kept = subprocess.run(
        ["git", "for-each-ref", "--format=%(refname)", "refs/maf"], cwd=root, capture_output=True, text=True, check=True
    ).stdout.split()
    assert any("half" in subprocess.run(["git", "ls-tree", "-r", ref], cwd=root, capture_output=True, text=True).stdout
               for ref in kept)  # fmt: skip


def test_a_second_ctrl_c_ends_at_once(project):
    root = project("trap '' TERM INT; sleep 60 & wait; sleep 60", count=1)
    with Terminal([MAF, "run"], cwd=root) as terminal:
        terminal.wait_for("gate 1 planning")
        time.sleep(1.0)
        terminal.type("\x03")
        terminal.wait_for("Ctrl-C again ends at once")
        assert terminal.process.poll() is None  # it gives the agent time
        terminal.type("\x03")
        began = time.monotonic()
        assert terminal.finish() == 130
        assert time.monotonic() - began < 4
    assert leftovers(root, patience=15) == []


def test_sigterm_ends_in_good_order_too(project):
    root = project("sleep 60", count=1)
    with Terminal([MAF, "run"], cwd=root, NO_COLOR="1") as terminal:
        terminal.wait_for("works on S-1")
        terminal.process.send_signal(signal.SIGTERM)
        assert terminal.finish() == 1
        assert "ended by SIGTERM" in terminal.output
    assert leftovers(root) == []
