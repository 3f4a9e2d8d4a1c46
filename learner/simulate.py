"""Pools and annotators whose truth is known: for tests, benchmarks and the project marked as simulated."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from learner.errors import LearnerError

Array = npt.NDArray[np.float64]

ANSWERS = ("first", "second", "tie", "both_bad")
"""What an annotator can say; first and second are the sides as shown."""


@dataclass(frozen=True)
class SyntheticPool:
    """Responses with features and true utilities.

    Parameters
    ----------
    features : (M, d) float32 array
        With a part that all responses of a prompt share, as real features have.
    prompt : (M,) integer array
        Which prompt each row answers; rows of a prompt are adjacent.
    utility : (M,) array
        features . theta, but for junk rows, where it is noise.
    theta : (d,) array
        The truth an estimator should find.
    junk : (M,) boolean array
        Rows with inflated norm and a utility that features do not explain.
    """

    features: npt.NDArray[np.float32]
    prompt: npt.NDArray[np.int64]
    utility: Array
    theta: Array
    junk: npt.NDArray[np.bool_]


def synthetic_pool(
    prompts: int,
    responses_per_prompt: int,
    dimension: int,
    rng: np.random.Generator,
    *,
    spread: float = 2.0,
    decay: float = 0.5,
    junk_share: float = 0.0,
) -> SyntheticPool:
    """Draw a pool whose features have a decaying spectrum and whose utilities are linear in them. O(M d).

    Parameters
    ----------
    prompts, responses_per_prompt, dimension : int
        M = prompts * responses_per_prompt, d = dimension.
    rng : numpy.random.Generator
    spread : float
        Standard deviation of utility within a prompt, in logits.
    decay : float
        Coordinate i has standard deviation proportional to (i + 1)^-decay; 0 is isotropic.
    junk_share : float
        Share of rows that get five times the norm and a random utility.

    Returns
    -------
    SyntheticPool
        Scaled so that the mean of |phi - prompt mean|^2 is about 1 without junk.

    Raises
    ------
    LearnerError
        Fewer than one prompt or dimension, fewer than two responses, a share outside [0, 1].

    Examples
    --------
    >>> pool = synthetic_pool(20, 5, 8, np.random.default_rng(0))
    >>> pool.features.shape, bool(np.allclose(pool.features @ pool.theta, pool.utility, atol=1e-4))
    ((100, 8), True)
    """
    if min(prompts, dimension) < 1 or responses_per_prompt < 2 or not 0 <= junk_share <= 1:
        raise LearnerError(
            f"no pool of {prompts} prompts x {responses_per_prompt} responses, d = {dimension}, "
            f"junk share {junk_share}: needs 1, 2, 1 at least and a share"
        )
    rows = prompts * responses_per_prompt
    deviations = np.arange(1, dimension + 1, dtype=np.float64) ** -decay
    # Centring takes one response's worth of variance away from each prompt.
    deviations /= np.sqrt((deviations**2).sum() * (1 - 1 / responses_per_prompt))
    prompt = np.repeat(np.arange(prompts), responses_per_prompt)
    own = rng.normal(size=(rows, dimension)) * deviations
    shared = rng.normal(size=(prompts, dimension)) * deviations
    theta = rng.normal(size=dimension)
    theta *= spread / np.linalg.norm(theta * deviations)
    junk = rng.random(rows) < junk_share
    own[junk] *= 5.0
    features = (own + shared[prompt]).astype(np.float32)
    utility = np.where(junk, rng.normal(scale=spread, size=rows), features.astype(np.float64) @ theta)
    return SyntheticPool(features, prompt, utility, theta, junk)


def utility(quality: npt.ArrayLike, spread: float = 6.0) -> Array:
    """Utility in logits from a quality between 0 and 1. O(n).

    With the default, quality 1 beats quality 0 in 99.8 % of judgments and 0.6 beats 0.5 in 65 %.

    Raises
    ------
    LearnerError
        A quality outside [0, 1].

    Examples
    --------
    >>> utility([0.0, 0.5, 1.0]).tolist()
    [-3.0, 0.0, 3.0]
    """
    values = np.asarray(quality, dtype=np.float64)
    if not ((values >= 0) & (values <= 1)).all():
        raise LearnerError(f"quality lies between 0 and 1, not {values}")
    return np.asarray((values - 0.5) * spread)


@dataclass(frozen=True)
class SimulatedAnnotator:
    """Somebody who judges by utility, with the faults that real annotators have.

    Parameters
    ----------
    temperature : float
        Utilities are divided by it: 1 is Bradley-Terry, larger is noisier.
    tie_width : float
        Half-width, in utility, of what looks equal (Rao and Kupper's ties); 0 never ties.
    side_bias : float
        Logits added to the side shown first.
    random_share : float
        Share of answers given without looking (first or second, evenly).
    always_first : bool
        Answers "first" whatever is shown.
    bad_below : float
        "Both bad" when both utilities are below it.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> annotator = SimulatedAnnotator()
    >>> [annotator.answer(5.0, -5.0, rng) for _ in range(3)]
    ['first', 'first', 'first']
    """

    temperature: float = 1.0
    tie_width: float = 0.0
    side_bias: float = 0.0
    random_share: float = 0.0
    always_first: bool = False
    bad_below: float = -np.inf

    def __post_init__(self) -> None:
        """Refuse faults that no annotator can have."""
        if not self.temperature > 0 or not self.tie_width >= 0 or not 0 <= self.random_share <= 1:
            raise LearnerError(f"impossible annotator: {self}")

    def probabilities(self, utility_first: float, utility_second: float) -> Array:
        """Probability of each of `ANSWERS`, in their order. O(1).

        With m = (u1 - u2) / temperature + side bias and w = tie width / temperature:
        P(first) = sigmoid(m - w), P(second) = sigmoid(-m - w), P(tie) is the rest.

        Examples
        --------
        >>> SimulatedAnnotator(tie_width=1.0).probabilities(0.0, 0.0).round(3).tolist()
        [0.269, 0.269, 0.462, 0.0]
        """
        if self.always_first:
            return np.array([1.0, 0.0, 0.0, 0.0])
        guess = np.array([0.5, 0.5, 0.0, 0.0])
        return self.random_share * guess + (1 - self.random_share) * self._attentive(
            utility_first, utility_second
        )

    def _attentive(self, utility_first: float, utility_second: float) -> Array:
        if max(utility_first, utility_second) < self.bad_below:
            return np.array([0.0, 0.0, 0.0, 1.0])
        margin = (utility_first - utility_second) / self.temperature + self.side_bias
        width = self.tie_width / self.temperature
        first, second = _sigmoid(margin - width), _sigmoid(-margin - width)
        return np.array([first, second, max(1.0 - first - second, 0.0), 0.0])

    def answer(self, utility_first: float, utility_second: float, rng: np.random.Generator) -> str:
        """Draw an answer to a pair as shown; one draw from `rng` whatever the faults. O(1)."""
        cumulated = np.cumsum(self.probabilities(utility_first, utility_second))
        # Rounding may leave the sum just below 1; the last answer that can be given takes the rest.
        index = int(np.searchsorted(cumulated, rng.random() * cumulated[-1], side="right"))
        return ANSWERS[min(index, len(ANSWERS) - 1)]


def crowd(n: int, rng: np.random.Generator, *, faulty_share: float = 0.2) -> list[SimulatedAnnotator]:
    """Draw annotators as a real crowd has them: most careful, some guessing, one or two who always click left.

    Parameters
    ----------
    n : int
    rng : numpy.random.Generator
    faulty_share : float
        Rounded to whole annotators, who come last: guessers, and every third of them always first.

    Examples
    --------
    >>> people = crowd(10, np.random.default_rng(0))
    >>> len(people), sum(person.random_share > 0.3 for person in people)
    (10, 2)
    """
    if n < 0 or not 0 <= faulty_share <= 1:
        raise LearnerError(f"no crowd of {n} with a faulty share of {faulty_share}")
    faulty = round(n * faulty_share)
    careful = [
        SimulatedAnnotator(
            temperature=float(rng.uniform(0.7, 1.5)),
            tie_width=float(rng.uniform(0.0, 0.6)),
            side_bias=float(rng.normal(0.0, 0.15)),
            random_share=float(rng.uniform(0.0, 0.06)),
        )
        for _ in range(n - faulty)
    ]
    return careful + [
        SimulatedAnnotator(random_share=float(rng.uniform(0.4, 0.9)), always_first=i % 3 == 2)
        for i in range(faulty)
    ]


def _sigmoid(margin: float) -> float:
    return float(0.5 * (1.0 + np.tanh(0.5 * margin)))
