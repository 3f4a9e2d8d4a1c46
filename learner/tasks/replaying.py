"""Replay: rebuild every estimator from the log alone and compare with what is stored, bit for bit."""

from __future__ import annotations

import time
from dataclasses import dataclass

from annotate.models import Checkpoint, FeatureVersion, Project
from learner.errors import LearnerError
from learner.estimators import state_digest
from learner.log import ROLES, LogReader
from learner.tasks.absorbing import forget_replaced
from learner.tasks.embedding import load_features
from learner.tasks.locks import exclusive
from learner.tasks.states import digests_of, entries, estimator_rows, load_state


@dataclass(frozen=True)
class Compared:
    """One stored state against the replayed one."""

    role: str
    step: int
    what: str
    stored: str
    replayed: str

    @property
    def same(self) -> bool:
        """Whether the bits agree."""
        return self.stored == self.replayed


def replay(project: Project, seconds: float = 30.0) -> list[Compared]:
    """Compare every checkpoint and the live digests of the live feature version; waits for the learner's lock."""
    deadline = time.monotonic() + seconds
    while True:
        with exclusive("learn", project.pk) as held:
            if held:
                return _replay(project)
        if time.monotonic() > deadline:
            raise LearnerError(f"project {project.slug} is being learned from; try again in a moment")
        time.sleep(0.1)


def _replay(project: Project) -> list[Compared]:
    version = project.feature_versions.filter(state=FeatureVersion.State.LIVE).first()
    if version is None:
        raise LearnerError(
            f"project {project.slug} has no embedded responses yet, so there is nothing to replay"
        )
    state = load_state(project.pk)
    if state is not None:
        forget_replaced(state)
    rows = estimator_rows(project, version)
    stored = {
        (checkpoint.step, checkpoint.estimator.role): checkpoint.digest
        for checkpoint in Checkpoint.objects.filter(estimator__in=rows.values()).select_related("estimator")
    }
    reader, compared = LogReader(load_features(version)), []
    for step in sorted({step for step, _ in stored}):
        read_up_to(project, reader, step)
        compared += [
            Compared(role, step, "checkpoint", digest, state_digest(reader.state(role)))
            for (at, role), digest in sorted(stored.items())
            if at == step
        ]
    read_up_to(project, reader, rows["production"].step)
    live = digests_of(reader)
    return compared + [
        Compared(role, reader.step, "live", rows[role].digest, live[role])
        for role in ROLES
        if rows[role].digest
    ]


def read_up_to(project: Project, reader: LogReader, step: int) -> None:
    """Read the log on to this step."""
    reader.read_all(entries(project, reader.step, step))
    reader.step = max(reader.step, step)
