"""Were the answers read at all: times that are too short, pauses, and long runs of the same side."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from learner.efficiency.intervals import Floats, Interval, as_floats, wilson
from learner.errors import LearnerError

FASTEST_READING = 100.0  # characters a second, about 1,200 words a minute: skimming, not reading
FASTEST_ANSWER = 1.0  # seconds
FAR = 4.0  # robust standard deviations on the log scale that call a time unusual


@dataclass(frozen=True)
class Conduct:
    """One annotator's times and sides; ``run_chance`` is how likely so long a run of one side is by chance."""

    judgments: int
    median_seconds: float
    too_fast: Interval
    paused: int
    first_side: Interval
    longest_run: int
    run_chance: float


def time_flags(
    annotators: ArrayLike, seconds: ArrayLike, characters: ArrayLike | None = None
) -> NDArray[np.str_]:
    """Mark every judgment ``too fast``, ``paused`` or neither (``""``). O(n log n).

    Too fast: under a second, faster than 100 characters a second when the lengths are known, or unusually
    quick among everybody's times for such lengths. Paused: unusually slow among the annotator's own times.
    Unusual means four robust standard deviations (median, MAD) of ln seconds.

    Parameters
    ----------
    annotators : (n,) who answered
    seconds : (n,) lead time, >= 0
    characters : (n,) characters of the two responses together, optional

    Examples
    --------
    >>> time_flags(["ben"] * 4, [0.3, 20, 25, 30]).tolist()
    ['too fast', '', '', '']
    """
    who, taken = np.asarray(annotators), as_floats(seconds, "seconds", 1)
    if who.shape != taken.shape or (taken < 0).any():
        raise LearnerError(f"time_flags: {who.shape} annotators, {taken.shape} seconds (>= 0)")
    logs = np.log(np.maximum(taken, 0.05))
    fast = taken < FASTEST_ANSWER
    expected = np.zeros(len(logs))
    if characters is not None:
        length = as_floats(characters, "characters", 1)
        fast |= length > FASTEST_READING * taken
        expected = 0.5 * np.log1p(length)
    fast |= _distance(logs - expected) < -FAR
    paused = np.zeros(len(logs), dtype=bool)
    for name in np.unique(who):
        own = who == name
        paused[own] = _distance(logs[own] - expected[own]) > FAR
    return np.where(fast, "too fast", np.where(paused, "paused", ""))


def _distance(values: Floats) -> Floats:
    """Robust standard deviations from the median; nothing is far from fewer than five values."""
    if len(values) < 5:
        return np.zeros(len(values))
    middle = np.median(values)
    scale = max(1.4826 * float(np.median(np.abs(values - middle))), 0.2)
    result: Floats = (values - middle) / scale
    return result


def longest_run(sides: ArrayLike) -> tuple[int, float]:
    """Longest run of equal entries, and the chance of one at least that long were the order random.

    The chance uses the Poisson approximation 1 - exp(-n p^r (1 - p)) summed over both sides with their own
    frequencies, so a mere preference for one side is not mistaken for a run. O(n).

    Examples
    --------
    >>> run, chance = longest_run([1, 0] * 10 + [1] * 20)
    >>> run, chance < 0.05
    (20, True)
    """
    values = np.asarray(sides)
    if len(values) == 0:
        return 0, 1.0
    change = np.flatnonzero(np.concatenate([[True], values[1:] != values[:-1], [True]]))
    run = int(np.diff(change).max())
    shares = np.unique(values, return_counts=True)[1] / len(values)
    if len(shares) == 1:
        return run, 1.0
    expected = sum(
        (len(values) - run + 1) * share**run * (1.0 - share) + share**run * share for share in shares
    )
    return run, -math.expm1(-expected)


def conduct(
    annotators: ArrayLike,
    seconds: ArrayLike,
    first_shown_won: ArrayLike,
    characters: ArrayLike | None = None,
    confidence: float = 0.95,
) -> dict[Any, Conduct]:
    """Summary of every annotator's times and sides, judgments in order of time. O(n log n).

    Parameters
    ----------
    annotators, seconds, characters : as for `time_flags`
    first_shown_won : (n,) 1 if the response shown first was chosen, 0 if not, 1/2 for a tie (left out of runs)

    Examples
    --------
    >>> report = conduct(["ben"] * 6, [9, 8, 9, 10, 9, 0.2], [1, 0, 1, 1, 0, 1])["ben"]
    >>> report.median_seconds, round(report.too_fast.estimate, 2), report.longest_run
    (9.0, 0.17, 2)
    """
    who, taken, won = (
        np.asarray(annotators),
        as_floats(seconds, "seconds", 1),
        as_floats(first_shown_won, "sides", 1),
    )
    flags = time_flags(who, taken, characters)
    if won.shape != taken.shape:
        raise LearnerError(f"conduct: {taken.shape} seconds but {won.shape} sides")
    report: dict[Any, Conduct] = {}
    for name in np.unique(who):
        own = who == name
        decided = won[own][won[own] != 0.5]
        run, chance = longest_run(decided)
        report[name.item()] = Conduct(
            int(own.sum()),
            float(np.median(taken[own])),
            wilson(int((flags[own] == "too fast").sum()), int(own.sum()), confidence),
            int((flags[own] == "paused").sum()),
            wilson(float((decided > 0.5).sum()), len(decided), confidence),
            run,
            chance,
        )
    return report
