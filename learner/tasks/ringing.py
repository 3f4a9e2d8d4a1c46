"""Bells that a worker rings for itself a little later: one timer a project, for whoever asks to be rung first."""

from __future__ import annotations

import threading
import time

from annotate.celery import ring

_due: dict[int, tuple[float, threading.Timer]] = {}
_lock = threading.Lock()


def ring_later(project_id: int, seconds: float) -> None:
    """Ring for the project once more, unless that will be done by then anyway.

    By a timer of this process: one that dies with it costs nothing, since the sweep finds the rows.
    """
    at = time.monotonic() + seconds
    with _lock:
        due, timer = _due.get(project_id, (float("inf"), None))
        if time.monotonic() < due <= at:
            return
        if timer is not None:
            timer.cancel()
        timer = threading.Timer(seconds, ring, ("absorb", project_id))
        timer.daemon = True
        _due[project_id] = at, timer
    timer.start()
