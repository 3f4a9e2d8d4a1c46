"""Embedding a project's responses: shards over all embed workers, then frozen features, then the learner's turn.

Rows and files are the truth. One worker leads a version's embedding: it plans the shards, rings the other workers
together (a Celery group), takes shards like them, takes over those of workers that died, and finishes. When it dies
itself the sweep rings the next leader, and when the group's messages are lost the sweep rings the helpers.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from celery import group
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from annotate import alive, outcomes
from annotate.celery import app, ring
from annotate.models import EmbeddingShard, FeatureVersion, Heartbeat, Job, Project, Response
from learner import store
from learner.encoders import Encoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline, sample_rows, text_columns
from learner.store.merging import merge_all
from learner.tasks import shards
from learner.tasks.encoding import encoder_of
from learner.tasks.locks import exclusive
from learner.tasks.onethread import turn_to
from learner.tasks.setbacks import trying
from learner.tasks.shards import raw_folder, texts_of

logger = logging.getLogger(__name__)

BLOCK = 4096
COLUMN_WEIGHT = 8.0  # what docs/benchmarks.md measures with
Floats = npt.NDArray[np.float32]
_helping = threading.Lock()


def feature_folder(version: FeatureVersion) -> Path:
    """Where the features are kept, a row for each response position."""
    return Path(settings.DATA) / version.folder / "features"


def pipeline_path(version: FeatureVersion) -> Path:
    """The frozen pipeline's file."""
    return Path(settings.DATA) / version.folder / "pipeline.safetensors"


def embed_missing(project_id: int) -> int:
    """Embed what is missing and open it to the learner; continues where a killed job stopped."""
    with exclusive("embed", project_id) as held:
        if not held:
            return 0
        project = Project.objects.get(pk=project_id)
        versions = [one for one in current_versions(project) if one.embedded < project.response_count]
        count = sum(_embed_with_job(project, version) for version in versions)
    if count:
        ring("absorb", project_id)
    return count


def _embed_with_job(project: Project, version: FeatureVersion) -> int:
    count = 0
    with trying("embed", version.pk, project) as attempt:
        if attempt.is_due:
            count = _embed(project, version, start_job(version))
    return count


def _embed(project: Project, version: FeatureVersion, job: Job) -> int:
    try:
        count = embed_version(project, version, job)
    except alive.HandedBack:  # the sweep rings another worker, which makes a job of its own
        finish_job(job, Job.State.CANCELLED, "Its worker ended; another goes on.")
        return 0
    except LearnerError as error:
        finish_job(job, Job.State.FAILED, str(error))
        raise
    except Exception as error:
        finish_job(job, Job.State.FAILED, f"{type(error).__name__}: {error}")
        raise
    finish_job(job, Job.State.DONE, f"{count:,} responses embedded with {version.encoder}.")
    return count


def current_versions(project: Project) -> list[FeatureVersion]:
    """The versions that new responses go into: the live one first, then those that are ready to take its place.

    A version that is still being built beside a live one is embedded by the job that builds it.
    """
    live = FeatureVersion.State.LIVE
    found = project.feature_versions.filter(state__in=[live, FeatureVersion.State.READY]).order_by("id")
    ordered = sorted(found, key=lambda version: version.state != live)
    return ordered if ordered and ordered[0].state == live else [first_version(project)]


def first_version(project: Project) -> FeatureVersion:
    """The version that becomes live by being embedded, since there is none yet; made on first use."""
    version = project.feature_versions.exclude(state=FeatureVersion.State.RETIRED).order_by("-id").first()
    if version is None:
        config = {
            "dimensions": project.dimensions, "columns": True, "encoder_options": project.encoder_options,
        }  # fmt: skip
        version = FeatureVersion.objects.create(project=project, encoder=project.encoder, config=config)
    return version


