"""One contract for every estimator: learning, results, state, errors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from learner.errors import LearnerError
from learner.estimators import (
    SGD,
    BatchMLE,
    Estimator,
    HessianFree,
    ImplicitOMD,
    OnePass,
    OnePassBank,
    Settings,
    state_digest,
)
from learner.store import read_state, write_state

D = 6
Build = Callable[[], Estimator]
ESTIMATORS: dict[str, Build] = {
    "one pass": lambda: OnePass(D),
    "one pass, float32": lambda: OnePass(D, dtype="float32"),
    "one pass, no ledger": lambda: OnePass(D, ledger=False),
    "one pass in a ball": lambda: OnePass(D, Settings.practical(norm_bound=0.5)),
    "one pass, theory": lambda: OnePass(D, Settings.theory(D, norm_bound=0.01)),
    "one pass, ties": lambda: OnePass(D, Settings.practical(tie=0.7)),
    "one pass, torch": lambda: OnePass(D, device="cpu:torch"),
    "bank": lambda: OnePassBank(D, (0.5, 5.0)),
    "implicit": lambda: ImplicitOMD(D),
    "batch": lambda: BatchMLE(D),
    "batch, float32": lambda: BatchMLE(D, dtype="float32"),
    "sgd": lambda: SGD(D),
    "sgd, float32": lambda: SGD(D, dtype="float32"),
    "sgd, torch": lambda: SGD(D, device="cpu:torch"),
    "hessian-free": lambda: HessianFree(D, total=50),
    "hessian-free, float32": lambda: HessianFree(D, total=50, dtype="float32"),
    "hessian-free, torch": lambda: HessianFree(D, total=50, memory=20, device="cpu:torch"),
    "hessian-free, torch float32": lambda: HessianFree(D, total=50, dtype="float32", device="cpu:torch"),
    "hessian-free, sampled": lambda: HessianFree(D, total=50, memory=20),
}
every = pytest.mark.parametrize("build", ESTIMATORS.values(), ids=list(ESTIMATORS))


def judgments(n: int = 300, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Differences, answers with ties and grades, and reliabilities."""
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, D))
    y = (rng.random(n) < 1 / (1 + np.exp(-Z @ np.linspace(-1, 1, D)))).astype(float)
    y[::11], y[::13] = 0.5, 0.8
    return Z, y, rng.uniform(0.5, 1.5, n)


@every
def test_it_keeps_the_interface(build: Build) -> None:
    model = build()
    assert isinstance(model, Estimator)
    assert (model.dimension, model.judgments) == (D, 0)
    assert not model.theta.any() and not model.theta_mean.any()
    model.learn_many(*judgments())
    assert model.judgments == 300
    assert model.theta.shape == model.theta_mean.shape == (D,)
    assert model.covariance.shape == (D, D)
    assert np.array_equal(model.covariance, model.covariance.T) or np.allclose(
        model.covariance, model.covariance.T, rtol=1e-12, atol=1e-14
    )
    assert np.isfinite(model.log_det) and model.radius(0.9) < model.radius(0.99)


@every
def test_it_learns_the_direction_of_the_answers(build: Build) -> None:
    model = build()
    model.learn_many(*judgments())
    assert np.corrcoef(model.theta, np.linspace(-1, 1, D))[0, 1] > 0.8
    assert np.corrcoef(model.theta_mean, np.linspace(-1, 1, D))[0, 1] > 0.7


@every
def test_width_is_the_norm_in_the_covariance_and_log_det_its_volume(build: Build) -> None:
    model = build()
    Z, y, rho = judgments()
    model.learn_many(Z, y, rho)
    direct = np.sqrt([z @ np.linalg.solve(np.linalg.inv(model.covariance), z) for z in Z[:20]])
    assert np.allclose(model.width(Z[:20]), direct, rtol=1e-5)
    assert model.log_det == pytest.approx(-np.linalg.slogdet(model.covariance)[1], rel=1e-5)


@every
def test_predict_and_reward_agree_and_swapping_the_sides_swaps_the_answer(build: Build) -> None:
    model = build()
    Z, y, rho = judgments()
    model.learn_many(Z, y, rho)
    assert np.allclose(model.predict(Z) + model.predict(-Z), 1.0)
    assert np.allclose(model.reward(Z), Z @ model.theta, rtol=1e-6)
    assert np.array_equal(np.argsort(model.predict(Z[:30])), np.argsort(model.reward(Z[:30])))


@every
@pytest.mark.parametrize("cut", [0, 1, 31, 32, 157])
def test_replay_is_bit_identical_across_a_save_and_restore(build: Build, cut: int, tmp_path: Path) -> None:
    Z, y, rho = judgments(200)
    whole, part = build(), build()
    for z, answer, weight in zip(Z, y, rho, strict=True):
        whole.learn_one(z, answer, weight)
    part.learn_many(Z[:cut], y[:cut], rho[:cut])
    write_state(tmp_path / "state.safetensors", part.state())
    place = {"device": part.device} if hasattr(part, "device") else {}
    resumed = type(part).from_state(read_state(tmp_path / "state.safetensors"), **place)
    resumed.learn_many(Z[cut:], y[cut:], rho[cut:])
    assert state_digest(resumed.state()) == state_digest(whole.state())
    assert np.array_equal(resumed.theta, whole.theta)


