"""The SQLite backend: writers take turns, and a commit returns when it is on the disk."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from django.db import connections

from annotate.sqlite.base import DatabaseWrapper

pytestmark = pytest.mark.django_db


@pytest.fixture
def connection(tmp_path: Path) -> DatabaseWrapper:
    """A connection of its own to a new file, with the site's settings."""
    settings = connections.databases["default"] | {"NAME": str(tmp_path / "a.sqlite3"), "CONN_MAX_AGE": None}
    settings["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL;",
    }
    return DatabaseWrapper(settings, alias="a")


def test_the_log_is_on_the_disk_before_a_commit_returns_and_after_the_turn_was_given(
    connection: DatabaseWrapper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE answers (value INTEGER)")
    synced: list[tuple[int, bool]] = []
    really = os.fdatasync

    def watched(file: int) -> None:
        really(file)
        synced.append((os.fstat(file).st_ino, connection._turn is None))

    monkeypatch.setattr(os, "fdatasync", watched)
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO answers VALUES (1)")
    assert connection._turn is not None and not synced
    connection.commit()
    assert synced == [((tmp_path / "a.sqlite3-wal").stat().st_ino, True)]
    connection.close()


def test_a_second_writer_waits_for_its_turn_and_not_for_the_timeout(connection: DatabaseWrapper) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE answers (value INTEGER)")
    connection.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
    passed = threading.Event()

    def second() -> None:
        other = DatabaseWrapper(connection.settings_dict, alias="a")
        other.set_autocommit(False, force_begin_transaction_with_broken_autocommit=True)
        passed.set()
        other.rollback()
        other.close()

    thread = threading.Thread(target=second)
    thread.start()
    assert not passed.wait(0.3)
    connection.rollback()
    assert passed.wait(20)
    thread.join(5)
    connection.close()
