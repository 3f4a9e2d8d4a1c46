"""What every worker does besides its tasks: say that it is alive, sweep for lost bells, end with its parent."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from datetime import datetime

from django.db import close_old_connections, connections
from django.utils import timezone

logger = logging.getLogger(__name__)

SECONDS = 10.0
GRACE = 10.0


def keep_alive(worker: str, queues: str) -> None:
    """Start the thread that beats and sweeps; a database that is away is tried again at the next beat."""
    threading.Thread(target=_beat_forever, args=(worker, queues), daemon=True, name="heartbeat").start()


def _beat_forever(worker: str, queues: str) -> None:
    started = timezone.now()
    while True:
        try:
            beat(worker, queues, started)
        except Exception as error:
            logger.warning("heartbeat missed: %s", error)
        finally:
            connections.close_all()
        time.sleep(SECONDS)


def beat(worker: str, queues: str, started: datetime) -> None:
    """One heartbeat row, and bells for all rows that wait."""
    from annotate.models import Heartbeat
    from learner.tasks.sweeping import ring_for_rows

    close_old_connections()
    now = timezone.now()
    Heartbeat.objects.update_or_create(
        worker=worker, defaults={"queues": queues, "started_at": started, "seen_at": now}
    )
    ring_for_rows()


def worker_name(hostname: object) -> str:
    """A name that is the same after a restart on the same machine."""
    return str(hostname or socket.gethostname())


def end_with_parent() -> None:
    """End this process when the parent that passed TOUCHSTONE_PARENT_FD is gone, even by kill -9.

    The parent holds the writing end of a pipe; reading it returns only when that end is closed.
    """
    descriptor = os.environ.pop("TOUCHSTONE_PARENT_FD", "")
    if descriptor:
        threading.Thread(target=_wait_for_end, args=(int(descriptor),), daemon=True, name="parent").start()


def _wait_for_end(descriptor: int) -> None:
    os.read(descriptor, 1)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(GRACE)
    os._exit(1)
