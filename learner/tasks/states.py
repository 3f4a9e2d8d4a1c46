"""A project's learner in memory: the log reader, the scores, and which pairs were asked; cached, and checked.

State = checkpoint + replay of the log after it. The cached copy is used only while its step and generation are
those of the estimator rows; otherwise it is thrown away and rebuilt from the newest checkpoint that still holds.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from django.conf import settings
from django.db import connection, transaction
from django.db.models import QuerySet

from annotate.models import Checkpoint, Comparison, Estimator, FeatureVersion, Judgment, Project
from learner import store
from learner.errors import LearnerError
from learner.estimators import Update, state_digest
from learner.log import LABELS, ROLES, Entry, LogReader
from learner.scores import PairScores
from learner.scores.sharded import Merged
from learner.tasks.embedding import load_features
from learner.tasks.growing import pool_rows, take_in_users_rows
from learner.urns import PairUrn

logger = logging.getLogger(__name__)

Rows = npt.NDArray[np.int64]
DIGESTED_DIMENSION = 512
MOST_CACHED = 32


@dataclass
class ProjectState:
    """What the learn worker keeps of one project between two bells."""

    project: Project
    version: FeatureVersion
    estimators: dict[str, Estimator]
    reader: LogReader
    prompt: Rows
    evaluation: npt.NDArray[np.bool_]
    users: npt.NDArray[np.bool_]
    buffer: npt.NDArray[np.float32] | None = None
    scores: PairScores | None = None
    selected: int = -1
    urns: dict[bool, PairUrn] = field(default_factory=dict)
    asked: set[tuple[int, int]] = field(default_factory=set)
    last_comparison: int = 0
    held_out: list[Entry] = field(default_factory=list)
    evaluated: tuple[int, ...] = ()
    measure_after: float = 0.0
    measuring: Future[bool] | None = None  # by a thread, beside learning
    pace: deque[tuple[float, int]] = field(default_factory=partial(deque, maxlen=200))  # when, judgments
    crowd: tuple[float, int] = (float("-inf"), 0)  # when they were counted, annotators of the last minutes
    own: int = 0  # judgments in the log that people made here
    trusted: tuple[int, int] | None = None  # step and own judgments when annotators were measured
    sources: dict[str, tuple[int, npt.NDArray[np.float64]]] = field(default_factory=dict)
    tags: dict[tuple[str, str], tuple[int, npt.NDArray[np.float64]]] | None = None
    named: tuple[list[str], Rows] | None = None
    rewards_due: float = 0.0
    writing: Iterator[int] | None = None  # of rewards, when some are still to be written
    large: bool | None = None  # whether its pairs are scored in shards
    limits: tuple[float, float] | None = None
    drafted: Merged | None = None
    asked_at: float = float("-inf")
    saved_step: int = 0
    saved_at: float = 0.0

    @property
    def step(self) -> int:
        """The last place in the log that was read."""
        return self.reader.step

    def measurable(self) -> tuple[int, ...]:
        """How many points each curve has, and how many judgments it is measured on."""
        points = (len(self.reader.curves[role].counts) for role in ROLES)
        return (*points, sum(entry.answer in LABELS for entry in self.held_out))

    def follow(self, updates: list[Update]) -> None:
        """Keep the scores exact after these updates of the production estimator."""
        if self.scores is None:
            return
        bank = self.reader.banks["production"]
        if bank.selected != self.selected:
            self.rescore()
            return
        for update in updates:
            self.scores.absorb(update.u, update.c, bank.theta)

    def rescore(self) -> None:
        """Score every pair anew: after a rebuild, or when another lambda is in use."""
        bank = self.reader.banks["production"]
        self.selected = bank.selected
        if self.scores is not None:
            self.scores.reset(bank.theta, bank.covariance)


# Pairs that the web process drew, from all that were left, while the queue was empty.
LEFT = "UPDATE annotate_comparison SET probability = %s WHERE id = %s AND probability IS NULL"

_cache: dict[int, ProjectState] = {}


def remember(state: ProjectState) -> None:
    """Keep the state for the next bell; of many projects, those that were learned from last."""
    _cache.pop(state.project.pk, None)
    _cache[state.project.pk] = state
    while len(_cache) > MOST_CACHED:
        _cache.pop(next(iter(_cache)))


def forget_cached(project_id: int) -> None:
    """Throw the cached state away; the next bell rebuilds it from what is stored."""
    _cache.pop(project_id, None)


def load_state(project_id: int) -> ProjectState | None:
    """The project's state, cached or rebuilt; None while it has no live features."""
    project = Project.objects.get(pk=project_id)
    version = project.feature_versions.filter(state=FeatureVersion.State.LIVE).first()
    if version is None:
        return None
    estimators = estimator_rows(project, version)
    cached = _cache.get(project_id)
    if (
        cached is not None
        and take_in_users_rows(cached, version)
        and still_holds(cached, version, estimators)
    ):
        if (cached.project.rule, cached.project.norm_cap) != (project.rule, project.norm_cap):
            cached.scores = cached.large = cached.limits = None  # anew by the rule that is asked for now
        cached.project, cached.version, cached.estimators = project, version, estimators
        notice_comparisons(cached)
        return cached
    state = build_state(project, version, estimators)
    remember(state)
    return state


