"""The rules against formulas written out independently, and the promises every rule keeps."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.errors import LearnerError
from learner.selection import (
    DEPLOYMENT_RULES,
    RULES,
    Candidates,
    Pick,
    Scored,
    State,
    choose,
    deployment_pair,
    kept_pairs,
)

PROMPTS = [0, 1, 0, 2, 1, 0, 2, 2, 2, 1, 0]


def a_state(seed: int = 0, dimension: int = 4, radius: float = 1.0) -> State:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(dimension, dimension))
    return State(rng.normal(size=dimension), np.linalg.inv(np.eye(dimension) + root @ root.T), radius)


def a_pool(seed: int = 0, dimension: int = 4) -> Candidates:
    features = np.random.default_rng(seed).normal(size=(len(PROMPTS), dimension))
    return Candidates.within_prompts(features, PROMPTS)


def sigmoid(m: float) -> float:
    return 1 / (1 + np.exp(-m))


def dense(state: State, pool: Candidates) -> list[tuple[float, float]]:
    """q by a direct solve against H, and m, of every pair."""
    precision = np.linalg.inv(state.covariance)
    out = []
    for first, second in zip(pool.first, pool.second, strict=True):
        z = pool.features[first] - pool.features[second]
        out.append((float(z @ np.linalg.solve(precision, z)), float(z @ state.theta)))
    return out


def entropy_of(p: np.ndarray | float) -> np.ndarray | float:
    p = np.clip(p, 1e-300, 1 - 1e-16)
    return -p * np.log(p) - (1 - p) * np.log(1 - p)


def information(q: float, m: float) -> float:
    f = np.linspace(m - 12 * np.sqrt(q), m + 12 * np.sqrt(q), 20001)
    density = np.exp(-((f - m) ** 2) / (2 * q))
    density /= density.sum()
    p = 1 / (1 + np.exp(-f))
    return entropy_of(float(p @ density)) - float(entropy_of(p) @ density)


FORMULAS = {
    "max_uncertainty": lambda q, m, beta: q,
    "d_optimal": lambda q, m, beta: np.log(1 + sigmoid(m) * (1 - sigmoid(m)) * q),
    "entropy": lambda q, m, beta: entropy_of(sigmoid(m)),
    "bald": lambda q, m, beta: information(q, m),
    "info_max": lambda q, m, beta: sigmoid(m + beta * np.sqrt(q)) - sigmoid(m - beta * np.sqrt(q)),
    "delta_ucb": lambda q, m, beta: abs(m) + beta * np.sqrt(q),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("seed", range(3))
def test_a_scored_rule_takes_the_maximum_of_its_formula_by_direct_solve(name: str, seed: int) -> None:
    state, pool = a_state(seed, radius=1.7), a_pool(seed)
    scores = [FORMULAS[name](q, m, 1.7) for q, m in dense(state, pool)]
    pick = RULES[name](state, pool, np.random.default_rng(0))
    best = int(np.argmax(scores))
    assert (pick.first, pick.second) == (pool.first[best], pool.second[best])
    assert pick.score == pytest.approx(scores[best], rel=2e-3 if name == "bald" else 1e-6)
    assert pick.width == pytest.approx(np.sqrt(dense(state, pool)[best][0]))
    assert pick.probability == 1.0


@pytest.mark.parametrize("name", FORMULAS)
def test_a_score_never_falls_with_width_and_moves_with_the_margin_as_declared(name: str) -> None:
    rule = RULES[name]
    assert isinstance(rule, Scored)
    q, m = np.meshgrid(np.geomspace(1e-4, 300, 60), np.linspace(0, 9, 60), indexing="ij")
    score = rule.score(q, m, 1.3)
    assert np.allclose(score, rule.score(q, -m, 1.3), rtol=1e-9, atol=1e-15)
    assert (np.diff(score, axis=0) >= -1e-12).all()
    sideways = np.diff(score, axis=1)
    assert {
        "ignored": (sideways == 0).all(),
        "falls": (sideways <= 1e-12).all(),
        "rises": (sideways >= 0).all(),
    }[rule.margin]


def test_best_worst_shows_a_prompts_extremes_best_first() -> None:
    state, pool = a_state(), a_pool()
    reward = pool.features @ state.theta
    for seed in range(6):
        pick = RULES["best_worst"](state, pool, np.random.default_rng(seed))
        rows = [r for r, p in enumerate(PROMPTS) if p == PROMPTS[pick.first]]
        assert (pick.first, pick.second) == (
            max(rows, key=reward.__getitem__),
            min(rows, key=reward.__getitem__),
        )
        assert pick.probability == pytest.approx(1 / 3)


def test_max_min_lcb_matches_the_game_played_by_hand() -> None:
    state, pool = a_state(3), a_pool(3)
    for seed in range(6):
        pick = RULES["max_min_lcb"](state, pool, np.random.default_rng(seed))
        rows = [r for r, p in enumerate(PROMPTS) if p == PROMPTS[pick.first]]
        lower, upper = {}, {}
        for j, k in itertools.permutations(rows, 2):
            z = pool.features[j] - pool.features[k]
            reach = np.sqrt(z @ state.covariance @ z)
            lower[j, k], upper[j, k] = z @ state.theta - reach, z @ state.theta + reach
        leaders = [j for j in rows if all(upper[j, k] > 0 for k in rows if k != j)]
        lead = max(leaders, key=lambda j: min(lower[j, k] for k in rows if k != j))
        rival = min((k for k in rows if k != lead), key=lambda k: lower[lead, k])
        assert (pick.first, pick.second) == (lead, rival)
        assert pick.score == pytest.approx(lower[lead, rival])


def test_drts_without_uncertainty_is_best_against_worst() -> None:
    state = State(a_state().theta, 1e-18 * np.eye(4))
    for seed in range(4):
        sampled = RULES["drts"](state, a_pool(), np.random.default_rng(seed))
        exact = RULES["best_worst"](state, a_pool(), np.random.default_rng(seed))
        assert (sampled.first, sampled.second) == (exact.first, exact.second)


def test_drts_draws_from_the_posterior() -> None:
    features = np.array([[1.0, 0.0], [0.0, 0.0]])
    state = State(np.array([0.4, 0.0]), np.diag([0.25, 1.0]))
    pool, rng = Candidates.within_prompts(features, [0, 0]), np.random.default_rng(5)
    led = np.mean([RULES["drts"](state, pool, rng).first == 0 for _ in range(3000)])
    # rewards are centred: +-g/2 in both samples, so the first leads when g + g' > 0 with g ~ N(0.4, 0.25)
    assert led == pytest.approx(0.871, abs=0.025)


def test_random_is_uniform_over_the_pairs_and_says_so() -> None:
    pool, rng = a_pool(), np.random.default_rng(1)
    picks = [RULES["random"](a_state(), pool, rng) for _ in range(4000)]
    counts = [
        sum((p.first, p.second) == pair for p in picks) for pair in zip(pool.first, pool.second, strict=True)
    ]
    assert {p.probability for p in picks} == {1 / len(pool)}
    expected = 4000 / len(pool)
    assert sum((c - expected) ** 2 / expected for c in counts) < 2 * len(pool) + 10


@pytest.mark.parametrize("name", RULES)
def test_a_rule_is_pure_and_repeats_itself_under_the_same_seed(name: str) -> None:
    state, pool = a_state(), a_pool()
    before = state.theta.copy(), state.covariance.copy(), pool.features.copy()
    picks = [
        choose(name, state, pool, np.random.default_rng(9), count=3, pending=[(0, 2)], random_reserve=0.2)
        for _ in range(2)
    ]
    assert picks[0] == picks[1]
    after = state.theta, state.covariance, pool.features
    assert all(np.array_equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("name", RULES)
def test_a_rule_never_returns_pending_avoided_or_repeated_pairs(name: str) -> None:
    pool = a_pool()
    picks = choose(
        name, a_state(), pool, np.random.default_rng(0), count=99, pending=[(2, 0), (1, 4)], avoid=[(7, 3)]
    )
    chosen = [frozenset((p.first, p.second)) for p in picks]
    assert len(set(chosen)) == len(chosen) == len(pool) - 3
    assert not {frozenset((0, 2)), frozenset((1, 4)), frozenset((3, 7))} & set(chosen)


@pytest.mark.parametrize("name", RULES)
def test_an_empty_pool_is_an_error_that_says_so(name: str) -> None:
    nothing = a_pool().only(np.zeros(0, np.int64))
    with pytest.raises(LearnerError, match="no eligible pair"):
        choose(name, a_state(), nothing, np.random.default_rng(0))
    with pytest.raises(LearnerError, match="no eligible pair"):
        RULES[name](a_state(), nothing, np.random.default_rng(0))


def test_a_pair_in_flight_lowers_the_others_by_its_rank_one_term() -> None:
    state, pool = a_state(), a_pool()
    z = pool.features[0] - pool.features[2]
    w = sigmoid(z @ state.theta) * (1 - sigmoid(z @ state.theta))
    after = np.linalg.inv(np.linalg.inv(state.covariance) + w * np.outer(z, z))
    assert np.allclose(state.after(z).covariance, after)
    later = choose("max_uncertainty", state, pool, np.random.default_rng(0), pending=[(0, 2)])[0]
    left = [
        (q, a, b)
        for (q, _), a, b in zip(dense(State(state.theta, after), pool), pool.first, pool.second, strict=True)
        if (a, b) != (0, 2)
    ]
    assert (later.first, later.second) == max(left)[1:]


def test_the_prompt_cap_counts_pairs_in_flight() -> None:
    picks = choose(
        "d_optimal",
        a_state(),
        a_pool(),
        np.random.default_rng(0),
        count=9,
        pending=[(0, 2)],
        per_prompt_cap=2,
    )
    assert sorted(PROMPTS[p.first] for p in picks) == [0, 1, 1, 2, 2]


def test_the_random_reserve_reports_the_probability_of_both_ways() -> None:
    pool, state = a_pool(), a_state()
    best = RULES["d_optimal"](state, pool, np.random.default_rng(0))
    rng, seen = np.random.default_rng(3), 0
    for _ in range(2000):
        pick = choose("d_optimal", state, pool, rng, random_reserve=0.3)[0]
        same = (pick.first, pick.second) == (best.first, best.second)
        seen += same
        assert pick.probability == pytest.approx(0.3 / len(pool) + (0.7 if same else 0.0))
    assert seen / 2000 == pytest.approx(0.7 + 0.3 / len(pool), abs=0.035)


def test_the_norm_cap_and_the_near_duplicate_filter_drop_the_extremes() -> None:
    norms = np.concatenate([[0.001, 0.04], np.linspace(1, 2, 96), [50.0, 60.0]])
    keep = kept_pairs(norms, 0.95, 0.05)
    assert not keep[:2].any() and not keep[-2:].any() and keep[2:90].all()
    assert keep.sum() == 94 and kept_pairs(norms, None, None).all()
    with pytest.raises(LearnerError, match="quantile"):
        kept_pairs(norms, 1.5, None)


def test_more_outliers_than_the_quantile_drops_are_dropped_all_the_same() -> None:
    norms = np.concatenate([np.linspace(0.9, 1.1, 80), np.full(20, 6.0)])
    assert not kept_pairs(norms, 0.95, None)[80:].any()
    assert kept_pairs(norms, 0.95, None)[:80].all()
    assert kept_pairs(norms, None, None).all()


def test_copies_of_a_pair_pass_the_norm_cap_together() -> None:
    norms = np.array([1.0, 2.0, 2.0 * (1 + 1e-7), 2.0, 3.0])
    assert kept_pairs(norms, 0.5, None).tolist() == [True, True, True, True, False]


def test_ties_go_to_the_smallest_pair() -> None:
    features = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    pool = Candidates.within_prompts(features, [1, 1, 0, 0])
    pick = RULES["max_uncertainty"](State(np.zeros(2), np.eye(2)), pool, np.random.default_rng(0))
    assert (pick.first, pick.second) == (2, 3)


def test_an_unknown_rule_and_a_broken_state_are_named() -> None:
    with pytest.raises(LearnerError, match="no rule named 'best'"):
        choose("best", a_state(), a_pool(), np.random.default_rng(0))
    with pytest.raises(LearnerError, match=r"theta is not finite at \[0\]"):
        State(np.array([np.nan]), np.eye(1))
    with pytest.raises(LearnerError, match=r"covariance is not finite at \[1, 0\]"):
        State(np.zeros(2), np.array([[1.0, 0.0], [np.inf, 1.0]]))
    with pytest.raises(LearnerError, match="do not fit"):
        State(np.zeros(3), np.eye(2))


@pytest.mark.parametrize("radius", [-0.1, np.nan, np.inf])
def test_a_radius_that_is_negative_or_not_finite_is_refused(radius: float) -> None:
    with pytest.raises(LearnerError, match="State: radius"):
        State(np.zeros(2), np.eye(2), radius)
    with pytest.raises(LearnerError, match="deployment_pair: radius"):
        deployment_pair(np.zeros(2), np.eye(2), np.eye(2), radius)


def test_a_pool_that_does_not_fit_or_is_not_finite_is_refused_with_its_place() -> None:
    features, broken = np.eye(4), np.eye(4)
    broken[2, 1] = np.nan
    for pool, prompt, eligible, words in (
        (broken, [0, 0, 0, 0], None, "features of row 2 are not finite"),
        (features, [0, 0, 0], None, "do not fit"),
        (features, [0, 0, 0, 0, 0], None, "do not fit"),
        (features, [0.0, 0.5, 0.0, 0.0], None, "prompt is integers"),
        (features, [0, 0, 0, 0], [True, False], "do not fit"),
        (features, [0, 0, 0, 0], [0, 1, 2, 3], "eligible booleans"),
        (features[0], [0, 0, 0, 0], None, "do not fit"),
    ):
        with pytest.raises(LearnerError, match=words):
            Candidates.within_prompts(pool, prompt, eligible=eligible)


def test_drts_says_what_it_cannot_draw_from() -> None:
    pool = Candidates.within_prompts(np.array([[1e200, 0.0], [0.0, 1.0]]), [0, 0])
    with pytest.raises(LearnerError, match="drts"):
        RULES["drts"](State(np.zeros(2), np.eye(2)), pool, np.random.default_rng(0))


@pytest.mark.parametrize(
    "options",
    [{"per_prompt_cap": 0}, {"per_prompt_cap": -1}]
    + [{"random_reserve": share} for share in (-0.1, 1.5, np.nan)],
)
def test_a_cap_below_one_and_a_reserve_that_is_no_share_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(LearnerError, match=next(iter(options))):
        choose("d_optimal", a_state(), a_pool(), np.random.default_rng(0), **options)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), responses=st.integers(1, 7), radius=st.floats(0, 3))
def test_the_deployment_pair_solves_equations_6_and_7(seed: int, responses: int, radius: float) -> None:
    rng = np.random.default_rng(seed)
    state, features = a_state(seed), rng.normal(size=(responses, 4))
    a = max(range(responses), key=lambda k: features[k] @ state.theta)
    precision = np.linalg.inv(state.covariance)

    def optimistic(k: int) -> float:
        z = features[k] - features[a]
        return float(features[k] @ state.theta + 2 * radius * np.sqrt(z @ np.linalg.solve(precision, z)))

    rival = max(range(responses), key=optimistic)
    assert deployment_pair(state.theta, state.covariance, features, radius) == (a, rival)


@pytest.mark.parametrize("name", DEPLOYMENT_RULES)
def test_a_deployment_rule_shows_responses_it_was_given(name: str) -> None:
    rng = np.random.default_rng(0)
    for responses in (1, 2, 5, 9):
        features = rng.normal(size=(responses, 4))
        first, second = DEPLOYMENT_RULES[name](a_state(), features, rng)
        assert 0 <= first < responses and 0 <= second < responses
        if name != "optimistic":
            assert first != second or responses == 1


def test_deployment_baselines_rank_by_predicted_reward() -> None:
    state, rng = State(np.ones(1), np.eye(1)), np.random.default_rng(0)
    features = np.array([3.0, 8.0, 1.0, 6.0, 5.0, 4.0, 2.0, 7.0])[:, None]
    assert DEPLOYMENT_RULES["best_two"](state, features, rng) == (1, 7)
    assert DEPLOYMENT_RULES["best_worst"](state, features, rng) == (1, 2)
    assert DEPLOYMENT_RULES["best_quantile"](state, features, rng) == (1, 3)


def test_deployment_refuses_features_that_are_not_finite() -> None:
    with pytest.raises(LearnerError, match="not finite"):
        deployment_pair(np.zeros(2), np.eye(2), [[0.0, np.inf]], 1.0)
    with pytest.raises(LearnerError, match="at least one response"):
        deployment_pair(np.zeros(2), np.eye(2), np.zeros((0, 2)), 1.0)


@pytest.mark.parametrize("name", DEPLOYMENT_RULES)
def test_every_deployment_rule_refuses_features_it_cannot_use(name: str) -> None:
    for features, words in (
        (np.zeros((0, 4)), "at least one response"),
        (np.zeros((3, 5)), r"\(K, 4\).*\(3, 5\)"),
        (np.array([[0.0] * 4, [np.nan] * 4]), "row 1 are not finite"),
    ):
        with pytest.raises(LearnerError, match=words):
            DEPLOYMENT_RULES[name](a_state(), features, np.random.default_rng(0))


def test_a_pick_is_a_value() -> None:
    assert Pick(0, 1, 2.0, 1.0, 1.0) == Pick(0, 1, 2.0, 1.0, 1.0)
