"""Embedding takes one thread of a worker that serves other queues too, so that learning and jobs always find one.

A bell that finds the thread taken is kept for it, once however often it rings, and returns at once: nobody waits for
anybody, so a leader and its helpers cannot block each other. The thread turns to small pools between two shards, and
to what else was kept before it ends; a bell that is lost with it is rung again by the sweep.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from annotate.alive import is_stopping
from annotate.celery import app

logger = logging.getLogger(__name__)

Work = Callable[[int], int]
Bell = tuple[Work, int]


class OneThread:
    """Work that one thread does, and the bells that rang meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.kept: dict[Bell, None] = {}
        self.holder: int | None = None
        self.is_turned = False

    def take(self, work: Work, subject: int) -> int:
        """Do it here, with all that is kept meanwhile, or leave it to the thread that is at work; what was done."""
        with self.lock:
            self.kept[work, subject] = None
            if self.holder is not None:
                return 0
            self.holder = threading.get_ident()
        done = 0
        try:
            while (bell := self.next_or_end()) is not None:
                done += bell[0](bell[1])
        except BaseException:
            self.holder = None
            raise
        return done

    def next_or_end(self) -> Bell | None:
        """The bell that was kept first. Without one the thread is free again, before any other bell is kept."""
        with self.lock:
            if self.kept and not is_stopping():
                bell = next(iter(self.kept))
                del self.kept[bell]
                return bell
            self.holder = None
            return None

    def turn_to(self, work: Work, is_small: Callable[[int], bool]) -> None:
        """In the midst of long work: what was kept of this kind by now and is short, once each."""
        if self.holder != threading.get_ident() or self.is_turned:
            return
        with self.lock:
            subjects = [subject for kept, subject in self.kept if kept == work]
        self.is_turned = True
        try:
            for subject in filter(is_small, subjects):
                self.kept.pop((work, subject))
                work(subject)
        except Exception:
            logger.exception("%s failed between two shards", work)
        finally:
            self.is_turned = False


_embedding = OneThread()


def in_turn(work: Work, subject: int) -> int:
    """As one thread, unless this worker serves nothing but embedding: then every thread may."""
    if set(app.amqp.queues.consume_from) == {"embed"}:
        return work(subject)
    return _embedding.take(work, subject)


def turn_to(work: Work, is_small: Callable[[int], bool]) -> None:
    _embedding.turn_to(work, is_small)