def still_holds(state: ProjectState, version: FeatureVersion, estimators: dict[str, Estimator]) -> bool:
    """Whether nobody else moved the estimators, grew the pool or changed the settings that scores depend on."""
    return (
        state.version.pk == version.pk
        and len(state.reader.features) == version.embedded
        and all(
            (row.step, row.generation, row.digest) == (state.step, held.generation, held.digest)
            for row, held in ((row, state.estimators[role]) for role, row in estimators.items())
        )
    )


def estimator_rows(project: Project, version: FeatureVersion) -> dict[str, Estimator]:
    """The three estimator rows of a feature version, made on first use."""
    rows = Estimator.objects.filter(project=project, feature_version=version)
    found = {row.role: row for row in rows}
    return {
        role: found.get(role) or rows.get_or_create(project=project, feature_version=version, role=role)[0]
        for role in ROLES
    }


def build_state(
    project: Project, version: FeatureVersion, estimators: dict[str, Estimator], before: int | None = None
) -> ProjectState:
    """Read features and pool, restore the newest whole checkpoint (of a step below ``before``), replay the rest."""
    features = load_features(version)
    pool = pool_rows(project, 0, len(features))
    prompt, evaluation, users = (pool[name].copy() for name in ("prompt", "evaluation", "users"))
    state = ProjectState(project, version, estimators, LogReader(features), prompt, evaluation, users)
    restore_newest(state, before)
    target = estimators["production"].step
    state.reader.read_all(entries(project, state.step, target))
    state.reader.step = max(state.reader.step, target)
    evaluations = log_rows(project).filter(comparison__arm="evaluation", absorbed_step__lte=target)
    rows = evaluations.order_by("absorbed_step").values_list("absorbed_step", *FIELDS)
    state.held_out = [Entry(*row) for row in rows]
    state.own = log_rows(project).filter(absorbed_step__lte=target, lease__isnull=False).count()
    notice_all(state)
    return state


def log_rows(project: Project) -> QuerySet[Judgment]:
    """The judgments that the estimators are a function of: absorbed ones that nothing replaced."""
    return Judgment.objects.filter(project=project, absorbed_step__isnull=False, replaced_at=None)


FIELDS = (
    "comparison__first__position",
    "comparison__second__position",
    "answer",
    "comparison__arm",
    "comparison__prompt__is_evaluation",
)


def entries(project: Project, after: int, up_to: int) -> Iterator[Entry]:
    """The log after one step and up to another, in order."""
    rows = (
        log_rows(project).filter(absorbed_step__gt=after, absorbed_step__lte=up_to).order_by("absorbed_step")
    )
    for row in rows.values_list("absorbed_step", *FIELDS, "weight").iterator(chunk_size=2_000):
        yield Entry(*row)


