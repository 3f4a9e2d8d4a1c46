"""What the site stands on goes away while annotators answer: nothing lost, nothing doubled, back without a hand."""

from __future__ import annotations

import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults.installation import Annotator, Installation, installation
from tests.faults.servers import Wire, postgres, postgres_folder, redis
from tests.faults.test_kill import collect, wait_until_absorbed
from tests.faults.workers import ended, until, work

pytestmark = pytest.mark.slow

needs_redis = pytest.mark.skipif(not shutil.which("redis-server"), reason="redis-server is not installed")
needs_postgres = pytest.mark.skipif(postgres_folder() is None, reason="PostgreSQL's server is not installed")


@contextmanager
def at_work(site: Installation, people: int = 3, pause: float = 0.02) -> Iterator[list[Annotator]]:
    """Annotators on the running site; at the end, everything that must hold after any fault."""
    sessions = site.seed(people)
    site.start()
    stop = threading.Event()
    working = [Annotator(site, session, stop, pause) for session in sessions]
    for person in working:
        person.start()
    try:
        yield working
    finally:
        stop.set()
        for person in working:
            person.join(30)
    check(site, working)


def check(site: Installation, people: list[Annotator]) -> None:
    """No acknowledged judgment lost or absorbed twice, and the replayed bits are those that are stored."""
    found = wait_until_absorbed(site)
    acknowledged = [lease for person in people for lease in person.acknowledged]
    assert len(set(acknowledged)) == len(acknowledged)
    assert set(acknowledged) <= set(found["leases"])  # type: ignore[call-overload]
    assert found["steps"] == found["unique"] == len(found["leases"])  # type: ignore[arg-type]
    replayed = site.manage("replay", "faults")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "all the same bits" in replayed.stdout


@needs_redis
def test_redis_killed_with_its_data_lost_costs_nothing(tmp_path: Path) -> None:
    with (
        redis() as broker,
        installation(tmp_path / "data", CELERY_BROKER_URL=broker.url, REDIS_URL=broker.url) as site,
        at_work(site) as people,
    ):
        collect(people, 30)
        broker.kill()
        collect(people, 60)  # answers wait neither for a broker nor for a cache that is away
        broker.start()
        collect(people, 90)
        assert [error for person in people for error in person.errors] == []


@needs_redis
def test_a_cut_wire_to_the_broker_heals_by_itself(tmp_path: Path) -> None:
    with redis() as broker:
        wire = Wire(broker.port)
        url = f"redis://127.0.0.1:{wire.port}/0"
        with installation(tmp_path / "data", CELERY_BROKER_URL=url) as site, at_work(site) as people:
            for already in (30, 60):
                collect(people, already)
                wire.cut()
                collect(people, already + 15)
                wire.mend()
            collect(people, 90)


@needs_postgres
def test_postgresql_crashing_and_coming_back_loses_no_acknowledged_judgment(tmp_path: Path) -> None:
    programs = postgres_folder()
    assert programs is not None
    with (
        postgres(programs) as database,
        installation(tmp_path / "data", DATABASE_URL=database.url) as site,
        at_work(site) as people,
    ):
        for already in (30, 60):
            collect(people, already)
            database.stop("immediate")
            database.start()
        collect(people, 90)


FOLDER = """
from pathlib import Path
from django.conf import settings
from annotate.models import FeatureVersion
print(Path(settings.DATA) / FeatureVersion.objects.get(state="live").folder / "states")
"""


def test_a_full_disk_stops_checkpoints_and_nothing_else(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site, at_work(site, pause=0.15) as people:
        collect(people, 20)
        with full_disk(Path(site.python(FOLDER).strip())):
            collect(people, len_of(people) + 100)
            until(lambda: "No space left" in (tmp_path / "data.log").read_text(), 60, "no checkpoint was due")
        collect(people, len_of(people) + 20)


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """A file system of four pages in the place of the folder, so that the system itself says that it is full."""
    folder.mkdir(parents=True, exist_ok=True)
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=16k", "full", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("only root may mount a small file system here")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def len_of(people: list[Annotator]) -> int:
    return sum(len(person.acknowledged) for person in people)


STEP = """
from datetime import timedelta
from django.db.models import F
from annotate.models import Heartbeat, Judgment, Lease
step = timedelta(seconds={seconds})
Judgment.objects.update(created_at=F("created_at") + step, absorbed_at=F("absorbed_at") + step)
Lease.objects.filter(outcome="open").update(created_at=F("created_at") + step)
Heartbeat.objects.update(seen_at=F("seen_at") + step, swept_at=F("swept_at") + step)
"""


def test_a_clock_that_steps_changes_no_order_and_stops_nothing(tmp_path: Path) -> None:
    """Rows of the time before a step: from the future when it goes back, long ago when it goes forward."""
    with installation(tmp_path / "data") as site, at_work(site) as people:
        for already, hours in ((20, 2), (40, -4)):
            collect(people, already)
            site.python(STEP.format(seconds=3600 * hours))
            site.kill("work")  # the next worker finds its predecessor's heartbeat in the wrong time
        collect(people, 60)


def test_two_learners_on_one_project_give_one_log(tmp_path: Path) -> None:
    with installation(tmp_path / "data") as site, at_work(site) as people:
        second = work(site, "learn")
        with ended(second):
            collect(people, 80)
