"""The batch fit against scikit-learn; Algorithm 5 against direct solves and dense Hessians."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from learner.errors import LearnerError
from learner.estimators import (
    SGD,
    BatchMLE,
    HessianFree,
    HessianFreeModule,
    OnePass,
    conjugate_gradient,
    damping,
    state_digest,
)
from learner.estimators.network import hessian_product
from learner.store import read_state, write_state


def stream(n: int, d: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    Z = rng.normal(size=(n, d))
    return Z, (rng.random(n) < 1 / (1 + np.exp(-Z @ rng.normal(size=d)))).astype(float)


@pytest.mark.parametrize("lam", [0.1, 1.0, 20.0])
def test_the_batch_fit_equals_scikit_learn(lam: float) -> None:
    Z, y = stream(500, 9)
    ours = BatchMLE(9, regularization=lam)
    ours.learn_many(Z, y)
    theirs = LogisticRegression(C=1 / lam, fit_intercept=False, tol=1e-10, max_iter=1000).fit(Z, y)
    assert np.allclose(ours.theta, theirs.coef_[0], atol=1e-5)
    assert np.allclose(ours.predict(Z), theirs.predict_proba(Z)[:, 1], atol=1e-5)


def test_the_batch_fit_has_no_gradient_and_the_inverse_hessian_as_covariance() -> None:
    Z, y = stream(300, 5)
    model = BatchMLE(5, regularization=2.0)
    model.learn_many(Z, y, np.linspace(0.5, 1.5, 300))
    rows = Z * np.linspace(0.5, 1.5, 300)[:, None]
    p = 1 / (1 + np.exp(-rows @ model.theta))
    assert np.allclose(rows.T @ (p - y) + 2 * model.theta, 0, atol=1e-6)
    hessian = rows.T * (p * (1 - p)) @ rows + 2 * np.eye(5)
    assert np.allclose(model.covariance, np.linalg.inv(hessian))
    assert model.log_det == pytest.approx(np.linalg.slogdet(hessian)[1])


def test_a_warm_refit_takes_fewer_newton_steps_to_the_same_solution() -> None:
    Z, y = stream(1000, 12)
    steps = {}
    for warm in (True, False):
        model = BatchMLE(12, warm=warm)
        model.learn_many(Z[:990], y[:990])
        model.fit()
        model.learn_many(Z[990:], y[990:])
        model.fit()
        steps[warm], solution = model.newton_steps, model.theta
        if warm:
            expected = solution
    assert steps[True] < steps[False]
    assert np.allclose(expected, solution, atol=1e-6)


def test_the_order_of_judgments_does_not_matter_to_a_batch_fit() -> None:
    Z, y = stream(200, 4)
    forward, backward = BatchMLE(4), BatchMLE(4)
    forward.learn_many(Z, y)
    backward.learn_many(Z[::-1], y[::-1])
    assert np.allclose(forward.theta, backward.theta, atol=1e-7)


def test_separable_answers_still_have_a_finite_fit() -> None:
    model = BatchMLE(3, regularization=1e-3)
    Z = np.random.default_rng(0).normal(size=(200, 3)) * 50
    model.learn_many(Z, Z[:, 0] > 0)
    assert np.isfinite(model.theta).all() and (model.predict(Z).round() == (Z[:, 0] > 0)).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 15), st.integers(0, 10_000))
def test_conjugate_gradients_equal_a_direct_solve(d: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    A = rng.normal(size=(d, d))
    A, b = A @ A.T + np.eye(d), rng.normal(size=d)
    direct = np.linalg.solve(A, b)
    assert np.allclose(conjugate_gradient(lambda v: A @ v, b, 5 * d, 1e-13), direct, atol=1e-7)
    warm = conjugate_gradient(lambda v: A @ v, b, 5 * d, 1e-13, start=rng.normal(size=d))
    assert np.allclose(warm, direct, atol=1e-7)


def test_two_conjugate_gradient_steps_are_those_of_the_textbook() -> None:
    """Step k minimises over the Krylov space; with beta as new/new the second step would not."""
    rng = np.random.default_rng(4)
    A = rng.normal(size=(8, 8))
    A, b = A @ A.T + np.eye(8), rng.normal(size=8)
    for k in (1, 2, 3):
        krylov = np.linalg.qr(np.stack([np.linalg.matrix_power(A, i) @ b for i in range(k)], axis=1))[0]
        best = krylov @ np.linalg.solve(krylov.T @ A @ krylov, krylov.T @ b)
        assert np.allclose(conjugate_gradient(lambda v: A @ v, b, k), best, atol=1e-10)


def test_damping_grows_linearly_to_its_bound_and_never_hides_the_hessian() -> None:
    assert [damping(t, 100) for t in (0, 25, 100, 1000)] == pytest.approx([0.0, 0.2, 0.8, 0.8])
    Z, y = stream(60, 6)
    model = HessianFree(6, total=60, steps=30)
    plain = HessianFree(6, total=60, steps=30)
    model.learn_many(Z, y)
    plain._hessian_product = lambda extra=0.0: lambda v: v  # type: ignore[method-assign]
    plain.learn_many(Z, y)
    assert not np.allclose(model.theta, plain.theta, atol=0.1)


def test_with_enough_steps_it_takes_the_damped_newton_step_of_all_judgments() -> None:
    Z, y = stream(40, 6)
    model, theta = HessianFree(6, total=80, steps=60), np.zeros(6)
    for t, (z, answer) in enumerate(zip(Z, y, strict=True), start=1):
        p = 1 / (1 + np.exp(-Z[:t] @ theta))
        hessian = Z[:t].T * (p * (1 - p)) @ Z[:t] + (1 + 0.8 * t / 80) * np.eye(6)
        gradient = (1 / (1 + np.exp(-z @ theta)) - answer) * z
        theta = theta - np.linalg.solve(hessian, gradient)
        model.learn_one(z, answer)
        assert np.allclose(model.theta, theta, atol=1e-9)


def test_three_steps_predict_nearly_as_well_as_the_matrix() -> None:
    Z, y = stream(1500, 20)
    light, full = HessianFree(20, total=1000), OnePass(20)
    for model in (light, full):
        model.learn_many(Z[:1000] / 4, y[:1000])
    hits = [np.mean((model.predict(Z[1000:]) > 0.5) == y[1000:]) for model in (light, full)]
    assert hits[0] > hits[1] - 0.02


def test_a_bounded_memory_keeps_a_sample_scaled_to_all_judgments() -> None:
    Z, y = stream(2000, 4)
    whole, sample = HessianFree(4), HessianFree(4, memory=200)
    for model in (whole, sample):
        model.learn_batch(Z, y)
    assert len(sample.state()["rows"]) == 200
    assert np.allclose(np.diag(sample.hessian()), np.diag(whole.hessian()), rtol=0.35)


def test_a_dense_matrix_too_large_is_refused_while_widths_still_work() -> None:
    model = HessianFree(5000)
    model.learn_one(np.full(5000, 0.01), 1.0)
    with pytest.raises(LearnerError, match="4096"):
        _ = model.covariance
    z = np.full(5000, 0.01)
    assert model.width(z)[0] == pytest.approx(
        np.sqrt(0.5 / (1 + 0.5 * model._preference.moments(float(z @ model.theta))[1])), rel=1e-8
    )


def test_double_backward_equals_the_dense_hessian_of_a_network() -> None:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
    inputs, parts = torch.randn(10, 3, dtype=torch.float64), list(net.parameters())
    shapes = [part.shape for part in parts]
    flat = torch.cat([part.detach().reshape(-1) for part in parts])

    def loss_of(vector: torch.Tensor) -> torch.Tensor:
        pieces = torch.split(vector, [shape.numel() for shape in shapes])
        named = dict(
            zip(
                dict(net.named_parameters()),
                [p.reshape(s) for p, s in zip(pieces, shapes, strict=True)],
                strict=True,
            )
        )
        return torch.nn.functional.softplus(torch.func.functional_call(net, named, (inputs,))).sum()

    dense = torch.autograd.functional.hessian(loss_of, flat)
    product = hessian_product(torch.nn.functional.softplus(net(inputs)).sum(), parts)
    v = torch.randn(len(flat), dtype=torch.float64)
    assert torch.allclose(product(v), dense @ v, atol=1e-10)


def test_a_linear_module_learns_as_the_linear_estimator_does() -> None:
    Z, y = stream(96, 5)
    linear = torch.nn.Linear(5, 1, bias=False).double()
    torch.nn.init.zeros_(linear.weight)
    module, ours = HessianFreeModule(linear, total=200), HessianFree(5, total=200)
    first = np.random.default_rng(1).normal(size=(96, 5))
    for part in np.split(np.arange(96), 12):
        module.learn_batch(
            torch.tensor(first[part]), torch.tensor(first[part] - Z[part]), torch.tensor(y[part])
        )
        ours.learn_batch(Z[part], y[part])
    assert np.allclose(linear.weight.detach().numpy()[0], ours.theta, atol=1e-9)


def test_a_network_learns_a_preference_no_line_can_tell() -> None:
    torch.manual_seed(1)
    net = torch.nn.Sequential(torch.nn.Linear(2, 16), torch.nn.Tanh(), torch.nn.Linear(16, 1)).double()
    learner = HessianFreeModule(net, total=4000, steps=10, memory=20)
    a, b = torch.randn(2000, 2, dtype=torch.float64), torch.randn(2000, 2, dtype=torch.float64)
    y = ((a**2).sum(1) > (b**2).sum(1)).double()
    for part in torch.arange(1600).split(50):
        learner.learn_batch(a[part], b[part], y[part])
    hits = ((learner.reward(a[1600:]) > learner.reward(b[1600:])).double() == y[1600:]).double().mean()
    assert hits > 0.75


def test_a_module_without_parameters_and_labels_out_of_range_are_refused() -> None:
    with pytest.raises(LearnerError, match="parameter"):
        HessianFreeModule(torch.nn.Tanh())
    learner = HessianFreeModule(torch.nn.Linear(2, 1))
    with pytest.raises(LearnerError, match="y"):
        learner.learn_batch(torch.ones(1, 2), torch.ones(1, 2), torch.tensor([2.0]))
    with pytest.raises(LearnerError, match="finite"):
        learner.learn_batch(torch.full((1, 2), torch.nan), torch.ones(1, 2), torch.tensor([1.0]))
    assert learner.judgments == 0


@pytest.mark.parametrize(
    "wrong",
    [{"memory": 0}, {"steps": 0}, {"total": 0}, {"step_size": -1.0}, {"regularization": 0.0},
     {"initial_damping": -0.1}, {"initial_damping": np.nan}],
    ids=str,
)  # fmt: skip
def test_constants_of_a_module_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(LearnerError, match=next(iter(wrong)).split("_")[-1]):
        HessianFreeModule(torch.nn.Linear(2, 1), **wrong)


def test_an_empty_batch_is_refused_and_leaves_the_module_alone() -> None:
    learner = HessianFreeModule(torch.nn.Linear(2, 1))
    with pytest.raises(LearnerError, match="empty"):
        learner.learn_batch(torch.ones(0, 2), torch.ones(0, 2), torch.ones(0))
    assert learner.judgments == learner.batches == 0


def test_a_module_resumes_to_the_same_bits_and_predicts_pairs(tmp_path: Path) -> None:
    torch.manual_seed(3)
    a, b = torch.randn(2, 120, 3, dtype=torch.float64)
    y = (a.sum(1) > b.sum(1)).double()
    nets = [
        torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)).double()
        for _ in "12"
    ]
    whole = HessianFreeModule(nets[0], total=90, memory=3, seed=5)
    for part in torch.arange(60).split(10):
        whole.learn_batch(a[part], b[part], y[part])
    write_state(tmp_path / "state.safetensors", whole.state())
    resumed = HessianFreeModule.from_state(read_state(tmp_path / "state.safetensors"), nets[1])
    for learner in (whole, resumed):
        for part in torch.arange(60, 120).split(10):
            learner.learn_batch(a[part], b[part], y[part])
    assert state_digest(whole.state()) == state_digest(resumed.state())
    expected = 1 / (1 + np.exp(-(nets[0](a) - nets[0](b)).detach().numpy()[:, 0]))
    assert np.allclose(resumed.predict(a, b), expected) and np.allclose(resumed.predict(b, a), 1 - expected)
    with pytest.raises(LearnerError, match="parameters"):
        HessianFreeModule.from_state(whole.state(), torch.nn.Linear(3, 1))
    talker = HessianFreeModule(torch.nn.Linear(1, 1).double(), lambda texts: torch.zeros(len(texts)))
    talker._keep((["a"], ["b"], torch.ones(1)))
    with pytest.raises(LearnerError, match="tensors"):
        talker.state()


DEVICES = [
    "cpu:torch",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
    ),
]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("kind", [HessianFree, SGD])
def test_a_device_and_a_precision_learn_as_the_processor_does(kind: Any, dtype: str, device: str) -> None:
    Z, y = stream(200, 7)
    here, there = kind(7), kind(7, dtype=dtype, device=device)
    for model in (here, there):
        model.learn_many(Z / 3, y)
    assert there.theta.dtype == there.state()["theta"].dtype == np.dtype(dtype)
    close = {"atol": 1e-10 if dtype == "float64" else 2e-4}
    assert np.allclose(there.theta, here.theta, **close) and np.allclose(
        there.width(Z), here.width(Z), **close
    )
    back = kind.from_state(there.state())  # and here again, in the same precision
    assert back.device == "cpu" and back.dtype == np.dtype(dtype) and np.array_equal(back.theta, there.theta)


def test_a_wide_hessian_free_model_keeps_half_the_bytes_in_float32() -> None:
    half, full = HessianFree(8192, dtype="float32"), HessianFree(8192)
    Z = np.random.default_rng(0).standard_normal((8, 8192)) / 90
    for model in (half, full):
        model.learn_batch(Z, np.ones(8))
    assert 2 * half.state()["rows"].nbytes == full.state()["rows"].nbytes
    assert np.allclose(half.theta, full.theta, atol=1e-6)


def test_a_batch_fit_on_float32_rows_is_that_of_the_rounded_rows() -> None:
    Z, y = stream(300, 5)
    short, rounded = BatchMLE(5, dtype="float32"), BatchMLE(5)
    short.learn_many(Z, y)
    rounded.learn_many(Z.astype(np.float32), y)
    assert short.data()[0].dtype == np.float32 and np.array_equal(short.theta, rounded.theta)
    assert BatchMLE.from_state(short.state()).data()[0].dtype == np.float32
    with pytest.raises(LearnerError, match="float16"):
        BatchMLE(5, dtype="float16")


def test_plain_descent_takes_the_gradient_step() -> None:
    model = SGD(2, step_size=0.5)
    z = np.array([1.0, -2.0])
    model.learn_one(z, 1.0)
    assert np.allclose(model.theta, 0.25 * z)
    model.learn_one(z, 0.0)
    p = 1 / (1 + np.exp(-z @ (0.25 * z)))
    assert np.allclose(model.theta, 0.25 * z - 0.5 / np.sqrt(2) * p * z)
