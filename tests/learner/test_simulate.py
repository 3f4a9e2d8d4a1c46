"""Synthetic pools and annotators do what they say, so that what is measured on them means something."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from scipy import stats
from sklearn.linear_model import LogisticRegression

from learner.errors import LearnerError
from learner.features import centre_by_prompt
from learner.simulate import ANSWERS, SimulatedAnnotator, crowd, synthetic_pool, utility

ANNOTATORS = [
    SimulatedAnnotator(),
    SimulatedAnnotator(temperature=3.0, tie_width=1.0),
    SimulatedAnnotator(side_bias=0.7, random_share=0.3),
    SimulatedAnnotator(bad_below=2.0),
    SimulatedAnnotator(always_first=True),
    SimulatedAnnotator(random_share=1.0),
]


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("annotator", ANNOTATORS)
def test_answers_come_as_often_as_their_probabilities_say(annotator, rng):
    expected = annotator.probabilities(1.0, 0.2)
    assert expected.sum() == pytest.approx(1.0)
    assert (expected >= 0).all()
    said = Counter(annotator.answer(1.0, 0.2, rng) for _ in range(4000))
    counts = np.array([said[answer] for answer in ANSWERS])
    assert (counts[expected == 0] == 0).all()
    possible = expected > 0
    if possible.sum() > 1:
        assert stats.chisquare(counts[possible], 4000 * expected[possible]).pvalue > 1e-4


def test_without_faults_an_annotator_is_bradley_and_terrys():
    probability = SimulatedAnnotator().probabilities(1.5, -0.5)
    np.testing.assert_allclose(probability, [1 / (1 + np.exp(-2)), 1 / (1 + np.exp(2)), 0, 0], atol=1e-12)


def test_only_a_side_bias_tells_the_sides_apart():
    for annotator in ANNOTATORS[:2]:
        there, back = annotator.probabilities(1.0, 0.0), annotator.probabilities(0.0, 1.0)
        np.testing.assert_allclose(there, back[[1, 0, 2, 3]])
    biased = SimulatedAnnotator(side_bias=0.7).probabilities(0.0, 0.0)
    assert biased[0] == pytest.approx(1 / (1 + np.exp(-0.7)))


def test_both_are_bad_only_when_both_are():
    annotator = SimulatedAnnotator(bad_below=0.0)
    assert annotator.probabilities(-1.0, -2.0).tolist() == [0, 0, 0, 1]
    assert annotator.probabilities(-1.0, 0.5)[3] == 0


def test_extreme_utilities_give_certainty_not_overflow(rng):
    for annotator in ANNOTATORS[:2]:
        assert annotator.answer(1e6, -1e6, rng) == "first"
        assert annotator.answer(-1e6, 1e6, rng) == "second"


def test_an_answer_takes_one_draw_whatever_the_faults():
    after = []
    for annotator in ANNOTATORS:
        rng = np.random.default_rng(5)
        annotator.answer(0.3, 0.1, rng)
        after.append(rng.random())
    assert len(set(after)) == 1


def test_a_pools_utilities_are_linear_and_its_scale_is_stated(rng):
    pool = synthetic_pool(400, 5, 16, rng, spread=1.5)
    assert pool.features.shape == (2000, 16)
    assert np.bincount(pool.prompt).tolist() == [5] * 400
    np.testing.assert_allclose(pool.features.astype(float) @ pool.theta, pool.utility, atol=1e-9)
    centred = centre_by_prompt(pool.features, pool.prompt)
    assert (centred**2).sum(axis=1).mean() == pytest.approx(1.0, rel=0.1)
    spread = np.sqrt((centre_by_prompt(pool.utility[:, None], pool.prompt) ** 2).mean())
    assert spread == pytest.approx(1.5, rel=0.15)


def test_a_pools_spectrum_falls_as_asked(rng):
    pool = synthetic_pool(2000, 4, 8, rng, decay=1.0)
    deviation = centre_by_prompt(pool.features, pool.prompt).std(axis=0)
    np.testing.assert_allclose(deviation / deviation[0], 1 / np.arange(1, 9), rtol=0.06)


def test_junk_has_a_large_norm_and_a_utility_that_features_do_not_explain(rng):
    pool = synthetic_pool(400, 5, 16, rng, junk_share=0.06)
    assert pool.junk.mean() == pytest.approx(0.06, abs=0.02)
    norms = np.linalg.norm(pool.features, axis=1)
    assert norms[pool.junk].mean() > 2.5 * norms[~pool.junk].mean()
    explained = pool.features @ pool.theta
    assert abs(np.corrcoef(explained[pool.junk], pool.utility[pool.junk])[0, 1]) < 0.3


def test_an_independent_learner_finds_theta_from_simulated_answers(rng):
    pool, annotator = synthetic_pool(300, 4, 6, rng, spread=2.0), SimulatedAnnotator()
    first = rng.integers(0, 300, 6000) * 4 + rng.integers(0, 4, 6000)
    second = first // 4 * 4 + (first + rng.integers(1, 4, 6000)) % 4
    said = [
        annotator.answer(pool.utility[i], pool.utility[j], rng) for i, j in zip(first, second, strict=True)
    ]
    differences = pool.features[first] - pool.features[second]
    model = LogisticRegression(C=1e3, fit_intercept=False).fit(differences, [one == "first" for one in said])
    found = model.coef_[0]
    assert found @ pool.theta / np.linalg.norm(found) / np.linalg.norm(pool.theta) > 0.98
    assert np.linalg.norm(found) == pytest.approx(np.linalg.norm(pool.theta), rel=0.15)


def test_a_crowd_is_mostly_careful_and_repeatable():
    one, two = (crowd(20, np.random.default_rng(3), faulty_share=0.3) for _ in range(2))
    assert one == two
    assert sum(person.random_share > 0.3 for person in one) == 6
    assert sum(person.always_first for person in one) == 2
    assert len(set(one)) == 20
    assert crowd(0, np.random.default_rng(0)) == []


def test_quality_becomes_utility_in_order_and_nothing_outside_is_taken():
    assert utility([0.2, 0.7], spread=10.0).tolist() == pytest.approx([-3.0, 2.0])
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(LearnerError, match="quality"):
            utility([0.5, bad])


def test_impossible_annotators_crowds_and_pools_are_refused(rng):
    for options in ({"temperature": 0.0}, {"tie_width": -1.0}, {"random_share": 1.5}):
        with pytest.raises(LearnerError, match="impossible"):
            SimulatedAnnotator(**options)
    for arguments in ((0, 2, 2), (2, 1, 2), (2, 2, 0)):
        with pytest.raises(LearnerError, match="no pool"):
            synthetic_pool(*arguments, rng)
    with pytest.raises(LearnerError, match="no crowd"):
        crowd(-1, rng)