@every
def test_its_state_and_results_are_copies(build: Build) -> None:
    model = build()
    model.learn_many(*judgments(40))
    assert model.theta.any()  # a batch estimator fits when it is first read
    before = state_digest(model.state())
    for array in (*model.state().values(), model.theta, model.theta_mean, model.covariance):
        if array.flags.writeable:
            array[...] = 0
    assert state_digest(model.state()) == before


@every
@settings(max_examples=15, deadline=None)
@given(
    numbers=st.lists(st.floats(-1e3, 1e3), min_size=D, max_size=D),
    y=st.floats(0, 1),
    weight=st.floats(0, 3),
    times=st.integers(1, 40),
)
def test_any_finite_judgment_leaves_everything_finite(
    build: Build, numbers: list[float], y: float, weight: float, times: int
) -> None:
    model = build()
    model.learn_many(*judgments(5))
    for _ in range(times):
        model.learn_one(np.array(numbers), y, weight)
    assert model.judgments == 5 + times
    assert np.isfinite(model.theta).all() and np.isfinite(model.covariance).all()
    assert np.isfinite(model.width(np.eye(D))).all()


BAD = {
    "z too long": (np.zeros(D + 1), 1.0, 1.0, "shape"),
    "z a matrix": (np.zeros((2, D)), 1.0, 1.0, "shape"),
    "z not a number": (np.full(D, np.nan), 1.0, 1.0, "finite"),
    "z infinite": (np.full(D, np.inf), 1.0, 1.0, "finite"),
    "z too large": (np.full(D, 1e155), 1.0, 1.0, "finite"),
    "z too large by its weight": (np.full(D, 1e100), 1.0, 1e100, "finite"),
    "y above 1": (np.ones(D), 1.5, 1.0, "y"),
    "y below 0": (np.ones(D), -0.1, 1.0, "y"),
    "y not a number": (np.ones(D), np.nan, 1.0, "y"),
    "weight negative": (np.ones(D), 1.0, -1.0, "weight"),
    "weight infinite": (np.ones(D), 1.0, np.inf, "weight"),
}


@every
@pytest.mark.parametrize("bad", BAD.values(), ids=list(BAD))
def test_a_wrong_judgment_is_refused_and_changes_nothing(
    build: Build, bad: tuple[np.ndarray, float, float, str]
) -> None:
    model = build()
    model.learn_many(*judgments(40))
    before = state_digest(model.state())
    z, y, weight, word = bad
    with pytest.raises(LearnerError, match=word):
        model.learn_one(z, y, weight)
    if z.ndim == 1:
        with pytest.raises(LearnerError, match=word):
            model.learn_many(
                np.stack([0.5 * np.ones(len(z)), z]), np.array([1.0, y]), np.array([1.0, weight])
            )
    assert state_digest(model.state()) == before


@every
def test_a_large_difference_is_refused_or_learned_but_never_turns_theta_to_nan(
    build: Build,
) -> None:
    model, (Z, _, _) = build(), judgments(2)
    with contextlib.suppress(LearnerError):
        model.learn_many(np.stack([1e150 * Z[0], Z[1]] * 9), np.resize([1.0, 0.0, 0.0], 18))
    for name, array in model.state().items():
        assert name.endswith("settings") or np.isfinite(array).all(), name


def test_members_of_a_bank_refuse_a_large_difference_together() -> None:
    bank = OnePassBank(D, (0.5, 5.0), dtype="float32")
    bank.learn_many(*judgments(40))
    before = state_digest(bank.state())
    large = np.full(D, 1e19)  # |z|^2 = 6e38: no float32
    for call in (bank.observe, bank.learn_one):
        with pytest.raises(LearnerError, match="too large"):
            call(large, 1.0)
    with pytest.raises(LearnerError, match=r"row 1 .*too large"):
        bank.learn_many(np.stack([np.ones(D), large]), np.ones(2))
    assert state_digest(bank.state()) == before


@every
def test_a_foreign_or_broken_state_is_refused(build: Build) -> None:
    model = build()
    model.learn_many(*judgments(40))
    kind = type(model)
    for name, value, word in (
        ("version", np.array(99), "version"),
        ("kind", np.frombuffer(b"Oracle", dtype=np.uint8), "Oracle"),
        ("dimension", np.array(D + 1), "dimension|shape|members"),
    ):
        with pytest.raises(LearnerError, match=word):
            kind.from_state(model.state() | {name: value})
    for name in model.state():
        if name.split(".")[-1] not in ("precision_lower", "warm"):
            broken = {key: value for key, value in model.state().items() if key != name}
            with pytest.raises(LearnerError):
                kind.from_state(broken)


@every
def test_results_of_a_wrong_shape_are_refused(build: Build) -> None:
    model = build()
    for call in (model.predict, model.reward, model.width):
        with pytest.raises(LearnerError, match=str(D)):
            call(np.zeros((3, D - 1)))
        with pytest.raises(LearnerError, match="row 1"):
            call(np.array([[0.0] * D, [np.nan] * D]))
    with pytest.raises(LearnerError, match="confidence"):
        model.radius(1.0)
