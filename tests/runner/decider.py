"""An agent of the role pm, qa or cto for the tests: reads what it is asked, decides with the library as who it is."""

import os
import re
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from orchestrator.domain.settings import Checks, Settings
from orchestrator.gates import integration, qa
from orchestrator.gates.project import Project
from orchestrator.git import Repository
from orchestrator.service import reviews, stories
from orchestrator.service.context import Context
from orchestrator.store import open_store

prompt = sys.stdin.read()
what, code = re.search(r"Decide now: (\w+) ([\w-]+)", prompt).groups()
main = subprocess.run(
    ["git", "rev-parse", "--path-format=absolute", "--git-common-dir"], capture_output=True, text=True, check=True
).stdout
ctx = Context(open_store(os.environ["MAF_DB"]), agent=os.environ["MAF_AGENT"], epoch=int(os.environ["MAF_SESSION"]))
project = Project(Repository.open(Path(main.strip()).parent), Settings(checks=Checks(commands=(("true",),))), ctx)
if what == "approve":
    stories.approve(ctx, code)
elif what == "assign":
    stories.assign(ctx, code, re.search(r"--to ([\w-]+)", prompt)[1])
elif what == "judge":
    qa.qa_pass(project, code)
elif what == "review":
    reviews.accept(ctx, code)
elif what == "merge":
    integration.merge(project, code)