def restore_newest(state: ProjectState, before: int | None) -> None:
    """Restore the newest step at which all three checkpoints are whole; a damaged file is passed over."""
    rows = Checkpoint.objects.filter(estimator__in=state.estimators.values())
    limit = state.estimators["production"].step if before is None else before - 1
    by_step: dict[int, dict[str, Checkpoint]] = {}
    for row in rows.filter(step__lte=limit).select_related("estimator"):
        by_step.setdefault(row.step, {})[row.estimator.role] = row
    for step in sorted(by_step, reverse=True):
        if set(by_step[step]) == set(ROLES) and _restore(state, by_step[step]):
            state.saved_step = step
            return


def _restore(state: ProjectState, rows: dict[str, Checkpoint]) -> bool:
    try:
        saved = {
            role: store.read_state(Path(settings.DATA) / row.path, row.digest) for role, row in rows.items()
        }
        state.reader.restore(saved)
    except (LearnerError, OSError, KeyError) as error:
        logger.warning("checkpoint at step %s passed over: %s", rows[ROLES[0]].step, error)
        return False
    return True


def notice_all(state: ProjectState) -> None:
    """Take in every pair that is stored, and none that was: at first, and after some were withdrawn."""
    shown = {kind: (state.evaluation == kind) & ~state.users for kind in (False, True)}
    state.urns = {kind: PairUrn(state.prompt, rows) for kind, rows in shown.items()}
    state.asked, state.last_comparison, state.scores = set(), 0, None
    notice_comparisons(state)


def notice_comparisons(state: ProjectState) -> None:
    """Take in pairs that were made since the last look (by the web process too); they are not chosen again."""
    rows = Comparison.objects.filter(project=state.project, pk__gt=state.last_comparison).order_by("pk")
    rows = rows.exclude(arm="deployment")  # users may be shown any pair; annotators are still asked about it
    drawn: list[tuple[float, int]] = []
    columns = ("pk", "first__position", "second__position", "arm", "probability")
    for pk, first, second, arm, probability in rows.values_list(*columns):
        state.last_comparison = pk
        left = state.urns[False].left
        note_asked(state, first, second)
        if arm == "control" and probability is None and state.urns[False].left < left:
            drawn.append((1 / left, pk))
    if drawn:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.executemany(LEFT, drawn)


def note_asked(state: ProjectState, first: int, second: int) -> None:
    """Remember that a pair of rows was asked about."""
    pair = (min(first, second), max(first, second))
    if pair in state.asked or pair[1] >= len(state.prompt) or state.users[pair[0]]:
        return
    note_drawn(state, pair)
    exclude(state, pair)


def note_drawn(state: ProjectState, pair: tuple[int, int]) -> None:
    """Remember a pair (smaller row first) for the arms that draw uniformly; a draft of the scores has it already."""
    state.asked.add(pair)
    state.urns[bool(state.evaluation[pair[0]])].take(*pair)


def exclude(state: ProjectState, pair: tuple[int, int]) -> None:
    """Take a pair that was asked about out of the scores of the active arm, if they are there yet."""
    if state.scores is not None and not state.evaluation[pair[0]]:
        state.scores.exclude(*pair)


def state_digests(state: ProjectState) -> dict[str, str]:
    """Digest of each estimator's state, as its row keeps it."""
    return digests_of(state.reader)


def digests_of(reader: LogReader) -> dict[str, str]:
    """By role; of the parameters alone where hashing d x d numbers at every bell would cost more than learning."""
    if reader.features.shape[1] > DIGESTED_DIMENSION:
        return {role: state_digest(reader.parameters(role)) for role in reader.banks}
    return {role: state_digest(reader.state(role)) for role in reader.banks}


def scores_of(state: ProjectState) -> PairScores:
    """The scores of all pairs, built when the active arm first needs them."""
    if state.scores is None:
        state.scores = PairScores(
            state.reader.features,
            state.prompt,
            rule=state.project.rule,
            norm_cap=state.project.norm_cap if state.project.norm_cap < 1 else None,
            eligible=~state.evaluation & ~state.users,
        )
        state.rescore()
        for pair in state.asked:
            if not state.evaluation[pair[0]]:
                state.scores.exclude(*pair)
    return state.scores
