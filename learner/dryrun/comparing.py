"""What the runs of several rules say: curves with intervals, labels saved, and whether any rule can be recommended."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from learner.dryrun.collecting import Run
from learner.efficiency import (
    Curves,
    Interval,
    LabelsSaved,
    area_under_curve,
    labels_saved,
    paired_bootstrap,
)

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


@dataclass
class Outcome:
    """One rule, at the counts that are shown; ``gain`` and ``accuracy_gain`` are over random, positive where better."""

    rule: str
    area: float
    behind: Interval
    counts: list[int] = field(default_factory=list)
    log_loss: list[Interval] = field(default_factory=list)
    accuracy: list[Interval] = field(default_factory=list)
    gain: list[Interval] = field(default_factory=list)
    accuracy_gain: list[Interval] = field(default_factory=list)
    saved: list[LabelsSaved] = field(default_factory=list)
    regularization: list[float] = field(default_factory=list)


def joined(runs: Sequence[Run]) -> Run:
    """Folds side by side, as more held-out judgments; lambda is their geometric mean."""
    count = min(len(run.losses) for run in runs)
    return Run(
        np.concatenate([run.losses[:count] for run in runs], axis=1),
        np.concatenate([run.hits[:count] for run in runs], axis=1),
        np.exp(np.mean([np.log(run.regularization[:count]) for run in runs], axis=0)),
    )


def compare(
    runs: Mapping[str, Sequence[Run]], checkpoints: Sequence[int], clusters: Rows, shown: Container[int]
) -> dict[str, Outcome]:
    """Every rule against ``random``, which must be among them; intervals resample prompts and seeds.

    Parameters
    ----------
    runs : runs by rule, one a seed, all on the same held-out judgments
    checkpoints : label counts at which they were measured
    clusters : (n,) prompt of each held-out judgment
    shown : the counts whose figures are wanted
    """
    losses, right, counts = stacked(runs, checkpoints)
    curves = {rule: from_nothing(counts, each, clusters) for rule, each in losses.items()}
    areas = areas_of(runs, checkpoints)
    best = min(areas, key=lambda rule: float(areas[rule].mean()))
    found = {}
    for rule in runs:
        rng, own = np.random.default_rng(0), np.random.default_rng(1)
        behind = paired_bootstrap(areas[rule], areas[best], clusters, rng=rng)
        one = found[rule] = Outcome(rule, float(areas[rule].mean()), behind)
        for i, n in enumerate(counts.astype(int).tolist()):
            if n not in shown:
                continue
            loss, hit = losses[rule][:, i], right[rule][:, i]
            one.counts.append(n)
            one.gain.append(paired_bootstrap(losses["random"][:, i], loss, clusters, rng=rng))
            one.accuracy_gain.append(paired_bootstrap(hit, right["random"][:, i], clusters, rng=rng))
            one.saved.append(labels_saved(curves[rule], curves["random"], at=n, rng=rng))
            one.log_loss.append(paired_bootstrap(loss, np.zeros_like(loss), clusters, rng=own, draws=400))
            accuracy = paired_bootstrap(hit, np.zeros_like(hit), clusters, rng=own, draws=400)
            one.accuracy.append(accuracy.within(0.0, 1.0))
            one.regularization.append(
                float(np.exp(np.mean([np.log(run.regularization[i]) for run in runs[rule]])))
            )
    return found


def stacked(
    runs: Mapping[str, Sequence[Run]], checkpoints: Sequence[int]
) -> tuple[dict[str, Floats], dict[str, Floats], Floats]:
    """Losses and hits by rule, (S, C, n), at the counts that all runs reached."""
    count = min(len(run.losses) for each in runs.values() for run in each)
    losses = {rule: np.stack([run.losses[:count] for run in each]) for rule, each in runs.items()}
    right = {rule: np.stack([run.hits[:count] for run in each]) for rule, each in runs.items()}
    return losses, right, np.array(checkpoints[:count], dtype=np.float64)


def areas_of(runs: Mapping[str, Sequence[Run]], checkpoints: Sequence[int]) -> dict[str, Floats]:
    """Mean log-loss of every held-out judgment while collecting, (S, n) by rule."""
    losses, _right, counts = stacked(runs, checkpoints)
    return {rule: area_under_curve(counts, each.transpose(0, 2, 1)) for rule, each in losses.items()}


def from_nothing(counts: Floats, losses: Floats, clusters: Rows) -> Curves:
    """Learning curve that begins at no labels, where every model says 1/2."""
    start = np.full((len(losses), 1, losses.shape[2]), np.log(2.0))
    return Curves(np.concatenate([[0.0], counts]), np.concatenate([start, losses], axis=1), clusters)


@dataclass(frozen=True)
class Recommendation:
    """``rule`` is None when no rule can be told from random. ``gain``: fall of the mean log-loss while collecting,
    of the best rule against random; ``rivals``: rules that cannot be told from the best; ``worse``: from random."""

    rule: str | None
    best: str
    gain: Interval
    rivals: tuple[str, ...]
    worse: tuple[str, ...]


def recommend(
    runs: Mapping[str, Sequence[Run]], checkpoints: Sequence[int], clusters: Rows, alpha: float = 0.05
) -> Recommendation:
    """The rule with the lowest mean log-loss while collecting, if it is below random's beyond chance.

    The best of k rules is chosen after looking at all k, so each is compared at alpha / k: the chance that random
    itself is beaten by a rule that is no better is at most alpha.
    """
    areas = areas_of(runs, checkpoints)
    others = [rule for rule in areas if rule != "random"]
    confidence = 1.0 - alpha / max(1, len(others))

    def against(one: str, two: str) -> Interval:
        rng = np.random.default_rng(0)
        return paired_bootstrap(areas[one], areas[two], clusters, rng=rng, confidence=confidence)

    gains = {rule: against("random", rule) for rule in others}
    best = max(others, key=lambda rule: gains[rule].estimate) if others else "random"
    gain = gains.get(best, Interval(0.0, 0.0, 0.0, confidence))
    rivals = tuple(rule for rule in others if rule != best and not against(rule, best).low > 0.0)
    worse = tuple(rule for rule in others if gains[rule].high < 0.0)
    return Recommendation(best if gain.low > 0.0 else None, best, gain, rivals, worse)
