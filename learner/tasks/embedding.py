"""Embedding a project's responses: shard by shard, each written whole or not at all, then frozen features."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.db import transaction
from django.utils import timezone

from annotate.celery import ring
from annotate.models import FeatureVersion, Job, Project, Response
from learner import store
from learner.encoders import Encoder, load_encoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline, text_columns
from learner.tasks.locks import exclusive

logger = logging.getLogger(__name__)

SHARD = 512
COLUMN_WEIGHT = 8.0  # what docs/benchmarks.md measures with
Floats = npt.NDArray[np.float32]
_encoders: dict[str, Encoder] = {}
_one_at_a_time = threading.Lock()


def encoder_named(name: str) -> Encoder:
    """The encoder, loaded once per process; one thread at a time: importing transformers twice at once fails."""
    with _one_at_a_time:
        if name not in _encoders:
            _encoders[name] = load_encoder(name)
        return _encoders[name]


def raw_folder(version: FeatureVersion) -> Path:
    """Where the encoder's output is kept."""
    return Path(settings.DATA) / version.folder / "raw"


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
        version = current_version(project)
        if version.embedded >= project.response_count:
            return 0
        job = start_job(project, version)
        try:
            count = _embed(project, version, job)
        except LearnerError as error:
            finish_job(job, Job.State.FAILED, str(error))
            logger.warning("embedding project %s failed: %s", project_id, error)
            return 0
        except Exception as error:
            finish_job(job, Job.State.FAILED, f"{type(error).__name__}: {error}")
            raise
        finish_job(job, Job.State.DONE, f"{count:,} responses embedded with {version.encoder}.")
    ring("absorb", project_id)
    return count


def current_version(project: Project) -> FeatureVersion:
    """The feature version that new responses go into: the newest that is not retired, made on first use."""
    version = project.feature_versions.exclude(state=FeatureVersion.State.RETIRED).order_by("-id").first()
    if version is None:
        version = FeatureVersion.objects.create(
            project=project,
            encoder=project.encoder,
            config={"dimensions": project.dimensions, "columns": True},
        )
    return version


def _embed(project: Project, version: FeatureVersion, job: Job) -> int:
    total = project.response_count
    encoder = encoder_named(version.encoder)
    _check_encoder(version, encoder)
    encode_shards(project, version, encoder, total, job)
    pipeline = fitted_pipeline(project, version, encoder, total)
    transform_shards(project, version, pipeline, total)
    new = total - version.embedded
    _open(version, pipeline, total)
    return new


def _check_encoder(version: FeatureVersion, encoder: Encoder) -> None:
    if version.encoder_digest and version.encoder_digest != encoder.digest:
        raise LearnerError(
            f"The encoder {version.encoder} is not the one that this feature version was made with. "
            "Start a new feature version; the old embeddings cannot be mixed with new ones."
        )
    version.encoder_digest, version.encoder_dimension = encoder.digest, encoder.dimension
    version.save(update_fields=["encoder_digest", "encoder_dimension"])


def encode_shards(project: Project, version: FeatureVersion, encoder: Encoder, total: int, job: Job) -> None:
    """Encode every missing range, with progress, rate and time left on the job's row."""
    folder = raw_folder(version)
    missing = store.missing_ranges(folder, total, SHARD, encoder.digest)
    job.total = sum(stop - start for start, stop in missing)
    began = time.monotonic()
    for start, stop in missing:
        pairs = texts_of(project, start, stop)
        texts = [encoder.compose(prompt, response) for prompt, response in pairs]
        with _one_at_a_time:  # two pools at once would only share the same processors
            rows = encoder.encode(texts)
        store.write_shard(folder, start, rows, encoder.digest, store.texts_digest(texts))
        job.done += stop - start
        job.rate = job.done / max(time.monotonic() - began, 1e-9)
        left = (job.total - job.done) / job.rate
        job.message = f"{job.rate:,.0f} texts a second, about {left:,.0f} s left."
        job.heartbeat_at = datetime.now(UTC)
        job.save(update_fields=["done", "total", "rate", "message", "heartbeat_at"])


