"""Taking the reward model away: a standard folder with its card, written and proved by a job or a command."""

from __future__ import annotations

import tempfile
import zipfile
from pathlib import Path
from typing import IO

from annotate import auditing, jobs, outcomes
from annotate.models import FeatureVersion, Job, Project, Response
from learner import store
from learner.encoders import HuggingFaceEncoder
from learner.errors import LearnerError
from learner.features import FeaturePipeline
from learner.rewardmodel import Exported, LinearReward, export
from learner.tasks.building import Cancelled, job_project, version_of
from learner.tasks.embedding import pipeline_path
from learner.tasks.encoding import encoder_of
from learner.tasks.jobs import report
from learner.tasks.modelcard import card
from learner.tasks.states import ProjectState, build_state, estimator_rows

TRIED = 64


def release(job: Job) -> str:
    """Write the folder, prove it, and keep it as one file of the job."""
    project, version = job_project(job), version_of(job)
    job.total = 2
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / f"{project.slug}-reward-model"
        if not report(job, 0, outcomes.WRITING_MODEL):
            raise Cancelled("cancelled")
        done = write(project, version, folder)
        if not report(job, 1, outcomes.PACKING):
            raise Cancelled("cancelled")
        with jobs.new_file(job, "reward-model.zip", f"{done.architecture}, {version}") as file:
            pack(folder, file)
    auditing.record(
        project, job.created_by, "exported", f"reward model {version}", difference=done.difference
    )
    report(job, 2)
    return said(done)


def said(done: Exported) -> str:
    """How it went, in a sentence."""
    what = "the encoder's part of the reward" if done.columns else "the reward"
    said = f"{done.architecture}; its score agrees with {what} to {done.difference:.1e} on {done.tried} responses."
    more = " Length and formatting are added to it as the card says: it computes neither."
    return said + (more if done.columns else "")


def write(project: Project, version: FeatureVersion, folder: Path) -> Exported:
    """The folder with model, tokenizer and card; a LearnerError says what cannot be expressed."""
    state = build_state(project, version, estimator_rows(project, version))
    reward = reward_of(version, state)
    encoder = encoder_of(version)
    if not isinstance(encoder, HuggingFaceEncoder):
        raise LearnerError(
            f"The encoder {version.encoder} is no transformer, so no transformers folder can hold the model. Make a "
            "version with another encoder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    done = export(encoder, reward, folder, some_texts(version, encoder))
    store.write_atomically(folder / "README.md", card(state, encoder, done).encode())
    return done


def reward_of(version: FeatureVersion, state: ProjectState) -> LinearReward:
    """The production estimator's reward as a function of the encoder's vector."""
    pipeline = FeaturePipeline.from_state(store.read_state(pipeline_path(version), version.digest))
    return LinearReward.of(pipeline, state.reader.banks["production"].theta)


def some_texts(version: FeatureVersion, encoder: HuggingFaceEncoder) -> list[str]:
    """Composed texts of responses spread over the pool."""
    step = max(1, version.embedded // TRIED)
    positions = list(range(0, version.embedded, step))[:TRIED]
    rows = Response.objects.filter(project=version.project, position__in=positions).order_by("position")
    return [encoder.compose(*pair) for pair in rows.values_list("prompt__text", "text")]


def pack(folder: Path, file: IO[bytes]) -> None:
    """The folder as a zip: weights do not shrink, so nothing is compressed."""
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as packed:
        for path in sorted(folder.rglob("*")):
            packed.write(path, path.relative_to(folder.parent))
