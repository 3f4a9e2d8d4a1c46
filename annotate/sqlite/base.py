"""SQLite, where whoever will write waits for a turn in the kernel, and for the disk only after the turn.

SQLite itself asks again and again whether the lock is free, at longer and longer intervals, so that with a dozen
writers some wait for seconds while others pass. A lock on a file beside the database wakes those who wait at the
moment when it is given back. It is a courtesy: what excludes two writers is still SQLite's own lock.

A commit returns when its part of the write-ahead log is on the disk, as with ``synchronous=FULL``; but that is
waited for when the next writer is already at work (``NORMAL`` appends without waiting). Whatever empties the log
into the database file meanwhile has first brought it to the disk.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from django.db.backends.sqlite3 import base


class DatabaseWrapper(base.DatabaseWrapper):
    """A connection whose transactions (all of them IMMEDIATE) take turns across threads and processes."""

    _turn: int | None = None

    def _start_transaction_under_autocommit(self) -> None:
        self._take_turn()
        try:
            super()._start_transaction_under_autocommit()  # type: ignore[misc]
        except BaseException:
            self._give_turn()
            raise

    def _commit(self) -> Any:
        wrote = self._turn is not None
        result = super()._commit()  # type: ignore[misc]
        self._give_turn()
        if wrote:
            self._wait_for_the_disk()
        return result

    def _rollback(self) -> Any:
        try:
            return super()._rollback()  # type: ignore[misc]
        finally:
            self._give_turn()

    def _close(self) -> Any:
        try:
            return super()._close()  # type: ignore[misc]
        finally:
            self._give_turn()

    def _take_turn(self) -> None:
        if self._turn is None and not self.is_in_memory_db():
            path = Path(f"{self.settings_dict['NAME']}-turn")
            self._turn = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._turn, fcntl.LOCK_EX)

    def _wait_for_the_disk(self) -> None:
        with suppress(FileNotFoundError):  # no log: the last commit of all emptied it
            log = os.open(f"{self.settings_dict['NAME']}-wal", os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fdatasync(log)
            finally:
                os.close(log)

    def _give_turn(self) -> None:
        if self._turn is not None:
            os.close(self._turn)
            self._turn = None
