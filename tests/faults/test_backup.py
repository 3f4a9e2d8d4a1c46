"""A backup made while people answer, restored where nothing was: every answer is there, and the replay is the same."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from tests.faults.installation import Annotator, Installation, installation
from tests.faults.servers import Postgres, postgres, postgres_folder
from tests.faults.test_kill import collect, counts, wait_until_absorbed
from tests.faults.test_outages import at_work, needs_postgres

pytestmark = pytest.mark.slow


@contextmanager
def restored(data: Path, **environment: str) -> Iterator[Installation]:
    site = Installation(data, **environment)
    try:
        yield site
    finally:
        site.stop()


def acknowledged(people: list[Annotator]) -> set[str]:
    return {lease for person in people for lease in person.acknowledged}


def check(site: Installation, people: list[Annotator], before: set[str]) -> None:
    """Everything that was acknowledged before the backup began, to the same bits; and the same people go on."""
    assert before <= set(counts(site)["leases"])  # type: ignore[call-overload]
    assert_replays(site)
    site.start()
    stop = threading.Event()
    again = [Annotator(site, "", stop) for _ in people]
    for person, was in zip(again, people, strict=True):
        person.cookies = was.cookies
        person.start()
    collect(again, 10)
    stop.set()
    for person in again:
        person.join(30)
    assert before | acknowledged(again) <= set(wait_until_absorbed(site)["leases"])  # type: ignore[call-overload]
    assert_replays(site)


def assert_replays(site: Installation) -> None:
    replayed = site.manage("replay", "faults")
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr
    assert "all the same bits" in replayed.stdout


def copy_sqlite(source: Path, target: Path) -> None:
    """``sqlite3 DATABASE ".backup COPY"``."""
    with closing(sqlite3.connect(source)) as live, closing(sqlite3.connect(target)) as copy:
        live.backup(copy)


def leave_out(*names: str) -> Callable[[str, list[str]], list[str]]:
    return lambda _folder, found: [name for name in found if name.startswith(names)]


@pytest.mark.parametrize("files", [True, False])
def test_sqlite(tmp_path: Path, files: bool) -> None:
    """With the files of features and checkpoints beside it; and without, for what can be made again."""
    data, target = tmp_path / "data", tmp_path / "restored"
    with installation(data) as site, at_work(site) as people:
        collect(people, 70)
        before = acknowledged(people)
        target.mkdir()
        copy_sqlite(data / "touchstone.sqlite3", target / "touchstone.sqlite3")
        shutil.copytree(data, target, ignore=leave_out("touchstone.sqlite3", "broker"), dirs_exist_ok=True)
    if not files:
        for folder in target.glob("projects/*/features/*/states"):
            shutil.rmtree(folder)
    with restored(target) as site:
        check(site, people, before)


@needs_postgres
def test_postgresql(tmp_path: Path) -> None:
    """As docs/deployment.md has it: pg_dump and the data folder; createdb, pg_restore, prepare, replay."""
    programs = postgres_folder()
    assert programs is not None
    data, target, dump = tmp_path / "data", tmp_path / "restored", tmp_path / "touchstone.dump"
    with postgres(programs) as database:
        with installation(data, DATABASE_URL=database.url) as site, at_work(site) as people:
            collect(people, 70)
            before = acknowledged(people)
            run(database, "pg_dump", "--format=custom", f"--file={dump}", plain(database.url))
            shutil.copytree(data, target, ignore=leave_out("broker"))
        empty = database.url.removesuffix("/postgres") + "/restored"
        run(database, "psql", "--quiet", "--command=CREATE DATABASE restored", plain(database.url))
        run(database, "pg_restore", "--no-owner", f"--dbname={plain(empty)}", str(dump))
        with restored(target, DATABASE_URL=empty) as site:
            prepared = site.manage("prepare")
            assert prepared.returncode == 0, prepared.stderr
            check(site, people, before)


def plain(url: str) -> str:
    return url.replace("postgres://", "postgresql://")


def run(database: Postgres, program: str, *arguments: str) -> None:
    subprocess.run([str(database.programs / program), *arguments], check=True, timeout=120)
