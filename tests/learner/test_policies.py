"""Pessimistic values (Eq. 4), best of K, and the mixture by Frank-Wolfe against other optimisers."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import scipy.optimize

from learner.errors import LearnerError
from learner.estimators import OnePass
from learner.features import centre_by_prompt
from learner.policies import (
    best_of,
    best_of_policy,
    frank_wolfe,
    pessimistic_value,
    source_policies,
)

D = 4


@pytest.fixture(scope="module")
def model() -> OnePass:
    rng = np.random.default_rng(0)
    Z = rng.normal(size=(80, D)) * [2.0, 1.0, 0.3, 0.05]
    fitted = OnePass(D)
    fitted.learn_many(Z, (rng.random(80) < 1 / (1 + np.exp(-Z @ np.ones(D)))).astype(float))
    return fitted


@pytest.fixture(scope="module")
def pool() -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(1)
    prompts = np.repeat([30, 10, 20], 3)
    offsets = rng.normal(size=(3, D))[np.repeat([0, 1, 2], 3)] * 100
    return rng.normal(size=(9, D)) + offsets, prompts, ["a", "b", "c"] * 3


def test_the_pessimistic_value_is_the_reward_less_beta_widths(model: OnePass) -> None:
    phi = np.array([0.3, -0.1, 0.7, 0.2])
    value = pessimistic_value(phi, model, beta=1.7)
    width = np.sqrt(phi @ model.covariance @ phi)
    assert value.pessimistic == pytest.approx(phi @ model.theta - 1.7 * width)
    assert value.interval == pytest.approx((phi @ model.theta - 1.7 * width, phi @ model.theta + 1.7 * width))
    assert pessimistic_value(phi, model, confidence=0.9).beta == model.radius(0.9)


def test_the_width_is_of_the_mean_not_the_mean_of_the_widths(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, _ = pool
    policy = best_of_policy(features, prompts, model)
    centred = centre_by_prompt(features, prompts)[policy.rows]
    assert policy.value.width == pytest.approx(float(model.width(centred.mean(axis=0))[0]))
    assert policy.value.width < model.width(centred).mean()


def test_what_all_responses_of_a_prompt_share_changes_no_value(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, sources = pool
    shifted = features + prompts[:, None] * np.ones(D)
    one, other = (best_of_policy(rows, prompts, model, "pessimistic") for rows in (features, shifted))
    assert np.array_equal(one.rows, other.rows)
    assert one.value.pessimistic == pytest.approx(other.value.pessimistic)
    first, second = (source_policies(rows, prompts, sources, model) for rows in (features, shifted))
    assert all(first[name][0].width == pytest.approx(second[name][0].width) for name in "abc")


@pytest.mark.parametrize("mode", ["greedy", "averaged", "pessimistic"])
def test_best_of_k_takes_the_largest_score_of_its_mode_with_its_interval(model: OnePass, mode: str) -> None:
    features = np.random.default_rng(5).normal(size=(7, D))
    centred = features - features.mean(axis=0)
    theta = model.theta_mean if mode == "averaged" else model.theta
    widths = np.sqrt(np.einsum("ij,jk,ik->i", centred, model.covariance, centred))
    scores = centred @ theta - (1.2 * widths if mode == "pessimistic" else 0)
    choice = best_of(features, model, mode, beta=1.2)
    assert choice.index == int(np.argmax(scores))
    assert choice.reward == pytest.approx(float(centred[choice.index] @ theta))
    assert choice.high - choice.low == pytest.approx(2.4 * widths[choice.index])


def test_the_pessimist_prefers_what_is_known(model: OnePass) -> None:
    known, unknown = np.array([0.5, 0, 0, 0.0]), np.array([0.5, 0, 0, 10.0])
    features = np.stack([known, unknown, -known - unknown])
    assert best_of(features, model, "pessimistic", beta=3.0).index == 0


def test_best_of_k_of_a_pool_is_best_of_each_prompt(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, _ = pool
    for mode in ("greedy", "averaged", "pessimistic"):
        rows = best_of_policy(features, prompts, model, mode).rows
        for row, prompt in zip(rows, [10, 20, 30], strict=True):
            mine = np.flatnonzero(prompts == prompt)
            assert row == mine[best_of(features[mine], model, mode).index]


def test_a_source_is_valued_over_the_prompts_it_answered(model: OnePass) -> None:
    rng = np.random.default_rng(2)
    features, prompts = rng.normal(size=(6, D)), [0, 0, 0, 1, 1, 1]
    table = source_policies(features, prompts, ["a", "a", "b", "a", "c", "c"], model, beta=1.0)
    centred = centre_by_prompt(features, np.array(prompts))
    assert {name: count for name, (_, count) in table.items()} == {"a": 2, "b": 1, "c": 1}
    both = (centred[:2].mean(axis=0) + centred[3]) / 2
    assert table["a"][0].reward == pytest.approx(float(both @ model.theta))
    assert table["a"][0].width == pytest.approx(float(model.width(both)[0]))
    assert table["c"][0].reward == pytest.approx(float(centred[4:].mean(axis=0) @ model.theta))


def test_frank_wolfe_beats_every_policy_and_its_gap_bounds_the_optimum(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, _ = pool
    centred = centre_by_prompt(features, prompts)
    mixture = frank_wolfe(features, prompts, model, beta=1.5, steps=2000)
    groups = [np.flatnonzero(prompts == prompt) for prompt in (10, 20, 30)]
    vertices = np.array([centred[list(rows)].mean(axis=0) for rows in itertools.product(*groups)])
    values = [pessimistic_value(vertex, model, 1.5).pessimistic for vertex in vertices]
    assert mixture.value.pessimistic > max(values) + 1e-3
    best = -min(_simplex_minimum(vertices, model, 1.5, seed) for seed in range(3))
    assert mixture.value.pessimistic == pytest.approx(best, abs=1e-5)
    assert -1e-9 <= mixture.gap < 1e-3


def _simplex_minimum(vertices: np.ndarray, model: OnePass, beta: float, seed: int) -> float:
    """The same maximum over weights of all 27 policies, by a general optimiser."""

    def negative(weights: np.ndarray) -> float:
        return -pessimistic_value(weights @ vertices, model, beta).pessimistic

    start = np.random.default_rng(seed).dirichlet(np.ones(len(vertices)))
    only = {"type": "eq", "fun": lambda weights: weights.sum() - 1}
    result = scipy.optimize.minimize(
        negative,
        start,
        bounds=[(0, 1)] * len(vertices),
        constraints=only,
        options={"ftol": 1e-12, "maxiter": 300},
    )
    return float(result.fun)


def test_the_mixture_is_made_of_policies_and_weights_that_sum_to_one(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, _ = pool
    mixture = frank_wolfe(features, prompts, model, beta=2.0)
    assert mixture.weights.sum() == pytest.approx(1.0) and (mixture.weights > 0).all()
    assert all((prompts[rows] == [10, 20, 30]).all() for rows in mixture.rows)
    centred = centre_by_prompt(features, prompts)
    mean = sum(w * centred[rows].mean(axis=0) for w, rows in zip(mixture.weights, mixture.rows, strict=True))
    assert pessimistic_value(mean, model, 2.0).pessimistic == pytest.approx(mixture.value.pessimistic)


def test_without_pessimism_the_mixture_is_greedy_best_of_k(
    model: OnePass, pool: tuple[np.ndarray, np.ndarray, list[str]]
) -> None:
    features, prompts, _ = pool
    mixture = frank_wolfe(features, prompts, model, beta=0.0)
    assert mixture.rows.tolist() == [best_of_policy(features, prompts, model).rows.tolist()]
    assert mixture.gap == pytest.approx(0.0, abs=1e-9)


def test_wrong_questions_are_refused(model: OnePass) -> None:
    with pytest.raises(LearnerError, match="no row"):
        best_of(np.zeros((0, D)), model)
    with pytest.raises(LearnerError, match="mode"):
        best_of(np.zeros((2, D)), model, "bold")
    with pytest.raises(LearnerError, match="beta"):
        best_of(np.zeros((2, D)), model, beta=-1.0)
    with pytest.raises(LearnerError, match="prompts"):
        frank_wolfe(np.zeros((2, D)), [0], model)
    with pytest.raises(LearnerError, match="sources"):
        source_policies(np.zeros((2, D)), [0, 0], ["a"], model)
    with pytest.raises(LearnerError, match="mean_feature"):
        pessimistic_value(np.zeros((2, D)), model)
