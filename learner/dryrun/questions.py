"""Which pairs there are, and what is answered about them: votes that exist, or answers drawn from utilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
Mask = NDArray[np.bool_]
TESTS_PER_PROMPT = 40


@dataclass(frozen=True)
class Votes:
    """Votes on pairs of rows of a pool: ``answer`` is 1 where ``first`` (the smaller row) was preferred, 1/2 a tie."""

    first: Rows
    second: Rows
    answer: Floats


def within_prompt(prompt: Rows, allowed: Mask) -> tuple[Rows, Rows]:
    """Every pair of allowed rows of one prompt, the smaller row first. O(sum K^2)."""
    first, second = [], []
    for number in np.unique(prompt[allowed]):
        rows = np.flatnonzero((prompt == number) & allowed)
        one, two = np.triu_indices(len(rows), 1)
        first.append(rows[one])
        second.append(rows[two])
    return np.concatenate(first), np.concatenate(second)


def drawn_answers(
    prompt: Rows, utility: Floats, held: Mask, rng: np.random.Generator, keep_equal: bool = False
) -> tuple[Rows, Rows, Floats]:
    """Up to 40 pairs of every held-out prompt, answered by Bradley-Terry; those of equal utility are left out."""
    first, second = within_prompt(prompt, held)
    order = rng.permutation(len(first))
    place = np.zeros(len(first), dtype=np.int64)
    for number in np.unique(prompt[held]):
        mine = order[prompt[first[order]] == number]
        place[mine] = np.arange(len(mine))
    gap = utility[first] - utility[second]
    kept = (place < TESTS_PER_PROMPT) & (keep_equal | (gap != 0.0))
    answer = (rng.random(len(first)) < expit(gap)).astype(np.float64)
    return first[kept], second[kept], answer[kept]


def one_vote_a_pair(votes: Votes, allowed: Mask, rng: np.random.Generator) -> tuple[Rows, Rows, Floats]:
    """Pairs with votes, each answered by one of its votes drawn uniformly."""
    mine = rng.permutation(np.flatnonzero(allowed[votes.first]))
    keys = votes.first[mine] * len(allowed) + votes.second[mine]
    _, index = np.unique(keys, return_index=True)
    chosen = mine[index]
    return votes.first[chosen], votes.second[chosen], votes.answer[chosen]
