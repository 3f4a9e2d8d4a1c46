"""kill -9 of the worker, of the web server, of both, while annotators answer: nothing lost, nothing doubled."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path

import pytest

from tests.faults.installation import Annotator, Installation, installation

pytestmark = pytest.mark.slow

COUNTS = """
import json
from annotate.models import Judgment
rows = Judgment.objects.filter(replaced_at=None)
steps = list(rows.exclude(absorbed_step=None).values_list("absorbed_step", flat=True))
print(json.dumps({"leases": [str(pk) for pk in rows.values_list("lease", flat=True)],
                  "waiting": rows.filter(absorbed_step=None).count(), "steps": len(steps), "unique": len(set(steps))}))
"""


def counts(site: Installation) -> dict[str, object]:
    return dict(json.loads(site.python(COUNTS).strip().splitlines()[-1]))


def wait_until_absorbed(site: Installation, seconds: float = 60) -> dict[str, object]:
    deadline = time.monotonic() + seconds
    while (found := counts(site))["waiting"]:
        assert time.monotonic() < deadline, f"still waiting: {found['waiting']}"
        time.sleep(1)
    return found


def collect(people: list[Annotator], until: int, seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while sum(len(person.acknowledged) for person in people) < until:
        assert time.monotonic() < deadline, [(len(p.acknowledged), p.errors[-3:]) for p in people]
        time.sleep(0.05)


def test_killing_worker_and_web_server_loses_and_doubles_nothing(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site:
        sessions = site.seed(people=4)
        site.start()
        stop = threading.Event()
        people = [Annotator(site, session, stop) for session in sessions]
        for person in people:
            person.start()
        for already, parts in ((40, ["work"]), (80, ["serve"]), (120, ["work", "serve"]), (160, ["work"])):
            collect(people, already)
            for part in parts:
                site.kill(part)
        collect(people, 200)
        stop.set()
        for person in people:
            person.join(30)
        found = wait_until_absorbed(site)
        acknowledged = [lease for person in people for lease in person.acknowledged]
        assert len(acknowledged) >= 200
        assert len(set(acknowledged)) == len(acknowledged)
        assert set(acknowledged) <= set(found["leases"])  # type: ignore[call-overload]
        assert found["steps"] == found["unique"] == len(found["leases"])  # type: ignore[arg-type]
        replayed = site.manage("replay", "faults")
        assert replayed.returncode == 0, replayed.stdout + replayed.stderr
        assert "all the same bits" in replayed.stdout


def test_the_children_end_with_a_killed_parent(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site:
        site.start()
        assert site.process is not None
        site.process.kill()
        site.process.wait(10)
        deadline = time.monotonic() + 60  # each ends within its grace of ten seconds, on a busy machine later
        while left := site.processes("serve") + site.processes("work"):
            assert time.monotonic() < deadline, f"processes outlived their parent: {left}"
            time.sleep(0.2)
