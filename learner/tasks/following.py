"""The production estimator in a worker that serves: rebuilt from what is stored, then kept up with the log.

Serving has its own copy, so that it never waits for the learner and never reads a state that is being moved. It is
the same function of the log, hence the same bits.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from django.conf import settings

from annotate import statements
from annotate.models import Checkpoint, Estimator, FeatureVersion, Project
from learner import store
from learner.errors import LearnerError
from learner.estimators import OnePassBank
from learner.features import FeaturePipeline
from learner.log import Entry, LogReader
from learner.tasks.embedding import load_features, pipeline_path
from learner.tasks.states import entries

logger = logging.getLogger(__name__)

ROLE = "production"
AT_ONCE = 2_000


class FewRows(dict[int, npt.NDArray[np.float32]]):
    """The features that some entries need, by position, in the place of the whole matrix."""

    def __init__(self, version: FeatureVersion) -> None:
        super().__init__()
        self.version = version
        self.shape = (version.embedded, int(version.dimension or 0))

    def __len__(self) -> int:
        return self.shape[0]

    def load(self, entries: list[Entry]) -> None:
        """Hold what these entries need, and nothing else."""
        rows = sorted({row for entry in entries for row in (entry.first, entry.second)})
        self.clear()
        if rows:
            self.update(zip(rows, load_features(self.version, rows), strict=True))


@dataclass
class Follower:
    """One project's production estimator and feature pipeline, of one feature version."""

    project: Project
    version: FeatureVersion
    pipeline: FeaturePipeline
    reader: LogReader
    life: tuple[Any, ...]  # which version, made when, and the log's generation, as the database says them
    encoding: float = 0.0  # seconds that the encoder took last

    @property
    def bank(self) -> OnePassBank:
        return self.reader.banks[ROLE]

    @property
    def step(self) -> int:
        return self.reader.step


_followers: dict[int, Follower] = {}  # the scoring thread's; whoever else follows has a copy of their own


def follow(project_id: int) -> Follower | None:
    """The project's production estimator as the rows have it now; None while it has no live features.

    What is followed is moved in place, so only the scoring thread may keep it. A failure in the middle of an entry
    leaves something that no log gives: then it is dropped, and restored the next time.
    """
    held = followed(project_id, _followers.pop(project_id, None))
    if held is not None:
        _followers[project_id] = held
    return held


def followed(project_id: int, held: Follower | None = None) -> Follower | None:
    """``held`` moved on to where the rows are now; a copy of the caller's own where there is none to move on."""
    row = statements.live_estimator(project_id, ROLE)
    if row is None:
        return None
    *life, step, embedded = row
    if (
        held is None or held.life != tuple(life) or held.step > step
    ):  # another version, or a log that was rewound
        held = restored(project_id, tuple(life))
    held.version.embedded = embedded
    catch_up(held, step)
    return held


def restored(project_id: int, life: tuple[Any, ...]) -> Follower:
    """From the newest checkpoint that is whole, or from nothing."""
    rows = Estimator.objects.select_related("project", "feature_version")
    row = rows.get(project=project_id, feature_version=life[0], role=ROLE)
    project, version = row.project, row.feature_version
    pipeline = FeaturePipeline.from_state(store.read_state(pipeline_path(version), version.digest))
    reader = LogReader(cast(Any, FewRows(version)), roles=(ROLE,))
    for checkpoint in Checkpoint.objects.filter(estimator=row, step__lte=row.step).order_by("-step"):
        try:
            saved = store.read_state(Path(settings.DATA) / checkpoint.path, checkpoint.digest)
            reader.restore({ROLE: saved})
            break
        except (LearnerError, OSError, KeyError) as error:
            logger.warning("checkpoint at step %s passed over: %s", checkpoint.step, error)
    return Follower(project, version, pipeline, reader, life)


def catch_up(held: Follower, step: int) -> None:
    """Read the log on to this step."""
    if held.step == step:
        return
    rows, reader = FewRows(held.version), held.reader
    reader.features = cast(Any, rows)
    batch: list[Entry] = []
    for entry in entries(held.project, reader.step, step):
        batch.append(entry)
        if len(batch) == AT_ONCE:
            rows.load(batch)
            reader.read_all(batch)
            batch = []
    rows.load(batch)
    reader.read_all(batch)
    reader.step = max(reader.step, step)