def texts_of(project: Project, start: int, stop: int) -> list[tuple[str, str]]:
    """Prompt and response texts of the positions start to stop - 1, refusing a gap."""
    rows = Response.objects.filter(project=project, position__gte=start, position__lt=stop).order_by(
        "position"
    )
    pairs = list(rows.values_list("prompt__text", "text"))
    if len(pairs) != stop - start:
        raise LearnerError(f"positions {start} to {stop - 1} hold {len(pairs)} responses: the pool has a gap")
    return pairs


def fitted_pipeline(
    project: Project, version: FeatureVersion, encoder: Encoder, total: int
) -> FeaturePipeline:
    """The version's frozen pipeline; fitted on the responses that are there the first time."""
    path = pipeline_path(version)
    if version.digest:
        return FeaturePipeline.from_state(store.read_state(path, version.digest))
    raw = store.load_all(raw_folder(version), total, encoder.digest)
    rows = Response.objects.filter(project=project, position__lt=total).order_by("position")
    prompts = np.fromiter(rows.values_list("prompt_id", flat=True).iterator(), dtype=np.int64, count=total)
    columns = np.vstack([_columns(project, version, start, stop) for start, stop in _ranges(total)])
    pipeline = FeaturePipeline.fit(
        raw,
        prompts,
        columns,
        rng=np.random.default_rng(0),
        dimensions=int(version.config["dimensions"]),
        column_weight=float(version.config.get("column_weight", COLUMN_WEIGHT)),
    )
    version.digest = store.write_state(path, pipeline.state(), {"pipeline": pipeline.version})
    version.dimension = pipeline.dimension
    return pipeline


def _ranges(total: int) -> list[tuple[int, int]]:
    return [(start, min(start + SHARD, total)) for start in range(0, total, SHARD)]


def _columns(project: Project, version: FeatureVersion, start: int, stop: int) -> npt.NDArray[np.float64]:
    if not version.config.get("columns", True):
        return np.zeros((stop - start, 0))
    return text_columns([response for _, response in texts_of(project, start, stop)])


def transform_shards(
    project: Project, version: FeatureVersion, pipeline: FeaturePipeline, total: int
) -> None:
    """Write the features of every range that has none yet."""
    folder = feature_folder(version)
    for start, stop in store.missing_ranges(folder, total, SHARD, pipeline.version):
        raw = store.read_rows(raw_folder(version), np.arange(start, stop), version.encoder_digest)
        features = pipeline.transform(raw, _columns(project, version, start, stop))
        store.write_shard(folder, start, features, pipeline.version)


@transaction.atomic
def _open(version: FeatureVersion, pipeline: FeaturePipeline, total: int) -> None:
    """Tell the learner that the features are there; the project's first version goes live at once."""
    version.embedded = total
    live = FeatureVersion.objects.filter(project=version.project_id, state=FeatureVersion.State.LIVE)
    if version.state == FeatureVersion.State.BUILDING and not live.exists():
        version.state, version.live_at = FeatureVersion.State.LIVE, timezone.now()
    version.config |= {"pipeline": pipeline.version}
    version.save()


def start_job(project: Project, version: FeatureVersion) -> Job:
    """The row that shows this run; a run that was killed before is closed as failed, its shards are kept."""
    stale = Job.objects.filter(project=project, kind=Job.Kind.EMBED, state=Job.State.RUNNING)
    stale.update(state=Job.State.FAILED, finished_at=timezone.now(), message="Stopped; the next job went on.")
    now = timezone.now()
    return Job.objects.create(
        project=project,
        kind=Job.Kind.EMBED,
        state=Job.State.RUNNING,
        arguments={"feature_version": version.pk},
        started_at=now,
        heartbeat_at=now,
    )


def finish_job(job: Job, state: str, message: str) -> None:
    """Close the job's row with a sentence."""
    job.state, job.message, job.finished_at = state, message, timezone.now()
    job.save()


def load_features(version: FeatureVersion, rows: Sequence[int] | None = None) -> Floats:
    """The features of a version's embedded responses (or of some rows), as float32."""
    config = version.config.get("pipeline")
    if rows is not None:
        return store.read_rows(feature_folder(version), np.asarray(rows), config)
    return store.load_all(feature_folder(version), version.embedded, config)