def embed_version(project: Project, version: FeatureVersion, job: Job) -> int:
    """Embed what this version lacks, with every embed worker that is alive; how many responses that were.

    A worker that is asked to end hands back: what is done stays, and the sweep rings another.
    """
    total = project.response_count
    encoder = encoder_of(version)
    shards.plan(version, total)
    job.total = sum(shard.stop - shard.start for shard in shards.unfinished(version))
    Job.objects.filter(pk=job.pk).update(total=job.total)
    ring_others(version)
    if not take_all(version, encoder, job):
        raise alive.HandedBack if alive.is_stopping() else LearnerError("The job was cancelled.")
    pipeline = fitted_pipeline(version, total)
    transform_shards(version, pipeline, total)
    new = total - version.embedded
    _open(version, pipeline, total)
    return new


def ring_others(version: FeatureVersion) -> None:
    """Ring the other embed workers together, as many as there are shards for; the sweep rings those that come later."""
    since = timezone.now() - timedelta(seconds=30)
    others = Heartbeat.objects.filter(seen_at__gte=since, queues__contains="embed").count() - 1
    count = min(others, shards.unfinished(version).count() - 1)
    if count < 1:
        return
    take = app.signature("learner.tasks.embed_shards", args=[version.pk], immutable=True)
    try:
        group([take.clone() for _ in range(count)]).apply_async()
    except Exception as error:
        logger.warning("the embed workers could not be rung (%s); the sweep will ring them", error)


def take_all(version: FeatureVersion, encoder: Encoder, job: Job) -> bool:
    """Take shards until all are done, by whomever; one whose worker falls silent is taken over. False: asked to end."""
    while take_shards(version, encoder, job):
        if not shards.unfinished(version).exists():
            return True
        time.sleep(0.5)
    return False


def take_shards(version: FeatureVersion, encoder: Encoder, job: Job) -> bool:
    """Embed one free shard after another until none is free. False: the worker or its job was asked to end."""
    while (shard := shards.claim(version)) is not None:
        try:
            shards.work(version, encoder, shard, job)
        except alive.HandedBack:
            return False
        if alive.is_stopping() or not Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).exists():
            return False
        turn_to(embed_missing, partial(is_small_beside, version.project_id))
    return True


def is_small_beside(project_id: int, other_id: int) -> bool:
    """Whether another project lacks no more than a shard's worth: it need not wait until all of this one is done."""
    total = Project.objects.filter(pk=other_id).values_list("response_count", flat=True).first() or 0
    live = FeatureVersion.objects.filter(project=other_id, state=FeatureVersion.State.LIVE)
    embedded = live.values_list("embedded", flat=True).first() or 0
    return other_id != project_id and total - embedded <= shards.LARGEST


def help_embedding(version_id: int) -> bool:
    """Take shards of a version that another worker is embedding; whether there were any to take."""
    if not _helping.acquire(blocking=False):
        return False
    try:
        version = FeatureVersion.objects.select_related("project").get(pk=version_id)
        job = running_job(version)
        if job is None or not shards.free(version).exists():
            return False
        take_shards(version, encoder_of(version), job)
        return True
    finally:
        _helping.release()


def fitted_pipeline(version: FeatureVersion, total: int) -> FeaturePipeline:
    """The version's frozen pipeline; fitted on a sample of the responses that are there the first time."""
    path = pipeline_path(version)
    if version.digest:
        return FeaturePipeline.from_state(store.read_state(path, version.digest))
    rows = Response.objects.filter(project=version.project, position__lt=total).order_by("position")
    prompts = np.fromiter(
        rows.values_list("prompt_id", flat=True).iterator(chunk_size=20_000), np.int64, total
    )
    taken = sample_rows(prompts, np.random.default_rng(0))
    pipeline = FeaturePipeline.fit(
        store.read_rows(raw_folder(version), taken, version.encoder_digest),
        prompts[taken],
        columns_at(version, taken),
        rng=np.random.default_rng(0),
        dimensions=int(version.config["dimensions"]),
        column_weight=float(version.config.get("column_weight", COLUMN_WEIGHT)),
    )
    version.digest = store.write_state(path, pipeline.state(), {"pipeline": pipeline.version})
    version.dimension = pipeline.dimension
    return pipeline


