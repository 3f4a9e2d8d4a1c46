"""Fine-tuning the live version's encoder on the judgments; what comes of it is built as a new feature version."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
from django.conf import settings

from annotate import outcomes, versions
from annotate.models import FeatureVersion, Job, Response
from learner import store
from learner.encoders import HuggingFaceEncoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline
from learner.finetuning import Outcome, Pairs, Plan, Stopped, fine_tune
from learner.log import LABELS, TRAINS, Entry
from learner.tasks.building import job_project, version_of
from learner.tasks.embedding import pipeline_path
from learner.tasks.encoding import encoder_of
from learner.tasks.jobs import report
from learner.tasks.states import ProjectState, build_state, entries, estimator_rows

PLAN = ("method", "layers", "rank", "optimizer", "learning_rate", "epochs", "batch", "seed")


def tune(job: Job) -> str:
    """Train, keep the best, and ask for a version with it. A run that was killed begins anew, from the same seed."""
    project, version = job_project(job), version_of(job)
    name = f"{versions.TUNED}-{project.pk}-{job.pk}"
    encoder = encoder_of(version)
    if not isinstance(encoder, HuggingFaceEncoder):
        raise LearnerError(f"The encoder {version.encoder} is no transformer: there is nothing to train.")
    if not (settings.MODELS / name).is_dir():
        try:
            outcome = trained(job, version, encoder, name)
        except Stopped:
            return outcomes.NOT_TUNED
        job.result = {**job.result, "start": outcome.start, "epochs": outcome.epochs}
        if not outcome.improved:
            start, best = (f"{loss:.4f}" for loss in (outcome.start, outcome.best))
            return outcomes.says(outcomes.NO_GAIN, start=start, best=best, n=outcome.validated)
    versions.make(project, job.created_by, f"models/{name}", config_of(version, encoder), label_of(version))
    losses = job.result.get("epochs") or [0.0]
    start, best = (f"{loss:.4f}" for loss in (job.result.get("start", 0.0), min(losses)))
    return outcomes.says(outcomes.TUNED, start=start, best=best)


def trained(job: Job, version: FeatureVersion, encoder: HuggingFaceEncoder, name: str) -> Outcome:
    """Train into a folder beside its place, and rename it when it is whole."""
    state = build_state(version.project, version, estimator_rows(version.project, version))
    pipeline = FeaturePipeline.from_state(store.read_state(pipeline_path(version), version.digest))
    theta = state.reader.banks["production"].theta
    kept = pipeline.components.shape[1]
    pairs = training_pairs(state, encoder, kept, theta)
    plan = Plan(**{key: job.arguments[key] for key in PLAN if key in job.arguments})
    part = settings.MODELS / f".{name}.part"
    shutil.rmtree(part, ignore_errors=True)

    def said(done: int, total: int, sentence: str) -> bool:
        job.total = total
        return report(job, done, sentence)

    outcome = fine_tune(
        encoder, pipeline.scale * (pipeline.components @ theta[:kept]), pairs, plan, part, said
    )
    if outcome.improved:
        part.rename(settings.MODELS / name)
    return outcome


def training_pairs(state: ProjectState, encoder: HuggingFaceEncoder, kept: int, theta: Any) -> Pairs:
    """The judgments that train production, as texts; evaluation prompts are none of them."""
    log = [
        entry
        for entry in entries(state.project, 0, state.step)
        if not entry.evaluation and entry.answer in LABELS and "production" in TRAINS.get(entry.arm, ())
    ]
    texts = texts_at(state, encoder, log)
    z = np.array([state.reader.difference(entry.first, entry.second) for entry in log])
    z = z.reshape(len(log), state.reader.features.shape[1])
    return Pairs(
        first=[texts[entry.first] for entry in log],
        second=[texts[entry.second] for entry in log],
        y=np.array([LABELS[entry.answer] for entry in log], dtype=np.float64),
        prompt=state.prompt[np.array([entry.first for entry in log], dtype=np.int64)],
        offset=np.asarray(z[:, kept:] @ theta[kept:], dtype=np.float64),
    )


def texts_at(state: ProjectState, encoder: HuggingFaceEncoder, log: list[Entry]) -> dict[int, str]:
    """Composed texts of every response that was judged, by position."""
    wanted = sorted({row for entry in log for row in (entry.first, entry.second)})
    found: dict[int, str] = {}
    for start in range(0, len(wanted), 500):
        rows = Response.objects.filter(project=state.project, position__in=wanted[start : start + 500])
        for position, prompt, text in rows.values_list("position", "prompt__text", "text"):
            found[position] = encoder.compose(prompt, text)
    return found


def config_of(version: FeatureVersion, encoder: HuggingFaceEncoder) -> dict[str, Any]:
    """The new version's pipeline is fitted as the old one's was, and its encoder used in the same way."""
    kept = {
        key: version.config[key]
        for key in ("dimensions", "columns", "column_weight")
        if key in version.config
    }
    names = ("pooling", "max_length", "dtype", "chat_template", "normalize")
    return kept | {"encoder_options": {key: getattr(encoder, key) for key in names}}


def label_of(version: FeatureVersion) -> str:
    """What the page calls it."""
    return f"Fine-tuned {version.label or version.encoder}"[:120]
