"""The shards of a feature version: rows that embed workers claim one by one, wherever they are.

A claim is kept young while its worker is alive and the encoder moves; an old one is free again. Two workers that
write the same shard write the same bytes, so a claim saves work; it is not what makes embedding exact.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from django.conf import settings
from django.db import connections
from django.db.models import F, Max, Min, Q, QuerySet, Sum
from django.utils import timezone

from annotate import alive, measures
from annotate.models import EmbeddingShard, FeatureVersion, Job, Project, Response
from learner import store
from learner.encoders import Encoder
from learner.errors import LearnerError
from learner.tasks.encoding import encode

logger = logging.getLogger(__name__)

SMALLEST, LARGEST, PIECES = 256, 4096, 64
SILENT_SECONDS = 20.0
BEAT_SECONDS = 2.0
STALLED_SECONDS = 1800.0  # without one batch: the claim is let go, another worker may try


@dataclass
class Claim:
    """A shard in work here, and how far it is."""

    shard: EmbeddingShard
    done: int = 0
    moved_at: float = 0.0

    def moved(self, done: int, total: int) -> None:
        """Called by the encoder after every batch: a worker that is asked to end gives the shard back."""
        if alive.is_stopping():
            raise alive.HandedBack
        self.done, self.moved_at = done, time.monotonic()


def raw_folder(version: FeatureVersion) -> Path:
    """Where the encoder's output is kept."""
    return Path(settings.DATA) / version.folder / "raw"


def worker_id() -> str:
    """This process, for a person who reads it."""
    return f"{socket.gethostname()}:{os.getpid()}"


