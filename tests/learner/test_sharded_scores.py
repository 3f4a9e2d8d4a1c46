"""Scores in shards: the picks of one machine, whatever the number, and limits without all norms at once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.scores import PairScores
from learner.scores.pairs import WithinPromptPairs
from learner.scores.sharded import Leaders, Merged, UndecidedError, leaders, norm_limits, shards_of
from learner.selection import RULES, Scored, State, kept_pairs

pytestmark = pytest.mark.mathematics
SCORED = [name for name, rule in RULES.items() if isinstance(rule, Scored)]


def a_pool(seed: int, prompts: int, dimension: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, State]:
    """Responses in a mixed order, some of them kept out, and a state as after some judgments."""
    rng = np.random.default_rng(seed)
    prompt = rng.permutation(np.repeat(np.arange(prompts) * 3, rng.integers(1, 9, prompts)))
    features = rng.normal(size=(len(prompt), dimension)).astype(np.float32)
    features[::7] *= 5
    eligible = prompt % 5 != 0
    root = rng.normal(size=(dimension, dimension + 2))
    return (
        features,
        prompt,
        eligible,
        State(rng.normal(size=dimension) / 2, np.linalg.inv(root @ root.T), 0.7),
    )


def in_shards(
    features: np.ndarray, prompt: np.ndarray, eligible: np.ndarray, state: State, rule: str, count: int,
    excluded: list[tuple[int, int]], most: int,
) -> list[Leaders]:  # fmt: skip
    limits = norm_limits(WithinPromptPairs(features, prompt, eligible), 0.9, 0.05)
    chosen = RULES[rule]
    assert isinstance(chosen, Scored)
    return [
        leaders(features[rows], prompt[rows], rows, chosen, state, limits, excluded, most)
        for rows in shards_of(prompt, eligible, count)
        if len(rows)
    ]


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    prompts=st.integers(3, 30),
    shards=st.integers(1, 6),
    rule=st.sampled_from(SCORED),
    excluded=st.integers(0, 5),
    pending=st.integers(0, 3),
)
def test_the_picks_are_those_of_one_machine(
    seed: int, prompts: int, shards: int, rule: str, excluded: int, pending: int
) -> None:
    features, prompt, eligible, state = a_pool(seed, prompts, 6)
    if not eligible.any() or not WithinPromptPairs(features, prompt, eligible).size:
        return
    alone = PairScores(
        features, prompt, rule=rule, radius=0.7, norm_cap=0.9, near_duplicate=0.05, eligible=eligible
    )
    alone.reset(state.theta, state.covariance)
    space = WithinPromptPairs(features, prompt, eligible)
    drawn = np.random.default_rng(seed + 1).permutation(space.size)
    pairs = [tuple(int(row[0]) for row in space.rows(np.array([n]))) for n in drawn[: excluded + pending]]
    for pair in pairs[:excluded]:
        alone.exclude(*pair)
    flight = [(a, b) for a, b in pairs[excluded:]]
    if not alone.remaining > 4 + len(flight):
        return
    expected = [(p.first, p.second) for p in alone.pick(4, pending=flight)]
    for pair in flight:
        state = state.after(np.asarray(features[pair[0]], np.float64) - features[pair[1]])
    found = in_shards(features, prompt, eligible, state, rule, shards, [(a, b) for a, b in pairs], most=1000)
    merged = Merged(features, prompt, RULES[rule], state, found, taken=flight)
    assert [(p.first, p.second) for p in merged.pick(4)] == expected


def test_with_too_few_named_a_pick_is_refused_rather_than_wrong() -> None:
    features, prompt, eligible, state = a_pool(3, 30, 6)
    alone = PairScores(features, prompt, radius=0.7, norm_cap=0.9, near_duplicate=0.05, eligible=eligible)
    alone.reset(state.theta, state.covariance)
    expected = [(p.first, p.second) for p in alone.pick(30)]
    found = in_shards(features, prompt, eligible, state, "d_optimal", 3, [], 12)
    merged = Merged(features, prompt, RULES["d_optimal"], state, found)
    picked = []
    with pytest.raises(UndecidedError):
        while True:
            pick = merged.pick(1)[0]
            picked.append((pick.first, pick.second))
            merged.take(pick.first, pick.second)
    assert picked
    assert picked == expected[: len(picked)]


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cap=st.sampled_from([None, 0.5, 0.9, 1.0]),
    near=st.sampled_from([None, 0.05, 0.6]),
)
def test_limits_keep_the_pairs_that_all_norms_together_keep(
    seed: int, cap: float | None, near: float | None
) -> None:
    features, prompt, eligible, _ = a_pool(seed, 12, 4)
    space = WithinPromptPairs(features, prompt, eligible)
    if not space.size:
        return
    norms = np.zeros(space.size, np.float32)
    z = space.differences(np.arange(space.size))
    norms[:] = np.sqrt((np.asarray(z, np.float64) ** 2).sum(axis=1))
    low, high = norm_limits(space, cap, near)
    kept = (norms > low) & (norms <= high)
    assert np.count_nonzero(kept != kept_pairs(norms, cap, near)) == 0


def test_shards_are_whole_prompts_of_about_as_many_pairs() -> None:
    rng = np.random.default_rng(0)
    prompt = rng.integers(0, 200, 2000)
    parts = shards_of(prompt, np.ones(2000, bool), 5)
    assert sorted(np.concatenate(parts).tolist()) == list(range(2000))
    owners = [set(prompt[part].tolist()) for part in parts]
    assert sum(map(len, owners)) == len(set().union(*owners))
    pairs = [sum(n * (n - 1) // 2 for n in np.unique(prompt[part], return_counts=True)[1]) for part in parts]
    assert max(pairs) < 1.3 * min(pairs)