def columns_at(version: FeatureVersion, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """The text columns of some positions (rising), a block at a time."""
    if not version.config.get("columns", True):
        return np.zeros((len(positions), 0))
    blocks = [np.zeros((0, 2))]
    for start in range(0, len(positions), BLOCK):
        part = positions[start : start + BLOCK].tolist()
        rows = Response.objects.filter(project=version.project, position__in=part).order_by("position")
        blocks.append(text_columns(list(rows.values_list("text", flat=True))))
    return np.vstack(blocks)


def _columns(version: FeatureVersion, start: int, stop: int) -> npt.NDArray[np.float64]:
    if not version.config.get("columns", True):
        return np.zeros((stop - start, 0))
    return text_columns([response for _, response in texts_of(version.project, start, stop)])


def transform_shards(version: FeatureVersion, pipeline: FeaturePipeline, total: int) -> None:
    """Write the features of every range that has none yet, then make one file of them, to be mapped as one array."""
    folder = feature_folder(version)
    for start, stop in store.missing_ranges(folder, total, BLOCK, pipeline.version):
        raw = store.read_rows(raw_folder(version), np.arange(start, stop), version.encoder_digest)
        features = pipeline.transform(raw, _columns(version, start, stop))
        store.write_shard(folder, start, features, pipeline.version)
    merge_all(folder, total, pipeline.version, in_use=version.embedded > 0)


@transaction.atomic
def _open(version: FeatureVersion, pipeline: FeaturePipeline, total: int) -> None:
    """Tell the learner that the features are there; the project's first version goes live at once."""
    row = FeatureVersion.objects.select_for_update().get(pk=version.pk)
    live = FeatureVersion.objects.filter(project=row.project_id, state=FeatureVersion.State.LIVE)
    if row.state == FeatureVersion.State.BUILDING and not live.exists():
        row.state, row.live_at = FeatureVersion.State.LIVE, timezone.now()
    row.embedded, row.digest = total, version.digest or row.digest
    row.dimension = pipeline.dimension
    row.config = row.config | {"pipeline": pipeline.version}
    row.save(update_fields=["state", "live_at", "embedded", "digest", "dimension", "config"])
    EmbeddingShard.objects.filter(feature_version=row).delete()


def running_job(version: FeatureVersion) -> Job | None:
    """The job that embeds this version now, an embedding or the building of a version."""
    return Job.objects.filter(
        project=version.project_id, state=Job.State.RUNNING, arguments__feature_version=version.pk
    ).order_by("-id").first()  # fmt: skip


def start_job(version: FeatureVersion) -> Job:
    """The row that shows this run; one that was killed before is closed as failed, its shards are kept.

    One that failed before it did anything is opened again, so that a model that cannot be had is one row.
    """
    mine = Job.objects.filter(
        project=version.project_id, kind=Job.Kind.EMBED, arguments__feature_version=version.pk
    )
    now = timezone.now()
    stopped = {"state": Job.State.FAILED, "finished_at": now, "message": outcomes.MADE_WAY}
    mine.filter(state=Job.State.RUNNING).update(**stopped)
    last = mine.order_by("-id").first()
    if last and last.state == Job.State.FAILED and not last.done:
        last.state, last.started_at, last.heartbeat_at, last.finished_at = Job.State.RUNNING, now, now, None
        last.save()
        return last
    return Job.objects.create(
        project=version.project,
        kind=Job.Kind.EMBED,
        state=Job.State.RUNNING,
        arguments={"feature_version": version.pk},
        started_at=now,
        heartbeat_at=now,
    )


def finish_job(job: Job, state: str, message: str) -> None:
    """Close the job's row with a sentence."""
    job.state, job.message, job.finished_at = state, message, timezone.now()
    done = {"done": job.total or 0} if state == Job.State.DONE else {}
    Job.objects.filter(pk=job.pk, state=Job.State.RUNNING).update(
        state=state, message=message, finished_at=job.finished_at, heartbeat_at=job.finished_at, **done
    )


def load_features(version: FeatureVersion, rows: Sequence[int] | None = None) -> Floats:
    """The features of a version's embedded responses (or of some rows), as float32, memory-mapped where large."""
    config = version.config.get("pipeline")
    if rows is not None:
        return store.read_rows(feature_folder(version), np.asarray(rows), config)
    return store.load_all(feature_folder(version), version.embedded, config)