def shard_size(total: int) -> int:
    """About 64 shards a pool: small enough to spread over workers, large enough to batch by length.

    >>> [shard_size(n) for n in (10, 100_000, 1_000_000)]
    [256, 1563, 4096]
    """
    return min(LARGEST, max(SMALLEST, -(-total // PIECES)))


def plan(version: FeatureVersion, total: int) -> int:
    """Make the rows agree with the files: a row for every range that has no shard file; how many are left.

    A finished row whose file is gone is opened again; an open one whose file is there (its worker died between the
    file and the row) is closed.
    """
    missing = store.missing_ranges(raw_folder(version), total, shard_size(total), version.encoder_digest)
    rows = EmbeddingShard.objects.filter(feature_version=version)
    starts = [start for start, _ in missing]
    there = rows.filter(finished_at=None).exclude(start__in=starts)
    there.update(finished_at=timezone.now(), done=F("stop") - F("start"))
    known = dict(rows.values_list("start", "stop"))
    wrong = [start for start, stop in missing if known.get(start, stop) != stop]
    rows.filter(start__in=wrong).delete()
    rows.filter(start__in=starts, finished_at__isnull=False).update(finished_at=None, claimed_at=None, done=0)
    EmbeddingShard.objects.bulk_create(
        (EmbeddingShard(feature_version=version, start=start, stop=stop) for start, stop in missing),
        ignore_conflicts=True, batch_size=500,
    )  # fmt: skip
    return len(missing)


def unfinished(version: FeatureVersion) -> QuerySet[EmbeddingShard]:
    """Shards that are still to be embedded, claimed or not."""
    return EmbeddingShard.objects.filter(feature_version=version, finished_at=None)


def free(version: FeatureVersion) -> QuerySet[EmbeddingShard]:
    """Shards that nobody works on, or whose worker fell silent."""
    silent = timezone.now() - timedelta(seconds=SILENT_SECONDS)
    return unfinished(version).filter(Q(claimed_at=None) | Q(seen_at__lt=silent))


def claim(version: FeatureVersion) -> EmbeddingShard | None:
    """Take the first free shard; None when every one is taken or done."""
    while True:
        pk = free(version).order_by("start").values_list("pk", flat=True).first()
        if pk is None:
            return None
        now = timezone.now()
        taken = free(version).filter(pk=pk)
        if taken.update(worker=worker_id(), claimed_at=now, seen_at=now, done=0):
            return EmbeddingShard.objects.get(pk=pk)


def work(version: FeatureVersion, encoder: Encoder, shard: EmbeddingShard, job: Job) -> None:
    """Embed a claimed shard: texts, vectors, file, then the row. What fails lets the claim go."""
    held = Claim(shard, moved_at=time.monotonic())
    read = getattr(encoder, "tokens_read", 0)
    try:
        with held_young(held, job):
            pairs = texts_of(version.project, shard.start, shard.stop)
            texts = [encoder.compose(prompt, response) for prompt, response in pairs]
            with measures.timed("embed"):
                rows = encode(encoder, texts, held.moved)
            measures.add("embedded", len(texts))
            store.write_shard(
                raw_folder(version), shard.start, rows, encoder.digest, store.texts_digest(texts)
            )
    except BaseException:
        own(shard).update(claimed_at=None, seen_at=None, done=0)
        raise
    EmbeddingShard.objects.filter(pk=shard.pk).update(
        finished_at=timezone.now(), seen_at=timezone.now(), done=shard.stop - shard.start,
        tokens=getattr(encoder, "tokens_read", 0) - read,
    )  # fmt: skip
    show_progress(version, job)


def own(shard: EmbeddingShard) -> QuerySet[EmbeddingShard]:
    """The row, while this claim holds."""
    return EmbeddingShard.objects.filter(pk=shard.pk, claimed_at=shard.claimed_at, finished_at=None)


@contextmanager
def held_young(held: Claim, job: Job) -> Iterator[None]:
    """Say every two seconds that the claim is alive and how far it is; not when the encoder has stalled."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT_SECONDS) and time.monotonic() - held.moved_at < STALLED_SECONDS:
            try:
                own(held.shard).update(seen_at=timezone.now(), done=held.done)
                show_progress(held.shard.feature_version, job)
            except Exception as error:
                logger.warning("shard %s could not beat: %s", held.shard, error)
            finally:
                connections.close_all()

    thread = threading.Thread(target=beat, daemon=True, name=f"shard-{held.shard.pk}")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def texts_of(project: Project, start: int, stop: int) -> list[tuple[str, str]]:
    """Prompt and response texts of the positions start to stop - 1, refusing a gap."""
    rows = Response.objects.filter(project=project, position__gte=start, position__lt=stop).order_by(
        "position"
    )
    pairs = list(rows.values_list("prompt__text", "text"))
    if len(pairs) != stop - start:
        raise LearnerError(f"positions {start} to {stop - 1} hold {len(pairs)} responses: the pool has a gap")
    return pairs


def show_progress(version: FeatureVersion, job: Job) -> None:
    """Everybody's progress on the job's row: texts done since it began, and the workers' pace added up."""
    rows = EmbeddingShard.objects.filter(feature_version=version, claimed_at__gte=job.started_at)
    done = int(rows.aggregate(done=Sum("done"))["done"] or 0)
    texts, tokens, workers = pace(rows)
    left = max(0, (job.total or done) - done)
    words = f"{texts:,.0f} texts a second"
    words += f" ({tokens:,.0f} tokens)" if tokens else ""
    words += f", {workers} workers" if workers > 1 else ""
    words += f", about {left / texts:,.0f} s left." if texts else "."
    Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(
        done=done, rate=texts, message=words, heartbeat_at=timezone.now()
    )


def pace(rows: QuerySet[EmbeddingShard]) -> tuple[float, float, int]:
    """Texts and tokens a second of all workers together, and how many they are: each over its newest shards."""
    since = timezone.now() - timedelta(minutes=2)
    each = rows.filter(seen_at__gte=since).values("worker").order_by("worker")
    texts = tokens = 0.0
    sums = each.annotate(texts=Sum("done"), read=Sum("tokens"), began=Min("claimed_at"), last=Max("seen_at"))
    found = list(sums.values_list("texts", "read", "began", "last"))
    for done, read, began, last in found:
        seconds = max((last - began).total_seconds(), 0.001)
        texts, tokens = texts + done / seconds, tokens + read / seconds
    return texts, tokens, len(found)
