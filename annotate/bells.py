"""Bells of a web server: rung by a thread of their own, so that nobody who answers ever waits for the broker.

The same bell rung again within a moment is one message: a worker that was rung takes every row that waits. What the
process takes with it when it is killed costs nothing, since rows are the queue.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

BETWEEN = 0.08  # seconds between two messages of the same bell


@dataclass(frozen=True)
class Bell:
    """A task, the rows that it is about, and a queue other than its own."""

    task: str
    ids: tuple[int, ...]
    queue: str | None = None
    request_id: str = field(default="", compare=False)  # of whoever rang last, for the log


class Bells:
    """Bells that wait to be rung. Until ``start`` is called nothing is taken, and the caller rings by itself."""

    def __init__(self, send: Callable[[Bell], None]) -> None:
        self.send, self.started = send, False
        self.waiting: dict[Bell, None] = {}
        self.changed = threading.Condition()

    def start(self) -> None:
        """Ring from a thread of this process, after it has forked for the last time."""
        self.started = True
        threading.Thread(target=self.ring_forever, daemon=True, name="bells").start()

    def take(self, bell: Bell) -> bool:
        """Whether the thread will ring it, after this moment: what was committed before is seen by the worker."""
        if not self.started:
            return False
        with self.changed:
            self.waiting.pop(bell, None)
            self.waiting[bell] = None
            self.changed.notify()
        return True

    def ring_forever(self) -> None:
        while True:
            with self.changed:
                self.changed.wait_for(lambda: self.waiting)
                found, self.waiting = list(self.waiting), {}
            for bell in found:
                self.send(bell)
            time.sleep(BETWEEN)
