"""One process at a time per project: a lock that ends with its holder, whatever kills it."""

from __future__ import annotations

import fcntl
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from django.conf import settings
from django.db import DatabaseError, connection


@contextmanager
def exclusive(what: str, project_id: int) -> Iterator[bool]:
    """Whether this thread holds the lock while inside; it never waits for another holder.

    PostgreSQL: an advisory lock of the session, so it works across machines. SQLite: a file lock. Both are
    released by the system when the process dies. The estimator rows' steps are checked in the same transaction
    that writes them, so this lock saves work; it is not what makes absorbing exact.
    """
    if connection.vendor == "postgresql":
        yield from _advisory(zlib.crc32(what.encode()) % 2**31, project_id)
    else:
        yield from _file_lock(Path(settings.DATA) / "locks" / f"{what}-{project_id}.lock")


def _advisory(key: int, project_id: int) -> Iterator[bool]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s, %s)", [key, project_id])
        held = bool(cursor.fetchone()[0])
    try:
        yield held
    finally:
        if held:
            with suppress(DatabaseError), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s, %s)", [key, project_id])


def _file_lock(path: Path) -> Iterator[bool]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
