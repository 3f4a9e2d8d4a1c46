"""Rules that draw at random on PairScores, and the probability that a pick reports."""

from __future__ import annotations

import numpy as np
import pytest

from learner.scores import PairScores
from learner.selection import RULES, Candidates, Scored, State, choose
from tests.learner.test_scores import Learner, a_pool, pairs

SCORED = [name for name, rule in RULES.items() if isinstance(rule, Scored)]


@pytest.mark.parametrize("rule", ["random", "best_worst", "drts", "max_min_lcb"])
def test_rules_that_draw_at_random_choose_among_open_pairs_only(rule: str) -> None:
    features, prompt, eligible = a_pool(4, 5, False)
    pool = Candidates.within_prompts(features, prompt, eligible=eligible, norm_cap=0.95, near_duplicate=0.05)
    scores = PairScores(features, prompt, rule=rule, eligible=eligible)
    learner = Learner(5, 4)
    scores.reset(learner.theta, learner.covariance)
    allowed = {frozenset(p) for p in zip(pool.first.tolist(), pool.second.tolist(), strict=True)}
    for _ in range(20):
        pick = scores.pick(rng=learner.rng)[0]
        assert frozenset((pick.first, pick.second)) in allowed
        z = features[pick.first].astype(float) - features[pick.second]
        assert pick.width == pytest.approx(np.sqrt(z @ learner.covariance @ z))
        learner.learn(z, scores)
    every = scores.pick(10_000, rng=learner.rng)
    assert len({frozenset(p) for p in pairs(every)}) == len(every) == len(allowed) == scores.remaining


def test_within_a_prompt_the_choice_is_the_rules_own() -> None:
    features, _, _ = a_pool(5, 4, False)
    prompt, theta = np.zeros(len(features), int), np.random.default_rng(0).normal(size=4)
    pool = Candidates.within_prompts(features, prompt)
    for rule in ("best_worst", "max_min_lcb", "drts"):
        scores = PairScores(features, prompt, rule=rule, norm_cap=None, near_duplicate=None, radius=0.7)
        scores.reset(theta, np.eye(4))
        expected = RULES[rule](State(theta, np.eye(4), 0.7), pool, np.random.default_rng(2))
        assert pairs(scores.pick(rng=np.random.default_rng(2))) == pairs([expected])


def test_the_random_reserve_is_drawn_and_its_probability_reported() -> None:
    features, prompt, _ = a_pool(6, 4, False)
    scores = PairScores(features, prompt, random_reserve=0.25)
    scores.reset(np.zeros(4), np.eye(4))
    plain = PairScores(features, prompt)
    plain.reset(np.zeros(4), np.eye(4))
    best, rng, hits = pairs(plain.pick())[0], np.random.default_rng(0), 0
    for _ in range(800):
        pick = scores.pick(rng=rng)[0]
        hit = (pick.first, pick.second) == best
        hits += hit
        assert pick.probability == pytest.approx(0.25 / scores.remaining + (0.75 if hit else 0))
    assert hits / 800 == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("reserve", [0.0, 0.5])
def test_a_rule_inside_prompts_reports_how_often_it_picks_each_pair(reserve: float) -> None:
    """Dense and incremental: the reported probabilities are those of the draws, and add up to one."""
    features = np.random.default_rng(3).normal(size=(12, 4))
    prompt, theta = np.repeat([0, 0, 0, 1, 2, 3], 2), np.random.default_rng(0).normal(size=4)
    scores = PairScores(
        features, prompt, rule="best_worst", norm_cap=None, near_duplicate=None, random_reserve=reserve
    )
    scores.reset(theta, np.eye(4))
    pool, state, rng = (
        Candidates.within_prompts(features, prompt),
        State(theta, np.eye(4)),
        np.random.default_rng(1),
    )
    dense = [choose("best_worst", state, pool, rng, random_reserve=reserve)[0] for _ in range(1500)]
    for picks in (dense, [scores.pick(rng=rng)[0] for _ in range(1500)]):
        told = {frozenset((pick.first, pick.second)): pick.probability for pick in picks}
        assert all(told[frozenset((pick.first, pick.second))] == pick.probability for pick in picks)
        assert sum(p or 0.0 for p in told.values()) == pytest.approx(1.0)
        for pair, probability in told.items():
            seen = sum({pick.first, pick.second} == pair for pick in picks) / len(picks)
            assert seen == pytest.approx(probability, abs=0.06)


@pytest.mark.parametrize("reserve", [0.0, 0.5])
def test_what_is_drawn_from_a_posterior_reports_no_probability(reserve: float) -> None:
    features, prompt, _ = a_pool(3, 4, False)
    scores = PairScores(features, prompt, rule="drts", random_reserve=reserve)
    scores.reset(np.zeros(4), np.eye(4))
    pool, rng = Candidates.within_prompts(features, prompt), np.random.default_rng(1)
    picks = [
        choose("drts", State(np.zeros(4), np.eye(4)), pool, rng, random_reserve=reserve)[0] for _ in range(9)
    ]
    assert {pick.probability for pick in picks + [scores.pick(rng=rng)[0] for _ in range(9)]} == {None}
