"""Celery workers of an installation, each a process of its own: started, asked to end, killed."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any

from tests.faults.installation import ROOT, Installation


def work(site: Installation, queues: str) -> subprocess.Popen[bytes]:
    """``manage.py work`` for some queues."""
    command = [sys.executable, str(ROOT / "manage.py"), "work", "--queues", queues, "--concurrency", "1"]
    return subprocess.Popen(command, env=site.environment, cwd=ROOT, stdout=site.log, stderr=site.log)


@contextmanager
def ended(*workers: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever happens, no worker outlives the test."""
    try:
        yield
    finally:
        for worker in workers:
            worker.kill()
            worker.wait(30)


def asked_to_end(worker: subprocess.Popen[bytes], seconds: float = 60) -> int:
    """SIGTERM, and the exit status."""
    worker.send_signal(signal.SIGTERM)
    return worker.wait(seconds)


def told(site: Installation, query: str) -> list[tuple[Any, ...]]:
    """Rows of the installation's SQLite database, read without starting a process."""
    path = f"file:{site.environment['TOUCHSTONE_DATA']}/touchstone.sqlite3?mode=ro"
    with closing(sqlite3.connect(path, uri=True, timeout=30)) as database:
        return database.execute(query).fetchall()


def number(site: Installation, query: str) -> int:
    """A count."""
    return int(told(site, query)[0][0])


def until(what: Callable[[], bool], seconds: float, why: str) -> None:
    """Wait for something to come true."""
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, why
        time.sleep(0.2)
