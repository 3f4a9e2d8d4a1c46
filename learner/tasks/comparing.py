"""Two feature versions on the same evaluation judgments, one-pass and refitted, with paired intervals."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from learner import efficiency
from learner.estimators import BatchMLE
from learner.log import LABELS, TRAINS, Entry
from learner.tasks.findings import LEAST_HELD_OUT, finite, limits
from learner.tasks.states import ProjectState, entries

Array = npt.NDArray[np.floating]
DRAWS = 1000


@dataclass(frozen=True)
class HeldOut:
    """The evaluation judgments with a preference; they are the same for every version."""

    log: list[Entry]
    y: Array
    prompts: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


def held_out(state: ProjectState) -> HeldOut:
    """What the state holds of the evaluation arm."""
    found = [entry for entry in state.held_out if entry.answer in LABELS]
    y = np.array([LABELS[entry.answer] for entry in found], dtype=np.float64)
    return HeldOut(found, y, state.prompt[np.array([entry.first for entry in found], dtype=np.int64)])


def predictions(state: ProjectState, theta: Array, judged: HeldOut) -> Array:
    """P(first preferred) of every evaluation judgment under these parameters."""
    z = np.array([state.reader.difference(entry.first, entry.second) for entry in judged.log])
    return np.asarray(expit(z @ theta))


def refitted(state: ProjectState) -> BatchMLE:
    """Maximum likelihood over every judgment that trains production, at the lambda that one-pass uses now."""
    bank = state.reader.banks["production"]
    model = BatchMLE(state.reader.features.shape[1], bank.regularization)
    log = [
        entry
        for entry in entries(state.project, 0, state.step)
        if not entry.evaluation and entry.answer in LABELS and "production" in TRAINS.get(entry.arm, ())
    ]
    if log:
        rows = np.array([state.reader.difference(entry.first, entry.second) for entry in log])
        weights = np.array([entry.weight for entry in log])
        model.learn_many(rows, np.array([LABELS[entry.answer] for entry in log]), weights)
    return model


def compare(live: ProjectState, new: ProjectState) -> dict[str, Any]:
    """How the new version predicts the evaluation judgments beside the live one; gaps above 0 favour the new one."""
    judged = held_out(live)
    found: dict[str, Any] = {
        "step": live.step,
        "judgments": live.reader.counts["production"],
        "held_out": len(judged),
        "live": live.version.pk,
    }
    if len(judged) < LEAST_HELD_OUT:
        return found | {"verdict": "unknown"}
    thetas = {
        "one_pass": [state.reader.banks["production"].theta for state in (live, new)],
        "refit": [refitted(state).theta for state in (live, new)],
    }
    for name, (before, after) in thetas.items():
        found[name] = beside(predictions(live, before, judged), predictions(new, after, judged), judged)
    low, high = found["one_pass"]["log_loss_gap"][1:]
    return found | {"verdict": verdict(low, high)}


def verdict(low: float | None, high: float | None) -> str:
    """What the interval of the gap says."""
    if low is None or high is None:
        return "open"
    return "better" if low > 0 else "worse" if high < 0 else "open"


def beside(before: Array, after: Array, judged: HeldOut) -> dict[str, Any]:
    """Log-loss and accuracy of two predictions of the same judgments, and their paired differences."""
    losses = [efficiency.log_losses(p, judged.y) for p in (before, after)]
    hits = [efficiency.hits(p, judged.y) for p in (before, after)]
    zero = np.zeros(len(judged))
    return {
        "log_loss": [limits(difference(loss, zero, judged).within(0.0)) for loss in losses],
        "accuracy": [limits(difference(hit, zero, judged).within(0.0, 1.0)) for hit in hits],
        "log_loss_gap": gap(losses[0], losses[1], judged),
        "accuracy_gap": gap(hits[1], hits[0], judged),
    }


def gap(first: Array, second: Array, judged: HeldOut) -> list[float | None]:
    """Mean difference with its limits."""
    return limits(difference(first, second, judged))


def difference(first: Array, second: Array, judged: HeldOut) -> efficiency.Interval:
    """Mean difference with its interval; prompts are resampled whole, in the same draws every time."""
    rng = np.random.default_rng(0)
    return efficiency.paired_bootstrap(first, second, judged.prompts, rng=rng, draws=DRAWS)


def cosine(one: Array, other: Array) -> float | None:
    """Of the angle between two parameter vectors; None where one of them is zero."""
    length = float(np.linalg.norm(one) * np.linalg.norm(other))
    return finite(float(one @ other) / length) if length > 0 else None
