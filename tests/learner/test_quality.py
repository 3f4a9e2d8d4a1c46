"""Agreement, reliability and conduct, checked on simulated crowds whose truth is known."""

from __future__ import annotations

import math

import krippendorff
import numpy as np
import pytest
from scipy.special import expit
from scipy.stats import spearmanr

from learner.errors import LearnerError
from learner.quality import (
    agreement,
    agreement_by_annotator,
    conduct,
    fit_annotators,
    gold_accuracy,
    longest_run,
    orient,
    time_flags,
)
from learner.quality.agreement import _alpha, _coincidences


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def crowd(
    rng: np.random.Generator, rho: np.ndarray, bias: np.ndarray, each: int, dimension: int = 6
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Differences, answers, annotators and sides of a crowd with known reliabilities and side biases."""
    who = np.repeat(np.arange(len(rho)), each)
    Z = rng.standard_normal((len(who), dimension))
    theta = np.linspace(1.5, -1.0, dimension)
    side = rng.choice([-1.0, 1.0], len(who))
    y = rng.random(len(who)) < expit(rho[who] * (Z @ theta) + bias[who] * side)
    return Z, y.astype(float), who, side


def test_the_same_pair_shown_either_way_round_is_one_pair() -> None:
    pairs, answers = orient([5, 2, 5], [2, 5, 2], [1.0, 1.0, 0.5])
    assert len(set(pairs)) == 1 and answers.tolist() == [0.0, 1.0, 0.5]
    with pytest.raises(LearnerError):
        orient([1], [2, 3], [1.0])


@pytest.mark.parametrize("level", ["nominal", "interval"])
def test_alpha_from_the_coincidence_matrix_is_the_librarys(rng: np.random.Generator, level: str) -> None:
    counts = rng.integers(0, 4, (60, 3)).astype(float)
    counts = counts[counts.sum(axis=1) >= 2]
    values = np.array([0.0, 0.5, 1.0])
    ours = _alpha(_coincidences(counts).sum(axis=0)[None], values, level)[0]  # type: ignore[arg-type]
    theirs = krippendorff.alpha(value_counts=counts, value_domain=values, level_of_measurement=level)
    assert ours == pytest.approx(theirs)


def test_annotators_who_guess_agree_as_often_as_chance(rng: np.random.Generator) -> None:
    pairs = np.repeat(np.arange(400), 3).tolist()
    report = agreement(pairs, rng.integers(0, 2, 1200), rng=rng)
    assert not report.alpha.excludes(0.0) and not report.pairwise.excludes(0.5)
    assert (report.pairs, report.judgments) == (400, 1200)


def test_the_interval_of_agreement_covers_the_truth(rng: np.random.Generator) -> None:
    def one() -> bool:
        truth = rng.integers(0, 2, 150)[:, None]
        answers = np.where(rng.random((150, 3)) < 0.8, truth, 1 - truth)
        report = agreement(np.repeat(np.arange(150), 3).tolist(), answers.ravel(), rng=rng, draws=300)
        return not report.pairwise.excludes(0.8**2 + 0.2**2)

    assert 0.90 <= np.mean([one() for _ in range(100)]) <= 1.0


def test_perfect_agreement_is_one_and_a_single_opinion_is_unknown(rng: np.random.Generator) -> None:
    report = agreement([1, 1, 2, 2], [1, 1, 0, 0], rng=rng)
    assert report.alpha.estimate == 1.0 and report.pairwise.estimate == 1.0
    alone = agreement([1, 2, 3], [1, 0, 1], rng=rng)
    assert math.isnan(alone.alpha.estimate) and math.isinf(alone.alpha.high) and alone.pairs == 0


def test_the_interval_of_agreement_stays_in_its_range_and_answers_outside_theirs_are_refused(
    rng: np.random.Generator,
) -> None:
    report = agreement([1, 1, 2, 2, 3, 3], [0, 0, 1, 1, 1, 0], rng=rng)
    assert report.pairwise.low >= 0.0 and report.pairwise.high == report.alpha.high == 1.0
    for answers in ([0.0, 1.5], [-1.0, 1.0]):
        with pytest.raises(LearnerError, match=r"answers: values must lie in \[0, 1\]"):
            agreement([1, 1], answers, rng=rng)
        with pytest.raises(LearnerError, match="answers"):
            agreement_by_annotator([1, 1], answers, ["ben", "cho"])


def test_resampling_prompts_widens_the_interval_when_prompts_differ(rng: np.random.Generator) -> None:
    prompt = np.repeat(np.arange(8), 60)
    pair = np.repeat(np.arange(240), 2)
    alike = np.where(prompt < 4, 1.0, 0.5)
    first = rng.integers(0, 2, 240)
    answers = np.stack([first, np.where(rng.random(240) < alike[::2], first, 1 - first)], axis=1).ravel()
    by_pair = agreement(pair.tolist(), answers, rng=rng).pairwise
    by_prompt = agreement(pair.tolist(), answers, rng=rng, clusters=prompt).pairwise
    assert by_prompt.high - by_prompt.low > 1.5 * (by_pair.high - by_pair.low)


def test_who_disagrees_with_everybody_stands_out(rng: np.random.Generator) -> None:
    truth = rng.integers(0, 2, 80)
    answers = np.stack([truth, truth, 1 - truth], axis=1).ravel()
    by = agreement_by_annotator(
        np.repeat(np.arange(80), 3).tolist(), answers, np.tile(["ben", "cho", "dan"], 80)
    )
    assert by["ben"].estimate == by["cho"].estimate == 0.5
    assert by["dan"].estimate == 0.0 and by["dan"].high < by["ben"].low


def test_reliability_and_side_bias_of_a_crowd_are_recovered(rng: np.random.Generator) -> None:
    rho = np.array([1.6, 1.4, 1.0, 1.0, 0.8, 0.5, 0.0, -0.5])
    bias = np.array([0.0, 0.8, 0.0, -0.8, 0.0, 0.0, 0.4, 0.0])
    Z, y, who, side = crowd(rng, rho, bias, each=400)
    model = fit_annotators(Z, y, who, side)
    found = np.array([r.estimate for r in model.reliability])
    np.testing.assert_allclose(found * rho.mean(), rho, atol=0.35)
    np.testing.assert_allclose([b.estimate for b in model.side_bias], bias, atol=0.3)
    assert found.mean() == pytest.approx(1.0, abs=0.02)
    assert model.reliability[7].high < 0.2 and model.weights()[7] == 0.0


def test_the_intervals_of_reliability_hold_about_as_often_as_they_say(rng: np.random.Generator) -> None:
    rho, bias = np.repeat([1.4, 1.0, 0.6], 10), np.zeros(30)
    inside = []
    for _ in range(4):
        Z, y, who, side = crowd(rng, rho, bias, each=60)
        model = fit_annotators(Z, y, who, side)
        inside += [not r.excludes(true) for r, true in zip(model.reliability, rho, strict=True)]
        inside += [not b.excludes(0.0) for b in model.side_bias]
    assert np.mean(inside) > 0.88


def test_a_few_judgments_move_an_annotator_little(rng: np.random.Generator) -> None:
    Z, y, who, side = crowd(rng, np.ones(6), np.zeros(6), each=200)
    contrary = np.concatenate([who, [99, 99, 99]])
    rows = np.vstack([Z, Z[:3] * 0.3])
    answers = np.concatenate([y, 1 - y[:3]])
    model = fit_annotators(rows, answers, contrary, np.concatenate([side, side[:3]]))
    newcomer = model.reliability[model.names.index(99)]
    assert 0.4 < newcomer.estimate < 1.3 and newcomer.high - newcomer.low > 0.5
    assert model.judgments[model.names.index(99)] == 3


def test_nobody_becomes_reliable_by_training_the_model_alone(rng: np.random.Generator) -> None:
    """One guesser per direction: in sample the model repeats his answers, left out it does not."""
    Z, y, who, side = crowd(rng, np.array([1.0, 1.0, 1.0, 0.0]), np.zeros(4), each=150, dimension=3)
    private = np.zeros((600, 40))
    guesser = who == 3
    private[np.flatnonzero(guesser), np.arange(guesser.sum()) % 40] = 1.0
    rows = np.hstack([Z * ~guesser[:, None], private])
    model = fit_annotators(rows, y, who, side, regularization=0.3)
    assert model.reliability[3].low < 0.5 * model.reliability[0].estimate
    assert model.reliability[3].estimate < 0.7 * model.reliability[0].estimate


def test_ties_and_odd_input_are_taken_or_refused(rng: np.random.Generator) -> None:
    Z, y, who, side = crowd(rng, np.ones(3), np.zeros(3), each=40)
    y[::5] = 0.5
    assert all(math.isfinite(r.estimate) for r in fit_annotators(Z, y, who, side).reliability)
    for bad in ((Z[:5], y, who), (Z, y + 1, who), (np.full_like(Z, np.nan), y, who), (Z[:0], y[:0], who[:0])):
        with pytest.raises(LearnerError):
            fit_annotators(*bad)


def test_answers_all_alike_do_not_run_away(rng: np.random.Generator) -> None:
    Z = rng.standard_normal((50, 4))
    model = fit_annotators(Z, np.ones(50), np.zeros(50, dtype=int))
    assert abs(model.side_bias[0].estimate) < 6 and np.isfinite(model.theta).all()


def test_reliability_ranks_a_large_crowd_as_its_truth_does(rng: np.random.Generator) -> None:
    rho = rng.uniform(0.0, 2.0, 60)
    Z, y, who, side = crowd(rng, rho, 0.2 * rng.standard_normal(60), each=50)
    model = fit_annotators(Z, y, who, side)
    assert spearmanr([r.estimate for r in model.reliability], rho).statistic > 0.75
    assert 0.2 < model.reliability_spread < 1.0


def test_gold_answers_are_counted_by_annotator() -> None:
    by = gold_accuracy(["ben", "ben", "cho"], [1, 0.5, 0])
    assert by["ben"].estimate == 0.75 and by["cho"].high > 0.5


def test_hasty_and_absent_answers_are_marked_and_slow_readers_are_not(rng: np.random.Generator) -> None:
    seconds = np.concatenate(
        [np.exp(rng.normal(3.0, 0.4, 60)), np.exp(rng.normal(4.0, 0.4, 60)), [0.4, 7200.0]]
    )
    who = [*np.repeat(["ben", "cho"], 60).tolist(), "ben", "ben"]
    flags = time_flags(who, seconds)
    assert flags[-2:].tolist() == ["too fast", "paused"]
    assert (flags[:120] != "").sum() <= 1


def test_reading_faster_than_anyone_can_is_too_fast() -> None:
    flags = time_flags(["ben"] * 3, [5.0, 5.0, 5.0], [300, 450, 3000])
    assert flags.tolist() == ["", "", "too fast"]
    with pytest.raises(LearnerError):
        time_flags(["ben"], [-1.0])


def test_a_long_run_is_rare_by_chance_and_a_preference_is_no_run(rng: np.random.Generator) -> None:
    chances = [longest_run(rng.integers(0, 2, 200))[1] for _ in range(400)]
    assert np.mean(np.array(chances) < 0.05) < 0.09
    mostly_left = (rng.random(200) < 0.9).astype(int)
    assert longest_run(mostly_left)[1] > 0.01
    assert longest_run([])[0] == 0


def test_the_summary_of_conduct_leaves_ties_out_of_runs() -> None:
    report = conduct(["ben"] * 5, [10, 12, 11, 9, 10], [1, 0.5, 1, 0.5, 1])["ben"]
    assert report.longest_run == 3 and report.first_side.estimate == 1.0
    assert report.judgments == 5 and report.paused == 0 and report.too_fast.estimate == 0.0
