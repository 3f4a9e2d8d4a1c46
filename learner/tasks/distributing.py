"""Pools whose pairs do not fit into one machine: scored in shards by a Celery chord, with the picks of one machine.

The learn worker writes what the shards need beside the features and rings them. Each names its best pairs in a file;
the chord's callback draws from them under the learner's lock. Judgments that came meanwhile are for the next round.
A chord that is lost is asked for again by the refill after two minutes; until then annotators get random pairs.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from celery import Signature, chord
from django.conf import settings

from annotate.celery import app
from annotate.models import FeatureVersion
from learner import store
from learner.errors import LearnerError
from learner.scores.pairs import WithinPromptPairs
from learner.scores.sharded import Leaders, Merged, leaders, norm_limits, shards_of
from learner.selection import RULES, Scored, State
from learner.tasks.embedding import load_features
from learner.tasks.locks import exclusive

if TYPE_CHECKING:
    from learner.tasks.states import ProjectState

logger = logging.getLogger(__name__)

ASKED_AGAIN_SECONDS = 120.0
NEAR_DUPLICATE = 0.05
BYTES_A_PAIR = 16


def is_large(state: ProjectState) -> bool:
    """Whether features and pairs take more than a learn worker may: known once per state and rule."""
    if state.large is None:
        state.large = megabytes(state) > settings.SCORES_MEMORY_MB
        state.large &= isinstance(RULES[state.project.rule], Scored)
    return state.large


def megabytes(state: ProjectState) -> float:
    """What scoring all pairs here would take."""
    _, sizes = np.unique(state.prompt[eligible(state)], return_counts=True)
    pairs = int((sizes * (sizes - 1) // 2).sum())
    return (4 * state.reader.features.size + BYTES_A_PAIR * pairs) / 2**20


def eligible(state: ProjectState) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Responses whose pairs may be chosen actively."""
    allowed: np.ndarray[tuple[int], np.dtype[np.bool_]] = ~state.evaluation & ~state.users
    return allowed


def folder_of(version: FeatureVersion) -> Path:
    """Where shards find what they need, and leave what they found."""
    return Path(settings.DATA) / version.folder / "scoring"


def ask_shards(state: ProjectState) -> bool:
    """Write the state, with the pairs in flight imagined, and ring the shards; not while a round is on its way."""
    from learner.tasks.queueing import in_flight

    if time.monotonic() - state.asked_at < ASKED_AGAIN_SECONDS:
        return False
    version, count = state.version, max(2, int(np.ceil(megabytes(state) / settings.SCORES_MEMORY_MB)))
    write_round(state, in_flight(state))
    state.asked_at = time.monotonic()
    header = [signature("score_shard", version.pk, state.step, shard, count) for shard in range(count)]
    try:
        chord(header)(signature("draw_from_shards", version.pk, state.step, count))
    except Exception as error:
        logger.warning("the shards of version %s could not be rung (%s)", version.pk, error)
        return False
    return True


def signature(task: str, *ids: int) -> Signature[int]:
    """A task that takes nothing from the one before."""
    return app.signature(f"learner.tasks.{task}", args=list(ids), immutable=True)


def write_round(state: ProjectState, flight: list[tuple[int, int]]) -> None:
    """The estimator's state and the pool's prompts, as files that any worker reads."""
    bank = state.reader.banks["production"]
    at = State(bank.theta.astype(np.float64), bank.covariance.astype(np.float64))
    for first, second in flight:
        at = at.after(state.reader.difference(first, second))
    if state.limits is None:
        space = WithinPromptPairs(state.reader.features, state.prompt, eligible(state))
        cap = state.project.norm_cap if state.project.norm_cap < 1 else None
        state.limits = norm_limits(space, cap, NEAR_DUPLICATE)
    folder = folder_of(state.version)
    shutil.rmtree(folder, ignore_errors=True)
    store.write_state(
        folder / f"{state.step}.safetensors",
        {
            "theta": at.theta, "covariance": at.covariance, "limits": np.array(state.limits),
            "flight": pairs_of(flight), "asked": pairs_of(sorted(state.asked)),
            "prompt": state.prompt, "eligible": eligible(state),
        },
    )  # fmt: skip


def pairs_of(pairs: list[tuple[int, int]]) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """(n, 2)."""
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)


def score(version_id: int, step: int, shard: int, shards: int) -> int:
    """Name the best pairs of one shard; how many. A round that is over is nobody's business."""
    version = FeatureVersion.objects.select_related("project").get(pk=version_id)
    folder = folder_of(version)
    try:
        given = store.read_state(folder / f"{step}.safetensors")
    except LearnerError:
        return 0
    rows = shards_of(given["prompt"].astype(np.int64), given["eligible"].astype(bool), shards)[shard]
    found = named(version, given, rows)
    result = {"first": found.first, "second": found.second, "width": found.width, "margin": found.margin}
    store.write_state(folder / f"{step}-{shard}.safetensors", result | {"rest": np.array(found.rest)})
    return len(found.first)


def named(
    version: FeatureVersion, given: dict[str, Any], rows: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> Leaders:
    """The best pairs of these rows under the project's rule."""
    rule = RULES[version.project.rule]
    if not isinstance(rule, Scored):
        raise LearnerError(f"the rule {version.project.rule} is not scored in shards")
    features = load_features(version)[rows]
    low, high = (float(limit) for limit in given["limits"])
    at = State(given["theta"].astype(np.float64), given["covariance"].astype(np.float64))
    excluded = [(int(a), int(b)) for a, b in np.vstack([given["asked"], given["flight"]])]
    return leaders(features, given["prompt"][rows].astype(np.int64), rows, rule, at, (low, high), excluded)


def draw(version_id: int, step: int, shards: int) -> int:
    """Draw from what the shards named, under the learner's lock; how many comparisons were added."""
    version = FeatureVersion.objects.get(pk=version_id)
    deadline = time.monotonic() + ASKED_AGAIN_SECONDS
    while time.monotonic() < deadline:
        with exclusive("learn", version.project_id) as held:
            if held:
                return draw_locked(version, step, shards)
        time.sleep(0.2)
    return 0


def draw_locked(version: FeatureVersion, step: int, shards: int) -> int:
    """Merge, draw, and let the next round be asked for."""
    from learner.tasks.queueing import refill
    from learner.tasks.states import load_state

    state = load_state(version.project_id)
    if state is None or state.version.pk != version.pk:
        return 0
    try:
        state.drafted = merged(state, step, shards)
        return refill(state)
    finally:
        state.drafted, state.asked_at = None, float("-inf")


def merged(state: ProjectState, step: int, shards: int) -> Merged:
    """The leaders of all shards, less the pairs that were asked about meanwhile."""
    folder, rule = folder_of(state.version), RULES[state.project.rule]
    if not isinstance(rule, Scored):
        raise LearnerError("the rule was changed meanwhile")
    given = store.read_state(folder / f"{step}.safetensors")
    parts = [store.read_state(folder / f"{step}-{shard}.safetensors") for shard in range(shards)]
    found = [
        Leaders(
            part["first"].astype(np.int64), part["second"].astype(np.int64),
            part["width"].astype(np.float64), part["margin"].astype(np.float64), float(part["rest"]),
        )
        for part in parts
    ]  # fmt: skip
    at = State(given["theta"].astype(np.float64), given["covariance"].astype(np.float64))
    flight = [(int(a), int(b)) for a, b in given["flight"]]
    result = Merged(state.reader.features, state.prompt, rule, at, found, flight)
    result.hide(state.asked)
    return result
