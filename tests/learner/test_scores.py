"""PairScores against full rescoring of every pair, on random pools, with lists so short that every path is taken."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from learner.errors import LearnerError
from learner.estimators import OnePass
from learner.scores import PairScores, lazy
from learner.scores.pairs import WithinPromptPairs, by_matrix, by_updates
from learner.selection import RULES, Candidates, Scored, State, choose

SCORED = [name for name, rule in RULES.items() if isinstance(rule, Scored)]


@pytest.fixture(params=[4, 2048], ids=["short list", "long list"])
def listed(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    monkeypatch.setattr(lazy, "_LISTED", request.param)
    monkeypatch.setattr(lazy, "_FEW_PENDING", 3)
    monkeypatch.setattr(lazy, "_MOST_PENDING", 23)
    yield request.param


class Learner:
    """Algorithm 1 in its rank-one form, and what PairScores is told of it."""

    def __init__(self, dimension: int, seed: int, kick: float = 1.0) -> None:
        self.rng = np.random.default_rng(seed)
        self.truth = self.rng.normal(size=dimension)
        self.theta, self.covariance, self.kick = np.zeros(dimension), np.eye(dimension), kick

    def learn(self, z: np.ndarray, scores: PairScores) -> None:
        answer = self.rng.random() < 1 / (1 + np.exp(-z @ self.truth))
        u, w = self.covariance @ z, self.curvature(z)
        p = 1 / (1 + np.exp(-z @ self.theta))
        self.theta = self.theta - self.kick * (p - answer) / (1 + w * (z @ u)) * u
        w = self.curvature(z)
        c = w / (1 + w * (z @ u))
        self.covariance = self.covariance - c * np.outer(u, u)
        scores.absorb(u, c, self.theta)

    def curvature(self, z: np.ndarray) -> float:
        p = 1 / (1 + np.exp(-z @ self.theta))
        return float(p * (1 - p))


def a_pool(seed: int, dimension: int, repeats: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    prompt = np.repeat(np.arange(7) * 3, rng.integers(1, 11, size=7))
    rng.shuffle(prompt)
    features = rng.normal(size=(len(prompt), dimension)) * np.exp(0.5 * rng.normal(size=(len(prompt), 1)))
    if repeats:  # copied responses: exact ties between pairs, and pairs of length zero
        features = np.round(features)[rng.integers(len(prompt), size=len(prompt))]
    return features.astype(np.float32), prompt, rng.random(len(prompt)) < 0.9


def pairs(picks: list) -> list[tuple[int, int]]:
    return [(p.first, p.second) for p in picks]


@pytest.mark.parametrize("rule", SCORED)
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10_000),
    dimension=st.integers(1, 9),
    repeats=st.booleans(),
    kick=st.sampled_from([1.0, 6.0]),
)
def test_picks_are_those_of_full_rescoring(
    listed: int, rule: str, seed: int, dimension: int, repeats: bool, kick: float
) -> None:
    features, prompt, eligible = a_pool(seed, dimension, repeats)
    pool = Candidates.within_prompts(features, prompt, eligible=eligible, norm_cap=0.9, near_duplicate=0.05)
    scores = PairScores(features, prompt, rule=rule, norm_cap=0.9, eligible=eligible)
    learner = Learner(dimension, seed, kick)
    scores.reset(learner.theta, learner.covariance)
    open_ = np.ones(len(pool), bool)
    for step in range(min(25, len(pool) - 6)):
        left = pool.only(open_)
        flying = [
            (int(left.first[i]), int(left.second[i])) for i in learner.rng.integers(len(left), size=step % 3)
        ]
        flying = list(dict.fromkeys(flying))
        state, count = State(learner.theta, learner.covariance), 1 + step % 3
        expected = choose(rule, state, left, learner.rng, count=count, pending=flying, avoid=flying[:1])
        got = scores.pick(count, pending=flying, avoid=flying[:1])
        assert pairs(got) == pairs(expected)
        assert np.allclose([p.width for p in got], [p.width for p in expected], rtol=1e-6, atol=1e-9)
        first, second = pairs(got)[0] if step % 4 else (int(left.first[-1]), int(left.second[-1]))
        scores.exclude(second, first)
        open_[pool.place(first, second)] = False
        learner.learn(features[first].astype(float) - features[second], scores)


@pytest.mark.parametrize("device", ["cpu", "cpu:torch"])
@pytest.mark.parametrize("copies", [False, True])
@pytest.mark.parametrize("norm_cap", [None, 0.95])
@pytest.mark.parametrize("rule", ["d_optimal", "max_uncertainty", "entropy", "delta_ucb"])
def test_responses_ten_thousand_times_as_long_leave_the_picks_exact(
    rule: str, norm_cap: float | None, copies: bool, device: str
) -> None:
    rng, dimension = np.random.default_rng(len(rule)), 6
    for _ in range(3):
        prompt = np.repeat(np.arange(40), rng.integers(2, 12, size=40))
        features = (rng.normal(size=(len(prompt), dimension)) + 3 * rng.normal(size=dimension)).astype(
            np.float32
        )
        for far in rng.choice(40, size=3, replace=False):
            rows = np.flatnonzero(prompt == far)
            features[rows[0]] *= 10_000
            if copies:  # two responses far out, yet near each other
                features[rows[1]] = features[rows[0]] + rng.normal(size=dimension).astype(np.float32)
        pool = Candidates.within_prompts(features, prompt, norm_cap=norm_cap, near_duplicate=0.05)
        scores = PairScores(features, prompt, rule=rule, norm_cap=norm_cap, device=device)
        learner, open_ = Learner(dimension, 1), np.ones(len(pool), bool)
        scores.reset(learner.theta, learner.covariance)
        assert scores.remaining == len(pool)
        for _ in range(25):
            left = pool.only(open_)
            state = State(learner.theta, learner.covariance)
            expected = pairs(choose(rule, state, left, rng, count=3))
            assert pairs(scores.pick(3)) == expected
            scores.exclude(*expected[0])
            open_[pool.place(*expected[0])] = False
            learner.learn(features[expected[0][0]].astype(float) - features[expected[0][1]], scores)


@pytest.mark.parametrize("rule", ["d_optimal", "entropy"])
def test_explicit_pairs_give_the_picks_of_full_rescoring(listed: int, rule: str) -> None:
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(700, 8)) * np.exp(rng.normal(size=(700, 1)))).astype(np.float32)
    scores, learner = PairScores.from_pairs(z, rule=rule, norm_cap=None, near_duplicate=None), Learner(8, 1)
    scores.reset(learner.theta, learner.covariance)
    left = np.ones(700, bool)
    for _ in range(60):
        q, m = np.einsum("nd,nd->n", z @ learner.covariance, z), z @ learner.theta
        expected = int(np.argmax(np.where(left, RULES[rule].score(q, m, 1.0), -np.inf)))
        pick = scores.pick()[0]
        assert (pick.first, pick.second) == (expected, -1)
        scores.exclude(expected, -1)
        left[expected] = False
        learner.learn(z[expected].astype(float), scores)


def test_pairs_of_equal_length_at_the_start_tie_and_the_smallest_wins(listed: int) -> None:
    features = np.eye(40, dtype=np.float32)
    scores = PairScores(features, np.repeat([5, 2], 20))
    scores.reset(np.zeros(40), 0.3 * np.eye(40))
    assert pairs(scores.pick(3)) == [(20, 21), (22, 23), (24, 25)]


def test_picking_leaves_no_trace(listed: int) -> None:
    features, prompt, _ = a_pool(3, 5, False)
    told, silent = PairScores(features, prompt), PairScores(features, prompt)
    learner = Learner(5, 3)
    for scores in (told, silent):
        scores.reset(learner.theta, learner.covariance)
    before = told.pick(1)
    told.pick(20, pending=pairs(told.pick(5)))
    assert told.pick(1) == before
    for row in (0, 4, 9):
        mate = int(np.flatnonzero((prompt == prompt[row]) & (np.arange(len(prompt)) != row))[0])
        z = features[row].astype(float) - features[mate]
        learner.learn(z, told)
        silent.absorb(told._argmax._directions[told._argmax._pending - 1], 0.0, learner.theta)  # theta only
        told.pick(7, pending=[(row, mate)])
    silent.reset(learner.theta, learner.covariance)
    assert pairs(told.pick(4)) == pairs(silent.pick(4))


@pytest.mark.parametrize("rule", ["d_optimal", "max_uncertainty", "random", "drts"])
def test_one_draft_picks_what_fresh_calls_pick_one_by_one(rule: str) -> None:
    features, prompt, _ = a_pool(4, 5, False)
    at_once, one_by_one = (
        PairScores(features, prompt, rule=rule, per_prompt_cap=3, random_reserve=0.2) for _ in range(2)
    )
    learner = Learner(5, 3)
    for scores in (at_once, one_by_one):
        scores.reset(learner.theta, learner.covariance)
    flight = pairs(at_once.pick(3, rng=np.random.default_rng(1)))
    beside = next((a, b) for a in range(len(prompt)) for b in range(a) if prompt[a] == prompt[b])
    draft = at_once.draft(flight)
    for draw in range(12):
        expected = one_by_one.pick(1, pending=flight, rng=np.random.default_rng(draw))[0]
        assert draft.pick(np.random.default_rng(draw)) == expected
        for pair in ((expected.first, expected.second), *([beside] if draw == 5 else [])):
            draft.take(*pair)
            flight.append((max(pair), min(pair)))
            one_by_one.exclude(*pair)


def test_a_released_pair_in_flight_is_picked_again() -> None:
    features, prompt, _ = a_pool(1, 4, False)
    scores = PairScores(features, prompt)
    scores.reset(np.zeros(4), np.eye(4))
    best = pairs(scores.pick())[0]
    assert best not in pairs(scores.pick(5, pending=[best]))
    assert pairs(scores.pick())[0] == best


def test_the_cap_counts_excluded_pending_and_picked_pairs_of_a_prompt() -> None:
    features, prompt, _ = a_pool(2, 4, False)
    scores = PairScores(features, prompt, per_prompt_cap=2, norm_cap=None)
    scores.reset(np.zeros(4), np.eye(4))
    first = scores.pick()[0]
    scores.exclude(first.first, first.second)
    scores.exclude(first.second, first.first)  # told twice, counted once
    rows = [
        r
        for r in np.flatnonzero(prompt == prompt[first.first]).tolist()
        if r not in (first.first, first.second)
    ]
    flying = (rows[0], first.first)
    picks = scores.pick(99, pending=[flying])
    asked = [int(prompt[a]) for a, _ in [*pairs(picks), flying, pairs([first])[0]]]
    sizes = {int(p): n * (n - 1) // 2 for p, n in zip(*np.unique(prompt, return_counts=True), strict=True)}
    assert {p: asked.count(p) for p in sizes if sizes[p]} == {p: min(2, sizes[p]) for p in sizes if sizes[p]}


def test_pairs_are_numbered_by_prompt_then_rows_and_numbers_decode() -> None:
    features, prompt, eligible = a_pool(8, 3, False)
    space = WithinPromptPairs(features, prompt, eligible)
    pool = Candidates.within_prompts(features, prompt, eligible=eligible)
    first, second = space.rows(np.arange(space.size))
    assert np.array_equal(first, pool.first) and np.array_equal(second, pool.second)
    assert [space.find(a, b) for a, b in zip(second.tolist(), first.tolist(), strict=True)] == list(
        range(space.size)
    )


@pytest.mark.parametrize("sizes", [[2, 2, 2], [3, 7, 3, 6, 7, 1], [30]])
def test_a_sweep_visits_every_pair_once_with_its_exact_form(sizes: list[int]) -> None:
    rng = np.random.default_rng(0)
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    features = rng.normal(size=(len(prompt), 5)) + 100.0  # a shared offset must cancel
    space = WithinPromptPairs(features, prompt, np.ones(len(prompt), bool))
    u, c, theta = rng.normal(size=(4, 5)), rng.random(4), rng.normal(size=5)
    z = space.differences(np.arange(space.size))
    matrix = u.T @ u
    for form, expected in (
        (by_updates(u, c), (z @ u.T) ** 2 @ c),
        (by_matrix(matrix), np.einsum("nd,nd->n", z @ matrix, z)),
    ):
        seen, margins = np.full(space.size, np.nan), np.full(space.size, np.nan)
        for where, value, margin in space.sweep(form, theta, np.float64):
            assert np.isnan(seen[where]).all()
            seen[where], margins[where] = value, margin
        assert np.allclose(seen, expected) and np.allclose(margins, z @ theta)


def test_a_memory_map_and_float64_features_pick_the_same(tmp_path: Path) -> None:
    features, prompt, _ = a_pool(9, 6, False)
    np.save(tmp_path / "features.npy", features)
    mapped = np.load(tmp_path / "features.npy", mmap_mode="r")
    picks = []
    for form in (features, mapped, features.astype(np.float64)):
        scores = PairScores(form, prompt)
        scores.reset(np.ones(6), np.eye(6))
        picks.append(pairs(scores.pick(6)))
    assert picks[0] == picks[1] == picks[2]


@pytest.mark.parametrize("rule", ["d_optimal", "entropy"])
def test_sweeps_on_a_device_pick_the_same(listed: int, rule: str) -> None:
    features, prompt, eligible = a_pool(3, 6, repeats=False)
    rng = np.random.default_rng(3)
    here = PairScores(features, prompt, rule=rule, eligible=eligible)
    there = PairScores(features, prompt, rule=rule, eligible=eligible, device="cpu:torch")
    learner = OnePass(features.shape[1])
    for scores in (here, there):
        scores.reset(learner.theta, learner.covariance)
    for _ in range(30):
        picks = [scores.pick()[0] for scores in (here, there)]
        assert pairs(picks[:1]) == pairs(picks[1:])
        update = learner.learn_one(
            features[picks[0].first] - features[picks[0].second], float(rng.random() < 0.5)
        )
        for scores in (here, there):
            scores.exclude(picks[0].first, picks[0].second)
            scores.absorb(update.u, update.c, learner.theta)


def test_explicit_pairs_on_a_device_pick_the_same() -> None:
    z = np.random.default_rng(5).standard_normal((400, 5)).astype(np.float32)
    found = []
    for device in ("cpu", "cpu:torch"):
        scores = PairScores.from_pairs(z, device=device)
        scores.reset(np.full(5, 0.3), np.diag([1.0, 0.5, 2.0, 1.0, 0.2]))
        found.append(pairs(scores.pick(20)))
    assert found[0] == found[1]


def test_a_device_that_is_not_there_is_named() -> None:
    with pytest.raises(LearnerError, match="cuda:99"):
        PairScores(np.eye(4), [0, 0, 0, 0], device="cuda:99")


def test_widths_and_predictions_are_those_of_the_learner() -> None:
    features, prompt, _ = a_pool(10, 5, False)
    for rule in ("d_optimal", "random"):
        scores, learner = PairScores(features, prompt, rule=rule), Learner(5, 10)
        scores.reset(learner.theta, learner.covariance)
        a, b = (
            Candidates.within_prompts(features, prompt).first,
            Candidates.within_prompts(features, prompt).second,
        )
        for i in range(8):
            learner.learn(features[a[i]].astype(float) - features[b[i]], scores)
        z = features[a].astype(float) - features[b]
        precision = np.linalg.inv(learner.covariance)
        assert np.allclose(
            scores.width(a, b) ** 2, np.einsum("nd,nd->n", z, np.linalg.solve(precision, z.T).T)
        )
        assert np.allclose(scores.predict(a, b), 1 / (1 + np.exp(-z @ learner.theta)))


def test_a_grown_pool_keeps_what_was_learned_and_excluded() -> None:
    features, prompt, _ = a_pool(11, 5, False)
    old, learner = len(features) - 9, Learner(5, 11)
    scores = PairScores(features[:old], prompt[:old], norm_cap=None)
    scores.reset(learner.theta, learner.covariance)
    for _ in range(4):
        pick = scores.pick()[0]
        scores.exclude(pick.first, pick.second)
        learner.learn(features[pick.first].astype(float) - features[pick.second], scores)
    scores.extend(features, prompt)
    fresh = PairScores(features, prompt, norm_cap=None)
    fresh.reset(learner.theta, learner.covariance)
    for pair in scores._excluded:
        fresh.exclude(*pair)
    assert pairs(scores.pick(5)) == pairs(fresh.pick(5))


def test_a_pair_excluded_while_a_response_was_not_eligible_stays_excluded_when_it_is() -> None:
    features, prompt = np.diag([5.0, 4.0, 1.0]), [0, 0, 0]
    scores = PairScores(features, prompt, eligible=[True, False, True], norm_cap=None)
    scores.reset(np.zeros(3), np.eye(3))
    scores.exclude(0, 1)
    scores.extend(features, prompt)
    assert scores.remaining == 2
    assert pairs(scores.pick(3)) == [(0, 2), (1, 2)]


def test_nine_bytes_are_kept_a_pair() -> None:
    prompts = 300
    scores = PairScores(np.zeros((prompts * 64, 2), np.float32), np.repeat(np.arange(prompts), 64))
    assert scores.size == prompts * 2016 and scores.nbytes / scores.size < 12


@pytest.mark.parametrize("sizes", [[64] * 700, [64, 63] * 350], ids=["alike", "unlike"])
def test_at_most_twelve_bytes_a_pair_are_ever_held(sizes: list[int]) -> None:
    prompt = np.repeat(np.arange(len(sizes)), sizes)
    features = np.random.default_rng(0).standard_normal((len(prompt), 24), dtype=np.float32)
    learner = Learner(24, 0)
    tracemalloc.start()
    try:
        scores = PairScores(features, prompt)
        scores.reset(learner.theta, learner.covariance)
        for _ in range(20):
            pick = scores.pick()[0]
            scores.exclude(pick.first, pick.second)
            learner.learn(features[pick.first].astype(float) - features[pick.second], scores)
        scores.pick(20, pending=pairs(scores.pick(60)))
        scores.reset(learner.theta, learner.covariance)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak / scores.size < 12


def test_what_cannot_be_used_is_refused_with_its_place() -> None:
    features, prompt, _ = a_pool(12, 3, False)
    scores = PairScores(features, prompt)
    with pytest.raises(LearnerError, match="call reset"):
        scores.pick()
    scores.reset(np.zeros(3), np.eye(3))
    broken = features.copy()
    broken[5, 1] = np.nan
    other = int(np.flatnonzero(prompt != prompt[0])[0])
    for attempt, words in (
        (lambda: PairScores(broken, prompt), "row 5"),
        (lambda: PairScores(features, prompt[:-1]), "do not fit"),
        (lambda: PairScores(features, prompt, rule="luck"), "no rule named"),
        (lambda: PairScores(features, prompt, per_prompt_cap=0), "per_prompt_cap is 0"),
        (lambda: PairScores(features, prompt, per_prompt_cap=-2), "per_prompt_cap is -2"),
        (lambda: PairScores(features, prompt, random_reserve=1.5), "random_reserve is 1.5"),
        (lambda: PairScores.from_pairs(features, random_reserve=np.nan), "random_reserve is nan"),
        (lambda: scores.reset(np.zeros(4), np.eye(4)), "do not fit 3 features"),
        (lambda: scores.absorb(np.zeros(2), 0.1, np.zeros(3)), "absorb"),
        (lambda: scores.absorb(np.zeros(3), np.inf, np.zeros(3)), "finite"),
        (lambda: scores.exclude(0, other), "different prompts"),
        (lambda: scores.exclude(0, 10_000), "not a pair"),
        (lambda: scores.pick(pending=[(0, 0)]), "not a pair"),
        (lambda: scores.predict([-1], [0]), "predict: no row -1"),
        (lambda: scores.predict([10_000], [0]), "predict: no row 10000"),
        (lambda: scores.width([0, -1], [3, 3]), "width: no row -1"),
        (lambda: scores.width([0], [len(prompt)]), "width: no row"),
        (lambda: PairScores(features, prompt, rule="random").pick(), "call reset"),
        (lambda: PairScores.from_pairs(np.full((3, 2), np.inf)), "row 0"),
    ):
        with pytest.raises(LearnerError, match=words):
            attempt()


@pytest.mark.parametrize("rule", ["d_optimal", "random", "best_worst"])
def test_an_empty_pool_and_an_exhausted_one_say_so(rule: str) -> None:
    rng = np.random.default_rng(0)
    for features, prompt in ((np.zeros((0, 3), np.float32), []), (np.ones((2, 3), np.float32), [0, 1])):
        scores = PairScores(features, prompt, rule=rule)
        scores.reset(np.zeros(3), np.eye(3))
        with pytest.raises(LearnerError, match="none of 0 pairs"):
            scores.pick(rng=rng)
    scores = PairScores(np.eye(3, dtype=np.float32), [0, 0, 0], rule=rule)
    scores.reset(np.zeros(3), np.eye(3))
    for pick in scores.pick(9, rng=rng):
        scores.exclude(pick.first, pick.second)
    with pytest.raises(LearnerError, match="none of 3 pairs"):
        scores.pick(rng=rng)
