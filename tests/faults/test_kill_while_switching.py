"""kill -9 while a version is built and while it is switched to: the live one stays, the job goes on, the bits agree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.installation import Installation, installation

pytestmark = pytest.mark.slow

BEGIN = """
from annotate import versions
from annotate.models import Project, User
from learner.tasks.embedding import embed_missing
from tests.learn import answer_many
project = Project.objects.get(slug="faults")
embed_missing(project.pk)
answer_many(project, User.objects.get(username="annotator-0"), 30)
versions.make(project, None, "hashing", {"dimensions": 6, "columns": False}, "new")
"""
RUN = """
import os, signal
from annotate.models import Job
from learner.tasks import building, embedding, switching
from learner.tasks.jobs import run
def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)
def after(whole):
    return lambda *given: (whole(*given), die())
{break_it}
Job.objects.filter(state="running").update(heartbeat_at="2020-01-01T00:00:00Z")
for job in Job.objects.filter(kind="build", state__in=["waiting", "running"]):
    run(job.pk)
"""
SWITCH = """
from annotate import versions
from annotate.models import FeatureVersion, User
versions.switch(FeatureVersion.objects.get(label="new"), User.objects.first())
"""
LOOK = """
import json
from annotate.models import FeatureVersion, Job
rows = sorted(FeatureVersion.objects.values_list("label", "state"))
print(json.dumps([rows, Job.objects.filter(kind="build").count()]))
"""


def run(site: Installation, break_it: str = "") -> int:
    return site.manage("shell", "--no-imports", "-c", RUN.format(break_it=break_it)).returncode


def states(site: Installation) -> dict[str, str]:
    return dict(json.loads(site.python(LOOK).strip().splitlines()[-1])[0])


def test_a_kill_at_any_point_leaves_one_whole_version_live(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site:
        site.seed(people=1, prompts=12)
        site.python(BEGIN)
        for point in ("embedding.fitted_pipeline = die", "building.move = after(building.move)"):
            assert run(site, point) == -9
            assert states(site) == {"": "live", "new": "building"}
        assert run(site) == 0
        assert states(site) == {"": "live", "new": "ready"}
        site.python(SWITCH)
        for point in ("switching.make_live = after(switching.make_live)", "switching.store = die"):
            assert run(site, point) == -9
            assert states(site) == {"": "live", "new": "ready"}
        assert run(site, "switching.refill = die") == -9
        assert states(site) == {"": "retired", "new": "live"}
        assert run(site) == 0
        replayed = site.manage("replay", "faults")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert "all the same bits" in replayed.stdout
